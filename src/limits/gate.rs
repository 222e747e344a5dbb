//! How much is in work at once, and how much may wait for that. Beyond both it is refused at once: work that will not be
//! done in time is cheapest before it has begun.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::metrics::Metrics;

/// The gate.
pub(super) struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
    max_wait: Duration,
    metrics: Arc<Metrics>,
}

/// A place in work. Clones are the same place; dropping the last of them lets the next one in.
#[derive(Clone)]
pub struct Pass {
    _place: Arc<Place>,
}

struct Place {
    _permit: OwnedSemaphorePermit,
    metrics: Arc<Metrics>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.limits_in_flight.dec();
    }
}

/// One in the waiting room. A guard, since who waits may go away.
struct Waiting<'a>(&'a Gate);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        self.0.metrics.limits_waiting.dec();
    }
}

impl Gate {
    pub(super) fn new(max_in_flight: NonZeroU32, max_waiting: u32, max_wait: Duration, metrics: Arc<Metrics>) -> Self {
        let places = Arc::new(Semaphore::new(max_in_flight.get() as usize));
        Self { places, waiting: AtomicUsize::new(0), max_waiting: max_waiting as usize, max_wait, metrics }
    }

    /// A place, at once or after a wait; `None` where the waiting room is full or the wait was too long.
    pub(super) async fn enter(&self) -> Option<Pass> {
        if let Some(pass) = self.enter_now() {
            return Some(pass);
        }
        let _waiting = self.wait()?;
        let begun = Instant::now();
        let place = timeout(self.max_wait, Arc::clone(&self.places).acquire_owned()).await;
        let waited = begun.elapsed();
        self.metrics.limits_wait.observe(waited.as_secs_f64());
        self.metrics.stages.gate.record(waited);
        // The semaphore is never closed.
        Some(self.pass(place.ok()?.ok()?))
    }

    /// A place, if there is one now.
    pub(super) fn enter_now(&self) -> Option<Pass> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(|place| self.pass(place))
    }

    fn wait(&self) -> Option<Waiting<'_>> {
        let room = |waiting: usize| (waiting < self.max_waiting).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, room).ok()?;
        self.metrics.limits_waiting.inc();
        Some(Waiting(self))
    }

    fn pass(&self, place: OwnedSemaphorePermit) -> Pass {
        self.metrics.limits_in_flight.inc();
        Pass { _place: Arc::new(Place { _permit: place, metrics: Arc::clone(&self.metrics) }) }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn gate(max_in_flight: u32, max_waiting: u32, max_wait: Duration) -> Gate {
        let max_in_flight = NonZeroU32::new(max_in_flight).unwrap();
        Gate::new(max_in_flight, max_waiting, max_wait, Arc::new(Metrics::new()))
    }

    fn counted(gate: &Gate) -> (i64, i64) {
        (gate.metrics.limits_in_flight.get(), gate.metrics.limits_waiting.get())
    }

    #[tokio::test]
    async fn who_finds_no_place_waits_and_who_finds_no_room_does_not() {
        let gate = gate(2, 1, Duration::MAX);
        let (first, _second) = (gate.enter().await.unwrap(), gate.enter().await.unwrap());
        let mut third = Box::pin(gate.enter());
        assert!((&mut third).now_or_never().is_none());
        assert_eq!(counted(&gate), (2, 1));
        assert!(gate.enter().now_or_never().unwrap().is_none(), "at once");
        drop(first);
        assert!(third.await.is_some());
        assert_eq!(counted(&gate), (1, 0));
    }

    #[tokio::test]
    async fn a_wait_has_an_end_and_who_goes_away_leaves_its_place() {
        let gate = gate(1, 1, Duration::from_millis(1));
        let first = gate.enter().await.unwrap();
        assert!(gate.enter().await.is_none(), "after a millisecond");
        let mut left = Box::pin(gate.enter());
        assert!((&mut left).now_or_never().is_none());
        drop(left);
        assert_eq!(counted(&gate), (1, 0));
        drop(first);
        assert!(gate.enter().await.is_some());
    }

    #[tokio::test]
    async fn without_a_waiting_room_nobody_waits() {
        let gate = gate(1, 0, Duration::MAX);
        let _first = gate.enter().await.unwrap();
        assert!(gate.enter().now_or_never().unwrap().is_none());
    }
}
