//! Work in the background: a priority queue of tasks in the database, and the jobs that run them. What [`Queue::enqueue`] has
//! acknowledged is stored, and runs at least once, whatever dies meanwhile; enqueued inside a transaction, it is there exactly
//! if the transaction's other rows are.
//!
//! A worker claims a task for a lease, which a heartbeat renews; each claim begins an epoch of the task, and who claimed it
//! before changes nothing any more. A task whose worker was silent for a lease is taken over; one that has used up its
//! attempts, by failing or by killing its workers, is a dead letter. States and columns: `migrations/*/0020_tasks.sql`.
//!
//! The shape (one-statement claims that skip what is locked, states and their checks in the schema, a rescuer) is River's
//! (Go) and Oban's (Elixir).

mod cron;
mod headroom;
mod held;
mod job;
#[cfg(feature = "linked-jobs")]
mod linked;
mod new_task;
mod nudge;
mod outcome;
mod policy;
mod postgres;
mod present;
mod registry;
mod scale;
mod sqlite;
mod stored;
mod task;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

pub use cron::{Missed, Schedule, ScheduleError, Schedules};
pub use job::{Interruption, Job, JobContext, JobError};
#[cfg(feature = "linked-jobs")]
pub use linked::LinkedJob;
pub use new_task::NewTask;
pub use policy::{Backoff, Policy};
pub use present::Worker;
pub use registry::Registry;
pub use task::{Enqueued, Failure, Filter, Priority, State, Task};
pub use worker::{WorkerParts, Workers};

use crate::config::TasksConfig;
use crate::db::{Db, DbError, Within, query};
use new_task::{Checked, Conflict, MOST_BYTES, is_name};
use stored::Counted;

/// The page's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../docs/tasks.md")]
struct Documented;

/// How many tasks a list or a purge takes at most in one step.
const PAGE: u32 = 1_000;

/// Why the queue does not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The store. After [`DbError::Commit`] it is not known whether the task is there: the same idempotency key tells.
    #[error("the task store failed")]
    Store(#[from] DbError),
    /// No job of this process has this kind.
    #[error("there is no job {0:?}")]
    UnknownKind(String),
    /// The arguments are of another version of the job.
    #[error("the job {kind:?} takes arguments of version {known}, not {given}")]
    Version {
        /// The job.
        kind: String,
        /// What was given.
        given: u16,
        /// What it takes.
        known: u16,
    },
    /// The job cannot have these arguments.
    #[error("the arguments are not the job's: {0}")]
    Arguments(String),
    /// There is too much of them.
    #[error("the arguments take {bytes} bytes; a task may have {MOST_BYTES}: store what is large, and name it")]
    TooLarge {
        /// So many bytes.
        bytes: usize,
    },
    /// A kind, a queue or a schedule that is no name.
    #[error("{0:?} is no name: up to 100 letters, digits and _-.:")]
    Name(String),
    /// A key or a tenant that is none.
    #[error("{0:?} is no key: 1 to 500 bytes without U+0000")]
    Key(String),
    /// The idempotency key was used for other arguments.
    #[error("the idempotency key was used before, with other arguments")]
    Conflict,
    /// There is none, any more or at all.
    #[error("there is no such task")]
    NotFound,
    /// Its state does not allow it.
    #[error("the task is {}", .0.as_str())]
    Unfit(State),
    /// One with its unique key lives.
    #[error("another task with the same unique key waits or runs")]
    HasTwin,
}

impl TaskError {
    /// As a store's error, to whoever enqueues within the writing of rows of its own.
    pub fn into_store(self) -> DbError {
        match self {
            Self::Store(error) => error,
            error => DbError::Sql(error.into()),
        }
    }
}

/// Tasks that are not claimed for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scope", content = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Pause {
    /// All of a kind.
    Kind(String),
    /// All of a queue.
    Queue(String),
}

impl Pause {
    fn of(scope: &str, name: String) -> Self {
        if scope == "kind" { Self::Kind(name) } else { Self::Queue(name) }
    }

    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Kind(name) => ("kind", name),
            Self::Queue(name) => ("queue", name),
        }
    }
}

/// How much there is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// What could run now.
    pub waiting: BTreeMap<Priority, Waiting>,
    /// How many tasks there are.
    pub states: BTreeMap<&'static str, u64>,
    /// The same for each kind in each queue.
    pub kinds: Vec<KindStats>,
}

/// How many tasks there are of a kind in a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KindStats {
    /// Their kind.
    pub kind: String,
    /// Their queue.
    pub queue: String,
    /// How many in each state.
    pub states: BTreeMap<&'static str, u64>,
}

impl Stats {
    /// Counts tasks; those of one kind and queue come one after the other.
    fn count(&mut self, of: Counted) {
        let Some(state) = State::parse(&of.state).map(State::as_str) else { return };
        *self.states.entry(state).or_default() += of.tasks;
        if self.kinds.last().is_none_or(|last| (&last.kind, &last.queue) != (&of.kind, &of.queue)) {
            self.kinds.push(KindStats { kind: of.kind, queue: of.queue, states: BTreeMap::new() });
        }
        if let Some(kind) = self.kinds.last_mut() {
            kind.states.insert(state, of.tasks);
        }
    }
}

/// Tasks that could run now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// How many.
    pub tasks: u64,
    /// For how long the oldest could have.
    pub oldest_ms: u64,
}

/// Tasks without keys, to be stored by who writes rows of its own in the same transaction, on either database.
#[derive(Debug)]
pub(crate) struct Batch {
    tasks: Vec<Checked>,
    aging_ms: i64,
}

/// The queue. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    db: Db,
    /// Where tasks of many callers meet on their way to a server; a file's writer gathers what comes by itself.
    intake: postgres::Intake,
    aging_ms: i64,
    remember_ms: i64,
    /// Told of tasks that may have come.
    wake: Notify,
    /// Told of them where other processes are to hear of it.
    tell: Notify,
    /// Told of tasks that run and are to be cancelled.
    cancelled: Notify,
}

impl Queue {
    /// Over `db`, whose schema is [`crate::db::MigrationSet::ISH`].
    pub fn new(db: Db, config: &TasksConfig) -> Self {
        let (aging_ms, remember_ms) = (ms(config.aging), ms(config.idempotency));
        let (wake, tell, cancelled) = (Notify::new(), Notify::new(), Notify::new());
        let inner = Inner { db, intake: postgres::Intake::default(), aging_ms, remember_ms, wake, tell, cancelled };
        Self { inner: Arc::new(inner) }
    }

    /// Stores a task; it runs at least once from then on.
    ///
    /// # Errors
    /// [`TaskError`]; nothing is stored then, but for [`DbError::Commit`].
    pub async fn enqueue(&self, task: NewTask) -> Result<Enqueued, TaskError> {
        let mut tasks = checked(vec![task])?;
        match (&self.inner.db, tasks.pop_if(|task| task.is_plain())) {
            (Db::Postgres(db), Some(task)) => {
                let id = task.id;
                self.inner.intake.store(db, task, self.inner.aging_ms).await?;
                self.wake();
                Ok(Enqueued { id, is_new: true })
            }
            (_, task) => {
                tasks.extend(task);
                let enqueued = self.enqueue_checked(tasks).await?;
                enqueued.first().copied().ok_or(TaskError::NotFound)
            }
        }
    }

    /// Stores all of them, or none. In the order given.
    ///
    /// # Errors
    /// As [`Queue::enqueue`].
    pub async fn enqueue_all(&self, tasks: Vec<NewTask>) -> Result<Vec<Enqueued>, TaskError> {
        self.enqueue_checked(checked(tasks)?).await
    }

    async fn enqueue_checked(&self, tasks: Vec<Checked>) -> Result<Vec<Enqueued>, TaskError> {
        let (aging_ms, remember_ms) = (self.inner.aging_ms, self.inner.remember_ms);
        let enqueued = query!(&self.inner.db, enqueue(tasks, aging_ms, remember_ms))?;
        let enqueued = enqueued.map_err(|Conflict| TaskError::Conflict)?;
        self.wake();
        Ok(enqueued)
    }

    /// Stores a task with whatever else is written within `tx`: a transaction on Postgres (a tenant's takes that tenant's tasks
    /// only), or the connection that the writer of `ish.db` gives its closure. After the commit, [`Queue::wake`] has it run at
    /// once.
    ///
    /// # Errors
    /// [`TaskError`]; the transaction is not to be committed then. In the closure of a file `?` sees to that.
    pub async fn enqueue_in(&self, tx: impl Into<Within<'_>>, task: NewTask) -> Result<Enqueued, TaskError> {
        let tasks = checked(vec![task])?;
        let (aging_ms, remember_ms) = (self.inner.aging_ms, self.inner.remember_ms);
        let enqueued = match tx.into() {
            Within::File(tx) => sqlite::enqueue_in(tx, &tasks, aging_ms, remember_ms).await.map_err(DbError::from)?,
            Within::Server(tx) => postgres::enqueue_in(tx, &tasks, aging_ms, remember_ms).await?,
        };
        let enqueued = enqueued.map_err(|Conflict| TaskError::Conflict)?;
        enqueued.first().copied().ok_or(TaskError::NotFound)
    }

    /// Tasks that are stored later, in a transaction of the caller's; after its commit, [`Queue::wake`] has them run at once.
    ///
    /// # Errors
    /// As [`Queue::enqueue`], but for the store's.
    pub(crate) fn batch(&self, tasks: Vec<NewTask>) -> Result<Batch, TaskError> {
        Ok(Batch { tasks: checked(tasks)?, aging_ms: self.inner.aging_ms })
    }

    /// Has workers look for tasks now, not at their next turn: those of this process, and of others where [`Queue::share`] has
    /// been called.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
        self.inner.tell.notify_one();
    }

    /// One task.
    ///
    /// # Errors
    /// [`TaskError::NotFound`], [`TaskError::Store`].
    pub async fn task(&self, id: Uuid) -> Result<Task, TaskError> {
        query!(&self.inner.db, task(id))?.ok_or(TaskError::NotFound)
    }

    /// Up to `limit` tasks, at most a thousand, the latest first.
    ///
    /// # Errors
    /// [`TaskError::Store`].
    pub async fn list(&self, filter: &Filter, limit: u32) -> Result<Vec<Task>, TaskError> {
        Ok(query!(&self.inner.db, list(filter, limit.min(PAGE)))?)
    }

    /// Cancels a task: one that waits at once; one that runs is asked to end, and is cancelled when its job has failed by
    /// that. Says in which state it is then.
    ///
    /// # Errors
    /// [`TaskError::NotFound`], [`TaskError::Unfit`] when it has ended, [`TaskError::Store`].
    pub async fn cancel(&self, id: Uuid) -> Result<State, TaskError> {
        match query!(&self.inner.db, cancel(id))? {
            Some(state) => {
                self.inner.cancelled.notify_one();
                Ok(State::parse(&state).unwrap_or(State::Cancelled))
            }
            None => Err(TaskError::Unfit(self.task(id).await?.state)),
        }
    }

    /// Has a task that failed, or was cancelled, run again at once, with so many attempts to go ([`Registry::attempts`]).
    ///
    /// # Errors
    /// [`TaskError::NotFound`], [`TaskError::Unfit`], [`TaskError::HasTwin`], [`TaskError::Store`].
    pub async fn retry(&self, id: Uuid, attempts: NonZeroU16) -> Result<(), TaskError> {
        let attempts = attempts.get();
        let retried = query!(&self.inner.db, retry(id, attempts, self.inner.aging_ms));
        let retried = retried.map_err(|error| if error.is_duplicate() { TaskError::HasTwin } else { error.into() })?;
        if !retried {
            return Err(TaskError::Unfit(self.task(id).await?.state));
        }
        self.wake();
        Ok(())
    }

    /// Deletes tasks that have ended; says how many.
    ///
    /// # Errors
    /// [`TaskError::Store`]; what was deleted before stays so.
    pub async fn purge(&self, filter: &Filter) -> Result<u64, TaskError> {
        let mut purged = 0;
        loop {
            let step = query!(&self.inner.db, purge(filter, PAGE))?;
            purged += step;
            if step < u64::from(PAGE) {
                return Ok(purged);
            }
        }
    }

    /// Deletes tasks that ended longer ago than they are kept: those that failed for good, and the others; and idempotency
    /// keys whose time is over. Says how many tasks.
    ///
    /// # Errors
    /// [`TaskError::Store`]; what was deleted before stays so.
    pub async fn forget(&self, keep: Duration, keep_dead: Duration) -> Result<u64, TaskError> {
        let mut forgotten = 0;
        loop {
            let step = self.trim(ms(keep), ms(keep_dead), PAGE).await?;
            forgotten += step;
            if step < u64::from(PAGE) {
                return Ok(forgotten);
            }
        }
    }

    /// Has no worker claim these, until [`Queue::resume`]; what runs goes on.
    ///
    /// # Errors
    /// [`TaskError::Name`], [`TaskError::Store`].
    pub async fn pause(&self, what: &Pause) -> Result<(), TaskError> {
        let (_, name) = what.parts();
        if !is_name(name) {
            return Err(TaskError::Name(name.to_owned()));
        }
        Ok(query!(&self.inner.db, pause(what))?)
    }

    /// Ends a pause; says whether there was one.
    ///
    /// # Errors
    /// [`TaskError::Store`].
    pub async fn resume(&self, what: &Pause) -> Result<bool, TaskError> {
        let resumed = query!(&self.inner.db, resume(what))?;
        self.wake();
        Ok(resumed)
    }

    /// What is paused.
    ///
    /// # Errors
    /// [`TaskError::Store`].
    pub async fn pauses(&self) -> Result<Vec<Pause>, TaskError> {
        Ok(query!(&self.inner.db, pauses())?)
    }

    /// How much there is to do.
    ///
    /// # Errors
    /// [`TaskError::Store`].
    pub async fn stats(&self) -> Result<Stats, TaskError> {
        let (waiting, _) = self.waiting().await?;
        let waiting =
            waiting.into_iter().map(|row| (row.priority, Waiting { tasks: row.tasks, oldest_ms: row.oldest_ms }));
        let mut stats = Stats { waiting: waiting.collect(), ..Stats::default() };
        for counted in query!(&self.inner.db, counted())? {
            stats.count(counted);
        }
        Ok(stats)
    }
}

fn checked(tasks: Vec<NewTask>) -> Result<Vec<Checked>, TaskError> {
    let tasks = tasks.into_iter().map(NewTask::checked).collect::<Result<Vec<_>, _>>()?;
    let mut keys = BTreeMap::new();
    for task in tasks.iter().filter(|task| task.idempotency.is_some()) {
        let digest = *keys.entry((&task.tenant, &task.kind, &task.idempotency)).or_insert(task.digest);
        if digest != task.digest {
            return Err(TaskError::Conflict);
        }
    }
    Ok(tasks)
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}
