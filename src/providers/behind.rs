//! When a target stands behind the others, and until when it is not asked at all: it has named a time, its money is spent,
//! or it refuses our key. Time is the caller's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::upstream::{Failure, FailureKind};

/// What only a person can mend (money, a key) is tried last for so long, since it may have been mended.
const UNMENDED: Duration = Duration::from_mins(1);

/// One that asks for patience and does not say for how long.
const UNNAMED: Duration = Duration::from_secs(1);

/// No named time is believed for longer, so that one wrong header does not shut a target for a day.
const LONGEST: Duration = Duration::from_mins(5);

/// Why a target stands behind, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// The failure that said so.
    pub kind: FailureKind,
    /// Until when, in milliseconds.
    pub until_ms: u64,
    /// The target named the time itself.
    pub is_named: bool,
}

impl Standing {
    /// What a failure makes of its target.
    fn of(failure: &Failure, now_ms: u64) -> Option<Self> {
        let named = failure.retry_after.filter(|wait| !wait.is_zero()).map(|wait| wait.min(LONGEST));
        let is_ours = failure.kind == FailureKind::Rejected && matches!(failure.status, Some(401 | 403));
        let (wait, is_named) = match (failure.kind, named) {
            (FailureKind::SpendLimit, _) => (UNMENDED, false),
            (FailureKind::Rejected, _) if is_ours => (UNMENDED, false),
            (_, Some(wait)) => (wait, true),
            (FailureKind::RateLimited, None) => (UNNAMED, false),
            _ => return None,
        };
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Some(Self { kind: failure.kind, until_ms: now_ms.saturating_add(wait_ms), is_named })
    }

    /// How long it still is.
    pub fn left(self, now_ms: u64) -> Duration {
        Duration::from_millis(self.until_ms.saturating_sub(now_ms))
    }
}

/// Where one target stands.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// So that who is in front costs one load.
    until_ms: AtomicU64,
    standing: Mutex<Option<Standing>>,
}

impl Behind {
    /// Takes a failure; of two, the one counts that lasts longer.
    pub fn take(&self, failure: &Failure, now_ms: u64) {
        let Some(standing) = Standing::of(failure, now_ms) else { return };
        let mut known = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none_or(|known| known.until_ms < standing.until_ms) {
            *known = Some(standing);
            self.until_ms.store(standing.until_ms, Ordering::Release);
        }
    }

    /// Where it stands now; `None`: among the others.
    pub fn now(&self, now_ms: u64) -> Option<Standing> {
        if self.until_ms.load(Ordering::Acquire) <= now_ms {
            return None;
        }
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(kind: FailureKind, status: u16, seconds: Option<u64>) -> Failure {
        let retry_after = seconds.map(Duration::from_secs);
        Failure { status: Some(status), retry_after, ..Failure::new(kind, "a test's") }
    }

    #[test]
    fn what_a_failure_says_puts_its_target_behind_for_so_long() {
        for (kind, status, named, expected) in [
            (FailureKind::SpendLimit, 429, None, Some((60, false))),
            (FailureKind::Rejected, 401, None, Some((60, false))),
            (FailureKind::Rejected, 403, Some(5), Some((60, false))),
            (FailureKind::RateLimited, 429, None, Some((1, false))),
            (FailureKind::RateLimited, 429, Some(20), Some((20, true))),
            (FailureKind::Overloaded, 503, Some(20), Some((20, true))),
            (FailureKind::Server, 500, Some(86_400), Some((300, true))),
            (FailureKind::Overloaded, 503, Some(0), None),
            (FailureKind::Server, 500, None, None),
            (FailureKind::Rejected, 400, None, None),
        ] {
            let behind = Behind::default();
            behind.take(&failure(kind, status, named), 1_000);
            let standing = behind.now(1_000).map(|standing| (standing.left(1_000).as_secs(), standing.is_named));
            assert_eq!(standing, expected, "{kind:?} {status} {named:?}");
        }
    }

    #[test]
    fn it_ends_and_the_longer_of_two_counts() {
        let behind = Behind::default();
        behind.take(&failure(FailureKind::RateLimited, 429, Some(20)), 0);
        behind.take(&failure(FailureKind::RateLimited, 429, Some(5)), 1_000);
        assert_eq!(behind.now(19_999).unwrap().until_ms, 20_000);
        assert_eq!(behind.now(20_000), None);
    }
}
