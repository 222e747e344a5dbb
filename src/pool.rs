//! A gate before each pool of connections: how many may be in use at once, who waits and how long, and what keeps one for
//! too long. Use is permits held of the limit: a pool's own figures count connections, busy or not.
//!
//! The pools stay with their owners (`db`, `upstream`); they tell here what only they see (connections made, recycled,
//! broken).

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::metrics::{Metrics, PoolMetrics};

/// Every gate of one process. Cloning is cheap.
#[derive(Clone)]
pub struct Pools {
    metrics: Arc<Metrics>,
    gates: Arc<Mutex<Vec<Gate>>>,
}

impl Pools {
    /// None yet; those that come count in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, gates: Arc::default() }
    }

    /// Makes the gate of the pool `name`. What holds a permit for `held_too_long` is reported.
    pub fn gate(&self, name: &'static str, limit: NonZeroUsize, held_too_long: Duration) -> Gate {
        let inner = Inner {
            name,
            limit: limit.get(),
            permits: Arc::new(Semaphore::new(limit.get())),
            held_too_long,
            holds: Mutex::default(),
            next_hold: AtomicU64::new(0),
            size: OnceLock::new(),
            series: self.metrics.pool(name),
        };
        let gate = Gate(Arc::new(inner));
        gate.0.series.limit.set(limit.get() as i64);
        lock(&self.gates).push(gate.clone());
        gate
    }

    /// Each pool now. Sets the gauges that mirror these figures, and reports what is held for too long meanwhile.
    pub fn figures(&self) -> Vec<PoolFigures> {
        lock(&self.gates).iter().map(Gate::figures).collect()
    }
}

/// Those of a process whose figures nobody reads, such as a verb of the command line.
impl Default for Pools {
    fn default() -> Self {
        Self::new(Arc::new(Metrics::new()))
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(lock(&self.gates).iter()).finish()
    }
}

/// One pool's gate. Cloning is cheap.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    name: &'static str,
    limit: usize,
    permits: Arc<Semaphore>,
    held_too_long: Duration,
    holds: Mutex<HashMap<u64, Hold>>,
    next_hold: AtomicU64,
    /// How many connections are open, where the pool tells.
    size: OnceLock<Box<dyn Fn() -> usize + Send + Sync>>,
    series: PoolMetrics,
}

/// Who has a connection, for what, since when.
struct Hold {
    what: &'static str,
    since: Instant,
    is_reported: bool,
}

/// The right to use one connection, given back when dropped.
#[must_use]
pub struct Permit {
    gate: Gate,
    hold: u64,
    _place: OwnedSemaphorePermit,
}

impl Gate {
    /// Waits for a permit, first come, first served, until `deadline`; `None` when that passes. `what` says what for.
    pub async fn enter(&self, what: &'static str, deadline: Instant) -> Option<Permit> {
        let begun = Instant::now();
        let permit = match Arc::clone(&self.0.permits).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => self.wait(deadline).await,
        };
        let series = &self.0.series;
        series.wait.observe(begun.elapsed().as_secs_f64());
        let Some(permit) = permit else {
            series.acquire_timeouts.inc();
            return None;
        };
        series.acquired.inc();
        let hold = self.0.next_hold.fetch_add(1, Ordering::Relaxed);
        lock(&self.0.holds).insert(hold, Hold { what, since: Instant::now(), is_reported: false });
        series.in_use.inc();
        Some(Permit { gate: self.clone(), hold, _place: permit })
    }

    async fn wait(&self, deadline: Instant) -> Option<OwnedSemaphorePermit> {
        self.0.series.waiting.inc();
        let _waiting = Waiting(self);
        // The semaphore is never closed.
        timeout_at(deadline, Arc::clone(&self.0.permits).acquire_owned()).await.ok()?.ok()
    }

    /// The pool behind it can tell how many connections are open.
    pub fn with_size(&self, size: impl Fn() -> usize + Send + Sync + 'static) {
        let _ = self.0.size.set(Box::new(size));
    }

    /// A connection was made.
    pub fn note_created(&self) {
        self.0.series.created.inc();
    }

    /// A connection was closed for its age.
    pub fn note_recycled(&self) {
        self.0.series.recycled.inc();
    }

    /// A connection could not be made, or was found dead.
    pub fn note_error(&self) {
        self.0.series.errors.inc();
    }

    fn figures(&self) -> PoolFigures {
        let inner = &self.0;
        let size = inner.size.get().map(|size| size());
        if let Some(size) = size {
            inner.series.size.set(size as i64);
        }
        let (in_use, longest) = self.look_at_holds();
        let acquired = inner.series.acquired.get();
        let created = inner.series.created.get();
        PoolFigures {
            name: inner.name,
            limit: inner.limit,
            size,
            in_use,
            usage: in_use as f64 / inner.limit as f64,
            waiting: usize::try_from(inner.series.waiting.get()).unwrap_or(0),
            acquired,
            wait_seconds: inner.series.wait.get_sample_sum(),
            acquire_timeouts: inner.series.acquire_timeouts.get(),
            created,
            reused: acquired.saturating_sub(created),
            recycled: inner.series.recycled.get(),
            errors: inner.series.errors.get(),
            held_too_long: inner.series.held_too_long.get(),
            longest_hold_seconds: longest.as_secs_f64(),
        }
    }

    /// How many permits are held, and the longest for how long; who holds one for too long is named, once.
    fn look_at_holds(&self) -> (usize, Duration) {
        let (mut late, mut longest) = (Vec::new(), Duration::ZERO);
        let mut holds = lock(&self.0.holds);
        for hold in holds.values_mut() {
            let held = hold.since.elapsed();
            longest = longest.max(held);
            if held >= self.0.held_too_long && !hold.is_reported {
                hold.is_reported = true;
                late.push((hold.what, held));
            }
        }
        let in_use = holds.len();
        drop(holds);
        for (what, held) in late {
            self.report(what, held);
        }
        (in_use, longest)
    }

    fn report(&self, what: &'static str, held: Duration) {
        self.0.series.held_too_long.inc();
        tracing::warn!(
            pool = self.0.name,
            what,
            held_ms = held.as_millis() as u64,
            "a connection is held for longer than its work should take"
        );
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gate").field("name", &self.0.name).field("limit", &self.0.limit).finish_non_exhaustive()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let inner = &self.gate.0;
        let hold = lock(&inner.holds).remove(&self.hold);
        inner.series.in_use.dec();
        let Some(hold) = hold else { return };
        let held = hold.since.elapsed();
        inner.series.held.record(held);
        if !hold.is_reported && held >= inner.held_too_long {
            self.gate.report(hold.what, held);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Permit").field(&self.gate.0.name).finish()
    }
}

/// Counts who waits, also one who gives up.
struct Waiting<'a>(&'a Gate);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.series.waiting.dec();
    }
}

/// One pool in figures, counted since the start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoolFigures {
    /// The pool.
    pub name: &'static str,
    /// Connections that may be in use at once.
    pub limit: usize,
    /// Connections that are open, where the pool tells.
    pub size: Option<usize>,
    /// Permits held.
    pub in_use: usize,
    /// Of the limit, from 0 to 1.
    #[serde(rename = "use")]
    pub usage: f64,
    /// Who waits for a permit.
    pub waiting: usize,
    /// Permits given.
    pub acquired: u64,
    /// What all who wanted one waited together.
    pub wait_seconds: f64,
    /// Waits that ended without a permit.
    pub acquire_timeouts: u64,
    /// Connections made.
    pub created: u64,
    /// Permits that needed no new connection.
    pub reused: u64,
    /// Connections closed for their age.
    pub recycled: u64,
    /// Connections that could not be made, or were found dead.
    pub errors: u64,
    /// Times that one was held for too long.
    pub held_too_long: u64,
    /// How long the oldest permit is held now.
    pub longest_hold_seconds: f64,
}

// Nothing under these locks panics; should it ever, the figures stay usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn gate(pools: &Pools, limit: usize, held_too_long: Duration) -> Gate {
        pools.gate("test", limit.try_into().unwrap(), held_too_long)
    }

    fn now(pools: &Pools) -> PoolFigures {
        pools.figures().remove(0)
    }

    #[tokio::test]
    async fn permits_go_in_turn_and_a_wait_ends_at_its_deadline() {
        let pools = Pools::default();
        let gate = gate(&pools, 2, HOUR);
        let later = Instant::now() + HOUR;
        let (one, two) = (gate.enter("one", later).await.unwrap(), gate.enter("two", later).await.unwrap());
        let mut third = Box::pin(gate.enter("three", later));
        let mut fourth = Box::pin(gate.enter("four", later));
        assert!((&mut third).now_or_never().is_none() && (&mut fourth).now_or_never().is_none());
        let figures = now(&pools);
        assert_eq!((figures.in_use, figures.waiting, figures.usage), (2, 2, 1.0));
        assert!(gate.enter("five", Instant::now()).await.is_none(), "its time is up");
        drop(one);
        assert!((&mut fourth).now_or_never().is_none(), "it is another's turn");
        let third = third.await.unwrap();
        drop((two, third));
        let _fourth = fourth.await.unwrap();
        let figures = now(&pools);
        assert_eq!((figures.in_use, figures.waiting), (1, 0));
        assert_eq!((figures.acquired, figures.acquire_timeouts), (4, 1));
        assert!(figures.wait_seconds > 0.0, "{figures:?}");
    }

    #[tokio::test]
    async fn who_gives_up_waiting_is_not_counted_any_more() {
        let pools = Pools::default();
        let gate = gate(&pools, 1, HOUR);
        let held = gate.enter("one", Instant::now()).await.unwrap();
        let mut waits = Box::pin(gate.enter("two", Instant::now() + HOUR));
        assert!((&mut waits).now_or_never().is_none());
        assert_eq!(now(&pools).waiting, 1);
        drop(waits);
        assert_eq!(now(&pools).waiting, 0);
        drop(held);
        assert!(gate.enter("three", Instant::now()).await.is_some());
    }

    #[tokio::test]
    async fn what_is_held_too_long_is_reported_once_while_it_is_held_or_when_it_ends() {
        let pools = Pools::default();
        let gate = gate(&pools, 2, Duration::ZERO);
        let leaked = gate.enter("leak", Instant::now()).await;
        assert_eq!(now(&pools).held_too_long, 1);
        drop(gate.enter("late", Instant::now()).await);
        let figures = now(&pools);
        assert_eq!((figures.held_too_long, figures.in_use), (2, 1));
        assert!(figures.longest_hold_seconds > 0.0);
        drop(leaked);
        let figures = now(&pools);
        assert_eq!((figures.held_too_long, figures.in_use, figures.longest_hold_seconds), (2, 0, 0.0));
    }

    #[tokio::test]
    async fn what_the_pool_tells_is_in_the_figures() {
        let pools = Pools::default();
        let gate = gate(&pools, 4, HOUR);
        assert_eq!(now(&pools).size, None);
        gate.with_size(|| 3);
        gate.note_created();
        gate.note_recycled();
        gate.note_error();
        drop(gate.enter("one", Instant::now()).await);
        drop(gate.enter("two", Instant::now()).await);
        let figures = now(&pools);
        assert_eq!((figures.size, figures.created, figures.recycled, figures.errors), (Some(3), 1, 1, 1));
        assert_eq!(figures.reused, 1);
        let text = pools.metrics.text();
        for line in [
            "ish_pool_size{pool=\"test\"} 3",
            "ish_pool_limit{pool=\"test\"} 4",
            "ish_pool_acquired_total{pool=\"test\"} 2",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
