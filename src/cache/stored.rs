//! What the store's query sets share: what is asked of them, and what they answer.

use super::index::EntryId;
use super::key::Place;
use super::scope::Digest;
use crate::embedding::Embedding;

/// A row of the index's load.
pub(super) struct IndexRow {
    pub key: Digest,
    pub place: Option<Place>,
    /// The vector, where this embedder made it.
    pub embedding: Option<Embedding>,
    pub expires_at_ms: u64,
}

/// What is stored, in figures.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct StoredFigures {
    /// Entries.
    pub entries: u64,
    /// Of them, those with a vector.
    pub embedded: u64,
    /// The size of the file, or of the server's table.
    pub bytes: u64,
}

/// Which entries an eviction means, always of one tenant.
#[derive(Debug, Clone)]
pub enum Selection {
    /// The entry of this key.
    Key(Digest),
    /// Entries that carry this tag.
    Tag(String),
    /// Entries of this model.
    Model(String),
    /// Entries made before this time.
    OlderThan(u64),
    /// All.
    All,
}

/// The keys that begin with an index identifier.
pub(super) fn key_range(id: EntryId) -> (Vec<u8>, Vec<u8>) {
    let half = id.0.to_be_bytes();
    ([half, [0; 16]].concat(), [half, [0xFF; 16]].concat())
}

#[cfg(test)]
mod tests;
