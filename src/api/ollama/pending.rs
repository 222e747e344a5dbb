//! The calls of a conversation that wait for their results. Ollama's results name a call by its id, by its tool or not at all,
//! so each is found in one step whichever it is: a conversation may hold tens of thousands.

use std::collections::{HashMap, VecDeque};

/// The calls, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Each call's id, until it is answered.
    calls: Vec<Option<String>>,
    /// Places among them. Those of calls that were answered by another way are passed over once they come first.
    by_id: HashMap<String, VecDeque<usize>>,
    by_name: HashMap<String, VecDeque<usize>>,
    in_order: VecDeque<usize>,
}

impl Pending {
    /// A call is made.
    pub fn push(&mut self, id: String, name: String) {
        let place = self.calls.len();
        self.by_id.entry(id.clone()).or_default().push_back(place);
        self.by_name.entry(name).or_default().push_back(place);
        self.in_order.push_back(place);
        self.calls.push(Some(id));
    }

    /// A result names this call, if there is one.
    pub fn answer(&mut self, id: &str) {
        if let Some(places) = self.by_id.get_mut(id) {
            first(&mut self.calls, places);
        }
    }

    /// A result names no call: the id of the first that waits, of those of one tool where that is named.
    pub fn answer_first(&mut self, name: Option<&str>) -> Option<String> {
        let places = match name {
            Some(name) => self.by_name.get_mut(name)?,
            None => &mut self.in_order,
        };
        first(&mut self.calls, places)
    }
}

/// Takes the first of these calls that still waits.
fn first(calls: &mut [Option<String>], places: &mut VecDeque<usize>) -> Option<String> {
    std::iter::from_fn(|| places.pop_front()).find_map(|place| calls[place].take())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rule itself, as slow as it is short.
    #[derive(Default)]
    struct Naive(Vec<(String, String)>);

    impl Naive {
        fn answer(&mut self, fits: impl Fn(&(String, String)) -> bool) -> Option<String> {
            let place = self.0.iter().position(fits)?;
            Some(self.0.remove(place).0)
        }
    }

    proptest! {
        #[test]
        fn each_result_finds_the_first_call_that_it_can_mean(steps in prop::collection::vec((0..4, "[ab]", "[fg]"), 0..40)) {
            let (mut pending, mut naive) = (Pending::default(), Naive::default());
            for (step, id, name) in steps {
                match step {
                    0 => {
                        pending.push(id.clone(), name.clone());
                        naive.0.push((id, name));
                    }
                    1 => {
                        pending.answer(&id);
                        naive.answer(|call| call.0 == id);
                    }
                    2 => prop_assert_eq!(pending.answer_first(Some(&name)), naive.answer(|call| call.1 == name)),
                    _ => prop_assert_eq!(pending.answer_first(None), naive.answer(|_| true)),
                }
            }
            prop_assert_eq!(pending.calls.iter().flatten().cloned().collect::<Vec<_>>(), naive.0.into_iter().map(|call| call.0).collect::<Vec<_>>());
        }
    }
}
