//! One attempt at a step: the task's job. It asks whether the step is still to be done, runs the step's code within its limit, and has
//! what became of it stored with what follows, before the task ends. Who dies in between does it again, under the same key.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::context::{Given, StepContext};
use super::definition::{Definition, Step, Way};
use super::ledger::WHOLE;
use super::run::{RunState, StepState};
use super::turn::{End, Ended};
use super::{WorkflowError, Workflows};
use crate::tasks::{Interruption, JobContext, JobError, Policy, Registry};

/// What a step may return.
const MOST_BYTES: usize = 256 * 1024;

/// How much longer the queue waits for a step than the step may take, so that the step can say so.
const GRACE: Duration = Duration::from_secs(30);

/// Between two tries to store what became of an attempt.
const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(1);

/// Of a step's task; its kind says which step.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    pub run: Uuid,
    /// Which element of the list, where the step runs over one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
}

/// What the store says of a step that is to be done.
pub(super) struct Work {
    pub run_state: String,
    pub input: String,
    pub state: String,
    pub task: Option<String>,
    pub round: i32,
    pub element: Option<String>,
    pub output: Option<String>,
    pub outputs: Vec<(String, String)>,
}

impl Work {
    /// Whether it is this task that is to do, or to undo, the step.
    fn is_for(&self, task: Uuid, way: Way) -> bool {
        let state = if way == Way::Do { StepState::Ready } else { StepState::Compensating };
        self.state == state.as_str() && self.task.as_deref() == Some(&task.to_string())
    }

    fn is_wanted(&self, way: Way) -> bool {
        let state = if way == Way::Do { RunState::Running } else { RunState::Compensating };
        self.run_state == state.as_str()
    }
}

/// The code of one step, one way.
#[derive(Clone)]
struct Doing {
    workflows: Workflows,
    definition: Arc<Definition>,
    place: usize,
    way: Way,
}

impl Workflows {
    /// The jobs of a program, and those of its workflows' steps.
    ///
    /// # Panics
    /// When one of both has the kind of another: a defect of the program, seen at its first start.
    #[must_use]
    pub fn register(&self, registry: Registry) -> Registry {
        let mut all = registry;
        for definition in self.inner.guide.definitions.all() {
            for (place, step) in definition.steps.iter().enumerate() {
                let ways = [Some(Way::Do), step.undo.is_some().then_some(Way::Undo)];
                for way in ways.into_iter().flatten() {
                    let doing = Doing { workflows: self.clone(), definition: Arc::clone(definition), place, way };
                    all = registered(all, doing);
                }
            }
        }
        all
    }
}

fn registered(registry: Registry, doing: Doing) -> Registry {
    let step = doing.step();
    let policy = *step.policy_of(doing.way);
    let policy = Policy { hard_limit: policy.hard_limit + GRACE, ..policy };
    let check = |arguments: &str| serde_json::from_str::<Arguments>(arguments).map(drop);
    let kind = doing.definition.kind(step, doing.way);
    registry.register_named(kind, policy, check, move |arguments, context| {
        let (doing, arguments) = (doing.clone(), serde_json::from_str(arguments));
        async move {
            let arguments = arguments.map_err(JobError::fatal)?;
            doing.attempt(arguments, context).await.map(|()| None)
        }
        .boxed()
    })
}

impl Doing {
    fn step(&self) -> &Step {
        &self.definition.steps[self.place]
    }

    async fn attempt(&self, arguments: Arguments, context: JobContext) -> Result<(), JobError> {
        let (step, item) = (self.step(), arguments.item.map_or(WHOLE, |item| item as i32));
        // A list is not given to each of its elements.
        let needs = step.after.iter().filter(|need| step.over.as_ref() != Some(need)).cloned().collect();
        let work = self.workflows.work(arguments.run, (&step.name, item), needs).await?;
        let Some(work) = work.filter(|work| work.is_for(context.task(), self.way)) else { return Ok(()) };
        let says = |end| Ended { step: step.name.clone(), item, task: context.task(), end };
        if !work.is_wanted(self.way) {
            return self.tell(arguments.run, says(End::Stopped), &context).await;
        }
        let ran = self.run(arguments, work, &context).await;
        let end = match &ran {
            Ok(_) if self.way == Way::Undo => End::Undone,
            Ok(output) => End::Done(output.clone()),
            Err(error) => match self.end_of(error, &context) {
                Some(end) => end,
                None => return ran.map(drop),
            },
        };
        self.tell(arguments.run, says(end), &context).await?;
        ran.map(drop)
    }

    async fn run(&self, arguments: Arguments, work: Work, context: &JobContext) -> Result<String, JobError> {
        let step = self.step();
        let code = if self.way == Way::Do { Some(&step.code) } else { step.undo.as_ref() };
        let Some(code) = code else { return Err(JobError::fatal("there is nothing that undoes this step")) };
        let running = AssertUnwindSafe(code(self.given(arguments, work, context))).catch_unwind();
        let limit = step.policy_of(self.way).hard_limit;
        let output = match tokio::time::timeout(limit, running).await {
            Ok(Ok(returned)) => returned?,
            Ok(Err(_)) => return Err(JobError::retry("the step panicked")),
            Err(_) => return Err(JobError::retry("it took longer than its hard limit")),
        };
        if output.len() > MOST_BYTES {
            let error = "bytes; a step may return 262144: store what is large, and return its name";
            return Err(JobError::fatal(format_args!("what it returned takes {} {error}", output.len())));
        }
        Ok(output)
    }

    fn given(&self, arguments: Arguments, work: Work, context: &JobContext) -> StepContext {
        let step = self.step();
        let mut outputs: BTreeMap<_, _> = work.outputs.into_iter().collect();
        if self.way == Way::Undo {
            outputs.extend(work.output.map(|output| (step.name.clone(), output)));
        }
        let given = Given {
            run: arguments.run,
            key: self.key(arguments, work.round),
            input: work.input,
            outputs,
            element: arguments.item.zip(work.element),
            job: context.clone(),
        };
        given.into()
    }

    /// `RUN/STEP`, `RUN/STEP/ELEMENT`; `~ROUND` where it was undone before, and `/undo` for what undoes it.
    fn key(&self, arguments: Arguments, round: i32) -> String {
        let item = arguments.item.map(|item| format!("/{item}")).unwrap_or_default();
        let round = if round > 0 { format!("~{round}") } else { String::new() };
        let way = if self.way == Way::Undo { "/undo" } else { "" };
        format!("{}/{}{item}{round}{way}", arguments.run, self.step().name)
    }

    /// What the run is told of a failure; `None` where there is another attempt, or another worker.
    fn end_of(&self, error: &JobError, context: &JobContext) -> Option<End> {
        let (failed, stopped): (fn(String) -> End, _) = match self.way {
            Way::Do => (End::Failed, End::Stopped),
            Way::Undo => (End::Stays, End::Stays("its task was cancelled".to_owned())),
        };
        match context.interruption() {
            Some(Interruption::Cancelled) => Some(stopped),
            Some(Interruption::Lost) => None,
            Some(Interruption::Draining) if !error.is_fatal() => None,
            _ => (error.is_fatal() || context.is_last_attempt()).then(|| failed(error.to_string())),
        }
    }

    /// Stores it, however often that takes, as long as this worker has the task.
    async fn tell(&self, run: Uuid, ended: Ended, context: &JobContext) -> Result<(), JobError> {
        let mut pause = SOON;
        loop {
            match self.workflows.told(run, ended.clone()).await {
                Ok(()) => return Ok(()),
                Err(WorkflowError::Store(error)) if context.interruption() != Some(Interruption::Lost) => {
                    if pause == SOON {
                        tracing::warn!(%error, %run, "the end of a step cannot be stored; it is tried again");
                    }
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LATE);
        }
    }
}
