//! What a step's code knows: the run's input, what the steps before it returned, its element, and the key under which it does things.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::tasks::{JobContext, JobError};

/// What a step, or what undoes it, works with. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct StepContext {
    inner: Arc<Given>,
}

/// What is given to a step.
#[derive(Debug)]
pub(super) struct Given {
    pub run: Uuid,
    pub key: String,
    pub input: String,
    /// By step.
    pub outputs: BTreeMap<String, String>,
    /// Of the list it runs over.
    pub element: Option<(u32, String)>,
    pub job: JobContext,
}

impl From<Given> for StepContext {
    fn from(given: Given) -> Self {
        Self { inner: Arc::new(given) }
    }
}

impl StepContext {
    /// The run.
    pub fn run(&self) -> Uuid {
        self.inner.run
    }

    /// The same for every attempt at this step (and element) of this run, whichever process makes it: what has an effect is done
    /// under it, once. What undoes a step has another; so has a step that was undone and, by a retry of its run, is done anew.
    pub fn key(&self) -> &str {
        &self.inner.key
    }

    /// What the run was started with.
    ///
    /// # Errors
    /// When it is not of this type: no attempt will do better.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, JobError> {
        read("the run's input", &self.inner.input)
    }

    /// What a step that this one waits for has returned; to what undoes a step, also what that has returned.
    ///
    /// # Errors
    /// When it is not of this type, or this step does not wait for that one: no attempt will do better.
    pub fn output<T: DeserializeOwned>(&self, step: &str) -> Result<T, JobError> {
        let output = self.inner.outputs.get(step);
        let output = output.ok_or_else(|| JobError::fatal(format_args!("this step has no output of {step:?}")))?;
        read(&format!("the output of {step:?}"), output)
    }

    /// The element of the list, where the step runs once for each.
    ///
    /// # Errors
    /// When it is not of this type, or the step does not: no attempt will do better.
    pub fn element<T: DeserializeOwned>(&self) -> Result<T, JobError> {
        let (_, element) = self.inner.element.as_ref().ok_or_else(|| JobError::fatal("this step runs over no list"))?;
        read("the element", element)
    }

    /// Which element that is, from 0.
    pub fn index(&self) -> Option<u32> {
        self.inner.element.as_ref().map(|(index, _)| *index)
    }

    /// The task behind it: whose it is, which attempt this is, whether it shall end, how far it has come.
    pub fn job(&self) -> &JobContext {
        &self.inner.job
    }
}

fn read<T: DeserializeOwned>(what: &str, json: &str) -> Result<T, JobError> {
    serde_json::from_str(json).map_err(|error| JobError::fatal(format_args!("{what} cannot be read: {error}")))
}
