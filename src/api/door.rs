//! The way in and out. It is open until the server is about to stop; then nobody comes in any more, and whoever is there may say
//! what he is about to: a connection that is kept for the next request is closed by its other end, or once it was silent for a
//! while, since a request that meets a connection's end is one that nobody answers, and that nobody may send again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Between two looks whether all have gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The way in and out. Cloning is cheap.
#[derive(Clone)]
pub struct Door {
    inner: Arc<Inner>,
}

struct Inner {
    opened: Instant,
    is_closed: AtomicBool,
    closed: CancellationToken,
    guests: AtomicUsize,
    /// When a guest last said or was told something since the close, in milliseconds since the opening.
    heard_ms: AtomicU64,
}

impl Default for Door {
    fn default() -> Self {
        let inner = Inner {
            opened: Instant::now(),
            is_closed: AtomicBool::new(false),
            closed: CancellationToken::new(),
            guests: AtomicUsize::new(0),
            heard_ms: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }
}

impl Door {
    /// Nobody comes in any more.
    pub fn close(&self) {
        self.inner.is_closed.store(true, Ordering::Relaxed);
        self.inner.heard();
        self.inner.closed.cancel();
    }

    /// Resolves once all guests have left, or none was heard for `silence`, counted from the close at the earliest.
    pub async fn emptied(&self, silence: Duration) {
        while self.inner.guests.load(Ordering::Relaxed) > 0 && self.inner.silent_for() < silence {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Resolves when it is closed.
    pub(super) async fn closed(&self) {
        self.inner.closed.cancelled().await;
    }

    /// Somebody comes in.
    pub(super) fn enter(&self) -> Guest {
        self.inner.guests.fetch_add(1, Ordering::Relaxed);
        Guest { inner: Arc::clone(&self.inner) }
    }
}

impl Inner {
    fn heard(&self) {
        let now_ms = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(now_ms, Ordering::Relaxed);
    }

    fn silent_for(&self) -> Duration {
        self.opened.elapsed().saturating_sub(Duration::from_millis(self.heard_ms.load(Ordering::Relaxed)))
    }
}

/// One connection, as long as it speaks HTTP. Dropping it is leaving.
pub(super) struct Guest {
    inner: Arc<Inner>,
}

impl Guest {
    /// It says something, or is told something.
    pub(super) fn speaks(&self) {
        if self.inner.is_closed.load(Ordering::Relaxed) {
            self.inner.heard();
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.inner.guests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn it_is_empty_when_the_last_has_left_or_is_silent() {
        let door = Door::default();
        let (one, other) = (door.enter(), door.enter());
        door.close();
        door.emptied(Duration::ZERO).await;
        drop(one);
        assert!(door.emptied(Duration::MAX).now_or_never().is_none(), "one is there");
        drop(other);
        assert!(door.emptied(Duration::MAX).now_or_never().is_some());
    }

    #[test]
    fn who_speaks_behind_the_closed_door_is_not_silent() {
        let door = Door::default();
        let guest = door.enter();
        let inner = &door.inner;
        guest.speaks();
        assert_eq!(inner.heard_ms.load(Ordering::Relaxed), 0, "nobody waits for silence yet");
        door.close();
        inner.heard_ms.store(u64::MAX, Ordering::Relaxed);
        guest.speaks();
        assert_ne!(inner.heard_ms.load(Ordering::Relaxed), u64::MAX);
    }
}
