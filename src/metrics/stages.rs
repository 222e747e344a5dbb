//! The operations that the product itself counts: where the time of a question goes. Those on its path do not lie within each
//! other, so that what they take adds up; the others are wholes, or work in the background.

use std::sync::Arc;

use super::durations::{Durations, Operation};

macro_rules! stages {
    ($($(#[$doc:meta])* $field:ident: $component:literal $name:literal $place:ident;)*) => {
        /// Each looked up once.
        pub struct Stages {
            $($(#[$doc])* pub $field: Arc<Operation>,)*
        }

        impl Stages {
            pub(super) fn of(durations: &Durations) -> Self {
                Self { $($field: durations.of($component, $name),)* }
            }
        }

        /// Each by component and operation, and its place.
        const STAGES: &[(&str, &str, Place)] = &[$(($component, $name, Place::$place),)*];
    };
}

/// What an operation's time is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Of a question's.
    Path,
    /// It is a whole, has stages within, or is done in the background.
    Beside,
    /// Of the program's own code: nobody knows.
    Own,
}

impl Place {
    /// That of an operation.
    pub fn of(operation: &Operation) -> Self {
        if operation.component() == "pool" {
            return Self::Beside;
        }
        let is_it = |stage: &&(&str, &str, Self)| (stage.0, stage.1) == (operation.component(), operation.name());
        STAGES.iter().find(is_it).map_or(Self::Own, |stage| stage.2)
    }
}

stages! {
    /// A request, to the head of its response.
    request: "http" "request" Beside;
    /// A question, until its answer was there or a provider had to be asked (`ish_chat_duration_seconds`).
    question: "chat" "question" Beside;
    /// In the waiting room.
    gate: "limits" "wait" Path;
    /// The cache's part, whatever it found.
    lookup: "cache" "look-up" Beside;
    /// Of it, Redis.
    shared: "cache" "l2" Path;
    /// Of it, the store.
    stored: "cache" "l3" Path;
    /// Of it, the text's vector: remembered, waited for, made or given up.
    embed: "embedding" "look-up" Path;
    /// Of that, the wait for a thread of the model.
    embed_queue: "embedding" "queue" Beside;
    /// One run of the model, of a look-up's texts or of those that are stored.
    embed_model: "embedding" "model" Beside;
    /// The nearest entries in the index.
    search: "cache" "search" Path;
    /// What the verifier says of them, with the loading of those that are not in memory.
    verify: "cache" "verify" Path;
    /// A whole reply in OpenAI's form, put together.
    render: "reply" "render" Path;
    /// A provider, until its first token.
    first_token: "provider" "first token" Path;
    /// A call to a provider that had no first token: its answer came whole, or it failed.
    whole: "provider" "whole" Path;
    /// A stored question, and the answer that it will have.
    store_question: "store" "question" Path;
    /// The end of a stored answer.
    store_answer: "store" "answer" Path;
    /// A group of entries of the cache, stored behind.
    store_entries: "store" "entries" Beside;
    /// A task, from when it could run until it did.
    task_wait: "tasks" "wait" Beside;
    /// One attempt of a task.
    task: "tasks" "attempt" Beside;
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn each_stage_has_its_place_and_other_code_none() {
        let metrics = Metrics::new();
        assert_eq!(metrics.profile_seconds.all().len(), STAGES.len(), "no two of one name");
        assert_eq!(Place::of(&metrics.stages.embed), Place::Path);
        assert_eq!(Place::of(&metrics.stages.lookup), Place::Beside);
        assert_eq!(Place::of(&metrics.profile_seconds.of("pool", "http")), Place::Beside);
        assert_eq!(Place::of(&metrics.profile_seconds.of("billing", "invoice")), Place::Own);
    }
}
