//! A task on its way in: a job's arguments, and what shall hold for it in place of its kind's policy.

use std::time::Duration;

use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Job, Policy, Priority, TaskError};

/// How large a task's arguments may be, and what its job returns: a larger thing is stored elsewhere, and named.
pub(super) const MOST_BYTES: usize = 256 * 1024;

/// How long a key may be.
const MOST_KEY_BYTES: usize = 500;

/// When a task may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// So long after it came.
    After(Duration),
    /// At this time, in milliseconds since the Unix epoch.
    At(u64),
}

/// A task to be enqueued.
///
/// ```no_run
/// # use ish::tasks::{Job, NewTask, Priority};
/// # fn make<J: Job>(job: &J) -> NewTask {
/// NewTask::new(job).priority(Priority::High).unique("welcome/42").tenant("acme")
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "it is nothing until it is enqueued"]
pub struct NewTask {
    /// Where it is known before it is stored.
    pub(super) id: Option<Uuid>,
    pub(super) kind: String,
    pub(super) version: u16,
    /// Said when it is enqueued, so that builders need not fail.
    pub(super) arguments: Result<String, String>,
    pub(super) tenant: String,
    pub(super) queue: String,
    pub(super) priority: Priority,
    pub(super) max_attempts: u16,
    pub(super) start: Start,
    pub(super) unique: Option<String>,
    pub(super) idempotency: Option<String>,
}

impl NewTask {
    /// The tenant of tasks that are nobody's: the deployment's own.
    pub const OWN_TENANT: &'static str = "/";

    /// That `job` be run.
    pub fn new<J: Job>(job: &J) -> Self {
        let arguments = serde_json::to_string(job).map_err(|error| error.to_string());
        Self::of_kind(J::KIND, J::VERSION, arguments, &J::POLICY)
    }

    /// That the job of `kind` be run, as a client says it.
    pub(super) fn of_raw(kind: &str, version: u16, arguments: &RawValue, policy: &Policy) -> Self {
        Self::of_kind(kind, version, Ok(arguments.get().to_owned()), policy)
    }

    /// Of the arguments of work whose kind is known only while the program runs.
    pub(crate) const NAMED_VERSION: u16 = 1;

    /// That such work be done, as a task that its caller writes down by `id`.
    pub(crate) fn named(id: Uuid, kind: &str, arguments: &impl serde::Serialize, policy: &Policy) -> Self {
        let arguments = serde_json::to_string(arguments).map_err(|error| error.to_string());
        Self { id: Some(id), ..Self::of_kind(kind, Self::NAMED_VERSION, arguments, policy) }
    }

    fn of_kind(kind: &str, version: u16, arguments: Result<String, String>, policy: &Policy) -> Self {
        Self {
            id: None,
            kind: kind.to_owned(),
            version,
            arguments,
            tenant: Self::OWN_TENANT.to_owned(),
            queue: policy.queue.to_owned(),
            priority: policy.priority,
            max_attempts: policy.max_attempts.max(1),
            start: Start::After(Duration::ZERO),
            unique: None,
            idempotency: None,
        }
    }

    /// How urgent it is.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Not before so much time has passed.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.start = Start::After(delay);
        self
    }

    /// Not before this time, in milliseconds since the Unix epoch.
    pub fn run_at(mut self, ms: u64) -> Self {
        self.start = Start::At(ms);
        self
    }

    /// None, as long as one of its tenant, its kind and this key waits or runs.
    pub fn unique(mut self, key: impl Into<String>) -> Self {
        self.unique = Some(key.into());
        self
    }

    /// The same with a key that is made of values; where that is longer than a key may be, their digest is it.
    pub fn unique_by(mut self, values: &impl serde::Serialize) -> Self {
        match serde_json::to_string(values) {
            Ok(key) if key.len() <= MOST_KEY_BYTES => self.unique = Some(key),
            Ok(key) => self.unique = Some(blake3::hash(key.as_bytes()).to_hex().to_string()),
            Err(error) => self.arguments = Err(error.to_string()),
        }
        self
    }

    /// Once for this key of its tenant and kind, for as long as `tasks.idempotency` remembers it: what the sender repeats
    /// because it had no answer is the same task.
    pub fn idempotency(mut self, key: impl Into<String>) -> Self {
        self.idempotency = Some(key.into());
        self
    }

    /// Whose it is.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// What it can be paused with.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = queue.into();
        self
    }

    /// After so many attempts that failed it is dead; at least 1 is made.
    pub fn max_attempts(mut self, attempts: u16) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// Its arguments, if they can be stored.
    pub(super) fn checked(self) -> Result<Checked, TaskError> {
        let arguments = self.arguments.map_err(TaskError::Arguments)?;
        if arguments.len() > MOST_BYTES {
            return Err(TaskError::TooLarge { bytes: arguments.len() });
        }
        if let Some(name) = [&self.kind, &self.queue].into_iter().find(|name| !is_name(name)) {
            return Err(TaskError::Name(name.clone()));
        }
        if let Some(key) = [&self.unique, &self.idempotency].into_iter().flatten().find(|key| !is_key(key)) {
            return Err(TaskError::Key(key.chars().take(50).collect()));
        }
        if !is_key(&self.tenant) {
            return Err(TaskError::Key(self.tenant));
        }
        let (delay_ms, run_at_ms) = match self.start {
            Start::After(delay) => (i64::try_from(delay.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4), None),
            Start::At(ms) => (0, Some(i64::try_from(ms).unwrap_or(i64::MAX / 4).min(i64::MAX / 4))),
        };
        Ok(Checked {
            id: self.id.unwrap_or_else(crate::clock::new_id),
            digest: *blake3::hash(arguments.as_bytes()).as_bytes(),
            kind: self.kind,
            version: self.version,
            arguments,
            tenant: self.tenant,
            queue: self.queue,
            priority: self.priority,
            max_attempts: self.max_attempts,
            delay_ms,
            run_at_ms,
            unique: self.unique,
            idempotency: self.idempotency,
        })
    }
}

/// An idempotency key that stands for other arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conflict;

/// A task that the store takes.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    pub id: Uuid,
    pub kind: String,
    pub version: u16,
    pub arguments: String,
    /// Of the arguments: two wishes under one idempotency key ask for the same.
    pub digest: [u8; 32],
    pub tenant: String,
    pub queue: String,
    pub priority: Priority,
    pub max_attempts: u16,
    pub delay_ms: i64,
    pub run_at_ms: Option<i64>,
    pub unique: Option<String>,
    pub idempotency: Option<String>,
}

impl Checked {
    /// Whether another task may stand in its way.
    pub fn is_plain(&self) -> bool {
        self.unique.is_none() && self.idempotency.is_none()
    }
}

/// A kind's, a queue's or a schedule's name: it stands in metrics and in paths.
pub(super) fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    !name.is_empty() && name.len() <= 100 && name.chars().all(is_plain)
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= MOST_KEY_BYTES && !key.contains('\0')
}
