//! Entries of another embedder, moved to this one's. The embedder is a part of the scope, and so of every key: an entry is found
//! again only under keys of its own that name this one, which are made from what is stored of it. Where that is not enough (the
//! question leaned on turns that were not kept) the entry is left, and ends with its time.

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

use super::entry::Entry;
use super::key::moved_keys;
use super::scope::{Digest, Scope};
use super::stored::Moved;
use super::{Inner, SemanticCache, postgres, sqlite};
use crate::db::{DbError, query};
use crate::embedding::{EmbedError, Embedded};
use crate::parallel;

/// Entries looked at in one step.
const PAGE: usize = 256;

/// Questions that are embedded together.
const BATCH: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// Such batches at once: a look-up finds the embedder's queue short.
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(2).unwrap();

/// Why a step was not made; what was moved before stays so.
#[derive(Debug, thiserror::Error)]
pub enum ReembedError {
    /// The store.
    #[error("the cache's store failed")]
    Store(#[from] DbError),
    /// The embedder.
    #[error("the questions could not be embedded")]
    Embed(#[from] EmbedError),
}

/// What a step came to.
#[derive(Debug, Clone, Copy)]
pub struct Reembedded {
    /// The last entry that it looked at: the next step begins behind it.
    pub last: Digest,
    /// Entries that this embedder's look-ups find from now on.
    pub moved: usize,
    /// Entries that stay as they are.
    pub left: usize,
}

/// The embedder that the store's entries are kept under, as far as that is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptUnder {
    /// This cache's.
    This,
    /// Another, or one that nobody noted.
    Another,
    /// None: there are no entries.
    None,
}

impl SemanticCache {
    /// The embedder that entries were made under, or were to be moved to, when that was last noted.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn kept_under(&self) -> Result<KeptUnder, DbError> {
        let (noted, has_entries) = query!(&self.inner.db, noted_embedder())?;
        let own = self.inner.embeddings.id().as_str();
        Ok(match noted {
            Some(noted) if noted == own => KeptUnder::This,
            None if !has_entries => KeptUnder::None,
            Some(_) | None => KeptUnder::Another,
        })
    }

    /// Notes that entries are kept under this cache's embedder from now on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_embedder(&self) -> Result<(), DbError> {
        query!(&self.inner.db, note_embedder(self.inner.embeddings.id().as_str()))
    }

    /// Moves the next entries of other embedders behind `after` (`None`: the first) to this one, with vectors of its own; `None`
    /// where there are no more. What was moved is of another embedder no longer, so that beginning anew repeats nothing.
    ///
    /// # Errors
    /// [`ReembedError`].
    pub async fn reembed(&self, after: Option<Digest>) -> Result<Option<Reembedded>, ReembedError> {
        let inner = &self.inner;
        let (embedder, now_ms) = (inner.embeddings.id().as_str(), inner.clock.now_ms());
        let found = query!(&inner.db, foreign(embedder, after, PAGE, now_ms))?;
        let Some(last) = found.last().map(|entry| entry.key) else { return Ok(None) };
        let looked_at = found.len();
        let moved: Vec<_> = found.iter().filter_map(|entry| inner.moved(entry)).collect();
        inner.embed_moved(&moved).await?;
        let moved = query!(&inner.db, replace(&inner.known, moved))?;
        Ok(Some(Reembedded { last, moved, left: looked_at - moved }))
    }
}

impl Inner {
    /// The entry under keys of this embedder, without a vector.
    fn moved(&self, entry: &Entry) -> Option<Moved> {
        let old: Scope = serde_json::from_str(&entry.scope).ok()?;
        let new = Scope { embedder: self.embeddings.id().as_str().to_owned(), ..old.clone() };
        let (key, place) = moved_keys(entry, &old, &new)?;
        let moved = Entry {
            key,
            place,
            tenant: entry.tenant.clone(),
            scope: serde_json::to_string(&new).ok()?,
            prompt: entry.prompt.clone(),
            completion: Arc::clone(&entry.completion),
            provider: entry.provider.clone(),
            elapsed_ms: entry.elapsed_ms,
            made_by: entry.made_by,
            tags: entry.tags.clone(),
            generation: None,
            created_at_ms: entry.created_at_ms,
            expires_at_ms: entry.expires_at_ms,
            matching: OnceLock::new(),
            templates: OnceLock::new(),
        };
        Some(Moved {
            key: entry.key,
            place: entry.place,
            is_matched: entry.matching.get().is_some(),
            entry: Arc::new(moved),
        })
    }

    /// Gives vectors to those that had one.
    async fn embed_moved(&self, moved: &[Moved]) -> Result<(), EmbedError> {
        let matched: Vec<_> = moved.iter().filter(|moved| moved.is_matched).map(|moved| &moved.entry).collect();
        let texts: Vec<_> = matched.iter().map(|entry| entry.prompt.clone()).collect();
        let embed = |texts: Vec<String>| {
            let embeddings = Arc::clone(&self.embeddings);
            async move { embeddings.embed_all(texts).await }
        };
        let embedded = parallel::try_map(parallel::batches(texts, BATCH), AT_ONCE, embed, |_| ()).await?;
        let embedded: Vec<Arc<Embedded>> = embedded.into_iter().flatten().collect();
        matched.iter().zip(embedded).for_each(|(entry, embedded)| self.embed_entry(entry, &embedded));
        Ok(())
    }
}
