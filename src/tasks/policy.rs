//! How tasks of a kind are run: how urgent, how often, how long, how many at once. A job's constant, so that it is known
//! wherever the job is.

use std::time::Duration;

use super::Priority;

/// What holds for a kind unless a task says otherwise.
///
/// ```
/// use ish::tasks::{Policy, Priority};
/// const POLICY: Policy = Policy { priority: Priority::High, max_attempts: 3, ..Policy::DEFAULT };
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// Which tasks come first.
    pub priority: Priority,
    /// A name that tasks of several kinds share, so that they can be paused together.
    pub queue: &'static str,
    /// After so many attempts that failed a task is dead; at least 1 is made.
    pub max_attempts: u16,
    /// How long a failed one waits for its next attempt.
    pub backoff: Backoff,
    /// After this the job is asked to end ([`super::JobContext::cancelled`]).
    pub soft_limit: Duration,
    /// After this it is dropped where it stands, and the attempt has failed.
    pub hard_limit: Duration,
    /// How many of the kind run at once, over all workers.
    pub max_running: Option<u32>,
    /// How many of the kind begin in a minute, over all workers.
    pub per_minute: Option<u32>,
}

impl Policy {
    /// Of normal urgency, five attempts, an hour at most, as many as there are workers.
    pub const DEFAULT: Self = Self {
        priority: Priority::Normal,
        queue: "default",
        max_attempts: 5,
        backoff: Backoff::DEFAULT,
        soft_limit: Duration::from_mins(50),
        hard_limit: Duration::from_hours(1),
        max_running: None,
        per_minute: None,
    };
}

/// Waiting that doubles with each attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first attempt, at most.
    pub base: Duration,
    /// After any, at most.
    pub cap: Duration,
}

impl Backoff {
    /// From a second to ten minutes.
    pub const DEFAULT: Self = Self { base: Duration::from_secs(1), cap: Duration::from_mins(10) };

    /// The wait after attempt number `attempt` (from 1): between half of `base * 2^(attempt - 1)`, or of the cap, and all of
    /// it, as `jitter` (in `0.0..1.0`) falls, so that what failed together does not come back together.
    pub fn wait(self, attempt: u16, jitter: f64) -> Duration {
        let doublings = u32::from(attempt.saturating_sub(1)).min(31);
        let most = self.base.saturating_mul(1 << doublings).min(self.cap);
        most.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wait_stays_within_its_bounds(
            base_ms in 0_u64..100_000, cap_ms in 0_u64..10_000_000, attempt in any::<u16>(), jitter in 0.0..1.0,
        ) {
            let backoff = Backoff { base: Duration::from_millis(base_ms), cap: Duration::from_millis(cap_ms) };
            let wait = backoff.wait(attempt, jitter);
            let least = backoff.wait(attempt, 0.0);
            prop_assert!(least <= wait && wait <= backoff.cap);
            prop_assert!(least + Duration::from_nanos(1) >= backoff.base.min(backoff.cap) / 2);
            prop_assert!(least <= backoff.wait(attempt.saturating_add(1), 0.0), "it never shrinks with attempts");
        }
    }

    #[test]
    fn it_doubles_until_the_cap() {
        let backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(5) };
        let most = [1, 2, 3, 4, 5].map(|attempt| backoff.wait(attempt, 1.0).as_secs());
        assert_eq!(most, [1, 2, 4, 5, 5]);
    }
}
