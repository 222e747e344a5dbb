//! How rows become a run that is shown: a step's task says whether it runs, how often it was tried and what failed last; what undoes a
//! step is shown as a step of its own.

use std::collections::HashMap;

use serde_json::value::RawValue;
use uuid::Uuid;

use super::ledger::Unreadable;
use super::run::{ItemCounts, Run, RunState, RunStep, StepState};
use crate::tasks::Failure;

/// Reads a [`RawShown`].
macro_rules! run_row {
    ($row:expr) => {
        $crate::db::columns!(
            $row,
            $crate::workflows::shown::RawShown {
                id,
                workflow,
                version,
                state,
                input,
                output,
                error,
                tenant,
                created_at,
                ended_at
            }
        )
    };
}
pub(super) use run_row;

/// Reads a [`RawStep`].
macro_rules! step_row {
    ($row:expr) => {
        $crate::db::columns!(
            $row,
            $crate::workflows::shown::RawStep {
                run,
                step,
                kind,
                needs,
                state,
                task,
                output,
                error,
                undo_error,
                attempt,
                started_at,
                ended_at,
                undone_at,
                task_state,
                task_attempt,
                task_started_at,
                failures
            }
        )
    };
}
pub(super) use step_row;

/// Reads a [`RawCount`].
macro_rules! count_row {
    ($row:expr) => {
        $crate::db::columns!($row, $crate::workflows::shown::RawCount { run, step, state, items, running })
    };
}
pub(super) use count_row;

/// A run as the databases give it.
pub(super) struct RawShown {
    pub id: String,
    pub workflow: String,
    pub version: i32,
    pub state: String,
    pub input: String,
    pub output: Option<String>,
    pub error: Option<String>,
    pub tenant: String,
    pub created_at: i64,
    pub ended_at: Option<i64>,
}

/// A step with its task.
pub(super) struct RawStep {
    pub run: String,
    pub step: String,
    pub kind: String,
    pub needs: String,
    pub state: String,
    pub task: Option<String>,
    pub output: Option<String>,
    pub error: Option<String>,
    pub undo_error: Option<String>,
    pub attempt: i32,
    pub started_at: Option<i64>,
    pub ended_at: Option<i64>,
    pub undone_at: Option<i64>,
    pub task_state: Option<String>,
    pub task_attempt: Option<i32>,
    pub task_started_at: Option<i64>,
    pub failures: Option<String>,
}

/// How many elements of a step are in a state, and of how many of them a task runs.
pub(super) struct RawCount {
    pub run: String,
    pub step: String,
    pub state: String,
    pub items: i64,
    pub running: i64,
}

/// Elements of a step, done and undone.
#[derive(Default, Clone, Copy)]
struct Elements {
    forward: ItemCounts,
    undo: ItemCounts,
}

/// The runs with their steps, in the order of the rows.
pub(super) fn runs(runs: Vec<RawShown>, steps: Vec<RawStep>, counts: Vec<RawCount>) -> Result<Vec<Run>, Unreadable> {
    let mut elements: HashMap<(String, String), Elements> = HashMap::new();
    for count in counts {
        let state = StepState::parse(&count.state).ok_or("a step's state that is none")?;
        let counted = elements.entry((count.run, count.step)).or_default();
        counted.add(state, count.items as u32, count.running as u32);
    }
    let (mut forward, mut undo): (HashMap<String, Vec<RunStep>>, HashMap<String, Vec<RunStep>>) = Default::default();
    for step in steps {
        let elements = elements.get(&(step.run.clone(), step.step.clone())).copied();
        undo.entry(step.run.clone()).or_default().extend(undone(&step, elements)?);
        forward.entry(step.run.clone()).or_default().push(done(step, elements)?);
    }
    let shown = |raw: RawShown| {
        let steps = forward.remove(&raw.id).unwrap_or_default().into_iter();
        let steps = steps.chain(undo.remove(&raw.id).unwrap_or_default()).collect();
        run(raw, steps)
    };
    runs.into_iter().map(shown).collect()
}

impl Elements {
    fn add(&mut self, state: StepState, items: u32, running: u32) {
        self.forward.total += items;
        match state {
            StepState::Completed => {
                self.forward.completed += items;
                self.undo.total += items;
            }
            StepState::Failed => self.forward.failed += items,
            StepState::Compensating => {
                self.undo.total += items;
                self.undo.running += running;
            }
            StepState::Compensated => {
                self.undo.total += items;
                self.undo.completed += items;
            }
            _ => self.forward.running += running,
        }
    }
}

fn run(raw: RawShown, steps: Vec<RunStep>) -> Result<Run, Unreadable> {
    Ok(Run {
        id: raw.id.parse()?,
        workflow: raw.workflow,
        version: raw.version as u16,
        state: RunState::parse(&raw.state).ok_or("a run's state that is none")?,
        input: RawValue::from_string(raw.input)?,
        output: json(raw.output)?,
        error: raw.error,
        tenant: raw.tenant,
        created_at_ms: raw.created_at as u64,
        ended_at_ms: raw.ended_at.map(|ms| ms as u64),
        steps,
    })
}

fn done(raw: RawStep, elements: Option<Elements>) -> Result<RunStep, Unreadable> {
    let stored = StepState::parse(&raw.state).ok_or("a step's state that is none")?;
    let is_live = stored == StepState::Ready;
    let items = elements.map(|elements| elements.forward);
    let runs = is_live && (raw.has_running_task() || items.is_some_and(|items| items.running > 0));
    let has_own_task = !matches!(stored, StepState::Compensating | StepState::Compensated);
    let task = if has_own_task { raw.task_id()? } else { None };
    let failure = if is_live { raw.last_failure() } else { None };
    Ok(RunStep {
        state: if runs { StepState::Running } else { stored },
        after: serde_json::from_str(&raw.needs)?,
        attempt: raw.task_attempt.filter(|_| is_live).unwrap_or(raw.attempt) as u16,
        started_at_ms: raw.task_started_at.filter(|_| is_live).or(raw.started_at).map(|ms| ms as u64),
        ended_at_ms: raw.ended_at.map(|ms| ms as u64),
        error: raw.error.or(failure),
        output: json(raw.output)?,
        items: items.filter(|_| raw.kind == "each"),
        task,
        compensates: None,
        name: raw.step,
        kind: raw.kind,
    })
}

/// What undoes the step, once that has begun.
fn undone(raw: &RawStep, elements: Option<Elements>) -> Result<Option<RunStep>, Unreadable> {
    let is_live = raw.state == StepState::Compensating.as_str();
    if !is_live && raw.undone_at.is_none() {
        return Ok(None);
    }
    let items = elements.map(|elements| elements.undo).filter(|_| raw.kind == "each");
    let state = if raw.undo_error.is_some() {
        StepState::Failed
    } else if raw.undone_at.is_some() {
        StepState::Completed
    } else if raw.has_running_task() || items.is_some_and(|items| items.running > 0) {
        StepState::Running
    } else {
        StepState::Ready
    };
    Ok(Some(RunStep {
        name: format!("{}:undo", raw.step),
        state,
        after: vec![raw.step.clone()],
        kind: raw.kind.clone(),
        attempt: raw.task_attempt.unwrap_or_default() as u16,
        started_at_ms: raw.task_started_at.map(|ms| ms as u64),
        ended_at_ms: raw.undone_at.map(|ms| ms as u64),
        error: raw.undo_error.clone().or_else(|| raw.last_failure().filter(|_| is_live)),
        output: None,
        items,
        task: raw.task_id()?,
        compensates: Some(raw.step.clone()),
    }))
}

impl RawStep {
    fn has_running_task(&self) -> bool {
        self.task_state.as_deref() == Some("running")
    }

    fn task_id(&self) -> Result<Option<Uuid>, Unreadable> {
        Ok(self.task.as_deref().map(str::parse).transpose()?)
    }

    fn last_failure(&self) -> Option<String> {
        let failures: Vec<Failure> = serde_json::from_str(self.failures.as_deref()?).ok()?;
        failures.last().map(|failure| failure.error.clone())
    }
}

fn json(text: Option<String>) -> Result<Option<Box<RawValue>>, Unreadable> {
    Ok(text.map(RawValue::from_string).transpose()?)
}
