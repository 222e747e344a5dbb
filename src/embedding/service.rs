//! What the rest of the program asks for embeddings: a cache in front of an [`Embedder`].
//!
//! Owns the embedding cache, the bound on waiting and the counts. Leaves the computation to the embedder and the
//! metrics to whoever reads [`EmbeddingService::counts`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tracing::Instrument;

use super::{EmbedError, Embedded, Embedder, EmbedderId};
use crate::traces;

/// How much is remembered and how long a look-up waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddingSettings {
    /// Most texts whose vectors are kept.
    pub cache_size: u64,
    /// How long they are kept.
    pub cache_ttl: Duration,
    /// How long a look-up may wait in the embedder's queue before it goes on without; computing is not counted.
    pub patience: Duration,
}

impl Default for EmbeddingSettings {
    fn default() -> Self {
        Self { cache_size: 5000, cache_ttl: Duration::from_hours(2), patience: Duration::from_millis(20) }
    }
}

/// What happened since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EmbeddingCounts {
    /// Texts whose vectors were remembered.
    pub hits: u64,
    /// Texts that had to be embedded.
    pub misses: u64,
    /// Calls that went on without a vector because the embedder was busy.
    pub busy: u64,
    /// Calls that failed otherwise.
    pub failed: u64,
    /// Texts that are remembered now.
    pub entries: u64,
}

/// An embedder with a memory. Share it behind an `Arc`.
pub struct EmbeddingService {
    embedder: Arc<dyn Embedder>,
    /// Keyed by the text's BLAKE3 hash, so that long texts cost no memory here.
    cache: moka::sync::Cache<[u8; 32], Arc<Embedded>>,
    patience: Duration,
    hits: AtomicU64,
    misses: AtomicU64,
    busy: AtomicU64,
    failed: AtomicU64,
}

impl EmbeddingService {
    /// Puts a cache in front of `embedder`.
    pub fn new(embedder: Arc<dyn Embedder>, settings: EmbeddingSettings) -> Self {
        let cache =
            moka::sync::Cache::builder().max_capacity(settings.cache_size).time_to_live(settings.cache_ttl).build();
        Self {
            embedder,
            cache,
            patience: settings.patience,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Which weights the vectors come from.
    pub fn id(&self) -> &EmbedderId {
        self.embedder.id()
    }

    /// Embeds the text of a look-up, which rather goes on without a vector than waits.
    ///
    /// # Errors
    /// [`EmbedError::Busy`] if the queue is full or the text would wait longer in it than is allowed.
    pub async fn embed(&self, text: &str) -> Result<Arc<Embedded>, EmbedError> {
        let mut embedded = self.embed_within(vec![text.to_owned()], Some(self.patience)).await?;
        embedded.pop().ok_or(EmbedError::Stopped)
    }

    /// Embeds many texts in their order, waiting as long as it takes: for background work.
    ///
    /// # Errors
    /// [`EmbedError::Busy`] only if the queue is full at this moment.
    pub async fn embed_all(&self, texts: Vec<String>) -> Result<Vec<Arc<Embedded>>, EmbedError> {
        self.embed_within(texts, None).await
    }

    async fn embed_within(
        &self,
        texts: Vec<String>,
        patience: Option<Duration>,
    ) -> Result<Vec<Arc<Embedded>>, EmbedError> {
        let keys: Vec<[u8; 32]> = texts.iter().map(|text| blake3::hash(text.as_bytes()).into()).collect();
        let mut found: Vec<Option<Arc<Embedded>>> = keys.iter().map(|key| self.cache.get(key)).collect();
        let unknown: Vec<usize> = (0..texts.len()).filter(|&position| found[position].is_none()).collect();
        self.hits.fetch_add((texts.len() - unknown.len()) as u64, Relaxed);
        if !unknown.is_empty() {
            self.misses.fetch_add(unknown.len() as u64, Relaxed);
            let missing = unknown.iter().map(|&position| texts[position].clone()).collect();
            let span = traces::embeddings(self.embedder.id().as_str(), unknown.len());
            let embedded = self.embedder.embed(missing, patience).instrument(span).await;
            let embedded = embedded.inspect_err(|error| self.count(error))?;
            for (position, embedded) in unknown.into_iter().zip(embedded) {
                let embedded = Arc::new(embedded);
                self.cache.insert(keys[position], Arc::clone(&embedded));
                found[position] = Some(embedded);
            }
        }
        // An embedder that answers with too few vectors has broken off in the middle.
        found.into_iter().map(|embedded| embedded.ok_or(EmbedError::Stopped)).collect()
    }

    fn count(&self, error: &EmbedError) {
        let counter = if matches!(error, EmbedError::Busy) { &self.busy } else { &self.failed };
        counter.fetch_add(1, Relaxed);
    }

    /// Forgets all vectors.
    pub fn clear(&self) {
        self.cache.invalidate_all();
    }

    /// What happened since the start.
    pub fn counts(&self) -> EmbeddingCounts {
        EmbeddingCounts {
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            busy: self.busy.load(Relaxed),
            failed: self.failed.load(Relaxed),
            entries: self.cache.entry_count(),
        }
    }
}
