//! One attempt: the job runs within its limits, its panic is its failure, and how it ended is settled before it is forgotten.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;

use super::{Crew, Running};
use crate::clock::jitter;
use crate::tasks::outcome::{End, Moment, settled};
use crate::tasks::registry::Known;
use crate::tasks::stored::{Claimed, Settled};
use crate::tasks::{Backoff, Interruption, JobContext, JobError, State};

/// Begins to run a task that was claimed.
pub(super) fn begin(crew: &Arc<Crew>, claimed: Claimed) {
    let context = JobContext::new(claimed.id, claimed.tenant.clone(), claimed.attempt, claimed.max_attempts);
    crew.begin(claimed.id, Running { epoch: claimed.epoch, context: context.clone() });
    crew.metrics.tasks_wait.with_label_values(&[claimed.priority.as_str()]).observe(claimed.waited.as_secs_f64());
    let crew = Arc::clone(crew);
    crew.tasks.clone().spawn(async move {
        run(&crew, &claimed, &context).await;
        crew.end(claimed.id);
    });
}

async fn run(crew: &Crew, claimed: &Claimed, context: &JobContext) {
    let begun = Instant::now();
    let known = crew.registry.get(&claimed.kind);
    let end = match known {
        Some(known) => end_of(crew, known, claimed, context).await,
        None => None,
    };
    crew.make_room();
    let (Some(known), Some(end)) = (known, end) else {
        // Another has it.
        crew.count_end(&claimed.kind, "lost");
        return;
    };
    crew.metrics.tasks_duration.with_label_values(&[&claimed.kind]).observe(begun.elapsed().as_secs_f64());
    let settled = crew.settled(claimed, end, context.interruption(), known.policy.backoff);
    let outcome = outcome(&settled);
    if matches!(outcome, "retried" | "discarded") {
        tracing::warn!(task = %claimed.id, kind = claimed.kind, attempt = claimed.attempt, outcome, "a task failed");
    }
    let was_ours = crew.settle(settled).await;
    crew.count_end(&claimed.kind, if was_ours { outcome } else { "lost" });
}

/// How the job ended; `None` where the task is another worker's by now.
async fn end_of(crew: &Crew, known: &Known, claimed: &Claimed, context: &JobContext) -> Option<End> {
    if claimed.version < known.version {
        let (given, version) = (claimed.version, known.version);
        let error = format!("its arguments are of version {given}, and the job takes version {version}");
        return Some(End::Failed(JobError::fatal(error)));
    }
    if context.interruption() == Some(Interruption::Draining) {
        return Some(End::HandedBack);
    }
    let job = AssertUnwindSafe(async { known.run(&claimed.arguments, context.clone()).await }).catch_unwind();
    tokio::select! {
        ran = tokio::time::timeout(known.policy.hard_limit, job) => Some(match ran {
            Ok(Ok(Ok(result))) => End::Done(result),
            Ok(Ok(Err(error))) => End::Failed(error),
            Ok(Err(_)) => End::Panicked,
            Err(_) => End::TookTooLong,
        }),
        () = crew.abandoned.cancelled() => Some(End::HandedBack),
        () = lost(known, context) => None,
    }
}

/// Tells the job of its soft limit; resolves when the task is lost.
async fn lost(known: &Known, context: &JobContext) {
    if tokio::time::timeout(known.policy.soft_limit, context.cancelled()).await.is_err() {
        context.interrupt(Interruption::TimeIsUp);
    }
    context.lost().await;
}

fn outcome(settled: &Settled) -> &'static str {
    match settled.state {
        State::Completed => "completed",
        State::Cancelled => "cancelled",
        State::Discarded => "discarded",
        State::Retryable => "retried",
        State::Available | State::Running => "handed_back",
    }
}

impl Crew {
    /// What becomes of a task whose attempt ended now.
    pub(super) fn settled(
        &self,
        claimed: &Claimed,
        end: End,
        interruption: Option<Interruption>,
        backoff: Backoff,
    ) -> Settled {
        let moment = Moment { now_ms: self.clock.now_ms(), jitter: jitter() };
        settled(claimed, end, interruption, backoff, moment)
    }

    fn count_end(&self, kind: &str, outcome: &str) {
        self.metrics.tasks_ended.with_label_values(&[kind, outcome]).inc();
    }
}
