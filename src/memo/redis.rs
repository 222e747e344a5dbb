//! L2: values in the Redis that instances share, sealed. Whoever reads one asks `told` whether it is still believed.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{Cmd, cmd};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::key::Key;
use crate::metrics::MemoMetrics;
use crate::redis::{Redis, RedisError};

/// Values on their way there at most; further ones are not sent.
const SENDING: usize = 256;

/// The tier.
pub(super) struct Remote {
    redis: Redis,
    tasks: TaskTracker,
    sending: Arc<Semaphore>,
}

impl Remote {
    pub fn new(redis: Redis, tasks: TaskTracker) -> Self {
        Self { redis, tasks, sending: Arc::new(Semaphore::new(SENDING)) }
    }

    /// What is under `key`.
    pub async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, RedisError> {
        self.redis.query("memo_find", &Cmd::get(self.name(key))).await
    }

    /// What is under each of `keys`.
    pub async fn get_all(&self, keys: &[Key]) -> Result<Vec<Option<Vec<u8>>>, RedisError> {
        let names: Vec<String> = keys.iter().map(|key| self.name(key)).collect();
        self.redis.query("memo_find", cmd("MGET").arg(names)).await
    }

    /// Sends `value` there in the background, for `ttl`. What cannot be sent is counted, and missed by nobody.
    pub fn send(&self, key: &Key, ttl: Duration, value: Vec<u8>, metrics: &MemoMetrics) {
        let Ok(place) = Arc::clone(&self.sending).try_acquire_owned() else {
            metrics.busy.inc();
            return;
        };
        let mut set = cmd("SET");
        set.arg(self.name(key)).arg(value).arg("PX").arg((ttl.as_millis() as u64).max(1));
        let (redis, failed) = (self.redis.clone(), metrics.redis.clone());
        self.tasks.spawn(async move {
            let _place = place;
            if redis.query::<()>("memo_keep", &set).await.is_err() {
                failed.inc();
            }
        });
    }

    fn name(&self, key: &Key) -> String {
        self.redis.key(format_args!("memo:{}", blake3::Hash::from_bytes(key.name).to_hex()))
    }
}
