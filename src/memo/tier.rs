//! L1: values of one cache in memory, as they are. Eviction weighs how often a value was found against its bytes
//! (TinyLFU over weights).

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tags::Moment;

/// A value of any type.
pub(super) type Shared = Arc<dyn Any + Send + Sync>;

/// Bytes that count as one value; a larger one counts as several.
const PAGE: usize = 4096;

/// A value as held.
#[derive(Clone)]
pub(super) struct Held {
    pub value: Shared,
    /// Of [`crate::clock::Clock::steady_ms`].
    pub fresh_until_ms: u64,
    /// From now on; past its time it waits for an error that it may stand in for.
    pub kept: Duration,
    pub bytes: usize,
    pub moment: Moment,
}

/// The tier.
pub(super) struct Tier {
    values: moka::sync::Cache<[u8; 32], Held>,
}

impl Tier {
    /// For `size` values of up to 4 KiB.
    pub fn new(size: u64) -> Self {
        let weight = |_: &[u8; 32], held: &Held| u32::try_from(held.bytes.div_ceil(PAGE).max(1)).unwrap_or(u32::MAX);
        let values = moka::sync::Cache::builder().max_capacity(size).weigher(weight).expire_after(Kept).build();
        Self { values }
    }

    pub fn get(&self, name: &[u8; 32]) -> Option<Held> {
        self.values.get(name)
    }

    pub fn insert(&self, name: [u8; 32], held: Held) {
        self.values.insert(name, held);
    }

    pub fn remove(&self, name: &[u8; 32]) {
        self.values.invalidate(name);
    }

    pub fn clear(&self) {
        self.values.invalidate_all();
    }

    /// Values, and their weight in pages.
    pub fn size(&self) -> (u64, u64) {
        self.values.run_pending_tasks();
        (self.values.entry_count(), self.values.weighted_size())
    }
}

/// Each value is let go at its own time.
struct Kept;

impl moka::Expiry<[u8; 32], Held> for Kept {
    fn expire_after_create(&self, _: &[u8; 32], held: &Held, _: Instant) -> Option<Duration> {
        Some(held.kept)
    }

    fn expire_after_update(&self, _: &[u8; 32], held: &Held, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(held.kept)
    }
}
