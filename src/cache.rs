//! The semantic answer cache: one look-up call that runs the cascade, one insert, and what people need to see and
//! control it.
//!
//! Cascade: both keys at once; L1; L2 in the Redis that instances share; then the store and, where the partition holds vectors at all, the embedding
//! meanwhile; then the index's nearest in this partition and the verifier. Any part that fails is a miss, never an
//! error and never a wider match.

pub mod canonical;
pub mod context;
pub mod control;
pub mod entry;
pub mod explain;
pub mod flight;
mod follow;
pub mod freshness;
mod generations;
pub mod index;
pub mod key;
mod known;
pub mod language;
pub mod lexicon;
mod load;
mod lookup;
pub mod memory;
pub mod normalize;
pub mod plan;
mod postgres;
mod redis;
mod reembed;
pub mod scope;
mod sqlite;
mod stored;
mod told;
mod touched;
pub mod verify;
mod words;
mod write;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use control::{CacheControl, ControlHeaders, Mode, Replay};
pub use entry::Entry;
pub use explain::{Explanation, How, Tier};
pub use flight::Flights;
pub use plan::{Plan, Query};
pub use reembed::{KeptUnder, ReembedError, Reembedded};
pub use scope::Asker;
pub use stored::{Selection, StoredFigures};
pub use touched::Person;

use self::redis::Shared;
use crate::clock::{Clock, jitter};
use crate::config::{CacheConfig, FirstTouch};
use crate::db::{Db, DbError, query};
use crate::embedding::{Embedded, Embedding, EmbeddingService, Similarity};
use crate::message::Completion;
use crate::metrics::Metrics;
use crate::redis::Redis;
use crate::services::Part;
use entry::Matching;
use generations::Generations;
use index::Index;
use key::entry_id;
use known::KnownKeys;
use memory::Memory;
use scope::Digest;
use told::Name;
use touched::Touched;
use verify::Preset;
use write::Writes;

/// An answer that may be reused.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The answer.
    pub entry: Arc<Entry>,
    /// How it matched.
    pub how: How,
    /// Where it was.
    pub tier: Tier,
    /// Cosine, for a semantic hit.
    pub similarity: Option<Similarity>,
}

/// What a look-up says.
#[derive(Debug)]
pub enum Lookup {
    /// Serve this.
    Hit(Hit),
    /// Ask a provider; the embedding, where one was made, goes back into [`SemanticCache::insert`].
    Miss(Option<Arc<Embedded>>),
}

/// Why an answer was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStored {
    /// It was cut, filtered or otherwise not all that could be said.
    Incomplete,
    /// The request asked for it, or its class of question.
    NotWanted,
}

struct Inner {
    config: CacheConfig,
    preset: Preset,
    memory: Memory,
    /// `None` without a Redis, or with a file.
    shared: Option<Shared>,
    db: Db,
    known: Arc<KnownKeys>,
    generations: Generations,
    index: Index,
    embeddings: Arc<EmbeddingService>,
    blocked: RwLock<HashSet<(Digest, Digest)>>,
    touched: Touched,
    loaded: AtomicBool,
    /// The index, as a registry shows it.
    part: Part,
    /// Whether the index holds all that the store had at the start.
    index_is_whole: AtomicBool,
    writes: Writes,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// The cache. Cloning is cheap.
#[derive(Clone)]
pub struct SemanticCache {
    inner: Arc<Inner>,
}

/// What the cache is made of.
pub struct CacheParts {
    /// Its section of the configuration.
    pub config: CacheConfig,
    /// The store, with the schema [`crate::db::MigrationSet::CACHE`].
    pub db: Db,
    /// The embedder.
    pub embeddings: EmbeddingService,
    /// What the instances of one database share.
    pub redis: Option<Redis>,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// Its time.
    pub clock: Clock,
}

impl SemanticCache {
    /// Starts the cache: its writer, its load of the index and its sweeper run on `tasks` until `stop`.
    pub fn start(parts: CacheParts, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let preset = match parts.config.preset.as_str() {
            "strict" => Preset::Strict,
            "loose" => Preset::Loose,
            _ => Preset::Balanced,
        };
        let (writes, queue) = Writes::new(parts.config.write_queue.get());
        let inner = Arc::new(Inner {
            preset,
            memory: Memory::new(parts.config.memory_bytes),
            // Only a server counts generations, by which what Redis has is judged.
            shared: parts.redis.filter(|_| matches!(parts.db, Db::Postgres(_))).map(Shared::new),
            db: parts.db,
            known: Arc::default(),
            generations: Generations::default(),
            index: Index::bounded(parts.config.index_max_entries.get()),
            embeddings: Arc::new(parts.embeddings),
            blocked: RwLock::default(),
            touched: Touched::new(),
            loaded: AtomicBool::new(false),
            part: Part::new("index"),
            index_is_whole: AtomicBool::new(false),
            writes,
            metrics: parts.metrics,
            clock: parts.clock,
            config: parts.config,
        });
        tasks.spawn(write::run(Arc::clone(&inner), queue));
        tasks.spawn(load::run(Arc::clone(&inner), stop.clone()));
        Self { inner }
    }

    /// Keeps an answer: at once in L1 and, where its embedding is known, in the index; then in L2 and in the store, in
    /// the background.
    ///
    /// # Errors
    /// [`NotStored`] when this answer must not be reused.
    pub fn insert(&self, query: &Query, embedded: Option<&Embedded>, made: Made) -> Result<Arc<Entry>, NotStored> {
        let inner = &self.inner;
        if !query.control.mode.writes() {
            return Err(NotStored::NotWanted);
        }
        if !made.completion.is_complete() {
            return Err(NotStored::Incomplete);
        }
        let entry = Arc::new(inner.entry(query, made));
        if query.why_not_semantic.is_none()
            && let Some(embedded) = embedded
        {
            inner.embed_entry(&entry, embedded);
        }
        inner.memory.insert(Arc::clone(&entry));
        inner.metrics.cache_stored.inc();
        let embed = query.why_not_semantic.is_none();
        if !inner.writes.push(Arc::clone(&entry), embed) {
            inner.metrics.cache_writes_dropped.inc();
        }
        Ok(entry)
    }

    /// The embedding of a question whose answer is being made, unless it is matched by its text only. Nobody waits for it,
    /// so it waits for its turn as long as that takes; where the answer is there first, the background writer makes it.
    pub async fn embed_ahead(&self, query: &Query) -> Option<Arc<Embedded>> {
        if query.why_not_semantic.is_some() || query.keys.place().is_none() {
            return None;
        }
        self.inner.embeddings.embed_all(vec![query.prompt.clone()]).await.ok()?.pop()
    }

    /// Explains what a look-up of this plan finds, step by step.
    pub async fn explain(&self, plan: &Plan) -> Explanation {
        let mut explanation = self.explanation(plan);
        match plan {
            Plan::Bypass { reason, .. } => explanation.decide("bypass", None, (*reason).to_owned()),
            Plan::Use(query) => {
                self.lookup(query, Some(&mut explanation)).await;
            }
        }
        explanation
    }

    /// An explanation that holds the question so far.
    pub fn explanation(&self, plan: &Plan) -> Explanation {
        Explanation::new(plan.explained())
    }

    /// Takes entries of a tenant out of every tier; returns how many there were.
    ///
    /// # Errors
    /// When the store fails; what is meant may be gone from L1 then.
    pub async fn evict(&self, tenant: &str, selection: Selection) -> Result<usize, DbError> {
        // A write that is still queued would bring the entry back.
        self.flush().await;
        let deleted = query!(&self.inner.db, delete(&self.inner.known, tenant, selection.clone()));
        if matches!(deleted, Err(DbError::Commit(_))) {
            // It may have been done all the same; what was taken out is not known.
            self.inner.memory.evict(tenant, Some(&selection), &[]);
        }
        let deleted = deleted?;
        self.inner.generations.raise(tenant, deleted.generation);
        let mut gone = deleted.gone;
        let keys: Vec<_> = gone.iter().map(|(key, _)| *key).collect();
        let unstored = self.inner.memory.evict(tenant, Some(&selection), &keys);
        gone.extend(unstored.iter().map(|entry| (entry.key, entry.place)));
        self.inner.unlist(gone.iter().map(|(key, place)| Name::evicted(*key, *place)));
        Ok(gone.len())
    }

    /// Deletes from the store what has expired, of all tenants; says how many entries. Nobody is served them meanwhile.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn expire(&self) -> Result<u64, DbError> {
        query!(&self.inner.db, expire(&self.inner.known, self.inner.clock.now_ms()))
    }

    /// A user says that the answer of entry `key` was wrong for the question whose normalized key is `asked`: the entry
    /// goes, and the pair can never match by meaning again. Returns whether the entry was still there. A user behind the
    /// `holder`'s key may have been told another key, the question's own.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn report_wrong(
        &self,
        tenant: &str,
        holder: Person,
        key: Digest,
        asked: Option<Digest>,
    ) -> Result<bool, DbError> {
        self.flush().await;
        let key = self.inner.touched.behind(holder, key);
        let entry = self.inner.by_key(tenant, key).await?;
        self.inner.metrics.cache_wrong_reports.inc();
        let answered = entry.as_ref().and_then(|entry| entry.place).map(|place| place.normalized);
        if let (Some(asked), Some(answered)) = (asked, answered)
            && asked != answered
        {
            query!(&self.inner.db, block(tenant, asked, answered, self.inner.clock.now_ms()))?;
            self.inner.blocked.write().unwrap_or_else(PoisonError::into_inner).insert((asked, answered));
        }
        Ok(self.evict(tenant, Selection::Key(key)).await? > 0)
    }

    /// Whether the users behind an API key have anything to do with the entry that `key` stands for: one of them was told
    /// that key, or the entry was made for the API key itself or for the `user` whom it acts for. Who could report any other would learn whether it is there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn may_report(
        &self,
        tenant: &str,
        api_key: Uuid,
        user: Option<&str>,
        key: Digest,
    ) -> Result<bool, DbError> {
        if self.inner.touched.was_told(Person::holder(api_key), key) {
            return Ok(true);
        }
        let entry = self.inner.by_key(tenant, key).await?;
        Ok(entry.is_some_and(|entry| entry.made_by == Some(Person::of(api_key, user))))
    }

    /// Whether `person` made the entry of `hit`, or was answered from it before.
    pub fn is_known(&self, person: Person, hit: &Hit) -> bool {
        self.inner.touched.knows(person, &hit.entry)
    }

    /// `person` is answered from `hit`, by a key whose `holder` may report it.
    pub fn touch(&self, person: Person, holder: Person, query: &Query, hit: &Hit) {
        self.inner.touched.record(person, holder, query.keys.exact, hit);
    }

    /// A user of the `holder`'s is told this key.
    pub fn tell(&self, holder: Person, key: Digest) {
        self.inner.touched.told(holder, key);
    }

    /// `person` shares the answer that is being made to `query`.
    pub fn touch_flight(&self, person: Person, query: &Query) {
        self.inner.touched.joined(person, query.keys.exact);
    }

    /// What the first reply from another's entry shows.
    pub fn first_touch(&self) -> FirstTouch {
        self.inner.config.first_touch
    }

    /// One entry of a tenant.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn entry(&self, tenant: &str, key: Digest) -> Result<Option<Arc<Entry>>, DbError> {
        self.flush().await;
        self.inner.by_key(tenant, key).await
    }

    /// A tenant's newest entries whose prompt contains `containing`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn newest(&self, tenant: &str, limit: usize, containing: &str) -> Result<Vec<Arc<Entry>>, DbError> {
        self.flush().await;
        query!(&self.inner.db, newest(tenant, limit, containing))
    }

    /// What the tiers hold now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn figures(&self) -> Result<CacheFigures, DbError> {
        let (memory_entries, memory_bytes) = self.inner.memory.size();
        let stored = query!(&self.inner.db, figures())?;
        let index = &self.inner.index;
        Ok(CacheFigures {
            memory_entries,
            memory_bytes,
            stored,
            index_entries: index.len(),
            index_bytes: index.bytes(),
            index_loaded: self.index_loaded(),
        })
    }

    /// Sets the gauges that mirror the tiers' sizes.
    pub fn refresh_gauges(&self) {
        let inner = &self.inner;
        let (entries, bytes) = inner.memory.size();
        inner.metrics.memory_entries.set(entries as i64);
        inner.metrics.memory_bytes.set(bytes as i64);
        inner.metrics.index_entries.set(inner.index.len() as i64);
        inner.metrics.index_bytes.set(inner.index.bytes() as i64);
        let counts = inner.embeddings.counts();
        for (outcome, count) in
            [("hit", counts.hits), ("miss", counts.misses), ("busy", counts.busy), ("failed", counts.failed)]
        {
            let told = inner.metrics.embeddings.with_label_values(&[outcome]);
            told.inc_by(count.saturating_sub(told.get()));
        }
    }

    /// Looks through the largest part of the index, as any look-up does, for measuring; how many entries it holds, `None` where
    /// there are none.
    pub fn look_through(&self, near: &Embedding) -> Option<usize> {
        let inner = &self.inner;
        inner.index.look_through_largest(near.values(), inner.config.neighbours.get(), inner.clock.now_ms())
    }

    /// Whether the index holds everything that the store has.
    pub fn index_loaded(&self) -> bool {
        self.inner.loaded.load(Ordering::Acquire)
    }

    /// Whether it does, for a registry.
    pub fn index_part(&self) -> Part {
        self.inner.part.clone()
    }

    /// The embedder.
    pub fn embeddings(&self) -> &EmbeddingService {
        &self.inner.embeddings
    }

    /// Resolves once everything inserted so far is embedded and stored.
    pub async fn flush(&self) {
        self.inner.writes.flush().await;
    }

    /// Ends the writer once it has written what is queued.
    pub async fn close(&self) {
        self.inner.writes.close().await;
    }
}

/// What the tiers hold.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct CacheFigures {
    /// L1's entries and aliases.
    pub memory_entries: u64,
    /// Their weight.
    pub memory_bytes: u64,
    /// The store.
    pub stored: StoredFigures,
    /// Vectors in the index.
    pub index_entries: usize,
    /// Their memory.
    pub index_bytes: usize,
    /// Whether the index has caught up with the store.
    pub index_loaded: bool,
}

/// An answer that was just made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The answer.
    pub completion: Arc<Completion>,
    /// Who gave it.
    pub provider: String,
    /// How long that took.
    pub elapsed: Duration,
    /// Who asked for it.
    pub made_by: Person,
}

impl Inner {
    /// An entry of a tenant, also one that could not be stored.
    async fn by_key(&self, tenant: &str, key: Digest) -> Result<Option<Arc<Entry>>, DbError> {
        let stored = query!(&self.db, by_key(tenant, key))?;
        let in_memory = || self.memory.get(key, self.clock.now_ms()).filter(|entry| entry.tenant == tenant);
        Ok(stored.or_else(in_memory))
    }

    fn is_blocked(&self, asked: Digest, answered: Digest) -> bool {
        let blocked = self.blocked.read().unwrap_or_else(PoisonError::into_inner);
        blocked.contains(&(asked, answered)) || blocked.contains(&(answered, asked))
    }

    fn entry(&self, query: &Query, made: Made) -> Entry {
        let now_ms = self.clock.now_ms();
        let ttl = query.ttl(&self.config, made.completion.text(), jitter());
        Entry {
            key: query.keys.exact,
            place: query.keys.place(),
            tenant: query.scope.tenant.clone(),
            scope: serde_json::to_string(&query.scope).unwrap_or_default(),
            prompt: query.prompt.clone(),
            completion: made.completion,
            provider: made.provider,
            made_by: Some(made.made_by),
            elapsed_ms: u64::try_from(made.elapsed.as_millis()).unwrap_or(u64::MAX),
            tags: query.control.tags.clone(),
            generation: self.generations.of(&query.scope.tenant),
            created_at_ms: now_ms,
            expires_at_ms: now_ms + u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX / 2).max(1),
            matching: OnceLock::new(),
            templates: OnceLock::new(),
        }
    }

    /// Gives an entry its vectors and the index its place, unless the encoder did not read all of the prompt.
    fn embed_entry(&self, entry: &Entry, embedded: &Embedded) {
        let Some(place) = entry.place.filter(|_| !embedded.truncated) else { return };
        let matching =
            Matching::new(self.embeddings.id().as_str().to_owned(), embedded.embedding.clone(), embedded.words.clone());
        if entry.matching.set(matching).is_ok() {
            self.index.insert(
                place.partition_id(),
                entry_id(entry.key),
                embedded.embedding.values(),
                entry.expires_at_ms,
            );
        }
    }
}
