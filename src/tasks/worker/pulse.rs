//! The heartbeat: a task of its own, so that it beats however busy the workers are. It renews the leases of all that runs,
//! brings what jobs say of their progress, and hears what is cancelled, and what is another's by now.

use std::collections::HashMap;
use std::sync::Arc;

use super::Crew;
use crate::tasks::Interruption;
use crate::tasks::stored::Held;

/// Until all is settled.
pub(super) async fn run(crew: Arc<Crew>) {
    let beats = async {
        loop {
            tokio::select! {
                () = tokio::time::sleep(crew.config.heartbeat) => {}
                () = crew.queue.cancelled() => {}
            }
            beat(&crew).await;
        }
    };
    crew.over.run_until_cancelled(beats).await;
}

async fn beat(crew: &Crew) {
    let held: Vec<_> = crew
        .running()
        .iter()
        .map(|(id, running)| Held { id: *id, epoch: running.epoch, progress: running.context.take_progress() })
        .collect();
    if held.is_empty() {
        return;
    }
    let asked: Vec<_> = held.iter().map(|held| (held.id, held.epoch)).collect();
    let heard = match crew.queue.beat(held, crate::tasks::ms(crew.config.lease)).await {
        Ok(heard) => heard.into_iter().collect::<HashMap<_, _>>(),
        Err(error) => {
            crew.metrics.tasks_beats_failed.inc();
            tracing::warn!(%error, "the leases of tasks cannot be renewed");
            return;
        }
    };
    for (id, epoch) in asked {
        match heard.get(&id) {
            Some(true) => crew.interrupt(id, epoch, Interruption::Cancelled),
            Some(false) => {}
            None => crew.interrupt(id, epoch, Interruption::Lost),
        }
    }
}

impl Crew {
    /// Where it is still that claim: it may have been settled meanwhile.
    fn interrupt(&self, id: uuid::Uuid, epoch: i64, why: Interruption) {
        if let Some(running) = self.running().get(&id).filter(|running| running.epoch == epoch) {
            running.context.interrupt(why);
        }
    }
}
