//! A run of a workflow as it is wished for, listed and shown.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Steps are done, or will be.
    Running,
    /// A step failed, or somebody did not want it any more: what was done is undone.
    Compensating,
    /// All steps are done.
    Completed,
    /// A step failed, and all that had to be undone is.
    Failed,
    /// Somebody did not want it any more, and all that had to be undone is.
    Cancelled,
    /// Something that had to be undone is not.
    CompensationFailed,
}

impl RunState {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Running, Self::Compensating, Self::Completed, Self::Failed, Self::Cancelled, Self::CompensationFailed];

    /// Its name in the table, the API and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Compensating => "compensating",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::CompensationFailed => "compensation_failed",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing more comes of it by itself.
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Running | Self::Compensating)
    }
}

/// How far a step has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Steps before it are not done.
    Waiting,
    /// Its task waits for a worker.
    Ready,
    /// A worker has it. In the store it is ready: that a task runs is written with the task.
    Running,
    /// It is done.
    Completed,
    /// No attempt at it did better.
    Failed,
    /// The run ended before it was done.
    Skipped,
    /// It was done, and is being undone.
    Compensating,
    /// It was done, and undone.
    Compensated,
}

impl StepState {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Ready,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Skipped,
        Self::Compensating,
        Self::Compensated,
    ];

    /// Its name in the table and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Compensating => "compensating",
            Self::Compensated => "compensated",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// A run to be started.
#[derive(Debug, Clone)]
#[must_use = "it is nothing until it is started"]
pub struct NewRun {
    pub(super) workflow: String,
    pub(super) input: Result<String, String>,
    pub(super) tenant: String,
    pub(super) key: Option<String>,
}

impl NewRun {
    /// Of the latest version of `workflow` that the program knows.
    pub fn new(workflow: impl Into<String>, input: &impl Serialize) -> Self {
        let input = serde_json::to_string(input).map_err(|error| error.to_string());
        let tenant = crate::tasks::NewTask::OWN_TENANT.to_owned();
        Self { workflow: workflow.into(), input, tenant, key: None }
    }

    /// Once for this key of its tenant and workflow, for as long as the run is kept: what is started again under it is the same run.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Whose it is.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = tenant.into();
        self
    }
}

/// What became of a wish to have a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Started {
    /// The run.
    pub id: Uuid,
    /// Whether it is new; else one was there under the key.
    pub is_new: bool,
}

/// Which runs are listed.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// In this state.
    pub state: Option<RunState>,
    /// Of this workflow.
    pub workflow: Option<String>,
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Older than this one: how a list goes on.
    pub before: Option<Uuid>,
}

/// A run as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Its identifier; sorts by the time of its making.
    pub id: Uuid,
    /// Of which workflow.
    pub workflow: String,
    /// In which version.
    pub version: u16,
    /// How far it has come.
    pub state: RunState,
    /// What it was started with.
    pub input: Box<RawValue>,
    /// What its last step returned; of several, an object of them by name.
    pub output: Option<Box<RawValue>>,
    /// Why it failed.
    pub error: Option<String>,
    /// Whose it is.
    pub tenant: String,
    /// When it was started, in milliseconds since the Unix epoch, as all of its times.
    pub created_at_ms: u64,
    /// When it ended.
    pub ended_at_ms: Option<u64>,
    /// Its steps, as they are defined; after those what undoes them, once that has begun.
    pub steps: Vec<RunStep>,
}

/// A step of a run as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct RunStep {
    /// Its name.
    pub name: String,
    /// How far it has come.
    pub state: StepState,
    /// The steps it waits for.
    pub after: Vec<String>,
    /// `one`, or `each`: once for each element of a list.
    pub kind: String,
    /// Attempts begun.
    pub attempt: u16,
    /// When its latest attempt began.
    pub started_at_ms: Option<u64>,
    /// When it ended.
    pub ended_at_ms: Option<u64>,
    /// Why its latest attempt failed.
    pub error: Option<String>,
    /// What it returned.
    pub output: Option<Box<RawValue>>,
    /// How many elements there are, where it runs once for each and they are known.
    pub items: Option<ItemCounts>,
    /// What does it.
    pub task: Option<Uuid>,
    /// The step that it undoes.
    pub compensates: Option<String>,
}

/// How far the elements of a step have come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ItemCounts {
    /// All of them.
    pub total: u32,
    /// Done, and not undone.
    pub completed: u32,
    /// Those that no attempt did better at.
    pub failed: u32,
    /// In a worker's hands.
    pub running: u32,
}

/// A definition as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct Shape {
    /// The workflow.
    pub name: String,
    /// Its version.
    pub version: u16,
    /// Its steps.
    pub steps: Vec<ShapeStep>,
}

/// A step of it.
#[derive(Debug, Clone, Serialize)]
pub struct ShapeStep {
    /// Its name.
    pub name: String,
    /// `one`, or `each`: once for each element of a list.
    pub kind: &'static str,
    /// The steps it waits for.
    pub after: Vec<String>,
    /// Whether it can be undone.
    pub has_compensation: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        assert!(RunState::ALL.into_iter().all(|state| RunState::parse(state.as_str()) == Some(state)));
        assert!(StepState::ALL.into_iter().all(|state| StepState::parse(state.as_str()) == Some(state)));
    }
}
