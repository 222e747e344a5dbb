//! What is no answer and worth keeping: results of queries, look-ups, whatever service code finds costly. A value is kept
//! under a [`Key`], falls with its [`Tag`]s, and of equal calls at the same time one makes it for all.
//!
//! Trouble of the cache's own is a miss, never an error. Answers have a cache of their own, which knows what they mean:
//! [`crate::cache`].
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), std::io::Error> {
//! use std::time::Duration;
//! use ish::memo::{Key, Memo, Scope, Tag};
//!
//! let memo = Memo::in_process();
//! let key = Key::of("greeting", 1, Scope::Tenant("acme"), "ann");
//! let greet = || async { Ok::<_, std::io::Error>("hello, ann".to_owned()) };
//! assert_eq!(memo.cached(&key, Duration::from_secs(300), greet).await?, "hello, ann");
//! let kept: Option<String> = memo.get(&key).await;
//! assert!(kept.is_some());
//!
//! let people = [Tag::of(Scope::Tenant("acme"), "people")];
//! memo.with(&key).tags(&people).run(greet).await?;
//! # Ok(())
//! # }
//! ```

mod cached;
mod embedder;
mod flight;
mod key;
mod postgres;
mod redis;
mod sealed;
mod space;
mod tags;
#[cfg(test)]
mod tests;
mod tier;
mod told;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::task::TaskTracker;

pub use cached::Cached;
pub use embedder::SharedEmbedder;
pub use key::{CacheKey, Key, KeyWriter, Scope};
pub use space::Space;
pub use tags::Tag;

use self::redis::Remote;
use crate::changes::Read;
use crate::clock::Clock;
use crate::config::MemoConfig;
use crate::db::{DbError, PostgresDb};
use crate::metrics::{MemoMetrics, Metrics};
use crate::redis::Redis;
use flight::Flights;
use sealed::Opened;
use tags::{Falls, Moment};
use tier::{Held, Tier};
use told::{Counts, Told};

/// The caches. Cloning is cheap, and shares them.
#[derive(Clone)]
pub struct Memo {
    inner: Arc<Inner>,
}

struct Inner {
    caches: [Cache; Space::ALL.len()],
    falls: Falls,
    told: Told,
    /// Where falls are counted for all.
    db: Option<PostgresDb>,
    remote: Option<Remote>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// One of them.
struct Cache {
    tier: Tier,
    flights: Flights,
    ttl: Duration,
    metrics: MemoMetrics,
}

/// What it is made of.
pub struct MemoParts {
    /// Sizes and times.
    pub config: MemoConfig,
    /// What "now" is.
    pub clock: Clock,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Those that it is shared with.
    pub shared: Option<MemoShared>,
}

/// What instances share it by.
pub struct MemoShared {
    /// Where they tell each other what has fallen.
    pub db: PostgresDb,
    /// Where they leave values for each other.
    pub redis: Option<Redis>,
    /// Where values are sent from.
    pub tasks: TaskTracker,
}

/// How one of them does; counts are those since the start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemoFigures {
    /// Its name.
    pub cache: &'static str,
    /// Values in memory.
    pub entries: u64,
    /// What they count as, a value of up to 4 KiB as one.
    pub pages: u64,
    /// Values found in memory.
    pub l1: u64,
    /// Values found in Redis.
    pub l2: u64,
    /// Values that another call at the same time made.
    pub collapsed: u64,
    /// Values past their time in place of errors.
    pub stale: u64,
    /// All that was found, or made by another call.
    pub hits: u64,
    /// What had to be made.
    pub misses: u64,
    /// The share of hits; `None` before the first look-up.
    pub hit_rate: Option<f64>,
}

/// The guide's examples.
#[cfg(doctest)]
#[doc = include_str!("../docs/memo.md")]
struct Guide;

/// A state from which service code reaches the caches, as the attributes of this library do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` gives no way to the caches",
    label = "not a `HasMemo`",
    note = "implement `ish::memo::HasMemo` for the state: `fn memo(&self) -> &Memo`"
)]
pub trait HasMemo {
    /// The caches.
    fn memo(&self) -> &Memo;
}

impl HasMemo for Memo {
    fn memo(&self) -> &Memo {
        self
    }
}

impl<T: HasMemo + ?Sized> HasMemo for &T {
    fn memo(&self) -> &Memo {
        (**self).memo()
    }
}

impl<T: HasMemo + ?Sized> HasMemo for Arc<T> {
    fn memo(&self) -> &Memo {
        (**self).memo()
    }
}

impl Memo {
    /// Makes them, empty. Nothing is exchanged with other instances before [`Memo::load`].
    pub fn new(parts: MemoParts) -> Self {
        let MemoParts { config, clock, metrics, shared } = parts;
        let caches = Space::ALL.map(|space| Cache {
            tier: Tier::new(space.size(&config)),
            flights: Flights::default(),
            ttl: space.ttl(&config),
            metrics: metrics.memo(space.as_str()),
        });
        let (db, remote) = match shared {
            Some(MemoShared { db, redis, tasks }) => (Some(db), redis.map(|redis| Remote::new(redis, tasks))),
            None => (None, None),
        };
        let (falls, told) = (Falls::new(), Told::new());
        Self { inner: Arc::new(Inner { caches, falls, told, db, remote, clock, metrics }) }
    }

    /// Those of a process that shares nothing with others, at their usual sizes.
    pub fn in_process() -> Self {
        let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new()));
        Self::new(MemoParts { config: MemoConfig::default(), clock, metrics, shared: None })
    }

    /// Reads what has fallen so far. Changes are followed from before this on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(&self) -> Result<(), DbError> {
        if let Some(db) = &self.inner.db {
            self.inner.told.load(&postgres::fallen(db).await?);
        }
        Ok(())
    }

    /// The value kept under `key`, else as `op` makes it, kept for `ttl`. As [`Cached::run`], with nothing else said.
    ///
    /// # Errors
    /// Those of `op`; none of them is kept.
    pub async fn cached<T, E, F, Fut>(&self, key: &Key, ttl: Duration, op: F) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.with(key).ttl(ttl).run(op).await
    }

    /// How what is kept under `key` is to be kept.
    pub fn with<'a>(&'a self, key: &'a Key) -> Cached<'a> {
        Cached::new(self, key)
    }

    /// What is kept under `key`; `None` also where that is no `T`.
    pub async fn get<T: DeserializeOwned + Clone + Send + Sync + 'static>(&self, key: &Key) -> Option<T> {
        if let Some(value) = self.fresh(key) {
            return Some(value);
        }
        let found = self.with(key).fetch::<T>().await;
        if found.is_none() {
            self.cache(key).metrics.miss.inc();
        }
        found.map(|value| (*value).clone())
    }

    /// Keeps `value` under `key` for `ttl`. An instance that holds an earlier one goes on with that for its time: where that
    /// matters, [delete](Memo::delete) it first.
    pub fn set<T: Serialize + Send + Sync + 'static>(&self, key: &Key, ttl: Duration, value: T) {
        self.with(key).ttl(ttl).put(value);
    }

    /// Lets go what is kept under `key`, and what is being made of it.
    ///
    /// # Errors
    /// As [`Memo::invalidate_tags`].
    pub async fn delete(&self, key: &Key) -> Result<(), DbError> {
        self.cache(key).tier.remove(&key.name);
        self.invalidate_tags(&[Tag::of_key(key)]).await
    }

    /// Empties a cache.
    ///
    /// # Errors
    /// As [`Memo::invalidate_tags`].
    pub async fn clear(&self, space: Space) -> Result<(), DbError> {
        self.inner.caches[space as usize].tier.clear();
        self.invalidate_tags(&[Tag::of_space(space)]).await
    }

    /// Lets everything go that depends on one of `tags`: here at once, elsewhere as soon as the change log is read there.
    /// What was begun before is not served after.
    ///
    /// # Errors
    /// When others could not be told. Here it has fallen in any case, and what others left of it is not taken.
    pub async fn invalidate_tags(&self, tags: &[Tag]) -> Result<(), DbError> {
        let Inner { db, told, falls, metrics, .. } = &*self.inner;
        let counted = match db {
            Some(db) => postgres::fall(db, tags).await,
            None => Ok(Vec::new()),
        };
        match &counted {
            Ok(fallen) => {
                for &(tag, count) in fallen {
                    told.raise(tag, count);
                }
            }
            Err(_) => tags.iter().for_each(|tag| told.doubt(*tag)),
        }
        for tag in tags {
            falls.fall(*tag);
            metrics.memo_fallen.inc();
        }
        counted.map(drop)
    }

    /// Follows what fell on another instance. Returns the caches of which everything did.
    pub fn follow(&self, read: &Read) -> Vec<Space> {
        let mut emptied = Vec::new();
        for (tag, count) in told::fallen(&read.change) {
            // Our own come by as well, and have fallen by then. Of others' the count is not asked: a database that was
            // restored counts from earlier on.
            if !self.inner.told.raise(tag, count) && read.is_ours {
                continue;
            }
            self.inner.falls.fall(tag);
            self.inner.metrics.memo_fallen.inc();
            emptied.extend(Space::ALL.into_iter().filter(|space| Tag::of_space(*space) == tag));
        }
        for space in &emptied {
            self.inner.caches[*space as usize].tier.clear();
        }
        emptied
    }

    /// Lets everything go: changes were missed.
    ///
    /// # Errors
    /// When the store fails: nothing is exchanged with others until this has succeeded.
    pub async fn start_over(&self) -> Result<(), DbError> {
        self.inner.told.doubt_all();
        for (space, cache) in Space::ALL.into_iter().zip(&self.inner.caches) {
            self.inner.falls.fall(Tag::of_space(space));
            cache.tier.clear();
        }
        self.load().await
    }

    /// How each of them does.
    pub fn figures(&self) -> Vec<MemoFigures> {
        let figures = |(space, cache): (Space, &Cache)| {
            let ((entries, pages), metrics) = (cache.tier.size(), &cache.metrics);
            metrics.entries.set(entries as i64);
            let (l1, l2, collapsed, stale) =
                (metrics.l1.get(), metrics.l2.get(), metrics.collapsed.get(), metrics.stale.get());
            let (hits, misses) = (l1 + l2 + collapsed, metrics.miss.get());
            let hit_rate = (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64);
            MemoFigures { cache: space.as_str(), entries, pages, l1, l2, collapsed, stale, hits, misses, hit_rate }
        };
        Space::ALL.into_iter().zip(&self.inner.caches).map(figures).collect()
    }

    /// What is held under `key` and within its time.
    fn fresh<T: Clone + 'static>(&self, key: &Key) -> Option<T> {
        let held = self.held(key).filter(|held| self.inner.clock.steady_ms() < held.fresh_until_ms)?;
        let value = held.value.downcast_ref().cloned()?;
        self.cache(key).metrics.l1.inc();
        Some(value)
    }

    /// What is held, of whatever age, if nothing it depends on has fallen.
    fn held(&self, key: &Key) -> Option<Held> {
        let held = self.cache(key).tier.get(&key.name)?;
        self.inner.falls.is_current(&held.moment).then_some(held)
    }

    /// What others left under `key`, if it is believed, and the moment since when nothing of it has fallen here.
    async fn left(&self, key: &Key) -> Option<(Opened, Moment)> {
        let (remote, metrics) = (self.remote(key.space)?, &self.cache(key).metrics);
        let value = remote.get(key).await.inspect_err(|_| metrics.redis.inc()).ok()??;
        self.believed(key, &value)
    }

    /// What others left under each of `keys`, all of one cache.
    async fn left_under(&self, keys: &[Key]) -> Vec<Option<Vec<u8>>> {
        let Some((first, remote)) = keys.first().and_then(|first| Some((first, self.remote(first.space)?))) else {
            return Vec::new();
        };
        let metrics = &self.cache(first).metrics;
        let values = remote.get_all(keys).await.inspect_err(|_| metrics.redis.inc()).unwrap_or_default();
        let found = keys.iter().zip(values).map(|(key, value)| Some(self.believed(key, &value?)?.0.body));
        let found: Vec<_> = found.collect();
        let hits = found.iter().flatten().count();
        metrics.l2.inc_by(hits as u64);
        metrics.miss.inc_by((keys.len() - hits) as u64);
        found
    }

    fn believed(&self, key: &Key, value: &[u8]) -> Option<(Opened, Moment)> {
        let opened = sealed::open(key, value).inspect_err(|_| self.cache(key).metrics.unreadable.inc()).ok()??;
        // First the moment: what falls from here on is seen in it, what fell before in the counts.
        let moment = self.inner.falls.moment(opened.counts.iter().map(|(tag, _)| *tag));
        let is_good = self.inner.clock.now_ms() < opened.expires_at_ms && self.inner.told.is_current(&opened.counts);
        is_good.then_some((opened, moment))
    }

    /// Leaves a value for others, that was begun when what it depends on had fallen so often.
    fn leave(&self, key: &Key, ttl: Duration, counts: Option<&Counts>, body: &[u8]) {
        let (Some(remote), Some(counts)) = (self.remote(key.space), counts) else { return };
        let expires_at_ms = self.inner.clock.now_ms().saturating_add(ttl.as_millis() as u64);
        remote.send(key, ttl, sealed::seal(key, expires_at_ms, counts, body), &self.cache(key).metrics);
    }

    /// How often what a value of `tags` depends on had fallen on all instances; `None` where that is not known.
    fn counts(&self, tags: impl Iterator<Item = Tag>) -> Option<Counts> {
        self.inner.remote.as_ref().and_then(|_| self.inner.told.counts(tags))
    }

    fn remote(&self, space: Space) -> Option<&Remote> {
        self.inner.remote.as_ref().filter(|_| space.is_shared())
    }

    fn cache(&self, key: &Key) -> &Cache {
        &self.inner.caches[key.space as usize]
    }
}
