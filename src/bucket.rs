//! One limit: governor's GCRA, over a state of ours that can also be corrected afterwards and looked at.
//!
//! GCRA serves at most burst + rate × time (ITU-T I.371). Its state is one number, the *theoretical arrival time*: the
//! moment at which the bucket will be full again.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

/// A bucket that refills more slowly than this is made smaller, and no debt is longer, so that no sum of nanoseconds
/// overflows: governor's own are not checked.
const SLOWEST_REFILL: Duration = Duration::from_hours(24 * 365);

/// So many in a minute, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    per_minute: NonZeroU32,
    burst: NonZeroU32,
}

impl Rate {
    /// `per_minute`, of which `burst` may come at once; a minute's worth where that is not said.
    pub fn new(per_minute: NonZeroU32, burst: Option<NonZeroU32>) -> Self {
        let mut rate = Self { per_minute, burst: burst.unwrap_or(per_minute) };
        let most = SLOWEST_REFILL.as_nanos() / rate.interval().as_nanos();
        rate.burst = rate.burst.min(u32::try_from(most).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX));
        rate
    }

    /// How many in a minute.
    pub fn per_minute(self) -> u32 {
        self.per_minute.get()
    }

    /// How many at once.
    pub fn burst(self) -> u32 {
        self.burst.get()
    }

    /// Between two; rounded up, so that no more than the rate is served.
    fn interval(self) -> Duration {
        Duration::from_nanos(60_000_000_000_u64.div_ceil(u64::from(self.per_minute.get())))
    }

    fn quota(self) -> Quota {
        let quota = Quota::with_period(self.interval()).expect("invariant: no rate is faster than one a nanosecond");
        quota.allow_burst(self.burst)
    }
}

/// The time of buckets: nanoseconds since their table was made, or what a test says.
#[derive(Debug, Clone)]
pub struct Ticks(Source);

#[derive(Debug, Clone)]
enum Source {
    System(Instant),
    #[cfg(test)]
    Manual(Arc<AtomicU64>),
}

impl Ticks {
    /// The system's monotonic clock.
    pub fn system() -> Self {
        Self(Source::System(Instant::now()))
    }

    /// A clock that stands until [`Ticks::advance`].
    #[cfg(test)]
    pub fn manual() -> Self {
        Self(Source::Manual(Arc::default()))
    }

    /// Moves a manual clock.
    #[cfg(test)]
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.0 {
            now.fetch_add(u64::try_from(by.as_nanos()).unwrap(), Ordering::SeqCst);
        }
    }
}

impl Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        match &self.0 {
            Source::System(start) => start.elapsed().into(),
            #[cfg(test)]
            Source::Manual(now) => now.load(Ordering::SeqCst).into(),
        }
    }
}

/// The theoretical arrival time, in nanoseconds since the bucket was made; 0 before the first arrival.
#[derive(Debug, Clone, Default)]
struct Arrival(Arc<AtomicU64>);

impl StateStore for Arrival {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut before = self.0.load(Ordering::Acquire);
        loop {
            let (outcome, after) = decide((before > 0).then(|| before.into()))?;
            match self.0.compare_exchange_weak(before, after.as_u64(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(outcome),
                Err(changed) => before = changed,
            }
        }
    }
}

/// What became of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Granted.
    Yes,
    /// Not now: granted after this time if nobody comes first.
    Later(Duration),
    /// More than fits into the bucket: never.
    Never,
}

/// How full a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Its rate per minute.
    pub limit: u32,
    /// What could be taken at once now.
    pub remaining: u32,
    /// Until it is full.
    pub reset: Duration,
}

/// One limit of one key or address.
#[derive(Debug)]
pub struct Bucket {
    limiter: RateLimiter<NotKeyed, Arrival, Ticks, NoOpMiddleware<Nanos>>,
    arrival: Arrival,
    started: Nanos,
    rate: Rate,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate, ticks: Ticks) -> Self {
        let (arrival, started) = (Arrival::default(), ticks.now());
        Self { limiter: RateLimiter::new(rate.quota(), arrival.clone(), ticks), arrival, started, rate }
    }

    /// Its rate.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes `count` if they are there.
    pub fn take(&self, count: NonZeroU32) -> Taken {
        if count > self.rate.burst {
            return Taken::Never;
        }
        match self.limiter.check_n(count) {
            Ok(Ok(())) => Taken::Yes,
            Ok(Err(not_until)) => Taken::Later(not_until.wait_time_from(self.limiter.clock().now())),
            Err(_) => Taken::Never,
        }
    }

    /// Takes one.
    ///
    /// # Errors
    /// How long it is until there is one, if nobody comes first.
    pub fn take_one(&self) -> Result<(), Duration> {
        match self.take(NonZeroU32::MIN) {
            Taken::Yes => Ok(()),
            Taken::Later(wait) => Err(wait),
            // No bucket is smaller than one.
            Taken::Never => Err(SLOWEST_REFILL),
        }
    }

    /// Takes what was used beyond what had been taken, whether or not it is there: who comes next waits for it, a year at
    /// most.
    pub fn charge(&self, count: u64) {
        let (now, weight) = (self.now(), self.weight(count));
        let most = now.saturating_add(nanoseconds(SLOWEST_REFILL));
        self.shift(|arrival| arrival.max(now).saturating_add(weight).min(most));
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&self, count: u64) {
        let weight = self.weight(count);
        self.shift(|arrival| arrival.saturating_sub(weight));
    }

    /// As [`Bucket::charge`], or [`Bucket::give_back`] where it is below zero.
    pub fn correct(&self, count: i64) {
        if count < 0 {
            self.give_back(count.unsigned_abs());
        } else {
            self.charge(count.unsigned_abs());
        }
    }

    /// How long until `count` are there, if nobody comes first.
    pub fn wait_for(&self, count: NonZeroU32) -> Duration {
        let whole = self.weight(u64::from(self.rate.burst.get()));
        let after = self.lacking().saturating_add(self.weight(u64::from(count.get())));
        Duration::from_nanos(after.saturating_sub(whole))
    }

    /// Lets so much be lacking until it is full: what is known of a bucket that is kept elsewhere.
    pub fn set_lacking(&self, lacking: Duration) {
        self.arrival.0.store(self.now().saturating_add(nanoseconds(lacking)), Ordering::Release);
    }

    /// The bucket of the same holder at another rate. It is as full as this one, by its share of the burst, but no more is
    /// in it than was left; a debt stays one.
    pub fn at_rate(&self, rate: Rate) -> Self {
        let next = Self::new(rate, self.limiter.clock().clone());
        let [burst, next_burst] = [self.rate, rate].map(|rate| u64::from(rate.burst()));
        let taken = self.lacking().div_ceil(self.weight(1));
        let left = burst.saturating_sub(taken);
        // Both bursts have 32 bits, so that their product has room.
        let kept = left.min(left * next_burst / burst);
        next.charge(next_burst - kept.min(next_burst) + taken.saturating_sub(burst));
        next
    }

    /// How full it is.
    pub fn level(&self) -> Level {
        let lacking = self.lacking();
        let taken = lacking.div_ceil(self.weight(1));
        let remaining = u64::from(self.rate.burst.get()).saturating_sub(taken);
        Level {
            limit: self.rate.per_minute(),
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: Duration::from_nanos(lacking),
        }
    }

    /// Nanoseconds until it is full.
    fn lacking(&self) -> u64 {
        self.arrival.0.load(Ordering::Acquire).saturating_sub(self.now())
    }

    /// Whether it is as good as new, so that it may be forgotten.
    pub fn is_full(&self) -> bool {
        self.lacking() == 0
    }

    fn shift(&self, change: impl Fn(u64) -> u64) {
        // The closure always gives a value.
        let _ = self.arrival.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |arrival| Some(change(arrival)));
    }

    fn now(&self) -> u64 {
        self.limiter.clock().now().duration_since(self.started).as_u64()
    }

    fn weight(&self, count: u64) -> u64 {
        nanoseconds(self.rate.interval()).saturating_mul(count)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
