//! Time and randomness as values: wall-clock milliseconds, identifiers, jitter.
//! Durations that never leave the process are measured with `std::time::Instant` where they are used.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// The wall clock: the system's, or one that a test moves by hand.
#[derive(Clone, Debug)]
pub struct Clock {
    manual_ms: Option<Arc<AtomicU64>>,
    /// Where [`Clock::steady_ms`] counts from.
    made: Instant,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self { manual_ms: None, made: Instant::now() }
    }

    /// A clock that stands at `now_ms` (milliseconds since the Unix epoch) until [`Clock::advance`].
    pub fn manual(now_ms: u64) -> Self {
        Self { manual_ms: Some(Arc::new(AtomicU64::new(now_ms))), made: Instant::now() }
    }

    /// Milliseconds since the Unix epoch.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now_ms(&self) -> u64 {
        if let Some(manual) = &self.manual_ms {
            return manual.load(Ordering::Relaxed);
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        since_epoch.map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// Milliseconds that only ever grow, whatever happens to the wall clock; comparable within one clock and its clones.
    pub fn steady_ms(&self) -> u64 {
        match &self.manual_ms {
            Some(manual) => manual.load(Ordering::Relaxed),
            None => u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Moves a manual clock forward; the system's clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.manual_ms {
            manual.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

/// A new identifier: UUID version 7, so that identifiers sort by the time of their making.
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// A random number in `0.0..1.0`, for jitter.
pub fn jitter() -> f64 {
    let [a, b, c, d, ..] = *Uuid::new_v4().as_bytes();
    f64::from(u32::from_le_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
}

/// 32 random bytes from the operating system in hexadecimal, for secrets.
///
/// # Panics
/// When the operating system has no source of randomness: nothing can be kept secret then.
pub fn secret_hex() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("invariant: the operating system gives random bytes");
    blake3::Hash::from_bytes(bytes).to_hex().to_string()
}

/// RFC 3339 text in UTC with milliseconds, as the API shows times.
pub fn rfc3339(ms: u64) -> String {
    let millisecond = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millisecond).map_or_else(|_| ms.to_string(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = Clock::manual(1_000);
        clock.advance(Duration::from_millis(5));
        assert_eq!(clock.now_ms(), 1_005);
    }

    #[test]
    fn times_are_shown_in_utc_with_milliseconds() {
        assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }

    #[test]
    fn jitter_stays_within_its_range() {
        assert!((0..1000).map(|_| jitter()).all(|value| (0.0..1.0).contains(&value)));
    }
}
