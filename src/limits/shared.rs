//! Rates over instances: asked of Redis, and of this instance's share while Redis is away.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::redis::{correct_counted, take_counted};
use super::refusal::Measure;
use crate::bucket::{Bucket, Level, Rate, Taken};
use crate::redis::Redis;

/// How many instances there are, as this one last heard.
#[derive(Debug, Clone)]
pub struct Living(Arc<AtomicU64>);

impl Default for Living {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(1)))
    }
}

impl Living {
    /// Hears of so many.
    pub fn set(&self, count: u64) {
        self.0.store(count.max(1), Ordering::Relaxed);
    }

    fn get(&self) -> u32 {
        u32::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }
}

/// The rates that instances share.
pub(super) struct SharedRates {
    redis: Redis,
    living: Living,
    tasks: TaskTracker,
    /// This instance's shares of those that were asked for since Redis went away.
    shares: Mutex<HashMap<(Uuid, Measure), Bucket>>,
}

impl SharedRates {
    pub(super) fn new(redis: Redis, living: Living, tasks: TaskTracker) -> Self {
        Self { redis, living, tasks, shares: Mutex::default() }
    }

    /// Takes `count` of a key's bucket, wherever they are counted; `bucket` is what this instance knows of it.
    pub(super) async fn take(&self, (key, measure): (Uuid, Measure), bucket: &Bucket, count: NonZeroU32) -> Taken {
        if count.get() > bucket.rate().burst() {
            return Taken::Never;
        }
        // Requests are never given back: what this instance knows to be used up is used up.
        let wait = bucket.wait_for(count);
        if measure == Measure::Requests && self.redis.is_up() && wait > Duration::ZERO {
            return Taken::Later(wait);
        }
        match take_counted(&self.redis, &name(key, measure), bucket.rate(), count).await {
            Ok((taken, lacking)) => {
                bucket.set_lacking(lacking);
                self.locked().remove(&(key, measure));
                taken
            }
            Err(error) => {
                tracing::debug!(%error, "a rate is counted by this instance alone");
                self.take_share((key, measure), bucket, count)
            }
        }
    }

    fn take_share(&self, of: (Uuid, Measure), bucket: &Bucket, count: NonZeroU32) -> Taken {
        let rate = share(bucket.rate(), self.living.get());
        let mut shares = self.locked();
        let share = shares.entry(of).or_insert_with(|| bucket.at_rate(rate));
        if share.rate() != rate {
            *share = share.at_rate(rate);
        }
        match share.take(count) {
            // The whole bucket has room for it: it waits until the share is full, and is then owed.
            Taken::Never if share.is_full() => {
                share.charge(u64::from(count.get()));
                Taken::Yes
            }
            Taken::Never => Taken::Later(share.level().reset),
            taken => taken,
        }
    }

    /// Corrects a key's bucket by what was used more than was taken, or less. Nobody waits for that.
    pub(super) fn correct(&self, (key, measure): (Uuid, Measure), rate: Rate, count: i64) {
        if let Some(share) = self.locked().get(&(key, measure)) {
            share.correct(count);
        }
        let redis = self.redis.clone();
        self.tasks.spawn(async move {
            if let Err(error) = correct_counted(&redis, &name(key, measure), rate, count).await {
                tracing::debug!(%error, "what a call used is known to this instance alone");
            }
        });
    }

    /// How full a key's bucket is, as far as this instance knows.
    pub(super) fn level(&self, of: (Uuid, Measure), bucket: &Bucket) -> Level {
        let share = self.locked().get(&of).map(Bucket::level);
        share.map_or_else(|| bucket.level(), |share| Level { limit: bucket.rate().per_minute(), ..share })
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<(Uuid, Measure), Bucket>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(key: Uuid, measure: Measure) -> String {
    format!("{}:{}", key.simple(), measure.as_str())
}

/// One of so many equal parts of a rate, and at least one.
fn share(rate: Rate, parts: u32) -> Rate {
    let part = |whole: u32| NonZeroU32::new(whole / parts.max(1)).unwrap_or(NonZeroU32::MIN);
    Rate::new(part(rate.per_minute()), Some(part(rate.burst())))
}
