//! Deletes tasks and runs of workflows that ended longer ago than they are kept, and idempotency keys whose time is over.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::tasks::{Job, JobContext, JobError, Policy, Queue};
use crate::workflows::{Kept, Workflows};

/// The job.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Tidy {}

/// What is tidied, and what is kept for how long.
pub(super) struct Tidied {
    pub queue: Queue,
    pub workflows: Workflows,
    pub kept: Kept,
}

/// What was deleted.
#[derive(Debug, Serialize)]
pub(super) struct Forgotten {
    tasks: u64,
    runs: u64,
}

impl Job for Tidy {
    const KIND: &'static str = "ish.tidy";
    const VERSION: u16 = 1;
    const POLICY: Policy = Policy { queue: "ish", ..Policy::DEFAULT };
    type State = Tidied;
    type Output = Forgotten;

    async fn run(self, tidied: Arc<Tidied>, _: JobContext) -> Result<Forgotten, JobError> {
        let Kept { ended, dead } = tidied.kept;
        let tasks = tidied.queue.forget(ended, dead).await?;
        Ok(Forgotten { tasks, runs: tidied.workflows.forget(tidied.kept).await? })
    }
}
