//! Backward: nothing more begins, what is in work ends, and then what was done is undone, one step at a time, the latest first.

use super::Turn;
use crate::workflows::definition::Way;
use crate::workflows::ledger::Ledger;
use crate::workflows::run::{RunState, StepState};

impl<L: Ledger> Turn<'_, L> {
    /// A step has failed for good, and the run by it.
    pub(super) async fn fail(&mut self, place: usize, error: String) -> Result<(), L::Error> {
        if self.run.state != RunState::Running {
            return Ok(());
        }
        self.run.error = Some(format!("{}: {error}", self.definition.steps[place].name));
        self.turn_back().await
    }

    /// What has not begun does not begin any more; what is in work is asked to end.
    pub(super) async fn turn_back(&mut self) -> Result<(), L::Error> {
        self.run.state = RunState::Compensating;
        for place in 0..self.steps.len() {
            if self.steps[place].row.state == StepState::Waiting {
                self.steps[place].row.state = StepState::Skipped;
                self.put(place).await?;
            }
            if self.steps[place].count(StepState::Waiting) > 0 {
                self.move_items(place, StepState::Waiting, StepState::Skipped).await?;
            }
        }
        self.stop_steps().await
    }

    /// Names the tasks of steps that are still in work.
    pub(super) async fn stop_steps(&mut self) -> Result<(), L::Error> {
        for place in 0..self.steps.len() {
            let step = &self.steps[place];
            if self.is_each(place) {
                let ready = step.count(StepState::Ready);
                if ready > 0 {
                    let rows = self.items(place, StepState::Ready, ready).await?;
                    self.unwanted.extend(rows.into_iter().filter_map(|row| row.task));
                }
            } else if step.row.state == StepState::Ready {
                self.unwanted.extend(step.row.task);
            }
        }
        Ok(())
    }

    /// As far as it goes without waiting.
    pub(super) async fn backward(&mut self) -> Result<(), L::Error> {
        self.close_lists().await?;
        if self.steps.iter().any(|step| step.row.state == StepState::Ready) {
            return Ok(());
        }
        loop {
            if self.steps.iter().any(|step| step.row.undo_error.is_some()) {
                self.run.state = RunState::CompensationFailed;
                return Ok(());
            }
            let compensating = self.steps.iter().position(|step| step.row.state == StepState::Compensating);
            if let Some(place) = compensating {
                if !self.is_undone(place).await? {
                    return Ok(());
                }
            } else if let Some(place) = self.next_to_undo() {
                self.undo(place).await?;
            } else {
                self.run.state = if self.run.is_cancelled { RunState::Cancelled } else { RunState::Failed };
                return Ok(());
            }
        }
    }

    /// Lists of which nothing is in work any more have ended.
    async fn close_lists(&mut self) -> Result<(), L::Error> {
        for place in 0..self.steps.len() {
            let step = &self.steps[place];
            if !self.is_each(place) || step.row.state != StepState::Ready || step.count(StepState::Ready) > 0 {
                continue;
            }
            let sequence = self.next_sequence();
            let row = &mut self.steps[place].row;
            row.state = if row.error.is_some() { StepState::Failed } else { StepState::Skipped };
            row.sequence = Some(sequence);
            self.put(place).await?;
        }
        Ok(())
    }

    /// The latest that was done, all of it or elements of it, and can be undone.
    fn next_to_undo(&self) -> Option<usize> {
        let can_be = |place: &usize| {
            let step = &self.steps[*place];
            let is_done = if self.is_each(*place) {
                step.count(StepState::Completed) > 0
            } else {
                step.row.state == StepState::Completed
            };
            is_done && self.definition.steps[*place].undo.is_some()
        };
        (0..self.steps.len()).filter(can_be).max_by_key(|place| self.steps[*place].row.sequence)
    }

    async fn undo(&mut self, place: usize) -> Result<(), L::Error> {
        if !self.is_each(place) {
            let row = self.steps[place].row.clone();
            return self.assign(place, row, Way::Undo).await;
        }
        self.steps[place].row.state = StepState::Compensating;
        self.put(place).await
    }

    /// Whether a step's elements are all undone; begins with as many more as may be in work.
    async fn is_undone(&mut self, place: usize) -> Result<bool, L::Error> {
        if !self.is_each(place) {
            return Ok(false);
        }
        let step = &self.steps[place];
        let (left, busy) = (step.count(StepState::Completed), step.count(StepState::Compensating));
        if left + busy == 0 {
            let row = &mut self.steps[place].row;
            row.state = if row.error.is_some() { StepState::Failed } else { StepState::Compensated };
            self.put(place).await?;
            return Ok(true);
        }
        let room = u32::from(self.definition.steps[place].at_once).saturating_sub(busy).min(left);
        if room > 0 {
            for row in self.items(place, StepState::Completed, room).await? {
                self.assign(place, row, Way::Undo).await?;
            }
        }
        Ok(false)
    }
}
