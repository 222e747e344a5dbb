//! What was read lately of who may ask, keys and logins, so that a request costs no query. What was read before one of them
//! changed is not believed after, also where the reading comes in late.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Readings that are remembered at most.
const CAPACITY: u64 = 10_000;

/// When a reading began, as a number of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(u64);

/// What a reading found.
#[derive(Debug, Clone)]
pub(crate) struct Reading<V> {
    moment: Moment,
    /// `None`: there is nothing.
    pub found: Option<V>,
}

/// The readings, by what was looked for.
#[derive(Debug, Clone)]
pub(crate) struct Remembered<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static> {
    readings: moka::sync::Cache<K, Reading<V>>,
    changes: Arc<AtomicU64>,
}

impl<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static> Remembered<K, V> {
    /// None yet. Each is believed for `lasting`: after that a change by another process is seen, also where nothing tells of it.
    pub(crate) fn new(lasting: Duration) -> Self {
        let readings = moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(lasting).build();
        Self { readings, changes: Arc::default() }
    }

    /// Now; asked before a reading begins.
    pub(crate) fn now(&self) -> Moment {
        Moment(self.changes.load(Ordering::Acquire))
    }

    /// What was read since the last change.
    pub(crate) fn get(&self, by: &K) -> Option<Reading<V>> {
        self.readings.get(by).filter(|reading| reading.moment == self.now())
    }

    /// A reading that began at `moment` found this.
    pub(crate) fn keep(&self, by: K, moment: Moment, found: Option<V>) {
        self.readings.insert(by, Reading { moment, found });
    }

    /// Something has changed.
    pub(crate) fn forget(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// How many are held.
    pub(crate) fn count(&self) -> u64 {
        self.readings.run_pending_tasks();
        self.readings.entry_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_that_a_change_overtook_is_not_believed() {
        let remembered = Remembered::new(Duration::from_mins(1));
        let before = remembered.now();
        remembered.forget();
        remembered.keep("key", before, Some("hers"));
        assert!(remembered.get(&"key").is_none());
        remembered.keep("key", remembered.now(), None);
        assert!(remembered.get(&"key").is_some_and(|reading| reading.found.is_none()));
        remembered.forget();
        assert!(remembered.get(&"key").is_none());
    }
}
