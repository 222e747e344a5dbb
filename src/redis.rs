//! The Redis that the instances of one database share: one connection, kept up in the background, over which commands of
//! all callers are pipelined. Whoever asks it has an answer within `redis.timeout` or goes on without: a Redis that is away
//! refuses at once, and nothing in it is missed when it is lost.

mod link;

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::{Cmd, FromRedisValue, Pipeline, ScriptInvocation};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::RedisConfig;
use crate::metrics::Metrics;
use crate::pool::{Gate, Permit, Pools};
use link::Link;
pub use link::Live;

/// How long a start waits for Redis before it goes on without.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// There is no connection.
    #[error("Redis is away")]
    Away,
    /// As many commands as may be were under way all the time.
    #[error("no command could begin within {} ms: redis.max_connections are under way", .0.as_millis())]
    Busy(Duration),
    /// A connection cannot be made.
    #[error("Redis cannot be reached: {0}")]
    Unreachable(#[source] ::redis::RedisError),
    /// It took longer than `redis.timeout`, or the connection broke meanwhile. It may have been done all the same.
    #[error("Redis did not answer within {} ms, or its connection broke", .0.as_millis())]
    Late(Duration),
    /// Redis said no, or answered with something of another type.
    #[error("Redis refused a command")]
    Refused(#[source] ::redis::RedisError),
}

/// The address is none.
#[derive(Debug, thiserror::Error)]
#[error("redis.url cannot be used")]
pub struct RedisAddressError(#[source] ::redis::RedisError);

/// What it is made of.
pub struct RedisParts<'a> {
    /// Where it is, and how long it may take.
    pub config: &'a RedisConfig,
    /// Where commands are counted.
    pub metrics: Arc<Metrics>,
    /// Where the gate before them is seen.
    pub pools: &'a Pools,
    /// Keeps the connection up.
    pub tasks: &'a TaskTracker,
    /// Ends that.
    pub stop: &'a CancellationToken,
}

/// The shared Redis.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    link: Arc<Link>,
    prefix: String,
    timeout: Duration,
    gate: Gate,
    metrics: Arc<Metrics>,
}

impl Redis {
    /// Begins to keep a connection up, and waits a second at most for the first: a Redis that is away stops no start.
    ///
    /// # Errors
    /// When the address cannot be one.
    pub async fn start(parts: RedisParts<'_>) -> Result<Self, RedisAddressError> {
        let RedisParts { config, metrics, pools, tasks, stop } = parts;
        let gate = pools.gate("redis", config.max_connections, config.timeout * 4);
        let link = Link::new(config, Some(gate.clone()), Arc::clone(&metrics)).map_err(RedisAddressError)?;
        let link = Arc::new(link);
        tasks.spawn(Arc::clone(&link).keep_up(stop.clone()));
        if tokio::time::timeout(FIRST_PATIENCE, link.connected()).await.is_err() {
            tracing::warn!(redis = config.servers.shown(), "Redis is away: this instance begins without it");
        }
        // The gate outlives the handle, and must not keep its connection.
        let size = Arc::downgrade(&link);
        gate.with_size(move || usize::from(size.upgrade().is_some_and(|link| link.live().is_some())));
        let (prefix, timeout) = (config.prefix.clone(), config.timeout);
        Ok(Self { inner: Arc::new(Inner { link, prefix, timeout, gate, metrics }) })
    }

    /// Connects once, and says how long a command takes.
    ///
    /// # Errors
    /// Why it cannot be reached.
    pub async fn probe(config: &RedisConfig) -> Result<Duration, RedisError> {
        let link = Link::new(config, None, Arc::new(Metrics::new())).map_err(RedisError::Refused)?;
        let mut live = link.dial(None).await.map_err(RedisError::Unreachable)?;
        let begun = Instant::now();
        ::redis::cmd("PING").exec_async(&mut live).await.map_err(RedisError::Unreachable)?;
        Ok(begun.elapsed())
    }

    /// A name in this deployment's own space.
    pub fn key(&self, name: impl Display) -> String {
        format!("{}{name}", self.inner.prefix)
    }

    /// Whether there is a connection.
    pub fn is_up(&self) -> bool {
        self.inner.link.live().is_some()
    }

    /// Asks whether it answers.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn ping(&self) -> Result<(), RedisError> {
        self.query("health", &::redis::cmd("PING")).await
    }

    /// One command. `what` names its purpose in the metrics.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn query<T: FromRedisValue>(&self, what: &'static str, command: &Cmd) -> Result<T, RedisError> {
        let (_permit, id, mut live) = self.inner.begin(what).await?;
        self.inner.judged(what, id, command.query_async(&mut live)).await
    }

    /// Several commands in one message.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn pipeline<T: FromRedisValue>(&self, what: &'static str, commands: &Pipeline) -> Result<T, RedisError> {
        let (_permit, id, mut live) = self.inner.begin(what).await?;
        self.inner.judged(what, id, commands.query_async(&mut live)).await
    }

    /// A script, which Redis runs as one step.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn script<T: FromRedisValue>(
        &self,
        what: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, RedisError> {
        let (_permit, id, mut live) = self.inner.begin(what).await?;
        self.inner.judged(what, id, script.invoke_async(&mut live)).await
    }

    /// A connection of the caller's own, for commands that wait in Redis: no answer is late on it.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn dedicated(&self) -> Result<Live, RedisError> {
        if !self.is_up() {
            return Err(RedisError::Away);
        }
        self.inner.link.dial(None).await.map_err(RedisError::Unreachable)
    }

    /// Ends when there is a connection.
    pub async fn connected(&self) {
        self.inner.link.connected().await;
    }
}

impl Inner {
    /// The connection, and the right to one more command on it.
    async fn begin(&self, what: &'static str) -> Result<(Permit, u64, Live), RedisError> {
        let refused = |outcome, error| {
            self.metrics.redis_commands.with_label_values(&[what, outcome]).inc();
            error
        };
        if self.link.live().is_none() {
            return Err(refused("away", RedisError::Away));
        }
        let deadline = tokio::time::Instant::now() + self.timeout;
        let permit =
            self.gate.enter(what, deadline).await.ok_or_else(|| refused("busy", RedisError::Busy(self.timeout)))?;
        let (id, live) = self.link.live().ok_or_else(|| refused("away", RedisError::Away))?;
        Ok((permit, id, live))
    }

    /// The answer within the time; a connection that does not give one is replaced.
    async fn judged<T>(
        &self,
        what: &'static str,
        id: u64,
        answer: impl Future<Output = ::redis::RedisResult<T>>,
    ) -> Result<T, RedisError> {
        let begun = Instant::now();
        let answered = match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if !is_of_connection(&error) => Err(RedisError::Refused(error)),
            Ok(Err(_)) | Err(_) => {
                self.link.lose(id);
                Err(RedisError::Late(self.timeout))
            }
        };
        let outcome = match &answered {
            Ok(_) => "ok",
            Err(RedisError::Refused(_)) => "refused",
            Err(_) => "late",
        };
        self.metrics.redis_commands.with_label_values(&[what, outcome]).inc();
        self.metrics.redis_seconds.with_label_values(&[what]).observe(begun.elapsed().as_secs_f64());
        answered
    }
}

/// Whether another connection may do better: this one is broken, or leads to a server that is master no longer.
fn is_of_connection(error: &::redis::RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || matches!(error.code(), Some("READONLY" | "LOADING" | "MASTERDOWN"))
}
