//! L1: answers in the process, bounded by bytes (moka, `TinyLFU`).

use std::sync::{Arc, PoisonError, RwLock};

use super::Selection;
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
    /// How often entries were taken out of the store. Held while a stored one is put in, so that none is put back.
    evictions: Arc<RwLock<u64>>,
}

/// When a look into the store began, as a number of evictions.
#[derive(Debug, Clone, Copy)]
pub struct Moment(u64);

impl Memory {
    /// A tier of at most `max_bytes`, by the entries' own weights.
    pub fn new(max_bytes: u64) -> Self {
        let weigher = |_: &Digest, slot: &Slot| match slot {
            Slot::Entry(entry) => entry.weight(),
            Slot::Alias(_) => 160,
        };
        let slots = moka::sync::Cache::builder().max_capacity(max_bytes).weigher(weigher).build();
        Self { slots, evictions: Arc::default() }
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

    /// Now; asked before the store is.
    pub fn moment(&self) -> Moment {
        Moment(*self.evictions.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts in what was found in the store by a look that began at `since`, unless an eviction may have taken it out there.
    pub fn insert_found(&self, entry: Arc<Entry>, since: Moment) {
        let evictions = self.evictions.read().unwrap_or_else(PoisonError::into_inner);
        if *evictions == since.0 {
            self.insert(entry);
        }
    }

    /// Entries have been taken out of the store: follows, with these and with what was meant and is here only, as an entry
    /// is that could not be stored. Returns the latter.
    pub fn evict(&self, tenant: &str, selection: Option<&Selection>, gone: &[Digest]) -> Vec<Arc<Entry>> {
        self.forget(gone.iter().copied());
        let meant = selection.map_or_else(Vec::new, |selection| self.meant(tenant, selection));
        for entry in &meant {
            self.remove(entry.key);
        }
        meant
    }

    /// The store has these no longer, or others in their place: what was read there before is not put in any more.
    pub fn forget(&self, keys: impl Iterator<Item = Digest>) {
        *self.evictions.write().unwrap_or_else(PoisonError::into_inner) += 1;
        keys.for_each(|key| self.remove(key));
    }

    fn meant(&self, tenant: &str, selection: &Selection) -> Vec<Arc<Entry>> {
        let of_slot = |slot: Slot| match slot {
            Slot::Entry(entry) if entry.tenant == tenant && selection.means(&entry) => Some(entry),
            _ => None,
        };
        match selection {
            Selection::Key(key) => self.slots.get(key).and_then(of_slot).into_iter().collect(),
            _ => self.slots.iter().filter_map(|(_, slot)| of_slot(slot)).collect(),
        }
    }

    /// Takes an entry out.
    pub fn remove(&self, exact: Digest) {
        self.slots.invalidate(&exact);
    }

    /// Takes everything out, and puts nothing in any more that was read in the store before.
    pub fn clear(&self) {
        *self.evictions.write().unwrap_or_else(PoisonError::into_inner) += 1;
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

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use crate::message::Completion;

    fn entry(key: u8) -> Arc<Entry> {
        Arc::new(Entry {
            key: Digest([key; 32]),
            place: None,
            tenant: "t".to_owned(),
            scope: r#"{"model":"m"}"#.to_owned(),
            prompt: "why?".to_owned(),
            completion: Arc::new(Completion::of_text("m", "because", None)),
            provider: "p".to_owned(),
            made_by: None,
            elapsed_ms: 1,
            tags: vec!["a".to_owned()],
            generation: None,
            created_at_ms: 10,
            expires_at_ms: 1_000,
            matching: OnceLock::new(),
            templates: OnceLock::new(),
        })
    }

    /// A look-up reads the store, waits for its embedding, and puts what it read into L1: an eviction in between wins.
    #[test]
    fn what_was_evicted_since_it_was_read_is_not_put_back() {
        let memory = Memory::new(1 << 20);
        let before = memory.moment();
        memory.evict("t", Some(&Selection::Key(entry(1).key)), &[entry(1).key]);
        memory.insert_found(entry(1), before);
        assert!(memory.get(entry(1).key, 20).is_none());
        memory.insert_found(entry(1), memory.moment());
        assert!(memory.get(entry(1).key, 20).is_some());
    }

    #[test]
    fn an_eviction_takes_out_what_it_means_and_nothing_else() {
        let key = |key| Selection::Key(entry(key).key);
        let (tag, model) =
            (|tag: &str| Selection::Tag(tag.to_owned()), |model: &str| Selection::Model(model.to_owned()));
        for (tenant, selection, is_meant) in [
            ("t", key(1), true),
            ("t", key(2), false),
            ("u", key(1), false),
            ("t", tag("a"), true),
            ("t", tag("b"), false),
            ("t", model("m"), true),
            ("t", model("n"), false),
            ("t", Selection::OlderThan(11), true),
            ("t", Selection::OlderThan(10), false),
            ("t", Selection::All, true),
            ("u", Selection::All, false),
        ] {
            let memory = Memory::new(1 << 20);
            memory.insert(entry(1));
            assert_eq!(
                memory.evict(tenant, Some(&selection), &[]).len(),
                usize::from(is_meant),
                "{tenant} {selection:?}"
            );
            assert_eq!(memory.get(entry(1).key, 20).is_none(), is_meant, "{tenant} {selection:?}");
        }
    }
}
