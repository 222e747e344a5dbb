//! What this process says of itself to those who look at the queue: that it runs tasks, how many it has room for, that it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Crew;
use crate::db::DbError;
use crate::tasks::present::Sign;

/// How soon a change is said.
const EVERY: Duration = Duration::from_secs(1);

/// Until all is settled; then it says that it is gone. A sign that is not given in time leaves the process off a page, and nothing
/// else: its tasks have leases of their own.
pub(super) async fn run(crew: Arc<Crew>) {
    let signs = async {
        let mut said: Option<(Sign, Instant)> = None;
        loop {
            said = signed(&crew, said).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "the queue could not be told that this process runs tasks");
                None
            });
            tokio::time::sleep(EVERY).await;
        }
    };
    crew.over.run_until_cancelled(signs).await;
    if let Err(error) = crew.queue.leave(crew.id).await {
        tracing::debug!(%error, "the queue will learn by its silence that this process has ended");
    }
}

/// Says what has changed, or the same again when a third of the lease is over; returns what was said last, and when.
async fn signed(crew: &Crew, said: Option<(Sign, Instant)>) -> Result<Option<(Sign, Instant)>, DbError> {
    let sign = Sign {
        id: crew.id,
        name: crew.config.instance.clone(),
        room: crew.room.load(Ordering::Relaxed) as u32,
        is_draining: crew.draining.is_cancelled(),
        lease_ms: crate::tasks::ms(crew.config.lease),
    };
    let again = crew.config.lease / 3;
    if said.as_ref().is_some_and(|(last, at)| *last == sign && at.elapsed() < again) {
        return Ok(said);
    }
    crew.queue.sign(sign.clone()).await?;
    Ok(Some((sign, Instant::now())))
}
