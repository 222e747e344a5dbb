//! The connection itself: made again whenever it is lost, by one task, so that no command waits for that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::{ClusterClient, ClusterClientBuilder};
use ::redis::cluster_async::ClusterConnection;
use ::redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, Pipeline, RedisFuture, RedisResult, TlsMode, Value,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{RedisConfig, RedisServers};
use crate::metrics::Metrics;
use crate::pool::Gate;

/// How long it may take to make a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// How often to look whether a connection works, and how long that may take where `redis.timeout` is shorter.
const LOOK: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_millis(500);

/// How long to wait between two tries: the first time, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A connection that works, as far as is known. Clones share it.
#[derive(Clone)]
pub enum Live {
    /// To one server.
    One(MultiplexedConnection),
    /// To the nodes of a cluster.
    Many(Box<ClusterConnection>),
}

impl ConnectionLike for Live {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(command),
            Self::Many(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(commands, offset, count),
            Self::Many(connection) => connection.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Many(connection) => connection.get_db(),
        }
    }
}

/// How a connection is made.
enum Dial {
    One(Client),
    Cluster(ClusterClient),
    /// The master is asked for each time.
    Sentinel(Mutex<SentinelClient>),
}

/// The connection that is kept up.
pub(super) struct Link {
    dial: Dial,
    timeout: Duration,
    live: RwLock<Option<(u64, Live)>>,
    /// How many were made, which names each.
    made: AtomicU64,
    lost: Notify,
    up: watch::Sender<bool>,
    /// Told of connections made and lost, where commands go through one.
    gate: Option<Gate>,
    metrics: Arc<Metrics>,
}

impl Link {
    pub(super) fn new(config: &RedisConfig, gate: Option<Gate>, metrics: Arc<Metrics>) -> RedisResult<Self> {
        Ok(Self {
            dial: Dial::to(&config.servers)?,
            timeout: config.timeout,
            live: RwLock::default(),
            made: AtomicU64::default(),
            lost: Notify::new(),
            up: watch::Sender::new(false),
            gate,
            metrics,
        })
    }

    pub(super) fn live(&self) -> Option<(u64, Live)> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends when there is a connection.
    pub(super) async fn connected(&self) {
        // The sender lives as long as `self`.
        let _ = self.up.subscribe().wait_for(|up| *up).await;
    }

    /// This connection is of no use any more; another may have taken its place already.
    pub(super) fn lose(&self, id: u64) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|(current, _)| *current == id) {
            *live = None;
            self.tell(false);
            self.gate.iter().for_each(Gate::note_error);
            self.lost.notify_one();
        }
    }

    /// Makes connections, one after another was lost, until the stop.
    pub(super) async fn keep_up(self: Arc<Self>, stop: CancellationToken) {
        let work = async {
            loop {
                self.connect_at_last().await;
                self.until_lost().await;
                tracing::warn!("the connection to Redis is lost: this instance goes on without it");
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// Asks now and then, so that a loss is noticed also while nobody has a command.
    async fn until_lost(&self) {
        while let Some((id, mut live)) = self.live() {
            let ping = ::redis::cmd("PING");
            let answered = tokio::time::timeout(self.timeout.max(PATIENCE), ping.exec_async(&mut live));
            if !matches!(answered.await, Ok(Ok(()))) {
                self.lose(id);
            }
            // What was lost before this wait is told by its permit.
            let _ = tokio::time::timeout(LOOK, self.lost.notified()).await;
        }
    }

    async fn connect_at_last(&self) {
        let mut pause = PAUSE.0;
        loop {
            match self.dial(Some(self.timeout)).await {
                Ok(live) => return self.use_from_here(live),
                Err(error) => {
                    self.gate.iter().for_each(Gate::note_error);
                    tracing::debug!(%error, "Redis cannot be reached");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn use_from_here(&self, live: Live) {
        let id = self.made.fetch_add(1, Ordering::Relaxed);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some((id, live));
        self.tell(true);
        self.gate.iter().for_each(Gate::note_created);
        tracing::info!("Redis is connected");
    }

    fn tell(&self, up: bool) {
        self.metrics.redis_up.set(i64::from(up));
        self.up.send_replace(up);
    }

    /// A new connection, on which an answer may take so long, or any time.
    pub(super) async fn dial(&self, timeout: Option<Duration>) -> RedisResult<Live> {
        match tokio::time::timeout(CONNECT, self.dial.connect(timeout)).await {
            Ok(made) => made,
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }
}

impl Dial {
    fn to(servers: &RedisServers) -> RedisResult<Self> {
        match servers {
            RedisServers::One(address) => Client::open(address.expose_secret()).map(Self::One),
            RedisServers::Cluster(nodes) => {
                let nodes: Vec<_> = nodes.iter().map(|node| node.expose_secret().to_owned()).collect();
                ClusterClientBuilder::new(nodes).retries(1).connection_timeout(CONNECT).build().map(Self::Cluster)
            }
            RedisServers::Sentinel { sentinels, master, access } => {
                sentinel(sentinels, master, access).map(|client| Self::Sentinel(Mutex::new(client)))
            }
        }
    }

    async fn connect(&self, timeout: Option<Duration>) -> RedisResult<Live> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(timeout);
        let mut live = match self {
            Self::One(client) => Live::One(client.get_multiplexed_async_connection_with_config(&config).await?),
            Self::Cluster(client) => {
                let config =
                    ::redis::cluster::ClusterConfig::new().set_response_timeout(timeout.unwrap_or(Duration::MAX));
                Live::Many(Box::new(client.get_async_connection_with_config(config).await?))
            }
            Self::Sentinel(client) => {
                let master = client.lock().await.async_get_client().await?;
                Live::One(master.get_multiplexed_async_connection_with_config(&config).await?)
            }
        };
        // A server that hangs accepts connections all the same.
        ::redis::cmd("PING").exec_async(&mut live).await?;
        Ok(live)
    }
}

fn sentinel(sentinels: &[SecretString], master: &str, access: &SecretString) -> RedisResult<SentinelClient> {
    let address = |sentinel: &SecretString| Ok(sentinel.expose_secret().into_connection_info()?.addr().clone());
    let sentinels = sentinels.iter().map(address).collect::<RedisResult<Vec<_>>>()?;
    let access = access.expose_secret();
    let info = access.into_connection_info()?;
    let settings = info.redis_settings();
    let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?
        .set_client_to_redis_db(settings.db());
    if let Some(name) = settings.username() {
        builder = builder.set_client_to_redis_username(name);
    }
    if let Some(password) = settings.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if access.starts_with("rediss:") {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    builder.build()
}
