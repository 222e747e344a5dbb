//! What the queue needs beside its workers: tasks of lost workers are taken over, schedules are kept, depths are measured.
//! Every process does all of it; the store lets each thing be done once.

use std::sync::Arc;
use std::time::Duration;

use super::Crew;
use crate::db::DbError;
use crate::tasks::outcome::End;
use crate::tasks::{Backoff, Priority};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Looks from one measuring to the next.
const MEASURED: u32 = 5;

/// How many lost tasks are taken over in one step.
const RESCUED: u32 = 100;

/// Until nothing more is to be claimed.
pub(super) async fn run(crew: Arc<Crew>) {
    let looks = async {
        let mut failing = false;
        for look in 0_u32.. {
            let looked = look_once(&crew, look).await;
            let was_failing = std::mem::replace(&mut failing, looked.is_err());
            if let Err(error) = looked
                && !was_failing
            {
                tracing::warn!(%error, "the task queue cannot be looked after; it is tried again and again");
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    crew.draining.run_until_cancelled(looks).await;
}

async fn look_once(crew: &Crew, look: u32) -> Result<(), DbError> {
    rescue(crew).await?;
    crew.schedules.keep(&crew.queue).await?;
    if look.is_multiple_of(MEASURED) {
        measure(crew).await?;
    }
    Ok(())
}

/// Settles the claims of workers that were silent for a lease: another attempt, or, after the last, a dead letter.
async fn rescue(crew: &Crew) -> Result<(), DbError> {
    let lost = crew.queue.expired(RESCUED).await?;
    if lost.is_empty() {
        return Ok(());
    }
    let backoff = |kind: &str| crew.registry.get(kind).map_or(Backoff::DEFAULT, |known| known.policy.backoff);
    let settled = lost.iter().map(|task| crew.settled(task, End::WorkerLost, None, backoff(&task.kind))).collect();
    let rescued = crew.queue.settle(settled).await?.len();
    if rescued > 0 {
        crew.metrics.tasks_rescued.inc_by(rescued as u64);
        tracing::warn!(rescued, "tasks of lost workers were taken over");
        crew.queue.wake();
    }
    Ok(())
}

async fn measure(crew: &Crew) -> Result<(), DbError> {
    let (waiting, dead) = crew.queue.waiting().await?;
    for priority in Priority::ALL {
        let row = waiting.iter().find(|row| row.priority == priority);
        let labels = &[priority.as_str()];
        crew.metrics.tasks_waiting.with_label_values(labels).set(row.map_or(0, |row| row.tasks as i64));
        crew.metrics.tasks_oldest.with_label_values(labels).set(row.map_or(0, |row| (row.oldest_ms / 1_000) as i64));
    }
    crew.metrics.tasks_dead.set(dead as i64);
    Ok(())
}
