//! Deletes tasks that ended longer ago than they are kept, and idempotency keys whose time is over.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::tasks::{Job, JobContext, JobError, Policy, Queue};

/// The job.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Tidy {}

/// What is tidied, and what is kept for how long.
pub(super) struct Kept {
    pub queue: Queue,
    pub ended: Duration,
    pub dead: Duration,
}

impl Job for Tidy {
    const KIND: &'static str = "ish.tidy";
    const VERSION: u16 = 1;
    const POLICY: Policy = Policy { queue: "ish", ..Policy::DEFAULT };
    type State = Kept;
    /// How many tasks were deleted.
    type Output = u64;

    async fn run(self, kept: Arc<Kept>, _: JobContext) -> Result<u64, JobError> {
        Ok(kept.queue.forget(kept.ended, kept.dead).await?)
    }
}
