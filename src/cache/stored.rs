//! What the store's query sets share: what is asked of them, and what they answer.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::entry::Entry;
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
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct StoredFigures {
    /// Entries.
    pub entries: u64,
    /// Of them, those with a vector.
    pub embedded: u64,
    /// The size of the file, or of the server's table.
    pub bytes: u64,
}

/// What a delete took out.
#[derive(Debug)]
pub(super) struct Deleted {
    pub gone: Vec<(Digest, Option<Place>)>,
    /// The generation that begins with it; a file counts none.
    pub generation: u64,
}

/// An entry that takes another's place.
pub(super) struct Moved {
    /// Whose.
    pub key: Digest,
    pub place: Option<Place>,
    /// Whether that one was matched by meaning.
    pub is_matched: bool,
    pub entry: Arc<Entry>,
}

/// Which entries an eviction means, always of one tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl Selection {
    /// Whether this entry of the tenant's is meant; the stores' statements say the same.
    pub(super) fn means(&self, entry: &Entry) -> bool {
        #[derive(Deserialize)]
        struct Scope<'a> {
            #[serde(borrow)]
            model: std::borrow::Cow<'a, str>,
        }
        match self {
            Self::Key(key) => entry.key == *key,
            Self::Tag(tag) => entry.tags.contains(tag),
            Self::Model(model) => {
                serde_json::from_str::<Scope<'_>>(&entry.scope).is_ok_and(|scope| scope.model == model.as_str())
            }
            Self::OlderThan(ms) => entry.created_at_ms < *ms,
            Self::All => true,
        }
    }
}

/// The keys that begin with an index identifier.
pub(super) fn key_range(id: EntryId) -> (Vec<u8>, Vec<u8>) {
    let half = id.0.to_be_bytes();
    ([half, [0; 16]].concat(), [half, [0xFF; 16]].concat())
}

#[cfg(test)]
mod tests;
