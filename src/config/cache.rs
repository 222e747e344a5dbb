//! Sections `cache` and `embedding`.

use std::num::NonZeroUsize;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::reader::{Origin, Reader, setting};

/// Section `cache`.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// The whole cache, one switch.
    pub enabled: bool,
    /// Matching by meaning.
    pub semantic: bool,
    /// How careful matching by meaning is.
    pub preset: String,
    /// Bytes that L1 may hold.
    pub memory_bytes: u64,
    /// How long an answer may be reused, absolute from its making.
    pub ttl: Duration,
    /// The same for questions whose answer ages quickly.
    pub short_ttl: Duration,
    /// Neighbours that the verifier looks at.
    pub neighbours: NonZeroUsize,
    /// Vectors that the index may hold.
    pub index_max_entries: NonZeroUsize,
    /// Entries waiting to be written to the store before further ones are dropped.
    pub write_queue: NonZeroUsize,
    /// What a person's first reply from another person's entry shows.
    pub first_touch: FirstTouch,
}

/// What a person's first reply from another person's entry shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstTouch {
    /// Where it comes from, as every hit does.
    Open,
    /// It reads as a miss, and comes at once.
    Quiet,
    /// It reads as a miss, and takes as long as the answer took when it was made.
    Paced,
}

/// Section `embedding`.
#[derive(Debug, Clone)]
pub struct EmbeddingConfig {
    /// Threads of the local model.
    pub workers: NonZeroUsize,
    /// Texts that may wait for it.
    pub queue: NonZeroUsize,
    /// Texts in one run of the model.
    pub batch_size: NonZeroUsize,
    /// Embeddings kept.
    pub cache_size: u64,
    /// How long they are kept.
    pub cache_ttl: Duration,
    /// Longest wait of a look-up for its turn; beyond it the look-up is a miss.
    pub wait: Duration,
    /// An OpenAI-compatible embedder in place of the local one.
    pub remote: Option<RemoteEmbedderConfig>,
}

/// The remote embedder of section `embedding`.
#[derive(Debug, Clone)]
pub struct RemoteEmbedderConfig {
    /// The address that `/embeddings` is appended to.
    pub base_url: Url,
    /// Its model; it must answer 384 dimensions.
    pub model: String,
    /// The bearer, if any.
    pub api_key: Option<SecretString>,
}

impl CacheConfig {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let enabled = reader.flag("cache.enabled");
        let semantic = reader.flag("cache.semantic");
        let preset = reader.one_of("cache.preset", &["strict", "balanced", "loose"]);
        let memory_bytes = reader.value("cache.memory_bytes");
        let ttl = reader.seconds("cache.ttl");
        let short_ttl = reader.seconds("cache.short_ttl");
        let neighbours = reader.value("cache.neighbours");
        let index_max_entries = reader.value("cache.index_max_entries");
        let write_queue = reader.value("cache.write_queue");
        let first_touch = reader.one_of("cache.first_touch", &["open", "quiet", "paced"]);
        Some(Self {
            enabled: enabled?,
            semantic: semantic?,
            preset: preset?,
            memory_bytes: memory_bytes?,
            ttl: ttl?,
            short_ttl: short_ttl?,
            neighbours: neighbours?,
            index_max_entries: index_max_entries?,
            write_queue: write_queue?,
            first_touch: match first_touch?.as_str() {
                "open" => FirstTouch::Open,
                "paced" => FirstTouch::Paced,
                _ => FirstTouch::Quiet,
            },
        })
    }
}

impl EmbeddingConfig {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let workers = reader.value("embedding.workers");
        let queue = reader.value("embedding.queue");
        let batch_size = reader.value("embedding.batch_size");
        let cache_size = reader.value("embedding.cache_size");
        let cache_ttl = reader.seconds("embedding.cache_ttl");
        let wait = reader.seconds("embedding.wait");
        let remote = reader.remote_embedder();
        Some(Self {
            workers: workers?,
            queue: queue?,
            batch_size: batch_size?,
            cache_size: cache_size?,
            cache_ttl: cache_ttl?,
            wait: wait?,
            remote,
        })
    }
}

impl Reader<'_> {
    pub(super) fn remote_embedder(&mut self) -> Option<RemoteEmbedderConfig> {
        let base_url = self.optional::<Url>("embedding.remote_url")?;
        let model = self.optional::<String>("embedding.remote_model");
        let (key, _) = self.text(setting("embedding.remote_api_key"));
        let Some(model) = model else {
            self.fault("embedding.remote_model", "", &Origin::Default, "is needed beside embedding.remote_url");
            return None;
        };
        Some(RemoteEmbedderConfig { base_url, model, api_key: (!key.is_empty()).then(|| SecretString::from(key)) })
    }
}
