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
mod flight;
mod key;
mod space;
mod tags;
#[cfg(test)]
mod tests;
mod tier;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use cached::Cached;
pub use key::{CacheKey, Key, KeyWriter, Scope};
pub use space::Space;
pub use tags::Tag;

use crate::clock::Clock;
use crate::config::MemoConfig;
use crate::db::DbError;
use crate::metrics::{MemoMetrics, Metrics};
use flight::Flights;
use tags::Falls;
use tier::{Held, Tier};

/// The caches. Cloning is cheap, and shares them.
#[derive(Clone)]
pub struct Memo {
    inner: Arc<Inner>,
}

struct Inner {
    caches: [Cache; Space::ALL.len()],
    falls: Falls,
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
    /// Makes them, empty.
    pub fn new(parts: MemoParts) -> Self {
        let MemoParts { config, clock, metrics } = parts;
        let caches = Space::ALL.map(|space| Cache {
            tier: Tier::new(space.size(&config)),
            flights: Flights::default(),
            ttl: space.ttl(&config),
            metrics: metrics.memo(space.as_str()),
        });
        Self { inner: Arc::new(Inner { caches, falls: Falls::new(), clock, metrics }) }
    }

    /// Those of a process that shares nothing with others, at their usual sizes.
    pub fn in_process() -> Self {
        let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new()));
        Self::new(MemoParts { config: MemoConfig::default(), clock, metrics })
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
    #[expect(clippy::unused_async, reason = "what others keep is a step away")]
    pub async fn get<T: DeserializeOwned + Clone + Send + Sync + 'static>(&self, key: &Key) -> Option<T> {
        let found = self.fresh(key);
        if found.is_none() {
            self.cache(key).metrics.miss.inc();
        }
        found
    }

    /// Keeps `value` under `key` for `ttl`.
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

    /// Lets everything go that depends on one of `tags`. What was begun before is not served after.
    ///
    /// # Errors
    /// When others could not be told. Here it has fallen in any case.
    #[expect(clippy::unused_async, reason = "others are told")]
    pub async fn invalidate_tags(&self, tags: &[Tag]) -> Result<(), DbError> {
        for tag in tags {
            self.inner.falls.fall(*tag);
            self.inner.metrics.memo_fallen.inc();
        }
        Ok(())
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

    fn cache(&self, key: &Key) -> &Cache {
        &self.inner.caches[key.space as usize]
    }
}
