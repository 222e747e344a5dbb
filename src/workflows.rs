//! Workflows: a graph of steps, each of which is work of the queue ([`crate::tasks`]). A run's state is rows: the end of a step and the
//! work that follows from it are stored in one transaction, so that whatever dies, another goes on where it stopped. A step that fails
//! for good has the run undone: what was done is compensated, the latest first.
//!
//! A step's task is of a kind of its own (`WORKFLOW:VERSION:STEP`), so that the queue's retries, limits, pauses and metrics are the
//! step's, and what a process does not know it does not claim. Rows: `migrations/*/0024_workflows.sql`.
//!
//! The shape (a saga's compensations, steps named by keys that effects are made under) is Garcia-Molina's and Salem's ("Sagas", 1987).

mod attempt;
mod context;
mod definition;
mod gathered;
mod graph;
mod keeper;
mod ledger;
mod postgres;
mod run;
mod shown;
mod sqlite;
#[cfg(test)]
mod tests;
mod turn;

use std::fmt;
use std::sync::Arc;

use fail::fail_point;
use uuid::Uuid;

pub use context::StepContext;
pub use definition::{Definitions, Step, Workflow};
pub use graph::DefinitionError;
pub use keeper::Kept;
pub use run::{ItemCounts, NewRun, Run, RunFilter, RunState, RunStep, Shape, ShapeStep, Started, StepState};

use crate::clock::new_id;
use crate::db::{Db, DbError, query};
use crate::metrics::Metrics;
use crate::tasks::{Queue, TaskError};
use attempt::Work;
use definition::Definition;
use gathered::Gathered;
use ledger::{StartRow, StartStep};
use turn::{Changed, Ended, Event, Guide};

/// The page's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../docs/workflows.md")]
struct Documented;

/// How large a run's input may be: a larger thing is stored elsewhere, and named.
const MOST_INPUT_BYTES: usize = 256 * 1024;

/// How long a key or a tenant's name may be.
const MOST_KEY_BYTES: usize = 500;

/// How many runs a list has at most.
const PAGE: u32 = 100;

/// Why a run is not started, or not changed.
#[derive(Debug, thiserror::Error)]
pub enum WorkflowError {
    /// The store. After [`DbError::Commit`] it is not known whether the run is there: the same key tells.
    #[error("the workflow store failed")]
    Store(#[from] DbError),
    /// This process knows no such workflow.
    #[error("there is no workflow {0:?}")]
    Unknown(String),
    /// The run is of a version that this process does not know; one that does goes on with it.
    #[error("this process does not know version {version} of the workflow {workflow:?}, which the run has")]
    UnknownVersion {
        /// The workflow.
        workflow: String,
        /// The run's version.
        version: u16,
    },
    /// The input cannot be stored.
    #[error("the input cannot be stored: {0}")]
    Input(String),
    /// There is too much of it.
    #[error("the input takes {bytes} bytes; a run may have {MOST_INPUT_BYTES}: store what is large, and name it")]
    TooLarge {
        /// So many bytes.
        bytes: usize,
    },
    /// A key or a tenant that is none.
    #[error("{0:?} is no key: 1 to {MOST_KEY_BYTES} bytes without U+0000")]
    Key(String),
    /// The key was used for another input.
    #[error("the key was used before, with another input")]
    Conflict,
    /// There is none, any more or at all.
    #[error("there is no such run")]
    NotFound,
    /// Its state does not allow it.
    #[error("the run is {}", .0.as_str())]
    Unfit(RunState),
}

/// The workflows of a program, and their runs. Cloning is cheap.
#[derive(Clone)]
pub struct Workflows {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    guide: Arc<Guide>,
    gathered: Gathered,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Workflows {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.guide.definitions.fmt(formatter)
    }
}

impl Workflows {
    /// Over the database of `queue`, whose schema is [`crate::db::MigrationSet::ISH`].
    pub fn new(db: Db, queue: Queue, definitions: Definitions, metrics: Arc<Metrics>) -> Self {
        let (guide, gathered) = (Arc::new(Guide { definitions, queue }), Gathered::default());
        Self { inner: Arc::new(Inner { db, guide, gathered, metrics }) }
    }

    /// Starts a run, or finds the one that its key stands for. Once this returns it goes on until it has ended, whatever dies.
    ///
    /// # Errors
    /// [`WorkflowError`]; nothing is stored then, but for [`DbError::Commit`].
    pub async fn start(&self, run: NewRun) -> Result<Started, WorkflowError> {
        let Some(definition) = self.inner.guide.definitions.latest(&run.workflow) else {
            return Err(WorkflowError::Unknown(run.workflow));
        };
        let run = checked(definition, run)?;
        let started = query!(&self.inner.db, start(&self.inner.guide, run))??;
        self.inner.guide.queue.wake();
        Ok(started)
    }

    /// One run.
    ///
    /// # Errors
    /// [`WorkflowError::NotFound`], [`WorkflowError::Store`].
    pub async fn run(&self, id: Uuid) -> Result<Run, WorkflowError> {
        query!(&self.inner.db, run(id))?.ok_or(WorkflowError::NotFound)
    }

    /// Up to `limit` runs, at most a hundred, the latest first.
    ///
    /// # Errors
    /// [`WorkflowError::Store`].
    pub async fn list(&self, filter: &RunFilter, limit: u32) -> Result<Vec<Run>, WorkflowError> {
        Ok(query!(&self.inner.db, list(filter, limit.min(PAGE)))?)
    }

    /// Has a run end: nothing more of it begins, what is in work is asked to end, and what was done is undone. Says in which state it
    /// is then.
    ///
    /// # Errors
    /// [`WorkflowError::NotFound`], [`WorkflowError::Unfit`] when it is not running, [`WorkflowError::UnknownVersion`],
    /// [`WorkflowError::Store`].
    pub async fn cancel(&self, id: Uuid) -> Result<RunState, WorkflowError> {
        self.follow(id, Event::Cancel).await
    }

    /// Has a run that failed, or was cancelled, go on where it did: what is done and was not undone stays. Where a compensation failed,
    /// that is tried again instead.
    ///
    /// # Errors
    /// [`WorkflowError::NotFound`], [`WorkflowError::Unfit`], [`WorkflowError::UnknownVersion`], [`WorkflowError::Store`].
    pub async fn retry(&self, id: Uuid) -> Result<RunState, WorkflowError> {
        self.follow(id, Event::Retry).await
    }

    /// The definitions that this process knows.
    pub fn shapes(&self) -> Vec<Shape> {
        self.inner.guide.definitions.all().map(|definition| shape(definition)).collect()
    }

    /// Changes a run, and does what follows from that outside of its transaction: workers are told of new tasks, and tasks that nobody
    /// wants any more are cancelled. Who dies before that has it done by who looks after runs.
    async fn follow(&self, run: Uuid, event: Event) -> Result<RunState, WorkflowError> {
        let changed = self.change(run, event).await?;
        let mut was_cancelled = false;
        for task in changed.unwanted {
            match self.inner.guide.queue.cancel(task).await {
                Ok(state) => was_cancelled |= state.has_ended(),
                Err(TaskError::Store(error)) => return Err(error.into()),
                // It has just ended, and says so itself.
                Err(_) => {}
            }
        }
        if was_cancelled {
            // What waited was cancelled at once, and nobody else says so.
            return Ok(self.change(run, Event::Look).await?.state);
        }
        Ok(changed.state)
    }

    /// Stores how an attempt at a step has ended, with what follows; together with others of the run that end at this moment.
    async fn told(&self, run: Uuid, ended: Ended) -> Result<(), WorkflowError> {
        let change = |ended| async move { self.follow(run, Event::Ended(ended)).await.map(drop) };
        self.inner.gathered.tell(run, ended, change).await
    }

    async fn change(&self, run: Uuid, event: Event) -> Result<Changed, WorkflowError> {
        let changed = query!(&self.inner.db, change(&self.inner.guide, run, event))??;
        fail_point!("workflow-after-commit", |_| std::process::abort());
        if changed.has_ended {
            let (workflow, state) = (changed.workflow.as_str(), changed.state);
            self.inner.metrics.workflows_ended.with_label_values(&[workflow, state.as_str()]).inc();
            if state != RunState::Completed {
                tracing::warn!(%run, workflow, state = state.as_str(), "a run of a workflow did not complete");
            }
        }
        if changed.has_tasks {
            self.inner.guide.queue.wake();
        }
        Ok(changed)
    }

    async fn work(&self, run: Uuid, step: (&str, i32), needs: Vec<String>) -> Result<Option<Work>, DbError> {
        query!(&self.inner.db, work(run, step, needs))
    }
}

fn checked(definition: &Definition, run: NewRun) -> Result<StartRow, WorkflowError> {
    let input = run.input.map_err(WorkflowError::Input)?;
    if input.len() > MOST_INPUT_BYTES {
        return Err(WorkflowError::TooLarge { bytes: input.len() });
    }
    let is_key = |key: &str| !key.is_empty() && key.len() <= MOST_KEY_BYTES && !key.contains('\0');
    if let Some(key) = run.key.iter().chain([&run.tenant]).find(|key| !is_key(key)) {
        return Err(WorkflowError::Key(key.chars().take(50).collect()));
    }
    Ok(StartRow {
        id: new_id(),
        tenant: run.tenant,
        workflow: definition.name.clone(),
        version: definition.version,
        digest: *blake3::hash(input.as_bytes()).as_bytes(),
        input,
        key: run.key,
        steps: definition.steps.iter().map(start_step).collect(),
    })
}

fn start_step(step: &Step) -> StartStep {
    let needs = serde_json::to_string(&step.after).expect("invariant: names can be written");
    StartStep { name: step.name.clone(), kind: kind(step), needs }
}

fn kind(step: &Step) -> &'static str {
    if step.over.is_some() { "each" } else { "one" }
}

fn shape(definition: &Definition) -> Shape {
    let step = |step: &Step| ShapeStep {
        name: step.name.clone(),
        kind: kind(step),
        after: step.after.clone(),
        has_compensation: step.undo.is_some(),
    };
    Shape {
        name: definition.name.clone(),
        version: definition.version,
        steps: definition.steps.iter().map(step).collect(),
    }
}
