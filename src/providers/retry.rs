//! How often, how soon and after which failure a provider is asked again: exponential backoff with full jitter (Brooker,
//! "Exponential Backoff And Jitter"), and a budget, so that an outage is not made worse by those who suffer it. Time and
//! randomness are the caller's.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::window::Window;
use crate::upstream::{Deadline, FailureKind};

/// Retries that are always granted within ten seconds, so that a quiet server can retry at all.
pub const RETRY_FLOOR: u64 = 5;

/// What may follow a failure before the first token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Ask another target, or the same one again.
    Retry,
    /// Ask another target; the same one would say the same.
    Elsewhere,
    /// Nothing: the request is at fault, or its time is up.
    Nothing,
}

/// What may follow a failure of `kind`; `status` is the provider's, where it answered with one.
pub fn remedy(kind: FailureKind, status: Option<u16>) -> Remedy {
    match kind {
        FailureKind::Connect
        | FailureKind::Timeout(Deadline::Connect | Deadline::FirstToken | Deadline::Idle)
        | FailureKind::RateLimited
        | FailureKind::NotNow
        | FailureKind::Overloaded
        | FailureKind::Server
        | FailureKind::Garbage
        | FailureKind::Cut
        | FailureKind::Reported => Remedy::Retry,
        // What was not sent may be sent elsewhere; what hangs, or has no money, would say the same.
        FailureKind::SpendLimit
        | FailureKind::Timeout(Deadline::Whole)
        | FailureKind::Unavailable
        | FailureKind::Unsupported
        | FailureKind::Malformed => Remedy::Elsewhere,
        // Our key there, or the model's name there, is at fault, and not what was asked.
        FailureKind::Rejected if matches!(status, Some(401 | 403 | 404)) => Remedy::Elsewhere,
        FailureKind::Rejected
        | FailureKind::Timeout(Deadline::Total)
        | FailureKind::Full
        | FailureKind::Budget
        | FailureKind::Stopped => Remedy::Nothing,
    }
}

/// How much hope a failure leaves to who asks again, so that of several the caller is told the most hopeful one: it may
/// pass; it is the target's own; the request was not even sent.
pub(super) fn hope(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Unsupported | FailureKind::Malformed => 0,
        kind if kind.is_retryable() => 2,
        _ => 1,
    }
}

/// Whether a failure of `kind` speaks of the target's health, and not of the request, of money or of pace.
pub fn speaks_of_health(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::Connect
            | FailureKind::Timeout(_)
            | FailureKind::Overloaded
            | FailureKind::Server
            | FailureKind::Garbage
            | FailureKind::Cut
            | FailureKind::Reported
    )
}

/// The wait before retry number `retry` (from 0): a random part, `random` in `0.0..1.0`, of `base` doubled each time and
/// bounded by `most`.
pub fn backoff(base: Duration, most: Duration, retry: u32, random: f64) -> Duration {
    let doubled = base.saturating_mul(2_u32.saturating_pow(retry)).min(most);
    doubled.mul_f64(random.clamp(0.0, 1.0))
}

/// Requests and retries of one target within the last ten seconds.
#[derive(Debug)]
pub(super) struct RetryBudget {
    share: f64,
    requests: Window,
    retries: Mutex<Window>,
}

impl RetryBudget {
    /// `share` of the requests may be retries.
    pub fn new(share: f64) -> Self {
        Self { share, requests: Window::default(), retries: Mutex::default() }
    }

    /// A request that is no retry.
    pub fn request(&self, now_ms: u64) {
        self.requests.add(now_ms);
    }

    /// Takes one retry out of the budget; false where none is left.
    pub fn take(&self, now_ms: u64) -> bool {
        let retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = ((self.requests.count(now_ms) as f64 * self.share) as u64).max(RETRY_FLOOR);
        let granted = retries.count(now_ms) < allowed;
        if granted {
            retries.add(now_ms);
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn backoff_is_within_its_bounds(base in 1u64..5_000, most in 1u64..60_000, retry in 0u32..80, random in 0.0f64..1.0) {
            let (base, most) = (Duration::from_millis(base), Duration::from_millis(most));
            let wait = backoff(base, most, retry, random);
            prop_assert!(wait <= most);
            prop_assert!(wait <= base.saturating_mul(2_u32.saturating_pow(retry)));
            prop_assert!(wait <= backoff(base, most, retry, 1.0));
            prop_assert!(backoff(base, most, retry, 1.0) <= backoff(base, most, retry + 1, 1.0));
        }

        /// Whatever comes when: within any window, retries are at most the share of requests, or the floor.
        #[test]
        fn retries_stay_within_the_budget(steps in proptest::collection::vec((0u64..700, any::<bool>()), 1..400), share in 0.0f64..0.5) {
            let budget = RetryBudget::new(share);
            let (mut now, mut requests, mut retries) = (1_700_000_000_000_u64, Vec::new(), Vec::new());
            let recent = |times: &[u64], now: u64| times.iter().filter(|time| now / 1000 - **time / 1000 < 10).count();
            for (step, is_retry) in steps {
                now += step;
                if !is_retry {
                    budget.request(now);
                    requests.push(now);
                } else if budget.take(now) {
                    retries.push(now);
                    let most = (recent(&requests, now) as f64 * share).max(RETRY_FLOOR as f64);
                    prop_assert!(recent(&retries, now) as f64 <= most);
                }
            }
        }
    }

    #[test]
    fn a_quiet_server_can_retry_and_a_busy_one_by_its_share() {
        let budget = RetryBudget::new(0.2);
        let granted = |now| (0..1_000).take_while(|_| budget.take(now)).count();
        assert_eq!(granted(1_000_000), 5);
        (0..100).for_each(|_| budget.request(1_020_000));
        assert_eq!(granted(1_020_000), 20);
        assert_eq!(granted(1_029_999), 0, "the ten seconds are not over");
        assert_eq!(granted(1_030_000), 5, "they are");
    }

    #[test]
    fn what_the_request_is_to_blame_for_is_not_asked_again() {
        assert_eq!(remedy(FailureKind::Rejected, Some(400)), Remedy::Nothing);
        for kind in [FailureKind::Unsupported, FailureKind::Malformed] {
            assert_eq!((remedy(kind, None), speaks_of_health(kind)), (Remedy::Elsewhere, false), "{kind:?}");
            assert!(
                hope(kind) < hope(FailureKind::Rejected) && hope(FailureKind::Rejected) < hope(FailureKind::Server)
            );
        }
        assert_eq!(remedy(FailureKind::Timeout(Deadline::Whole), None), Remedy::Elsewhere);
        assert_eq!(remedy(FailureKind::Rejected, Some(404)), Remedy::Elsewhere);
        assert_eq!(
            (remedy(FailureKind::NotNow, Some(409)), speaks_of_health(FailureKind::NotNow)),
            (Remedy::Retry, false)
        );
        assert_eq!(
            (remedy(FailureKind::SpendLimit, Some(429)), speaks_of_health(FailureKind::SpendLimit)),
            (Remedy::Elsewhere, false)
        );
        assert_eq!(
            (remedy(FailureKind::RateLimited, Some(429)), speaks_of_health(FailureKind::RateLimited)),
            (Remedy::Retry, false)
        );
    }
}
