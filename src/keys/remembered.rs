//! Keys that were read lately, so that a request costs no query. What was read before a key changed is not believed after,
//! also where the reading comes in late.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Principal;

/// How long a reading is believed: after that a revocation by another process is seen, also where nothing tells of it.
const REMEMBERED: Duration = Duration::from_secs(5);

/// Keys that are remembered at most.
const CAPACITY: u64 = 10_000;

/// When a reading began, as a number of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(u64);

/// What a reading found.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    moment: Moment,
    /// Whose key it is; `None`: nobody's.
    pub principal: Option<Principal>,
}

/// The readings, by what the key was found by.
#[derive(Debug, Clone)]
pub(super) struct Remembered<K: Hash + Eq + Send + Sync + 'static> {
    readings: moka::sync::Cache<K, Reading>,
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
    pub(super) fn get(&self, by: &K) -> Option<Reading> {
        self.readings.get(by).filter(|reading| reading.moment == self.now())
    }

    /// A reading that began at `moment` found this.
    pub(super) fn keep(&self, by: K, moment: Moment, principal: Option<Principal>) {
        self.readings.insert(by, Reading { moment, principal });
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
        assert!(remembered.get(&"key").is_none());
        remembered.keep("key", remembered.now(), None);
        assert!(remembered.get(&"key").is_some_and(|reading| reading.principal.is_none()));
        remembered.forget();
        assert!(remembered.get(&"key").is_none());
    }
}
