//! Again: a run that has failed, or was cancelled, goes on. What is done and was not undone stays, as long as all that it was made
//! from does; a compensation that failed is tried again first.

use super::Turn;
use crate::workflows::ledger::Ledger;
use crate::workflows::run::{RunState, StepState};

impl<L: Ledger> Turn<'_, L> {
    pub(super) async fn retry(&mut self) -> Result<(), L::Error> {
        if self.run.state == RunState::CompensationFailed {
            return self.undo_again().await;
        }
        (self.run.state, self.run.is_cancelled, self.run.error) = (RunState::Running, false, None);
        let mut is_kept = vec![false; self.steps.len()];
        for place in self.definition.order.clone() {
            let needs = self.definition.steps[place].after.iter().filter_map(|step| self.definition.place(step));
            let needs_are_kept = needs.into_iter().all(|needed| is_kept[needed]);
            is_kept[place] = needs_are_kept && self.steps[place].row.state == StepState::Completed;
            if !is_kept[place] {
                self.begin_anew(place, needs_are_kept).await?;
            }
        }
        Ok(())
    }

    async fn begin_anew(&mut self, place: usize, needs_are_kept: bool) -> Result<(), L::Error> {
        let has_items = self.steps[place].counts.values().sum::<u32>() > 0;
        let was_undone = self.steps[place].row.state == StepState::Compensated
            || self.steps[place].count(StepState::Compensated) > 0;
        let keeps_items = has_items && needs_are_kept;
        let row = &mut self.steps[place].row;
        // What is undone, and elements of another list, are other things than before, and have other keys.
        row.round += u32::from(was_undone || has_items && !keeps_items);
        row.state = if keeps_items { StepState::Ready } else { StepState::Waiting };
        (row.task, row.output, row.error, row.undo_error, row.sequence) = (None, None, None, None, None);
        self.put(place).await?;
        if !has_items {
            return Ok(());
        }
        if !keeps_items {
            self.steps[place].counts.clear();
            self.write().await?;
            return self.ledger.drop_items(self.run.id, &self.definition.steps[place].name).await;
        }
        for from in [StepState::Failed, StepState::Skipped, StepState::Compensated] {
            if self.steps[place].count(from) > 0 {
                self.move_items(place, from, StepState::Waiting).await?;
            }
        }
        Ok(())
    }

    /// What could not be undone is done again, as far as the store knows, and so is to be undone.
    async fn undo_again(&mut self) -> Result<(), L::Error> {
        self.run.state = RunState::Compensating;
        for place in 0..self.steps.len() {
            if self.steps[place].row.state != StepState::Compensating {
                continue;
            }
            self.steps[place].row.undo_error = None;
            if self.is_each(place) {
                self.move_items(place, StepState::Compensating, StepState::Completed).await?;
            } else {
                (self.steps[place].row.state, self.steps[place].row.task) = (StepState::Completed, None);
            }
            self.put(place).await?;
        }
        Ok(())
    }
}
