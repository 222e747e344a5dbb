//! L1: answers in the process, bounded by bytes (moka, `TinyLFU`).

use std::sync::Arc;

use super::entry::Entry;
use super::index::EntryId;
use super::key::{Keys, entry_id};
use super::scope::Digest;

/// Which key found an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy {
    /// The exact key.
    Exact,
    /// The normalized key.
    Normalized,
}

#[derive(Clone)]
enum Slot {
    Entry(Arc<Entry>),
    /// The normalized key's way to the exact one.
    Alias(Digest),
}

/// The tier.
#[derive(Clone)]
pub struct Memory {
    slots: moka::sync::Cache<Digest, Slot>,
}

impl Memory {
    /// A tier of at most `max_bytes`, by the entries' own weights.
    pub fn new(max_bytes: u64) -> Self {
        let weigher = |_: &Digest, slot: &Slot| match slot {
            Slot::Entry(entry) => entry.weight(),
            Slot::Alias(_) => 160,
        };
        Self { slots: moka::sync::Cache::builder().max_capacity(max_bytes).weigher(weigher).build() }
    }

    /// The fresh entry of the exact key, else of the normalized one.
    pub fn find(&self, keys: &Keys, now_ms: u64) -> Option<(Arc<Entry>, FoundBy)> {
        if let Some(entry) = self.get(keys.exact, now_ms) {
            return Some((entry, FoundBy::Exact));
        }
        let alias = self.slots.get(&keys.place()?.normalized)?;
        let Slot::Alias(exact) = alias else { return None };
        Some((self.get(exact, now_ms)?, FoundBy::Normalized))
    }

    /// The fresh entry of an exact key.
    pub fn get(&self, exact: Digest, now_ms: u64) -> Option<Arc<Entry>> {
        match self.slots.get(&exact)? {
            Slot::Entry(entry) if entry.is_fresh(now_ms) => Some(entry),
            _ => None,
        }
    }

    /// The fresh entry that the index names so.
    pub fn by_id(&self, id: EntryId, now_ms: u64) -> Option<Arc<Entry>> {
        let Slot::Alias(exact) = self.slots.get(&id_key(id))? else { return None };
        self.get(exact, now_ms)
    }

    /// Puts an entry under its keys.
    pub fn insert(&self, entry: Arc<Entry>) {
        if let Some(place) = entry.place {
            self.slots.insert(place.normalized, Slot::Alias(entry.key));
            self.slots.insert(id_key(entry_id(entry.key)), Slot::Alias(entry.key));
        }
        self.slots.insert(entry.key, Slot::Entry(entry));
    }

    /// Takes an entry out.
    pub fn remove(&self, exact: Digest) {
        self.slots.invalidate(&exact);
    }

    /// Takes everything out.
    pub fn clear(&self) {
        self.slots.invalidate_all();
    }

    /// Entries and aliases, and their weight in bytes.
    pub fn size(&self) -> (u64, u64) {
        self.slots.run_pending_tasks();
        (self.slots.entry_count(), self.slots.weighted_size())
    }
}

/// The slot of an index identifier: half a digest and zeros, which no digest is.
fn id_key(id: EntryId) -> Digest {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&id.0.to_be_bytes());
    Digest(bytes)
}
