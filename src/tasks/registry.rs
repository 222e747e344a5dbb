//! Which jobs this process knows: each by its kind, with what it works with. Registered explicitly, where the application is
//! put together.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;

use super::new_task::is_name;
use super::{Job, JobContext, JobError, NewTask, Policy, TaskError};

/// What a job returned, as JSON; `None` where that is nothing.
pub(super) type Ran = Result<Option<String>, JobError>;

/// Runs a job whose type is forgotten, with arguments as stored.
type Run = dyn Fn(&str, JobContext) -> BoxFuture<'static, Ran> + Send + Sync;

/// A kind of job, its type forgotten.
pub(super) struct Known {
    pub version: u16,
    pub policy: Policy,
    check: fn(&str) -> Result<(), serde_json::Error>,
    run: Box<Run>,
}

impl Known {
    /// Runs the job with arguments of its own version.
    pub fn run(&self, arguments: &str, context: JobContext) -> BoxFuture<'static, Ran> {
        (self.run)(arguments, context)
    }
}

/// Jobs by kind.
#[derive(Default)]
pub struct Registry {
    known: BTreeMap<Cow<'static, str>, Known>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.known.keys()).finish()
    }
}

impl Registry {
    /// Of no job.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a job and what it works with.
    ///
    /// # Panics
    /// When there is one of its kind, or its kind is no name: both are defects of the program, seen at its first start.
    #[must_use]
    pub fn register<J: Job>(self, state: Arc<J::State>) -> Self {
        let run = move |arguments: &str, context: JobContext| -> BoxFuture<'static, Ran> {
            let job = serde_json::from_str::<J>(arguments);
            let state = Arc::clone(&state);
            Box::pin(async move {
                let job =
                    job.map_err(|error| JobError::fatal(format_args!("the arguments cannot be read: {error}")))?;
                let output = job.run(state, context).await?;
                let output = serde_json::to_string(&output).map_err(JobError::fatal)?;
                Ok((output != "null").then_some(output))
            })
        };
        let check = |arguments: &str| serde_json::from_str::<J>(arguments).map(drop);
        self.with(J::KIND.into(), Known { version: J::VERSION, policy: J::POLICY, check, run: Box::new(run) })
    }

    /// Adds work whose kind is known only while the program runs: a step of a workflow, which reads its arguments itself.
    ///
    /// # Panics
    /// As [`Registry::register`].
    pub(crate) fn register_named(
        self,
        kind: String,
        policy: Policy,
        check: fn(&str) -> Result<(), serde_json::Error>,
        run: impl Fn(&str, JobContext) -> BoxFuture<'static, Result<Option<String>, JobError>> + Send + Sync + 'static,
    ) -> Self {
        self.with(kind.into(), Known { version: NewTask::NAMED_VERSION, policy, check, run: Box::new(run) })
    }

    fn with(mut self, kind: Cow<'static, str>, known: Known) -> Self {
        assert!(is_name(&kind), "{kind:?} is no name of a job: letters, digits and _-.: only");
        assert!(!self.known.contains_key(&kind), "two jobs are called {kind:?}");
        self.known.insert(kind, known);
        self
    }

    /// These, and others.
    ///
    /// # Panics
    /// When both have one of a kind.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        others.known.into_iter().fold(self, |all, (kind, known)| all.with(kind, known))
    }

    /// The kinds that are known, in the order of their names.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(Cow::as_ref)
    }

    /// A task for a job that is named rather than typed, as a client asks for it: its kind is known, its version is the
    /// job's, its arguments are such as the job takes.
    ///
    /// # Errors
    /// [`TaskError::UnknownKind`], [`TaskError::Version`], [`TaskError::Arguments`].
    pub fn task(&self, kind: &str, version: Option<u16>, arguments: &RawValue) -> Result<NewTask, TaskError> {
        let Some(known) = self.get(kind) else { return Err(TaskError::UnknownKind(kind.to_owned())) };
        let given = version.unwrap_or(known.version);
        if given != known.version {
            return Err(TaskError::Version { kind: kind.to_owned(), given, known: known.version });
        }
        (known.check)(arguments.get()).map_err(|error| TaskError::Arguments(error.to_string()))?;
        Ok(NewTask::of_raw(kind, known.version, arguments, &known.policy))
    }

    /// How often a task of a kind is tried; as often as most where the kind is not known here.
    pub fn attempts(&self, kind: &str) -> NonZeroU16 {
        let policy = self.get(kind).map_or(&Policy::DEFAULT, |known| &known.policy);
        NonZeroU16::new(policy.max_attempts).unwrap_or(NonZeroU16::MIN)
    }

    pub(super) fn get(&self, kind: &str) -> Option<&Known> {
        self.known.get(kind)
    }

    /// The kinds with their versions, as a claim names them: a JSON object.
    pub(super) fn versions(&self) -> String {
        let versions: BTreeMap<_, _> = self.known.iter().map(|(kind, known)| (kind, known.version)).collect();
        serde_json::to_string(&versions).unwrap_or_default()
    }

    pub(super) fn policies(&self) -> impl Iterator<Item = (&str, &Policy)> {
        self.known.iter().map(|(kind, known)| (kind.as_ref(), &known.policy))
    }
}
