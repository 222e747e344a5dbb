//! Jobs that `#[async_job]` registers where the program is linked: those that work with nothing, so that whoever runs them need not
//! name them. Linking keeps what no code names only as far as the linker does: register explicitly what must not be missing.

use std::sync::Arc;

use super::{Job, Registry};

/// A job of the program.
pub struct LinkedJob {
    add: fn(Registry) -> Registry,
}

inventory::collect!(LinkedJob);

impl LinkedJob {
    /// The job `J`.
    pub const fn of<J: Job<State = ()>>() -> Self {
        Self { add: |registry| registry.register::<J>(Arc::new(())) }
    }
}

impl Registry {
    /// Of every job of the program that has no state.
    ///
    /// # Panics
    /// As [`Registry::register`].
    pub fn linked() -> Self {
        inventory::iter::<LinkedJob>().fold(Self::new(), |registry, job| (job.add)(registry))
    }
}

/// Registers a job that has no state where the program is linked; without the feature `linked-jobs`, nothing. `#[async_job]` writes it.
#[macro_export]
macro_rules! link_job {
    ($job:ty) => {
        $crate::__private::inventory::submit! { $crate::tasks::LinkedJob::of::<$job>() }
    };
}
