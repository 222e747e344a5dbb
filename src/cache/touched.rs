//! Who has seen which entry. Where several people share a scope, the first reply that one of them gets from another's
//! entry must not show that somebody asked before: it reads as a miss of their own (`chat` writes it so).
//!
//! What was seen is kept in memory, bounded. Forgetting is safe: the entry is hidden once more.

use uuid::Uuid;

use super::Hit;
use super::entry::Entry;
use super::scope::Digest;

/// Sightings that are remembered, some 100 bytes each.
const CAPACITY: u64 = 100_000;

/// Somebody who asks: a key, and its holder's own name for the user behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Person([u8; 16]);

impl Person {
    /// The person behind `key` and the request's `user`.
    pub fn of(key: Uuid, user: Option<&str>) -> Self {
        let digest = Digest::of("ish person v1", &[key.as_bytes(), user.unwrap_or_default().as_bytes()]);
        Self::from_bytes(&digest.0[..16]).unwrap_or(Self([0; 16]))
    }

    /// Whoever holds `key`, for all users behind it: nobody who asks, but the one who may report what any of them was told.
    pub fn holder(key: Uuid) -> Self {
        let digest = Digest::of("ish holder v1", &[key.as_bytes()]);
        Self::from_bytes(&digest.0[..16]).unwrap_or(Self([0; 16]))
    }

    /// As stored with an entry.
    pub(super) fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// As stored with an entry; `None` for anything else.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

/// The sightings.
#[derive(Debug, Clone)]
pub(super) struct Touched {
    /// A person and a key that they know, or a holder and one that a user was told, to the entry that it stands for.
    seen: moka::sync::Cache<(Person, Digest), Digest>,
}

impl Touched {
    pub(super) fn new() -> Self {
        Self { seen: moka::sync::Cache::new(CAPACITY) }
    }

    /// Whether `person` made this entry or was answered from it before.
    pub(super) fn knows(&self, person: Person, entry: &Entry) -> bool {
        entry.made_by == Some(person) || self.seen.contains_key(&(person, entry.key))
    }

    /// `person`, whose own question has the exact key `asked`, was answered from `hit`; `holder` may report that.
    pub(super) fn record(&self, person: Person, holder: Person, asked: Digest, hit: &Hit) {
        self.joined(person, hit.entry.key);
        self.seen.insert((holder, asked), hit.entry.key);
    }

    /// A user of the `holder`'s was told the key `key` of the entry itself, or of one that is being made.
    pub(super) fn told(&self, holder: Person, key: Digest) {
        self.seen.insert((holder, key), key);
    }

    /// Whether one of the holder's users was told the key `key`.
    pub(super) fn was_told(&self, holder: Person, key: Digest) -> bool {
        self.seen.contains_key(&(holder, key))
    }

    /// `person` shares the answer that will be stored under `key`.
    pub(super) fn joined(&self, person: Person, key: Digest) {
        self.seen.insert((person, key), key);
    }

    /// The entry that answered one of the holder's users, who was told the key `key`.
    pub(super) fn behind(&self, holder: Person, key: Digest) -> Digest {
        self.seen.get(&(holder, key)).unwrap_or(key)
    }
}
