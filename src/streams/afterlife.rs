//! Ended answers that are still in memory: a while for listeners that come back, and as long as one has not read them to
//! their end. Both within a bound of bytes: what is beyond it is let go, and is read from the store where it is wanted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::watch;
use uuid::Uuid;

use super::log::LiveStream;
use crate::metrics::Metrics;

/// How long one stays that nobody listens to.
const AFTERLIFE: Duration = Duration::from_mins(1);

/// All of them.
pub(super) struct Afterlife {
    kept: Cache<Uuid, Arc<LiveStream>>,
    room: Arc<Room>,
}

/// The bytes that they take, counted once however many listen.
struct Room {
    most_bytes: usize,
    taken_bytes: watch::Sender<usize>,
    metrics: Arc<Metrics>,
}

/// What one takes; given back when it leaves memory.
pub(super) struct Share {
    room: Arc<Room>,
    bytes: usize,
}

impl Afterlife {
    /// With this bound.
    pub(super) fn new(most_bytes: usize, metrics: Arc<Metrics>) -> Self {
        let weight = |_: &Uuid, live: &Arc<LiveStream>| u32::try_from(live.held_bytes()).unwrap_or(u32::MAX);
        let kept = Cache::builder()
            .eviction_policy(EvictionPolicy::lru())
            .weigher(weight)
            .max_capacity(most_bytes as u64 / 2)
            .time_to_live(AFTERLIFE)
            .build();
        Self { kept, room: Arc::new(Room { most_bytes, taken_bytes: watch::Sender::new(0), metrics }) }
    }

    /// Takes in an answer that is stored and about to be said to have ended.
    pub(super) fn keep(&self, live: &Arc<LiveStream>) {
        live.enter(Share::take(&self.room, live.held_bytes()));
        self.kept.insert(live.begun.stream, Arc::clone(live));
        // What has no room leaves now, and not when the cache is used next.
        self.kept.run_pending_tasks();
    }

    pub(super) fn get(&self, stream: Uuid) -> Option<Arc<LiveStream>> {
        self.kept.get(&stream)
    }
}

impl Share {
    fn take(room: &Arc<Room>, bytes: usize) -> Self {
        room.metrics.stream_ended_bytes.add(bytes as i64);
        room.taken_bytes.send_modify(|taken| *taken += bytes);
        Self { room: Arc::clone(room), bytes }
    }

    /// Resolves while more is taken than there is room for. Cancel-safe.
    pub(super) async fn too_much(&self) {
        let most = self.room.most_bytes;
        // The sender lives as long as this share.
        let _ = self.room.taken_bytes.subscribe().wait_for(|taken| *taken > most).await;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.metrics.stream_ended_bytes.sub(self.bytes as i64);
        self.room.taken_bytes.send_modify(|taken| *taken -= self.bytes);
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Share").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
