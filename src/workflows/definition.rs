//! A workflow in code: its steps, what each waits for, how it is tried, and what undoes it.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;

use super::context::StepContext;
use super::graph::{DefinitionError, order};
use crate::tasks::{JobError, Policy};

/// A step's code: what it returns is JSON.
pub(super) type Code = dyn Fn(StepContext) -> BoxFuture<'static, Result<String, JobError>> + Send + Sync;

/// How many elements of a list run at once, unless a step says otherwise.
const AT_ONCE: u16 = 16;

/// How a compensation is tried: it is to succeed.
const UNDO: Policy = Policy { max_attempts: 20, ..Policy::DEFAULT };

/// One step of a workflow.
///
/// ```
/// use ish::tasks::{JobError, Policy};
/// use ish::workflows::{Step, StepContext};
///
/// async fn charge(context: StepContext) -> Result<u64, JobError> {
///     let cents: u64 = context.input()?;
///     println!("{}: {cents}", context.key());
///     Ok(cents)
/// }
///
/// async fn refund(context: StepContext) -> Result<(), JobError> {
///     println!("{}: {}", context.key(), context.output::<u64>("charge")?);
///     Ok(())
/// }
///
/// let step = Step::new("charge", charge).after(["reserve"]).policy(Policy { max_attempts: 3, ..Policy::DEFAULT }).undo(refund);
/// ```
#[must_use = "it is nothing until a workflow has it"]
pub struct Step {
    pub(super) name: String,
    pub(super) after: Vec<String>,
    /// The step whose list it runs over.
    pub(super) over: Option<String>,
    pub(super) at_once: u16,
    pub(super) policy: Policy,
    pub(super) code: Arc<Code>,
    pub(super) undo: Option<Arc<Code>>,
    pub(super) undo_policy: Policy,
}

impl fmt::Debug for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Step").field("name", &self.name).field("after", &self.after).finish_non_exhaustive()
    }
}

impl Step {
    /// A step that runs once. What it returns is kept as JSON, of 256 KiB at most; it may run more than once where a process dies:
    /// what it does is done under [`StepContext::key`].
    pub fn new<T, F>(name: impl Into<String>, code: impl Fn(StepContext) -> F + Send + Sync + 'static) -> Self
    where
        T: Serialize,
        F: Future<Output = Result<T, JobError>> + Send + 'static,
    {
        Self {
            name: name.into(),
            after: Vec::new(),
            over: None,
            at_once: AT_ONCE,
            policy: Policy::DEFAULT,
            code: erased(code),
            undo: None,
            undo_policy: UNDO,
        }
    }

    /// A step that runs once for each element of the list that the step `over` returns ([`StepContext::element`]), and returns the
    /// list of what those return, in their order.
    pub fn each<T, F>(
        name: impl Into<String>,
        over: impl Into<String>,
        code: impl Fn(StepContext) -> F + Send + Sync + 'static,
    ) -> Self
    where
        T: Serialize,
        F: Future<Output = Result<T, JobError>> + Send + 'static,
    {
        let over = over.into();
        Self { after: vec![over.clone()], over: Some(over), ..Self::new(name, code) }
    }

    /// Not before these are done; it has their outputs.
    pub fn after<N: Into<String>>(mut self, steps: impl IntoIterator<Item = N>) -> Self {
        for step in steps.into_iter().map(Into::into) {
            if !self.after.contains(&step) {
                self.after.push(step);
            }
        }
        self
    }

    /// How often it is tried, how long it may take, how many run at once over all runs: the step's tasks are a kind of their own.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// How many elements of one run are in work at once.
    pub fn at_once(mut self, elements: NonZeroU16) -> Self {
        self.at_once = elements.get();
        self
    }

    /// What undoes it when the run fails or is cancelled after it was done; it has the step's own output beside its dependencies'.
    pub fn undo<T, F>(mut self, code: impl Fn(StepContext) -> F + Send + Sync + 'static) -> Self
    where
        T: Serialize,
        F: Future<Output = Result<T, JobError>> + Send + 'static,
    {
        self.undo = Some(erased(code));
        self
    }

    /// How that is tried: twenty times, unless said.
    pub fn undo_policy(mut self, policy: Policy) -> Self {
        self.undo_policy = policy;
        self
    }
}

fn erased<T, F>(code: impl Fn(StepContext) -> F + Send + Sync + 'static) -> Arc<Code>
where
    T: Serialize,
    F: Future<Output = Result<T, JobError>> + Send + 'static,
{
    Arc::new(move |context| {
        let running = code(context);
        Box::pin(async move { serde_json::to_string(&running.await?).map_err(JobError::fatal) })
    })
}

/// A graph of steps under a name. What changes its meaning for runs under way is another version; those end with theirs, as long as a
/// process knows it.
#[derive(Debug)]
#[must_use = "it is nothing until it is among definitions"]
pub struct Workflow {
    name: String,
    version: u16,
    steps: Vec<Step>,
}

impl Workflow {
    /// Of no steps yet.
    pub fn new(name: impl Into<String>, version: u16) -> Self {
        Self { name: name.into(), version, steps: Vec::new() }
    }

    /// With one more step.
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// A workflow that can be run.
#[derive(Debug)]
pub(super) struct Definition {
    pub name: String,
    pub version: u16,
    pub steps: Vec<Step>,
    /// The steps' places, each after all that it waits for.
    pub order: Vec<usize>,
}

impl Definition {
    fn of(workflow: Workflow) -> Result<Self, DefinitionError> {
        let Workflow { name, version, steps } = workflow;
        let needs: Vec<_> = steps.iter().map(|step| (step.name.as_str(), step.after.as_slice())).collect();
        let order = order(&name, &needs)?;
        Ok(Self { name, version, steps, order })
    }

    /// The place of a step.
    pub fn place(&self, step: &str) -> Option<usize> {
        self.steps.iter().position(|known| known.name == step)
    }

    /// What tasks that do, or undo, a step are called.
    pub fn kind(&self, step: &Step, way: Way) -> String {
        let way = if way == Way::Undo { ":undo" } else { "" };
        format!("{}:{}:{}{way}", self.name, self.version, step.name)
    }

    /// The steps that none waits for.
    pub fn ends(&self) -> impl Iterator<Item = usize> {
        let is_needed = |step: &Step| self.steps.iter().any(|other| other.after.contains(&step.name));
        (0..self.steps.len()).filter(move |place| !is_needed(&self.steps[*place]))
    }
}

/// Whether a step is done or undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Do,
    Undo,
}

impl Step {
    pub(super) fn policy_of(&self, way: Way) -> &Policy {
        if way == Way::Do { &self.policy } else { &self.undo_policy }
    }
}

/// The workflows that a program knows, each in the versions that runs may have.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    known: BTreeMap<(String, u16), Arc<Definition>>,
}

impl Definitions {
    /// Of no workflow.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more, or one more version of one.
    ///
    /// # Errors
    /// [`DefinitionError`]: it cannot be run.
    pub fn with(mut self, workflow: Workflow) -> Result<Self, DefinitionError> {
        let definition = Definition::of(workflow)?;
        let key = (definition.name.clone(), definition.version);
        if self.known.contains_key(&key) {
            let (workflow, version) = key;
            return Err(DefinitionError::Known { workflow, version });
        }
        self.known.insert(key, Arc::new(definition));
        Ok(self)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.known.values()
    }

    pub(super) fn get(&self, workflow: &str, version: u16) -> Option<&Arc<Definition>> {
        self.known.get(&(workflow.to_owned(), version))
    }

    /// The latest version: what a new run has.
    pub(super) fn latest(&self, workflow: &str) -> Option<&Arc<Definition>> {
        self.all().filter(|definition| definition.name == workflow).max_by_key(|definition| definition.version)
    }
}
