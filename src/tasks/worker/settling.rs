//! Ends of attempts, written in groups: what comes while one group is being written is the next. Nobody is told that a task is
//! done before that is stored.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Crew;
use crate::tasks::stored::Settled;

/// How many are written at once.
const GROUP: usize = 64;

/// Between two tries of a store that fails.
const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(1);

/// An end, and who waits for it to be stored: told whether the claim still held.
pub(super) type Ended = (Settled, oneshot::Sender<bool>);

impl Crew {
    /// Stores how a claim ends; says whether it still held. Tried until it is stored: the task is kept alive meanwhile.
    pub(super) async fn settle(&self, settled: Settled) -> bool {
        let (sender, told) = oneshot::channel();
        self.ended.send((settled, sender)).await.is_ok() && told.await.unwrap_or(false)
    }
}

/// Until all is over.
pub(super) async fn run(crew: Arc<Crew>, mut ended: mpsc::Receiver<Ended>) {
    let mut group = Vec::with_capacity(GROUP);
    let over = crew.over.clone();
    while over.run_until_cancelled(ended.recv_many(&mut group, GROUP)).await.is_some_and(|taken| taken > 0) {
        let Some(held) = stored(&crew, &group, &over).await else { return };
        for (settled, told) in group.drain(..) {
            let _ = told.send(held.contains(&settled.id));
        }
    }
}

/// Which of them held; `None` when all is over before they can be stored.
async fn stored(crew: &Crew, group: &[Ended], over: &CancellationToken) -> Option<HashSet<Uuid>> {
    let mut pause = SOON;
    loop {
        let settled = group.iter().map(|(settled, _)| settled.clone()).collect();
        match crew.queue.settle(settled).await {
            Ok(held) => return Some(held.into_iter().collect()),
            Err(error) if pause == SOON => tracing::warn!(%error, "ends of tasks cannot be stored; it is tried again"),
            Err(_) => {}
        }
        over.run_until_cancelled(tokio::time::sleep(pause)).await?;
        pause = (pause * 2).min(LATE);
    }
}
