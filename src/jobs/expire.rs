//! Deletes from the cache's store what has expired there: one process for all, since a process sweeps only its own memory.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cache::SemanticCache;
use crate::tasks::{Job, JobContext, JobError, Policy};

/// The job.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Expire {}

/// What was deleted.
#[derive(Debug, Serialize)]
pub(super) struct Expired {
    entries: u64,
}

impl Job for Expire {
    const KIND: &'static str = "ish.expire";
    const VERSION: u16 = 1;
    const POLICY: Policy = Policy { queue: "ish", ..Policy::DEFAULT };
    type State = SemanticCache;
    type Output = Expired;

    async fn run(self, cache: Arc<SemanticCache>, _: JobContext) -> Result<Expired, JobError> {
        Ok(Expired { entries: cache.expire().await? })
    }
}
