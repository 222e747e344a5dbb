//! Which keys the store holds, so that a miss need not ask it. The set knows at least what the store has, or says that it
//! does not know: a key too many costs a query, a key too few would cost a hit.
//!
//! It changes inside the store's own writes, which run one after the other, so that it cannot fall behind them. A write
//! may still fail after that: what it took out comes back then ([`Gone`]).

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::key::{Keys, Place};
use super::scope::Digest;

/// Digests are random already: their first eight bytes are as good a hash as any.
#[derive(Debug, Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers are hashed here");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

type ByFirstBytes = BuildHasherDefault<FirstBytes>;

#[derive(Debug, Default)]
struct Sets {
    exact: HashSet<u64, ByFirstBytes>,
    /// Several entries may share a normalized key.
    normalized: HashMap<u64, u32, ByFirstBytes>,
    /// Whether all that was stored before the start is known.
    complete: bool,
}

/// The set.
#[derive(Debug, Default)]
pub(super) struct KnownKeys {
    sets: Mutex<Sets>,
}

impl KnownKeys {
    /// Whether the store may hold an entry of either key.
    pub(super) fn may_hold(&self, keys: &Keys) -> bool {
        let sets = self.lock();
        !sets.complete
            || sets.exact.contains(&number(keys.exact))
            || keys.place().is_some_and(|place| sets.normalized.contains_key(&number(place.normalized)))
    }

    /// The store has this entry.
    pub(super) fn learn(&self, exact: Digest, normalized: Option<Digest>) {
        let mut sets = self.lock();
        if sets.exact.insert(number(exact))
            && let Some(normalized) = normalized
        {
            *sets.normalized.entry(number(normalized)).or_default() += 1;
        }
    }

    /// The store has it no longer.
    pub(super) fn forget(&self, exact: Digest, normalized: Option<Digest>) {
        let mut sets = self.lock();
        if !sets.exact.remove(&number(exact)) {
            return;
        }
        let Some(normalized) = normalized.map(number) else { return };
        if let Some(entries) = sets.normalized.get_mut(&normalized) {
            *entries -= 1;
            if *entries == 0 {
                sets.normalized.remove(&normalized);
            }
        }
    }

    /// All that a write takes out of the store, forgotten one by one.
    pub(super) fn forgetting(self: &Arc<Self>) -> Gone {
        Gone { known: Arc::clone(self), keys: Vec::new() }
    }

    /// All that the store has was learnt.
    pub(super) fn complete(&self) {
        self.lock().complete = true;
    }

    fn lock(&self) -> MutexGuard<'_, Sets> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a write takes out of the store. Dropped before [`Gone::committed`], it is known again: the write has failed, or
/// nobody has heard that it has not, which costs a query.
#[derive(Debug)]
pub(super) struct Gone {
    known: Arc<KnownKeys>,
    keys: Vec<(Digest, Option<Place>)>,
}

impl Gone {
    pub(super) fn forget(&mut self, key: Digest, place: Option<Place>) {
        self.known.forget(key, place.map(|place| place.normalized));
        self.keys.push((key, place));
    }

    /// It is gone for good.
    pub(super) fn committed(mut self) -> Vec<(Digest, Option<Place>)> {
        std::mem::take(&mut self.keys)
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        for (key, place) in &self.keys {
            self.known.learn(*key, place.map(|place| place.normalized));
        }
    }
}

fn number(digest: Digest) -> u64 {
    digest.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key::{MatchKeys, Place};

    fn digest(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    fn keys(exact: u8, normalized: u8) -> Keys {
        let place = Place { normalized: digest(normalized), partition: digest(0) };
        Keys { exact: digest(exact), matching: Some(MatchKeys { place, standalone: true, context: None }) }
    }

    #[test]
    fn before_the_load_every_key_may_be_there() {
        let known = KnownKeys::default();
        assert!(known.may_hold(&keys(1, 2)));
        known.complete();
        assert!(!known.may_hold(&keys(1, 2)));
    }

    #[test]
    fn a_normalized_key_lives_as_long_as_one_of_its_entries() {
        let known = KnownKeys::default();
        known.complete();
        for exact in [1, 3, 3] {
            known.learn(digest(exact), Some(digest(2)));
        }
        assert!(known.may_hold(&keys(1, 9)) && known.may_hold(&keys(9, 2)));
        known.forget(digest(1), Some(digest(2)));
        known.forget(digest(1), Some(digest(2)));
        assert!(!known.may_hold(&keys(1, 9)) && known.may_hold(&keys(9, 2)));
        known.forget(digest(3), Some(digest(2)));
        assert!(!known.may_hold(&keys(3, 2)));
    }
}
