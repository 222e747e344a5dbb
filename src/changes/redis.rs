//! The nudge over Redis: who has committed a change says so in a stream, and who hears it looks into the log at once. It
//! carries nothing, and nothing is lost with it: the log is looked at now and then in any case.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::redis::streams::{StreamRangeReply, StreamReadReply};
use ::redis::{RedisResult, cmd, pipe};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::db::PostgresDb;
use crate::redis::{Live, Redis};

/// Nudges that are kept: one is as good as many.
const KEPT: u32 = 16;

/// How many seconds the stream is there after the last of them.
const LEFT_S: i64 = 86_400;

/// How long one wait for a nudge takes in Redis, and how much later its answer may come.
const WAIT: Duration = Duration::from_secs(5);
const LATE: Duration = Duration::from_secs(2);

/// Between two tries to listen.
const PAUSE: Duration = Duration::from_millis(500);

/// What is nudged about where nothing else is said: the change log.
const CHANGES: &str = "changes";

/// Says to other instances that something was committed, each time that it was, until `stop`.
pub async fn nudge(redis: Redis, db: PostgresDb, stop: CancellationToken) {
    while stop.run_until_cancelled(db.has_written()).await.is_some() {
        tell(&redis, CHANGES).await;
    }
}

/// Says to those who listen to `about` that there is something to look at. Who does not hear of it looks by itself.
pub async fn tell(redis: &Redis, about: &str) {
    let stream = redis.key(about);
    let mut add = pipe();
    add.cmd("XADD").arg(&stream).arg("MAXLEN").arg(KEPT).arg("*").arg("changed").arg(1).ignore();
    add.expire(&stream, LEFT_S).ignore();
    let _ = redis.pipeline::<()>("nudge", &add).await;
}

/// What hears the nudges of other instances.
#[derive(Debug, Clone)]
pub struct Ear {
    about: &'static str,
    heard: Arc<Notify>,
    is_open: Arc<AtomicBool>,
}

impl Default for Ear {
    fn default() -> Self {
        Self::of(CHANGES)
    }
}

impl Ear {
    /// For what is said about this.
    pub fn of(about: &'static str) -> Self {
        Self { about, heard: Arc::default(), is_open: Arc::default() }
    }

    /// Resolves once a nudge has come since this was last asked.
    pub async fn heard(&self) {
        self.heard.notified().await;
    }

    /// Whether nudges are heard now.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Listens until `stop`, on a connection of its own that is made again when it breaks.
    pub async fn listen(self, redis: Redis, stop: CancellationToken) {
        let listening = async {
            loop {
                redis.connected().await;
                if let Ok(live) = redis.dedicated().await {
                    let ended = self.listen_on(live, &redis.key(self.about)).await;
                    self.is_open.store(false, Ordering::Release);
                    tracing::debug!(?ended, "nudges of other instances are not heard for a moment");
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        stop.run_until_cancelled(listening).await;
    }

    /// Ends when the connection does.
    async fn listen_on(&self, mut live: Live, stream: &str) -> RedisResult<()> {
        let latest = cmd("XREVRANGE").arg(stream).arg("+").arg("-").arg("COUNT").arg(1).to_owned();
        let latest: StreamRangeReply = latest.query_async(&mut live).await?;
        let mut last = latest.ids.first().map_or_else(|| "0-0".to_owned(), |nudge| nudge.id.clone());
        self.is_open.store(true, Ordering::Release);
        // What was said while nobody listened.
        self.heard.notify_one();
        loop {
            let mut read = cmd("XREAD");
            read.arg("BLOCK").arg(WAIT.as_millis() as u64).arg("STREAMS").arg(stream).arg(&last);
            let Ok(answered) = timeout(WAIT + LATE, read.query_async::<Option<StreamReadReply>>(&mut live)).await
            else {
                return Ok(());
            };
            let nudges = answered?.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids);
            if let Some(nudge) = nudges.last() {
                last = nudge.id;
                self.heard.notify_one();
            }
        }
    }
}
