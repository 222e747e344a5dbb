//! A job: the code that runs a task, what it is told, and how it says that it failed.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Policy;

/// Code that is run in the background, with its arguments. A task may be run more than once, where a worker died or its end
/// could not be stored: what a job does twice must be as if done once, for which the task's identifier is a key.
///
/// ```
/// use std::sync::Arc;
/// use ish::tasks::{Job, JobContext, JobError, Policy};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Greet { name: String }
///
/// impl Job for Greet {
///     const KIND: &'static str = "greet";
///     const VERSION: u16 = 1;
///     const POLICY: Policy = Policy::DEFAULT;
///     type State = String;
///     type Output = String;
///
///     async fn run(self, greeting: Arc<String>, _: JobContext) -> Result<String, JobError> {
///         Ok(format!("{greeting}, {}", self.name))
///     }
/// }
/// ```
pub trait Job: Serialize + DeserializeOwned + Send + 'static {
    /// Its name in the store, in metrics and in the API: up to 100 letters, digits and `_-.:`.
    const KIND: &'static str;
    /// Of its arguments: raised when tasks of before cannot be read any more. Such a task becomes a dead letter, never a
    /// job with other arguments than were meant; one of a later version waits for a worker that knows it.
    const VERSION: u16;
    /// What holds for its tasks.
    const POLICY: Policy;
    /// What it works with.
    type State: Send + Sync + 'static;
    /// What it returns; stored with the task, as JSON of 256 KiB at most.
    type Output: Serialize;

    /// Runs it. Dropped at the hard limit, and when the worker ends.
    fn run(
        self,
        state: Arc<Self::State>,
        context: JobContext,
    ) -> impl Future<Output = Result<Self::Output, JobError>> + Send;
}

/// A job failed. `?` on any error means: try again.
#[derive(Debug)]
pub struct JobError {
    pub(super) error: String,
    pub(super) is_fatal: bool,
    pub(super) wait: Option<Duration>,
}

impl JobError {
    /// The next attempt may do better.
    pub fn retry(error: impl fmt::Display) -> Self {
        Self { error: error.to_string(), is_fatal: false, wait: None }
    }

    /// No attempt will do better: a dead letter.
    pub fn fatal(error: impl fmt::Display) -> Self {
        Self { error: error.to_string(), is_fatal: true, wait: None }
    }

    /// The next attempt after so long, in place of the policy's wait.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Whether no attempt will do better.
    pub(crate) fn is_fatal(&self) -> bool {
        self.is_fatal
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.error)
    }
}

impl<E: Into<anyhow::Error>> From<E> for JobError {
    fn from(error: E) -> Self {
        Self::retry(format_args!("{:#}", error.into()))
    }
}

/// Why a job shall end before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// Somebody cancelled the task.
    Cancelled,
    /// Its soft limit is over.
    TimeIsUp,
    /// The worker ends: the task is handed back, and another does it.
    Draining,
    /// Another worker has the task: this one was silent for too long, and nothing of what it says is kept.
    Lost,
}

/// What a job knows of its task, and how it is heard. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct JobContext {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    task: Uuid,
    tenant: String,
    attempt: u16,
    max_attempts: u16,
    interrupted: CancellationToken,
    /// Whether or not that was the first reason.
    lost: CancellationToken,
    why: OnceLock<Interruption>,
    /// What was said and is not stored yet.
    progress: Mutex<Option<String>>,
}

impl JobContext {
    pub(super) fn new(task: Uuid, tenant: String, attempt: u16, max_attempts: u16) -> Self {
        let (interrupted, lost) = (CancellationToken::new(), CancellationToken::new());
        let (why, progress) = (OnceLock::new(), Mutex::new(None));
        Self { inner: Arc::new(Inner { task, tenant, attempt, max_attempts, interrupted, lost, why, progress }) }
    }

    /// Of no task: to call a job's code directly.
    pub fn detached() -> Self {
        Self::new(Uuid::nil(), super::NewTask::OWN_TENANT.to_owned(), 1, 1)
    }

    /// The task: what is to be done once is done under this key.
    pub fn task(&self) -> Uuid {
        self.inner.task
    }

    /// Whose it is.
    pub fn tenant(&self) -> &str {
        &self.inner.tenant
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u16 {
        self.inner.attempt
    }

    /// Whether no other comes after it.
    pub fn is_last_attempt(&self) -> bool {
        self.inner.attempt >= self.inner.max_attempts
    }

    /// Resolves when the job shall end, with the reason.
    pub async fn cancelled(&self) -> Interruption {
        self.inner.interrupted.cancelled().await;
        self.interruption().unwrap_or(Interruption::Cancelled)
    }

    /// Why the job shall end, if it shall.
    pub fn interruption(&self) -> Option<Interruption> {
        self.inner.why.get().copied()
    }

    /// Says how far it has come, in any form; stored within a few seconds, the latest only.
    pub fn progress(&self, progress: &impl Serialize) {
        if let Ok(said) = serde_json::to_string(progress)
            && said.len() <= super::new_task::MOST_BYTES
        {
            *self.inner.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
        }
    }

    /// Asks the job to end. Only the first reason counts.
    pub(super) fn interrupt(&self, why: Interruption) {
        let _ = self.inner.why.set(why);
        self.inner.interrupted.cancel();
        if why == Interruption::Lost {
            self.inner.lost.cancel();
        }
    }

    /// Resolves when another worker has the task.
    pub(super) async fn lost(&self) {
        self.inner.lost.cancelled().await;
    }

    /// What was said since this was last asked.
    pub(super) fn take_progress(&self) -> Option<String> {
        self.inner.progress.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_mark_means_again_and_shows_its_causes() {
        let failing = || -> Result<(), JobError> {
            let read: Result<String, std::io::Error> = Err(std::io::Error::other("no disk"));
            anyhow::Context::context(read, "the file cannot be read")?;
            Ok(())
        };
        let error = failing().unwrap_err();
        assert_eq!((error.error.as_str(), error.is_fatal), ("the file cannot be read: no disk", false));
        assert!(JobError::fatal("no").is_fatal);
    }

    #[tokio::test]
    async fn the_first_reason_to_end_counts_and_the_latest_progress() {
        let context = JobContext::detached();
        assert_eq!(context.interruption(), None);
        context.interrupt(Interruption::Cancelled);
        context.interrupt(Interruption::Draining);
        assert_eq!(context.clone().cancelled().await, Interruption::Cancelled);
        context.progress(&1);
        context.progress(&2);
        assert_eq!((context.take_progress().as_deref(), context.take_progress()), (Some("2"), None));
    }
}
