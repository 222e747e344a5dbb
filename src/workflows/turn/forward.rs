//! Forward: what has all it waits for begins; a list is fanned out, its elements begin as others end, and what they return is
//! fanned in.

use serde_json::value::RawValue;

use super::Turn;
use crate::workflows::definition::Way;
use crate::workflows::ledger::Ledger;
use crate::workflows::run::{RunState, StepState};

/// How many elements a list may have.
const MOST_ITEMS: usize = 10_000;

/// How large the list of what they return may be.
const MOST_LIST_BYTES: usize = 4 * 1024 * 1024;

impl<L: Ledger> Turn<'_, L> {
    /// Until nothing more follows.
    pub(super) async fn forward(&mut self) -> Result<(), L::Error> {
        // Each comes after all that it waits for: one pass is enough.
        for place in self.definition.order.clone() {
            if self.run.state != RunState::Running {
                return Ok(());
            }
            if self.steps[place].row.state == StepState::Waiting && self.may_begin(place) {
                self.begin(place).await?;
            }
            if self.steps[place].row.state == StepState::Ready && self.is_each(place) {
                self.go_on(place).await?;
            }
        }
        if self.run.state == RunState::Running && self.steps.iter().all(|step| step.row.state == StepState::Completed) {
            (self.run.state, self.run.output) = (RunState::Completed, Some(self.output()));
        }
        Ok(())
    }

    fn may_begin(&self, place: usize) -> bool {
        let mut needed = self.definition.steps[place].after.iter().filter_map(|step| self.definition.place(step));
        needed.all(|needed| self.steps[needed].row.state == StepState::Completed)
    }

    async fn begin(&mut self, place: usize) -> Result<(), L::Error> {
        let Some(over) = &self.definition.steps[place].over else {
            let row = self.steps[place].row.clone();
            return self.assign(place, row, Way::Do).await;
        };
        let source = self.definition.place(over).and_then(|source| self.steps[source].row.output.as_deref());
        match elements(over, source.unwrap_or("null")) {
            Ok(elements) => {
                self.ledger.add_items(&self.run, &self.steps[place].row, &elements).await?;
                self.steps[place].counts = [(StepState::Waiting, elements.len() as u32)].into();
                self.steps[place].row.state = StepState::Ready;
                self.put(place).await
            }
            Err(error) => self.give_up(place, error).await,
        }
    }

    /// As many more elements as may be in work; after the last, their list is the step's output.
    async fn go_on(&mut self, place: usize) -> Result<(), L::Error> {
        let (waiting, ready) = (self.steps[place].count(StepState::Waiting), self.steps[place].count(StepState::Ready));
        if waiting + ready == 0 {
            return self.fan_in(place).await;
        }
        let room = u32::from(self.definition.steps[place].at_once).saturating_sub(ready).min(waiting);
        if room == 0 {
            return Ok(());
        }
        for row in self.items(place, StepState::Waiting, room).await? {
            self.assign(place, row, Way::Do).await?;
        }
        Ok(())
    }

    async fn fan_in(&mut self, place: usize) -> Result<(), L::Error> {
        self.write().await?;
        let outputs = self.ledger.outputs(self.run.id, &self.definition.steps[place].name).await?;
        let list = format!("[{}]", outputs.join(","));
        if list.len() > MOST_LIST_BYTES {
            let error = format!(
                "what its elements returned takes {} bytes; a list may have {MOST_LIST_BYTES}: store what is large, and name it",
                list.len()
            );
            return self.give_up(place, error).await;
        }
        let sequence = self.next_sequence();
        let row = &mut self.steps[place].row;
        (row.state, row.output, row.sequence) = (StepState::Completed, Some(list), Some(sequence));
        self.put(place).await
    }

    /// The step fails without that its code was asked.
    async fn give_up(&mut self, place: usize, error: String) -> Result<(), L::Error> {
        let sequence = self.next_sequence();
        let row = &mut self.steps[place].row;
        (row.state, row.error, row.sequence) = (StepState::Failed, Some(error.clone()), Some(sequence));
        self.put(place).await?;
        self.fail(place, error).await
    }

    /// What the last step returned; of several, an object of them by name.
    fn output(&self) -> String {
        let outputs: Vec<_> = self.definition.ends().map(|place| &self.steps[place].row).collect();
        let json = |output: &Option<String>| output.clone().unwrap_or_else(|| "null".to_owned());
        if let [only] = outputs.as_slice() {
            return json(&only.output);
        }
        let named = outputs.iter().map(|row| format!("\"{}\":{}", row.step, json(&row.output)));
        format!("{{{}}}", named.collect::<Vec<_>>().join(","))
    }
}

/// The elements of the list that `over` returned, as JSON.
fn elements(over: &str, output: &str) -> Result<Vec<String>, String> {
    let elements: Vec<&RawValue> =
        serde_json::from_str(output).map_err(|_| format!("what {over:?} returned is no list to run over"))?;
    if elements.len() > MOST_ITEMS {
        let most = format!("{MOST_ITEMS} is the most: return parts of it");
        return Err(format!("the list of {over:?} has {} elements; {most}", elements.len()));
    }
    Ok(elements.into_iter().map(|element| element.get().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_taken_apart_as_it_was_written() {
        assert_eq!(elements("a", r#"[ 1, {"b": [2]}, "c" ]"#).unwrap(), ["1", r#"{"b": [2]}"#, r#""c""#]);
        assert_eq!(elements("a", "{}").unwrap_err(), r#"what "a" returned is no list to run over"#);
        let large = format!("[{}]", vec!["1"; MOST_ITEMS + 1].join(","));
        assert!(elements("a", &large).unwrap_err().contains("has 10001 elements; 10000 is the most"));
    }
}
