//! Moves cached answers to the embedder of this process, after another one was configured.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::SemanticCache;
use crate::tasks::{Backoff, Interruption, Job, JobContext, JobError, Policy, Priority};

/// The job.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reembed {}

/// How far it has come, and what it came to.
#[derive(Debug, Default, Serialize)]
pub(super) struct Came {
    moved: usize,
    left: usize,
}

impl Job for Reembed {
    const KIND: &'static str = "ish.reembed";
    const VERSION: u16 = 1;
    /// An embedder that is busy, or away, is asked again and again.
    const POLICY: Policy = Policy {
        queue: "ish",
        priority: Priority::Low,
        max_attempts: 20,
        backoff: Backoff { base: Duration::from_secs(5), cap: Duration::from_mins(10) },
        max_running: Some(1),
        ..Policy::DEFAULT
    };
    type State = SemanticCache;
    type Output = Came;

    async fn run(self, cache: Arc<SemanticCache>, context: JobContext) -> Result<Came, JobError> {
        let (mut came, mut after) = (Came::default(), None);
        while let Some(step) = cache.reembed(after).await? {
            came.moved += step.moved;
            came.left += step.left;
            context.progress(&came);
            after = Some(step.last);
            // What was moved stays so: the next attempt begins with the rest.
            if let Some(why) = context.interruption() {
                return Err(interrupted(why));
            }
        }
        Ok(came)
    }
}

fn interrupted(why: Interruption) -> JobError {
    JobError::retry(format_args!("interrupted: {why:?}"))
}
