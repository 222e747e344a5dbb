//! Keys that were read lately, so that a request costs no query. What was read before a key changed is not believed after,
//! also where the reading comes in late.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Principal;

/// How long a reading is believed: after that a revocation by another process is seen.
const REMEMBERED: Duration = Duration::from_secs(5);

/// Keys that are remembered at most.
const CAPACITY: u64 = 10_000;

/// When a reading began, as a number of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(u64);

/// The readings by what they were found by; `None` is nobody's.
#[derive(Debug, Clone)]
pub(super) struct Remembered<K: Hash + Eq + Send + Sync + 'static> {
    readings: moka::sync::Cache<K, (Moment, Option<Principal>)>,
    changes: Arc<AtomicU64>,
}

impl<K: Hash + Eq + Send + Sync + 'static> Remembered<K> {
    pub(super) fn new() -> Self {
        let readings = moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(REMEMBERED).build();
        Self { readings, changes: Arc::default() }
    }

    /// Now; asked before a reading begins.
    pub(super) fn now(&self) -> Moment {
        Moment(self.changes.load(Ordering::Acquire))
    }

    /// What was read since the last change.
    pub(super) fn get(&self, by: &K) -> Option<Option<Principal>> {
        let (moment, found) = self.readings.get(by)?;
        (moment == self.now()).then_some(found)
    }

    /// A reading that began at `moment` found this.
    pub(super) fn keep(&self, by: K, moment: Moment, found: Option<Principal>) {
        self.readings.insert(by, (moment, found));
    }

    /// A key has changed.
    pub(super) fn forget(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_that_a_change_overtook_is_not_believed() {
        let remembered = Remembered::new();
        let before = remembered.now();
        remembered.forget();
        remembered.keep("key", before, Some(Principal::local()));
        assert_eq!(remembered.get(&"key"), None);
        remembered.keep("key", remembered.now(), None);
        assert_eq!(remembered.get(&"key"), Some(None));
        remembered.forget();
        assert_eq!(remembered.get(&"key"), None);
    }
}
