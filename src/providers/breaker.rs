//! One target's circuit breaker: closed until so many failures follow each other, then open for a while, then half-open
//! with one probe at a time. Closed, it costs one atomic load. Time is the caller's.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::behind::Behind;

/// What the breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BreakerState {
    /// Everything.
    Closed = 0,
    /// One probe at a time.
    HalfOpen = 1,
    /// Nothing.
    Open = 2,
}

impl BreakerState {
    /// Its word in metrics and in `/api/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// When it opens, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct BreakerSettings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open the first time; each failed probe doubles it.
    pub open: Duration,
    /// The longest that it stays open.
    pub max_open: Duration,
}

/// Whether a call may go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Pass,
    /// As the one probe, whose outcome decides.
    Probe,
    /// Not before this time, in milliseconds.
    Refused {
        until_ms: u64,
    },
}

#[derive(Debug)]
pub(super) struct Breaker {
    settings: BreakerSettings,
    state: AtomicU8,
    failures: AtomicU32,
    opening: Mutex<Opening>,
    /// What the target has asked for by itself, beside what its failures in a row come to.
    pub behind: Behind,
}

#[derive(Debug, Default)]
struct Opening {
    until_ms: u64,
    times: u32,
    /// Until when the running probe keeps others out; one that takes longer, such as a long whole answer, is not waited for.
    probing_until_ms: Option<u64>,
}

impl Breaker {
    pub fn new(settings: BreakerSettings) -> Self {
        let (state, failures) = (AtomicU8::new(BreakerState::Closed as u8), AtomicU32::new(0));
        Self { settings, state, failures, opening: Mutex::default(), behind: Behind::default() }
    }

    pub fn state(&self) -> BreakerState {
        match self.state.load(Ordering::Acquire) {
            0 => BreakerState::Closed,
            1 => BreakerState::HalfOpen,
            _ => BreakerState::Open,
        }
    }

    /// Whether a call may go now. [`Admission::Probe`] must be answered by one of the three verbs below.
    pub fn admit(&self, now_ms: u64) -> Admission {
        if self.state() == BreakerState::Closed {
            return Admission::Pass;
        }
        let mut opening = self.opening();
        match self.state() {
            BreakerState::Closed => Admission::Pass,
            _ if now_ms < opening.until_ms => Admission::Refused { until_ms: opening.until_ms },
            _ if opening.probing_until_ms.is_some_and(|until_ms| now_ms < until_ms) => {
                Admission::Refused { until_ms: now_ms + 1_000 }
            }
            _ => {
                opening.probing_until_ms = Some(now_ms + milliseconds(self.settings.max_open));
                self.set(BreakerState::HalfOpen);
                Admission::Probe
            }
        }
    }

    /// A call went well as far as its first token. A probe that came so far lets the others in again; the failures stay
    /// counted until one has ended well, so that a target that dies in mid-answer each time is not taken for healthy.
    pub fn began(&self, was_probe: bool) {
        if was_probe {
            let mut opening = self.opening();
            opening.probing_until_ms = None;
            self.failures.store(self.settings.failures.saturating_sub(1), Ordering::Release);
            self.set(BreakerState::Closed);
        }
    }

    /// A call ended well.
    pub fn succeeded(&self) {
        if self.failures.load(Ordering::Acquire) != 0 && self.state() == BreakerState::Closed {
            self.failures.store(0, Ordering::Release);
            self.opening().times = 0;
        }
    }

    /// A call failed in a way that speaks of the target.
    pub fn failed(&self, was_probe: bool, now_ms: u64) {
        let failures = self.failures.fetch_add(1, Ordering::AcqRel) + 1;
        if was_probe || (failures >= self.settings.failures && self.state() == BreakerState::Closed) {
            let mut opening = self.opening();
            if was_probe {
                opening.probing_until_ms = None;
            } else if self.state() != BreakerState::Closed {
                return;
            }
            let doubled = self.settings.open.saturating_mul(2_u32.saturating_pow(opening.times));
            let length = doubled.min(self.settings.max_open);
            opening.until_ms = now_ms + milliseconds(length);
            opening.times += 1;
            self.set(BreakerState::Open);
        }
    }

    /// A probe's outcome says nothing: its caller went away, or its request was at fault. The next one may probe.
    pub fn abandoned(&self) {
        self.opening().probing_until_ms = None;
    }

    fn set(&self, state: BreakerState) {
        self.state.store(state as u8, Ordering::Release);
    }

    fn opening(&self) -> MutexGuard<'_, Opening> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: BreakerSettings =
        BreakerSettings { failures: 3, open: Duration::from_secs(1), max_open: Duration::from_secs(4) };

    fn opened() -> Breaker {
        let breaker = Breaker::new(SETTINGS);
        (0..3).for_each(|_| breaker.failed(false, 0));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_does_not() {
        let breaker = Breaker::new(SETTINGS);
        for _ in 0..4 {
            breaker.failed(false, 0);
            breaker.failed(false, 0);
            breaker.succeeded();
        }
        assert_eq!(breaker.admit(0), Admission::Pass);
        (0..3).for_each(|_| breaker.failed(false, 0));
        assert_eq!(breaker.admit(999), Admission::Refused { until_ms: 1_000 });
    }

    #[test]
    fn one_probe_at_a_time_decides() {
        let breaker = opened();
        assert_eq!(breaker.admit(1_000), Admission::Probe);
        assert!(matches!(breaker.admit(1_000), Admission::Refused { .. }), "one at a time");
        breaker.abandoned();
        assert_eq!(breaker.admit(1_001), Admission::Probe, "the next one probes");
        breaker.failed(true, 1_001);
        assert_eq!(breaker.admit(3_000), Admission::Refused { until_ms: 3_001 }, "twice as long");
        assert_eq!(breaker.admit(3_001), Admission::Probe);
        breaker.began(true);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_probe_that_takes_too_long_is_not_waited_for() {
        let breaker = opened();
        assert_eq!(breaker.admit(1_000), Admission::Probe);
        assert!(matches!(breaker.admit(4_999), Admission::Refused { .. }));
        assert_eq!(breaker.admit(5_000), Admission::Probe);
        breaker.began(true);
        assert_eq!(breaker.admit(5_001), Admission::Pass);
    }

    #[test]
    fn a_target_that_always_dies_in_mid_answer_opens_it_again() {
        let breaker = opened();
        assert_eq!(breaker.admit(1_000), Admission::Probe);
        breaker.began(true);
        breaker.failed(false, 1_500);
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    proptest! {
        /// Whatever happens in whatever order: never two probes within the bound, and it never stays shut longer than that.
        #[test]
        fn it_is_never_stuck(steps in proptest::collection::vec((0u64..3_000, 0u8..5), 1..200)) {
            let (breaker, mut now, mut probe, mut probe_until) = (Breaker::new(SETTINGS), 0, false, 0);
            for (step, what) in steps {
                now += step;
                match what {
                    0 | 1 => match breaker.admit(now) {
                        Admission::Probe => {
                            prop_assert!(!probe || now >= probe_until);
                            (probe, probe_until) = (true, now + 4_000);
                        }
                        Admission::Refused { until_ms } => prop_assert!(probe || until_ms <= now + 4_000),
                        Admission::Pass => prop_assert!(!probe),
                    },
                    2 if probe => { breaker.failed(true, now); probe = false; }
                    3 if probe => { breaker.began(true); breaker.succeeded(); probe = false; }
                    4 if probe => { breaker.abandoned(); probe = false; }
                    2 => breaker.failed(false, now),
                    _ => breaker.succeeded(),
                }
            }
            if probe { breaker.abandoned(); }
            let is_shut = matches!(breaker.admit(now + 4_000), Admission::Refused { .. });
            prop_assert!(!is_shut);
        }
    }
}
