//! One value on its way: found, waited for, or made and kept.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::flight::{Landed, Lead, Place};
use super::key::Key;
use super::tags::{Moment, Tag};
use super::tier::{Held, Shared};
use super::told::Counts;
use super::{Cache, Memo};

/// How a value is to be kept: under its key, and what else is said of it. Made by [`Memo::with`].
#[must_use]
pub struct Cached<'a> {
    memo: &'a Memo,
    key: &'a Key,
    ttl: Duration,
    tags: &'a [Tag],
    stale_if_error: Duration,
}

impl<'a> Cached<'a> {
    pub(super) fn new(memo: &'a Memo, key: &'a Key) -> Self {
        Self { memo, key, ttl: memo.cache(key).ttl, tags: &[], stale_if_error: Duration::ZERO }
    }

    /// For so long, in place of what is usual in its space.
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// It depends on these, and falls with each of them.
    pub fn tags(self, tags: &'a [Tag]) -> Self {
        Self { tags, ..self }
    }

    /// For so long after its time it stands in for an error. Once something it depends on has fallen it does not.
    pub fn stale_if_error(self, stale_if_error: Duration) -> Self {
        Self { stale_if_error, ..self }
    }

    /// The value as it is kept, else as `op` makes it: of equal calls in this process at the same time one makes it for all.
    /// Where that one fails, each of those who waited asks `op` of its own; where its future is dropped, one of them takes over.
    ///
    /// # Errors
    /// Those of `op`; none of them is kept.
    pub async fn run<T, E, F, Fut>(self, op: F) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let cache = self.cache();
        loop {
            let moment = self.moment();
            if let Some(value) = self.fresh::<T>() {
                return Ok(value);
            }
            match cache.flights.join(self.key.name, &self.memo.inner.falls, &moment) {
                // Boxed: what is found needs no room for what is made.
                Place::Lead(lead) => return Box::pin(self.lead(op, lead, &moment)).await,
                Place::Follow(following) => match following.landed().await {
                    Landed::With(value) => {
                        if let Some(value) = value.downcast_ref::<T>() {
                            cache.metrics.collapsed.inc();
                            return Ok(value.clone());
                        }
                        return Box::pin(self.make(op, &moment)).await.map(|made| made.0);
                    }
                    Landed::Failed => return Box::pin(self.make(op, &self.moment())).await.map(|made| made.0),
                    Landed::Abandoned => {}
                },
            }
        }
    }

    /// Keeps `value`.
    pub fn put<T: Serialize + Send + Sync + 'static>(self, value: T) {
        let (moment, counts) = (self.moment(), self.counts());
        let shared: Shared = Arc::new(value);
        self.keep::<T>(&shared, &moment, counts.as_ref());
    }

    /// Makes it for all who wait.
    async fn lead<T, E, F, Fut>(&self, op: F, lead: Lead<'_>, moment: &Moment) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        // Another one may have landed since it was looked for, or another instance has it.
        if let Some(value) = self.fresh::<T>() {
            lead.land(Landed::With(Arc::new(value.clone())));
            return Ok(value);
        }
        if let Some(value) = self.fetch::<T>().await {
            lead.land(Landed::With(Arc::clone(&value) as Shared));
            return Ok((*value).clone());
        }
        match self.make(op, moment).await {
            Ok((value, shared)) => {
                lead.land(Landed::With(shared));
                Ok(value)
            }
            Err(error) => {
                lead.land(Landed::Failed);
                Err(error)
            }
        }
    }

    /// Asks `op`, and keeps what it says; of an error, what was kept before.
    async fn make<T, E, F, Fut>(&self, op: F, moment: &Moment) -> Result<(T, Shared), E>
    where
        T: Serialize + Clone + Send + Sync + 'static,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let (metrics, counts) = (&self.cache().metrics, self.counts());
        match op().await {
            Ok(value) => {
                metrics.miss.inc();
                let shared: Shared = Arc::new(value.clone());
                self.keep::<T>(&shared, moment, counts.as_ref());
                Ok((value, shared))
            }
            Err(error) => match self.stale::<T>() {
                Some(value) => {
                    metrics.stale.inc();
                    Ok((value.clone(), Arc::new(value)))
                }
                None => Err(error),
            },
        }
    }

    fn fresh<T: Clone + 'static>(&self) -> Option<T> {
        self.memo.fresh(self.key)
    }

    /// What is past its time, and not yet for too long.
    fn stale<T: Clone + 'static>(&self) -> Option<T> {
        let (held, now_ms) = (self.memo.held(self.key)?, self.memo.inner.clock.steady_ms());
        let until_ms = held.fresh_until_ms.saturating_add(self.stale_if_error.as_millis() as u64);
        if now_ms < until_ms { held.value.downcast_ref().cloned() } else { None }
    }

    /// What another instance made and left, which is held here from now on.
    pub(super) async fn fetch<T: DeserializeOwned + Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let (left, moment) = self.memo.left(self.key).await?;
        let metrics = &self.cache().metrics;
        let value = serde_json::from_slice(&left.body).inspect_err(|_| metrics.unreadable.inc()).ok()?;
        let value: Arc<T> = Arc::new(value);
        let still = Duration::from_millis(left.expires_at_ms.saturating_sub(self.memo.inner.clock.now_ms()));
        self.hold(Arc::clone(&value) as Shared, still.min(self.ttl), left.body.len(), moment);
        metrics.l2.inc();
        Some(value)
    }

    /// Keeps what was begun at `moment`, when what it depends on had fallen `counts` times.
    fn keep<T: Serialize + 'static>(&self, value: &Shared, moment: &Moment, counts: Option<&Counts>) {
        // What came too late takes the place of nothing that was made since.
        if !self.memo.inner.falls.is_current(moment) {
            return;
        }
        let Some(body) = value.downcast_ref::<T>().and_then(|value| serde_json::to_vec(value).ok()) else {
            self.cache().metrics.unwritable.inc();
            return;
        };
        self.hold(Arc::clone(value), self.ttl, body.len(), moment.clone());
        self.memo.leave(self.key, self.ttl, counts, &body);
    }

    fn hold(&self, value: Shared, ttl: Duration, bytes: usize, moment: Moment) {
        let held = Held {
            value,
            fresh_until_ms: self.memo.inner.clock.steady_ms().saturating_add(ttl.as_millis() as u64),
            kept: ttl.saturating_add(self.stale_if_error),
            bytes,
            moment,
        };
        self.cache().tier.insert(self.key.name, held);
    }

    fn moment(&self) -> Moment {
        self.memo.inner.falls.moment(self.all_tags())
    }

    fn counts(&self) -> Option<Counts> {
        self.memo.counts(self.all_tags())
    }

    /// What it depends on, the whole cache and its own key among it.
    fn all_tags(&self) -> impl Iterator<Item = Tag> {
        let own = [Tag::of_space(self.key.space), Tag::of_key(self.key)];
        own.into_iter().chain(self.tags.iter().copied())
    }

    fn cache(&self) -> &'a Cache {
        self.memo.cache(self.key)
    }
}
