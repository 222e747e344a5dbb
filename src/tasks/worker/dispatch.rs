//! Claims tasks as there is room for them, and looks again at once when there may be more, else less and less often.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Crew, attempt};
use crate::tasks::stored::{Claim, Claimed};

/// Between two looks: after tasks were found, and when none has been for long. The latter is the longest that a task of another process
/// waits where no Redis tells of it; it costs one transaction, which reads an index and writes nothing.
const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(1);

/// Jobs that were begun together often end so, one right after the other: what comes within this time is claimed for at once.
const TOGETHER: Duration = Duration::from_millis(1);

/// Until nothing more is to be claimed. A claim under way is not dropped then: what the store has given is handed back.
pub(super) async fn run(crew: Arc<Crew>) {
    let (mut room, mut pause) = (crew.scale.least, SOON);
    let mut claims = Claims { versions: crew.registry.versions(), is_failing: false };
    while !crew.draining.is_cancelled() {
        crew.metrics.tasks_workers.set(room as i64);
        crew.room.store(room, Ordering::Relaxed);
        let free = crew.load.borrow().free(room);
        if free == 0 {
            room = crew.draining.run_until_cancelled(wait_for_room(&crew, room)).await.unwrap_or(room);
            continue;
        }
        let count = free.min(crew.config.claim.get() as usize);
        let claimed = claims.next(&crew, count as u32).await;
        room = crew.scale.next(room, claimed.iter().map(|task| task.waited).max());
        if claimed.is_empty() {
            // Long tasks do not keep a single new one waiting.
            room = room.max(crew.load.borrow().running + 1).min(crew.scale.most);
        }
        let (has_found, is_full) = (!claimed.is_empty(), claimed.len() == count);
        for task in claimed {
            attempt::begin(&crew, task);
        }
        if is_full {
            continue;
        }
        pause = if has_found { SOON } else { (pause * 2).min(LATE) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = crew.queue.woken() => pause = SOON,
            () = crew.draining.cancelled() => {}
        }
    }
}

/// Claims as they are made one after the other.
struct Claims {
    versions: String,
    is_failing: bool,
}

impl Claims {
    async fn next(&mut self, crew: &Crew, count: u32) -> Vec<Claimed> {
        let lease_ms = crate::tasks::ms(crew.config.lease);
        let claim = Claim { worker: crew.id, versions: self.versions.clone(), count, lease_ms };
        let claimed = crew.queue.claim(claim, &crew.limits).await;
        let was_failing = std::mem::replace(&mut self.is_failing, claimed.is_err());
        claimed.unwrap_or_else(|error| {
            if !was_failing {
                tracing::warn!(%error, "no tasks can be claimed; it is tried again and again");
            }
            Vec::new()
        })
    }
}

/// Ends when a task has, or when others have waited for so long that there is to be more room.
async fn wait_for_room(crew: &Crew, room: usize) -> usize {
    let mut load = crew.load.subscribe();
    let has_ended = async {
        drop(load.wait_for(|load| load.free(room) > 0).await);
        tokio::time::sleep(TOGETHER).await;
    };
    tokio::select! {
        () = has_ended => room,
        () = tokio::time::sleep(crew.scale.after) => {
            let Ok((waiting, _)) = crew.queue.waiting().await else { return room };
            let oldest = waiting.iter().map(|waiting| Duration::from_millis(waiting.oldest_ms)).max();
            // Nothing shrinks while all that there is is in use.
            crew.scale.next(room, Some(oldest.unwrap_or_default()))
        }
    }
}
