//! A task as the store holds it and as it is shown: how urgent it is, how far it has come, what failed.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// How urgent a task is. What waits becomes more urgent: a level every `tasks.aging`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others.
    Critical,
    /// Somebody waits for it.
    High,
    /// The usual.
    Normal,
    /// Whenever there is nothing else.
    Low,
}

impl Priority {
    /// Every one, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];

    /// Its name in the API and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.as_str() == name)
    }

    /// In the store: 0 is the most urgent.
    pub(super) fn level(self) -> i64 {
        self as i64
    }

    pub(super) fn of_level(level: i64) -> Self {
        usize::try_from(level).ok().and_then(|level| Self::ALL.get(level).copied()).unwrap_or(Self::Low)
    }
}

/// How far a task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits for a worker, or for its time.
    Available,
    /// A worker has it.
    Running,
    /// An attempt failed; it waits for the next.
    Retryable,
    /// It is done.
    Completed,
    /// Somebody did not want it any more.
    Cancelled,
    /// It failed for good: a dead letter.
    Discarded,
}

impl State {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Available, Self::Running, Self::Retryable, Self::Completed, Self::Cancelled, Self::Discarded];

    /// Its name in the table, the API and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Running => "running",
            Self::Retryable => "retryable",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Discarded => "discarded",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more comes of it by itself.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Discarded)
    }
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which attempt, from 1.
    pub attempt: u16,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Why.
    pub error: String,
}

/// How many failures of a task are kept, the latest.
const FAILURES: usize = 10;

/// How long the text of one may be, in bytes.
const ERROR_BYTES: usize = 2_000;

/// The failures with one more, as far as they are kept.
pub(super) fn with_failure(mut failures: Vec<Failure>, mut failure: Failure) -> Vec<Failure> {
    failure.error.truncate(failure.error.floor_char_boundary(ERROR_BYTES));
    failures.push(failure);
    failures.drain(..failures.len().saturating_sub(FAILURES));
    failures
}

/// A task as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct Task {
    /// Its identifier; sorts by the time of its making.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: String,
    /// Which job runs it.
    pub kind: String,
    /// The version of the job's arguments.
    pub version: u16,
    /// What it can be paused with.
    pub queue: String,
    /// How urgent it is.
    pub priority: Priority,
    /// How far it has come.
    pub state: State,
    /// The job's arguments.
    pub arguments: Box<RawValue>,
    /// Attempts begun.
    pub attempt: u16,
    /// Attempts after which it is dead.
    pub max_attempts: u16,
    /// Not before then, in milliseconds since the Unix epoch, as all of its times.
    pub run_at_ms: u64,
    /// When it came.
    pub enqueued_at_ms: u64,
    /// When its latest attempt began.
    pub started_at_ms: Option<u64>,
    /// When it ended.
    pub ended_at_ms: Option<u64>,
    /// The process that has it.
    pub worker: Option<Uuid>,
    /// Whether somebody wants it cancelled while it runs.
    pub cancel_wanted: bool,
    /// What keeps others like it out while it lives.
    pub unique_key: Option<String>,
    /// What its job last said of its progress.
    pub progress: Option<Box<RawValue>>,
    /// What its job returned.
    pub result: Option<Box<RawValue>>,
    /// The latest attempts that failed.
    pub failures: Vec<Failure>,
}

/// What became of a wish to have a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Enqueued {
    /// The task.
    pub id: Uuid,
    /// Whether it is new; else one with the same unique or idempotency key was there.
    pub is_new: bool,
}

/// Which tasks are listed or purged.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// In this state.
    pub state: Option<State>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Older than this one: how a list goes on.
    pub before: Option<Uuid>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_failures_are_kept_and_none_is_endless() {
        let failure = |attempt| Failure { attempt, at_ms: 0, error: "é".repeat(ERROR_BYTES) };
        let kept = (1..=12).fold(Vec::new(), |kept, attempt| with_failure(kept, failure(attempt)));
        assert_eq!(kept.iter().map(|kept| kept.attempt).collect::<Vec<_>>(), (3..=12).collect::<Vec<_>>());
        assert!(kept.iter().all(|kept| kept.error.len() <= ERROR_BYTES));
    }

    #[test]
    fn names_read_back() {
        assert!(State::ALL.into_iter().all(|state| State::parse(state.as_str()) == Some(state)));
        for priority in Priority::ALL {
            assert_eq!(Priority::parse(priority.as_str()), Some(priority));
            assert_eq!(Priority::of_level(priority.level()), priority);
        }
    }
}
