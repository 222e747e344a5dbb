//! Moves cached answers to the embedder of this process, after another one was configured: enqueued by the first process that starts
//! with it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::{KeptUnder, SemanticCache};
use crate::tasks::{Backoff, Interruption, Job, JobContext, JobError, NewTask, Policy, Priority, Queue, TaskError};

/// Until another process may have the task, where this one has another embedder than it names.
const ELSEWHERE: Duration = Duration::from_mins(1);

/// Between two tries of a store that fails.
const AGAIN: Duration = Duration::from_secs(5);

/// The job.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reembed {
    /// The embedder that they are moved to; that of whoever runs it, unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<String>,
}

/// Enqueues the job if entries are kept under another embedder than this process's, and notes that they are so no longer; tried again
/// and again while the store fails. Who dies in between, or does it at the same time as another, has a second task at most, which finds
/// nothing to do.
pub async fn follow_embedder(cache: SemanticCache, queue: Queue) {
    while let Err(error) = followed(&cache, &queue).await {
        tracing::warn!(%error, "it is not known yet whether cached answers are to be moved to this embedder: it is tried again");
        tokio::time::sleep(AGAIN).await;
    }
}

async fn followed(cache: &SemanticCache, queue: &Queue) -> Result<(), TaskError> {
    let kept_under = cache.kept_under().await?;
    if kept_under == KeptUnder::Another {
        let to = cache.embeddings().id().as_str();
        tracing::info!(to, "cached answers were made under another embedder: they are moved to this one");
        queue.enqueue(NewTask::new(&Reembed { to: Some(to.to_owned()) }).unique(to)).await?;
    }
    if kept_under != KeptUnder::This {
        cache.note_embedder().await?;
    }
    Ok(())
}

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
        let own = cache.embeddings().id().as_str();
        if let Some(to) = self.to.filter(|to| to != own) {
            let error = format!("it is to be done by a process whose embedder is {to}, and this one's is {own}");
            return Err(JobError::retry(error).after(ELSEWHERE));
        }
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
