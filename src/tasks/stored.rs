//! What both stores share: what they are asked, what they answer, and how a row is read.

use std::time::Duration;

use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Failure, Priority, State, Task};

/// Reads a [`TaskRow`].
macro_rules! task_row {
    ($row:expr) => {
        $crate::db::columns!(
            $row,
            $crate::tasks::stored::TaskRow {
                id,
                tenant,
                kind,
                version,
                queue,
                priority,
                state,
                arguments,
                attempt,
                max_attempts,
                run_at,
                enqueued_at,
                started_at,
                ended_at,
                worker,
                cancel_wanted,
                unique_key,
                progress,
                result,
                failures
            }
        )
    };
}
pub(super) use task_row;

/// Reads a [`ClaimedRow`].
macro_rules! claimed_row {
    ($row:expr) => {
        $crate::db::columns!(
            $row,
            $crate::tasks::stored::ClaimedRow {
                id,
                tenant,
                kind,
                version,
                priority,
                arguments,
                attempt,
                max_attempts,
                epoch,
                cancel_wanted,
                failures,
                waited_ms,
                rank
            }
        )
    };
}
pub(super) use claimed_row;

/// Reads a [`WaitingRow`].
macro_rules! waiting_row {
    ($row:expr) => {
        $crate::db::columns!($row, $crate::tasks::stored::WaitingRow { priority, tasks, oldest_ms })
    };
}
pub(super) use waiting_row;

/// Why a row cannot be read.
pub(super) type Unreadable = Box<dyn std::error::Error + Send + Sync>;

/// A whole row.
pub(super) struct TaskRow {
    pub id: String,
    pub tenant: String,
    pub kind: String,
    pub version: i32,
    pub queue: String,
    pub priority: i32,
    pub state: String,
    pub arguments: String,
    pub attempt: i32,
    pub max_attempts: i32,
    pub run_at: i64,
    pub enqueued_at: i64,
    pub started_at: Option<i64>,
    pub ended_at: Option<i64>,
    pub worker: Option<String>,
    pub cancel_wanted: bool,
    pub unique_key: Option<String>,
    pub progress: Option<String>,
    pub result: Option<String>,
    pub failures: String,
}

impl TaskRow {
    pub fn task(self) -> Result<Task, Unreadable> {
        let json = |text: Option<String>| text.map(RawValue::from_string).transpose();
        Ok(Task {
            id: self.id.parse()?,
            tenant: self.tenant,
            kind: self.kind,
            version: self.version as u16,
            queue: self.queue,
            priority: Priority::of_level(self.priority.into()),
            state: State::parse(&self.state).ok_or("a state that is none")?,
            arguments: RawValue::from_string(self.arguments)?,
            attempt: self.attempt as u16,
            max_attempts: self.max_attempts as u16,
            run_at_ms: self.run_at as u64,
            enqueued_at_ms: self.enqueued_at as u64,
            started_at_ms: self.started_at.map(|ms| ms as u64),
            ended_at_ms: self.ended_at.map(|ms| ms as u64),
            worker: self.worker.map(|worker| worker.parse()).transpose()?,
            cancel_wanted: self.cancel_wanted,
            unique_key: self.unique_key,
            progress: json(self.progress)?,
            result: json(self.result)?,
            failures: serde_json::from_str(&self.failures)?,
        })
    }
}

/// A task that a worker has, or had.
pub(super) struct ClaimedRow {
    pub id: String,
    pub tenant: String,
    pub kind: String,
    pub version: i32,
    pub priority: i32,
    pub arguments: String,
    pub attempt: i32,
    pub max_attempts: i32,
    pub epoch: i64,
    pub cancel_wanted: bool,
    pub failures: String,
    /// From when it could have been claimed.
    pub waited_ms: i64,
    pub rank: i64,
}

impl ClaimedRow {
    pub fn claimed(self) -> Result<Claimed, Unreadable> {
        Ok(Claimed {
            id: self.id.parse()?,
            tenant: self.tenant,
            kind: self.kind,
            version: self.version as u16,
            priority: Priority::of_level(self.priority.into()),
            arguments: self.arguments,
            attempt: self.attempt as u16,
            max_attempts: self.max_attempts as u16,
            epoch: self.epoch,
            cancel_wanted: self.cancel_wanted,
            failures: serde_json::from_str(&self.failures)?,
            waited: Duration::from_millis(self.waited_ms.max(0) as u64),
            rank: self.rank,
        })
    }
}

/// The same, read.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    pub id: Uuid,
    pub tenant: String,
    pub kind: String,
    pub version: u16,
    pub priority: Priority,
    pub arguments: String,
    pub attempt: u16,
    pub max_attempts: u16,
    /// What fences this claim from every other.
    pub epoch: i64,
    pub cancel_wanted: bool,
    pub failures: Vec<Failure>,
    pub waited: Duration,
    /// What claims are ordered by.
    pub rank: i64,
}

/// Who claims, and what.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub worker: Uuid,
    /// Kinds with the latest version that is known: a JSON object.
    pub versions: String,
    /// How many at most.
    pub count: u32,
    pub lease_ms: i64,
}

/// What a heartbeat says of a task.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub id: Uuid,
    pub epoch: i64,
    /// Where the job has said something since.
    pub progress: Option<String>,
}

/// How a claim ends.
#[derive(Debug, Clone)]
pub(super) struct Settled {
    pub id: Uuid,
    pub epoch: i64,
    pub state: State,
    /// Until the next attempt, where there is one.
    pub wait_ms: Option<i64>,
    /// The attempt does not count: the task was handed back.
    pub is_refunded: bool,
    pub result: Option<String>,
    /// The failures that are kept, where there is a new one.
    pub failures: Option<String>,
}

/// What waits, of one priority, as it is read.
pub(super) struct WaitingRow {
    pub priority: i32,
    pub tasks: i64,
    pub oldest_ms: i64,
}

impl WaitingRow {
    pub fn waiting(self) -> Waiting {
        let priority = Priority::of_level(self.priority.into());
        Waiting { priority, tasks: self.tasks as u64, oldest_ms: self.oldest_ms.max(0) as u64 }
    }
}

/// The same, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub priority: Priority,
    pub tasks: u64,
    pub oldest_ms: u64,
}

/// How many tasks there are of a kind, in a queue, in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counted {
    pub kind: String,
    pub queue: String,
    pub state: String,
    pub tasks: u64,
}
