//! The application: every part made once, in dependency order; served, drained, and closed. The only file that may name
//! everything. `main` and the tests both go through [`App::build`].

mod follow;
mod lock;
mod membership;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::ServiceExt;
use axum::extract::Request;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use lock::DataLock;
pub use lock::{LockError, RunningServer};
use membership::Membership;

use crate::ai::Ai;
use crate::api::{
    Access, ApiParts, ApiService, Callers, Door, Heartbeat, Peer, PreparedRequests, SeatLimits, Seats, ServerFacts,
    Wires,
};
use crate::cache::flight::Leases;
use crate::cache::{CacheParts, SemanticCache};
use crate::chat::{ChatParts, ChatService};
use crate::clock::{Clock, new_id, secret_hex};
use crate::config::{Config, EmbeddingConfig, TasksConfig};
use crate::conversations::{ConversationError, Conversations, Window};
use crate::db::{Db, DbError, Durability, MigrationSet};
use crate::embedding::{EmbedError, Embedder, EmbeddingService, EmbeddingSettings, MiniLm, Remote};
use crate::instances::{Instance, Instances};
use crate::jobs::{JobParts, Memory};
use crate::keys::{Keys, Principal};
use crate::limits::{LimitParts, Limits, Living};
use crate::logins::Logins;
use crate::memo::{Memo, MemoParts, MemoShared, SharedEmbedder};
use crate::metrics::Metrics;
use crate::pool::Pools;
use crate::prices::Prices;
use crate::providers::{Demo, Provider, Router, RouterParts};
use crate::redis::{Redis, RedisAddressError, RedisParts};
use crate::streams::{StreamParts, Streams, Tails};
use crate::tasks::{Queue, Registry, ScheduleError, WorkerParts, Workers};
use crate::upstream::{ClientError, Upstream};
use crate::users::Users;
use crate::vitals::Vitals;
use crate::workflows::{Definitions, Kept, Workflows};

/// What readers have for the end of their answers, once that is made for them.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a connection that is kept for a next request stays without one while the server stops: longer than whoever stands in
/// front keeps it (nginx/upstream.conf: a second).
const KEPT: Duration = Duration::from_secs(2);

/// Why the application cannot start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The data folder cannot be used.
    #[error("the data folder {} (server.data_dir) cannot be used", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another server uses the data folder.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A database.
    #[error("a database in the data folder cannot be opened")]
    Db(#[from] DbError),
    /// The database server.
    #[error("the database of DATABASE_URL cannot be used; `ish doctor` says more")]
    Server(#[source] DbError),
    /// What instances share.
    #[error(transparent)]
    Redis(#[from] RedisAddressError),
    /// The HTTP client.
    #[error("the HTTP client cannot be made")]
    Upstream(#[from] ClientError),
    /// The embedder.
    #[error("the embedder cannot be started")]
    Embedder(#[from] EmbedError),
    /// A schedule of the product's own jobs.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// Keys are needed.
    #[error(
        "server.listen = {listen} is not a loopback address, and there is no key: make one with `ish keys new --admin`, \
         name a file in ISH_ADMIN_KEY_FILE, or listen on 127.0.0.1"
    )]
    KeysNeeded {
        /// The address.
        listen: SocketAddr,
    },
    /// `server.local` on an address that others reach.
    #[error("server.local = true, but server.listen = {listen} is not a loopback address: local mode has no keys")]
    LocalExposed {
        /// The address.
        listen: SocketAddr,
    },
    /// The admin key file.
    #[error("the admin key file {} cannot be used: it must hold one key of at least 20 characters", path.display())]
    AdminKeyFile {
        /// The file.
        path: PathBuf,
    },
    /// The key in the admin key file is good no longer.
    #[error(
        "the key in the admin key file {} was revoked, or its time is over: put another one there, or leave the setting out",
        path.display()
    )]
    AdminKeyEnded {
        /// The file.
        path: PathBuf,
    },
}

/// What a program brings along, beside what the product has.
#[derive(Debug, Default)]
pub struct Program {
    /// Its jobs.
    pub jobs: Registry,
    /// Its workflows.
    pub workflows: Definitions,
}

/// The application.
pub struct App {
    /// Answers questions.
    pub chat: ChatService,
    /// Answers stored questions.
    pub streams: Streams,
    /// Stored conversations.
    pub conversations: Conversations,
    /// API keys.
    pub keys: Keys,
    /// Logins of browsers with them.
    pub logins: Logins,
    /// What callers may use.
    pub limits: Limits,
    /// Work in the background.
    pub queue: Queue,
    /// Work of several steps.
    pub workflows: Workflows,
    /// Recognises callers, for routers besides this one's.
    pub callers: Callers,
    /// What is no answer and worth keeping.
    pub memo: Memo,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// Pools of connections.
    pub pools: Pools,
    vitals: Vitals,
    /// Whether no key is needed.
    pub local: bool,
    service: ApiService,
    stores: [Db; 2],
    tasks: TaskTracker,
    stop: CancellationToken,
    drain_timeout: Duration,
    heartbeat: Heartbeat,
    /// `None` where the database is a file.
    membership: Option<Membership>,
    /// What workers are made of, once this process serves; `None` where it runs no tasks.
    worker_parts: Option<WorkerParts>,
    workers: Option<Workers>,
    kept_runs: Kept,
    lock: DataLock,
    cli_token: String,
}

impl App {
    /// Makes every part. Nothing listens yet; the index is being filled behind.
    ///
    /// # Errors
    /// [`BuildError`].
    pub async fn build(config: Config) -> Result<Self, BuildError> {
        Box::pin(Self::build_with(config, Program::default())).await
    }

    /// As [`App::build`], with what a program has of its own: this application's workers run it, and its API, command line and
    /// pages know it.
    ///
    /// # Errors
    /// [`BuildError`].
    pub async fn build_with(config: Config, program: Program) -> Result<Self, BuildError> {
        let clock = Clock::system();
        let (metrics, vitals) = measures(&config);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());

        let lock = data_folder(&config.server.data_dir)?;
        let pools = Pools::new(Arc::clone(&metrics));
        let stores = stores(&config, &pools).await?;
        let changes = follow::reader(&stores[1]).await?;
        let redis = redis(&config, (&metrics, &pools), &tasks, &stop).await?;

        let queue = queue(&config, &stores[0], redis.as_ref(), (&tasks, &stop));
        let (living, keys) = (Living::default(), Keys::new(stores[0].clone(), clock.clone()));
        let shared = redis.clone().map(|redis| (redis, living.clone()));
        let limits = limits(&config, &stores[0], shared, (&clock, &metrics, &tasks)).await?;
        let local = access_mode(&config, &keys).await?;
        let own = own(&config);
        let conversations = Conversations::new(stores[0].clone(), clock.clone(), own.id);

        let (upstream, prices) =
            (Upstream::new(&config.upstream, &pools)?, Arc::new(Prices::new(config.prices.clone())));
        let router = Arc::new(router(&config, &upstream, &metrics, &prices, &clock, &tasks, &stop)?);
        let memo = memo(&config, &stores[1], redis.as_ref(), (&clock, &metrics, &tasks)).await?;
        let embeddings = embeddings(&config.embedding, &upstream, redis.as_ref().map(|_| &memo))?;
        let cache = cache_parts(&config, &stores[1], embeddings, redis.as_ref(), (&metrics, &clock));
        let cache = SemanticCache::start(cache, &tasks, &stop);
        let logins = logins(&config, &keys, &stores[0], (&clock, &metrics), (&tasks, &stop));
        follow::start(changes, redis.as_ref(), (&cache, &keys, &logins, &memo, &metrics), &tasks, &stop);
        let chat = ChatService::new(ChatParts {
            cache,
            router,
            limits: limits.clone(),
            leases: redis.clone().map(Leases::new),
            tasks: tasks.clone(),
            stop: stop.clone(),
            metrics: Arc::clone(&metrics),
            prices,
            clock: clock.clone(),
        });
        let stored = (&conversations, &queue);
        let streams = Streams::new(stream_parts(&config, &chat, stored, (&tasks, &stop), &metrics, redis.as_ref()));

        let membership = join(&config, &stores[0], own, (&streams, &living), &metrics, (&tasks, &stop)).await?;

        let workflows = Workflows::new(stores[0].clone(), queue.clone(), program.workflows, Arc::clone(&metrics));
        let jobs = jobs(&config, &queue, &chat, (&conversations, &keys), (&stores[0], &metrics)).and(program.jobs);
        let jobs = Arc::new(workflows.register(jobs));
        let worker_parts = worker_parts(&config, &queue, &jobs, &metrics, &clock, &tasks)?;
        let (cli_token, users) = (secret_hex(), Users::new(stores[0].clone(), clock.clone(), memo.clone()));
        let callers = Callers::new(access(&config, local, &cli_token), keys.clone(), logins.clone(), users.clone());
        let service = crate::api::service(ApiParts {
            chat: chat.clone(),
            streams: streams.clone(),
            conversations: conversations.clone(),
            keys: keys.clone(),
            logins: logins.clone(),
            users,
            memo: memo.clone(),
            limits: limits.clone(),
            queue: queue.clone(),
            jobs,
            workflows: workflows.clone(),
            redis,
            metrics: Arc::clone(&metrics),
            pools: pools.clone(),
            vitals: vitals.clone(),
            access: access(&config, local, &cli_token),
            tasks: tasks.clone(),
            seats: seats(&config, &metrics),
            facts: facts(&config, &clock),
            prepared: PreparedRequests::default(),
        });
        Ok(Self {
            chat,
            streams,
            conversations,
            keys,
            logins,
            limits,
            queue,
            workflows,
            callers,
            memo,
            metrics,
            pools,
            vitals,
            local,
            service,
            stores,
            tasks,
            stop,
            drain_timeout: config.server.drain_timeout,
            heartbeat: Heartbeat::every(config.server.heartbeat),
            membership,
            worker_parts,
            workers: None,
            kept_runs: Kept { ended: config.tasks.retention, dead: config.tasks.dead_retention },
            lock,
            cli_token,
        })
    }

    /// Serves on `listener` until `shutdown` resolves, then drains: nobody connects any more, sockets are told, requests over
    /// connections that are there are answered, each as its connection's last, and what runs may end within the drain's
    /// time; what is left then is ended and marked so, and has [`LAST_WORDS`] to say it.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        mut self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        self.lock.announce(listener.local_addr()?, &self.cli_token)?;
        if let Some(membership) = &self.membership {
            membership.take_place().await;
        }
        self.start_workers();
        let (streams, workers) = (self.streams.clone(), self.workers.clone());
        let (limit, begun) = (self.drain_timeout, CancellationToken::new());
        let drain_begun = begun.clone();
        let service = self.service.clone();
        let make_service = ServiceExt::<Request>::into_make_service_with_connect_info::<Peer>(service);
        let door = Door::default();
        let wires = Wires::of(listener, door.clone(), self.heartbeat)?;
        let server = axum::serve(wires, make_service).with_graceful_shutdown(async move {
            shutdown.await;
            streams.drain();
            if let Some(workers) = workers {
                workers.drain();
            }
            begun.cancel();
            door.close();
            // Whoever is still kept then is sent away.
            let _ = tokio::time::timeout(limit, door.emptied(KEPT)).await;
        });
        let mut server = std::pin::pin!(server.into_future());
        let served = tokio::select! {
            served = &mut server => Some(served),
            () = drain_begun.cancelled() => None,
        };
        let deadline = Instant::now() + limit;
        let served = match served {
            Some(served) => served,
            None => self.drained(server, deadline).await,
        };
        self.close_by(deadline).await;
        served
    }

    /// Runs tasks, and nothing else, until `shutdown` resolves; then drains as [`App::serve`] does.
    pub async fn work(mut self, shutdown: impl Future<Output = ()>) {
        self.start_workers();
        shutdown.await;
        self.close().await;
    }

    /// What runs beside the answers: tasks' workers, and the measuring of the runtime.
    fn start_workers(&mut self) {
        self.tasks.spawn(self.vitals.clone().watch(self.stop.clone()));
        if let Some(parts) = &self.worker_parts
            && let Some(every) = parts.config.benchmark_every
        {
            let (kept, stop) = (crate::jobs::keep_measuring(parts.queue.clone(), every), self.stop.clone());
            self.tasks.spawn(async move { stop.run_until_cancelled(kept).await });
        }
        self.workers = self.worker_parts.take().map(Workers::start);
        if self.workers.is_some() {
            let (kept, stop) = (self.workflows.clone().keep(self.kept_runs), self.stop.clone());
            self.tasks.spawn(async move { stop.run_until_cancelled(kept).await });
        }
    }

    /// Waits for the connections to end; at the deadline ends what they wait for.
    async fn drained(
        &self,
        mut server: Pin<&mut impl Future<Output = std::io::Result<()>>>,
        deadline: Instant,
    ) -> std::io::Result<()> {
        if let Ok(served) = tokio::time::timeout_at(deadline, &mut server).await {
            return served;
        }
        self.stop.cancel();
        // A connection that does not take its last words by then is cut.
        tokio::time::timeout(LAST_WORDS, server).await.unwrap_or(Ok(()))
    }

    /// Answers one HTTP request in the process, as the command line does when no server runs.
    pub async fn answer(&self, mut request: Request) -> axum::response::Response {
        if let Ok(bearer) = axum::http::HeaderValue::try_from(format!("Bearer {}", self.cli_token)) {
            request.headers_mut().insert(axum::http::header::AUTHORIZATION, bearer);
        }
        match self.service.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Whether the stores answer.
    ///
    /// # Errors
    /// What does not.
    pub async fn health(&self) -> Result<(), DbError> {
        for store in &self.stores {
            store.check().await?;
        }
        Ok(())
    }

    /// The metrics in Prometheus's text form.
    pub fn metrics_text(&self) -> String {
        self.chat.refresh_gauges();
        self.limits.refresh_gauges();
        self.memo.figures();
        self.logins.figures();
        self.pools.figures();
        self.vitals.figures();
        self.metrics.text()
    }

    /// What runs now: answers being made, and upstream calls that can be shared.
    pub fn status(&self) -> AppStatus {
        AppStatus {
            streams: self.streams.running(),
            flights: self.chat.flights(),
            index_loaded: self.chat.cache().index_loaded(),
        }
    }

    /// Ends everything: running answers may end within the drain's time, also those that are only read along on other
    /// instances; queued writes are written, files closed.
    pub async fn close(self) {
        let deadline = Instant::now() + self.drain_timeout;
        self.close_by(deadline).await;
    }

    async fn close_by(self, deadline: Instant) {
        self.streams.drain();
        let answers = async {
            while self.streams.running() + self.chat.flights() > 0 && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let tasks = async {
            if let Some(workers) = &self.workers {
                workers.drained(deadline).await;
            }
        };
        tokio::join!(answers, tasks);
        self.stop.cancel();
        self.chat.cache().close().await;
        self.tasks.close();
        if tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "tasks did not end in time");
        }
        if let Some(membership) = &self.membership {
            membership.leave().await;
        }
        for store in &self.stores {
            store.close().await;
        }
    }
}

/// What runs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct AppStatus {
    /// Stored answers being made.
    pub streams: usize,
    /// Upstream calls that equal requests can join.
    pub flights: usize,
    /// Whether the index holds everything that the store has.
    pub index_loaded: bool,
}

/// The data folder, made where it is missing, and held.
fn data_folder(path: &Path) -> Result<DataLock, BuildError> {
    std::fs::create_dir_all(path).map_err(|source| BuildError::DataDir { path: path.to_owned(), source })?;
    Ok(DataLock::take(path)?)
}

/// The database of what must never be lost, and that of what can be made again; on a server both are the same.
async fn stores(config: &Config, pools: &Pools) -> Result<[Db; 2], BuildError> {
    if let Some(database) = &config.database {
        let db = Db::connect(database, pools).await.map_err(BuildError::Server)?;
        return Ok([db.clone(), db]);
    }
    let folder = &config.server.data_dir;
    let (ish_path, cache_path) = (folder.join("ish.db"), folder.join("cache.db"));
    let (ish, cache) = tokio::try_join!(
        Db::open(&ish_path, Durability::Full, MigrationSet::ISH),
        Db::open(&cache_path, Durability::Normal, MigrationSet::CACHE),
    )?;
    Ok([ish, cache])
}

/// Takes its place among those that share the database, and takes over what the dead have left. A file has one process at a
/// time, so that whatever is unfinished was cut by the last stop.
async fn join(
    config: &Config,
    db: &Db,
    own: Instance,
    (streams, living): (&Streams, &Living),
    metrics: &Arc<Metrics>,
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> Result<Option<Membership>, BuildError> {
    let (heartbeat, lease) = (config.instances.heartbeat, config.instances.lease);
    metrics.instances.set(1);
    let membership = Instances::new(db, own, lease).map(|instances| Membership {
        instances,
        streams: streams.clone(),
        living: living.clone(),
        metrics: Arc::clone(metrics),
        heartbeat,
        lease,
    });
    if let Some(membership) = &membership {
        membership.note(membership.instances.beat(false).await?);
    }
    let taken = streams.take_over(lease).await.map_err(|error| match error {
        ConversationError::Store(error) => error,
        _ => DbError::Closed,
    })?;
    if taken > 0 {
        tracing::warn!(taken, "answers were cut by the last stop; their readers are told");
    }
    if let Some(membership) = &membership {
        tasks.spawn(membership.clone().keep(stop.clone()));
    }
    Ok(membership)
}

/// What the instances of one database share.
async fn redis(
    config: &Config,
    (metrics, pools): (&Arc<Metrics>, &Pools),
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Option<Redis>, RedisAddressError> {
    let Some(config) = &config.redis else { return Ok(None) };
    Redis::start(RedisParts { config, metrics: Arc::clone(metrics), pools, tasks, stop }).await.map(Some)
}

fn cache_parts(
    config: &Config,
    db: &Db,
    embeddings: EmbeddingService,
    redis: Option<&Redis>,
    (metrics, clock): (&Arc<Metrics>, &Clock),
) -> CacheParts {
    CacheParts {
        config: config.cache.clone(),
        db: db.clone(),
        embeddings,
        redis: redis.cloned(),
        metrics: Arc::clone(metrics),
        clock: clock.clone(),
    }
}

/// Where work in the background goes; other processes are told of it where there is a way to.
fn queue(config: &Config, db: &Db, redis: Option<&Redis>, (tasks, stop): (&TaskTracker, &CancellationToken)) -> Queue {
    let queue = Queue::new(db.clone(), &config.tasks);
    if let Some(redis) = redis {
        queue.share(redis, tasks, stop);
    }
    queue
}

fn stream_parts(
    config: &Config,
    chat: &ChatService,
    (conversations, queue): (&Conversations, &Queue),
    (tasks, stop): (&TaskTracker, &CancellationToken),
    metrics: &Arc<Metrics>,
    redis: Option<&Redis>,
) -> StreamParts {
    StreamParts {
        chat: chat.clone(),
        conversations: conversations.clone(),
        tasks: tasks.clone(),
        stop: stop.clone(),
        metrics: Arc::clone(metrics),
        default_model: default_model(config),
        window: window(config),
        queue: queue.clone(),
        detach_limit: config.chat.detach_limit,
        replay_bytes: config.chat.replay_bytes,
        tails: redis.cloned().map(Tails::new),
    }
}

/// What tasks can be run for.
fn jobs(
    config: &Config,
    queue: &Queue,
    chat: &ChatService,
    (conversations, keys): (&Conversations, &Keys),
    (db, metrics): (&Db, &Arc<Metrics>),
) -> Registry {
    let memory = Memory {
        conversations: conversations.clone(),
        keys: keys.clone(),
        ai: Ai::new(chat.clone(), Principal::local()),
        window: window(config),
        model: config.chat.summary_model.clone(),
    };
    crate::jobs::registry(JobParts {
        queue,
        config: &config.tasks,
        cache: chat.cache().clone(),
        memory,
        db: db.clone(),
        metrics: Arc::clone(metrics),
    })
}

/// What runs tasks; `None` where this process runs none.
fn worker_parts(
    config: &Config,
    queue: &Queue,
    jobs: &Arc<Registry>,
    metrics: &Arc<Metrics>,
    clock: &Clock,
    tasks: &TaskTracker,
) -> Result<Option<WorkerParts>, ScheduleError> {
    if !config.tasks.workers {
        return Ok(None);
    }
    Ok(Some(WorkerParts {
        queue: queue.clone(),
        registry: Arc::clone(jobs),
        schedules: crate::jobs::schedules()?,
        // The command line may have said after the settings were read where it listens.
        config: TasksConfig { instance: config.server.instance_name(), ..config.tasks.clone() },
        metrics: Arc::clone(metrics),
        clock: clock.clone(),
        tasks: tasks.clone(),
    }))
}

/// What callers may use; their rates over all instances, where those are shared.
async fn limits(
    config: &Config,
    db: &Db,
    shared: Option<(Redis, Living)>,
    (clock, metrics, tasks): (&Clock, &Arc<Metrics>, &TaskTracker),
) -> Result<Limits, DbError> {
    let parts = LimitParts {
        config: config.limits.clone(),
        db: db.clone(),
        shared,
        clock: clock.clone(),
        tasks: tasks.clone(),
        metrics: Arc::clone(metrics),
    };
    Limits::start(parts).await
}

/// The caches of what is no answer, shared as far as the database is. What fell is followed already.
async fn memo(
    config: &Config,
    db: &Db,
    redis: Option<&Redis>,
    (clock, metrics, tasks): (&Clock, &Arc<Metrics>, &TaskTracker),
) -> Result<Memo, DbError> {
    let shared = match db {
        Db::Sqlite(_) => None,
        Db::Postgres(db) => Some(MemoShared { db: db.clone(), redis: redis.cloned(), tasks: tasks.clone() }),
    };
    let (clock, metrics) = (clock.clone(), Arc::clone(metrics));
    let memo = Memo::new(MemoParts { config: config.memo, clock, metrics, shared });
    memo.load().await?;
    Ok(memo)
}

/// Logins of browsers, whose uses are stored behind.
fn logins(
    config: &Config,
    keys: &Keys,
    db: &Db,
    (clock, metrics): (&Clock, &Arc<Metrics>),
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> Logins {
    let logins = Logins::new(db.clone(), keys.clone(), clock.clone(), config.logins, Arc::clone(metrics));
    tasks.spawn(logins.clone().keep(stop.clone()));
    logins
}

fn measures(config: &Config) -> (Arc<Metrics>, Vitals) {
    let metrics = Arc::new(Metrics::new());
    metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    crate::profile::tell(&metrics);
    let vitals = Vitals::new(config.server.data_dir.clone(), Arc::clone(&metrics));
    (metrics, vitals)
}

/// This process among those that share a database.
fn own(config: &Config) -> Instance {
    Instance { id: new_id(), name: config.server.instance_name(), address: config.server.listen.to_string() }
}

/// Local mode: loopback, and no key was ever made, or the operator insists.
async fn access_mode(config: &Config, keys: &Keys) -> Result<bool, BuildError> {
    let listen = config.server.listen;
    let loopback = listen.ip().is_loopback();
    if config.server.local && !loopback {
        return Err(BuildError::LocalExposed { listen });
    }
    if let Some(path) = &config.server.admin_key_file {
        let key = std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        if key.len() < 20 || key.contains(char::is_whitespace) {
            return Err(BuildError::AdminKeyFile { path: path.clone() });
        }
        if !keys.ensure_admin(&key).await? {
            return Err(BuildError::AdminKeyEnded { path: path.clone() });
        }
    }
    let any_key = !keys.list().await?.is_empty();
    if !loopback && !any_key {
        return Err(BuildError::KeysNeeded { listen });
    }
    Ok(loopback && (config.server.local || !any_key))
}

fn router(
    config: &Config,
    upstream: &Upstream,
    metrics: &Arc<Metrics>,
    prices: &Arc<Prices>,
    clock: &Clock,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Router, ClientError> {
    let parts = RouterParts {
        providers: providers(config, upstream)?,
        metrics: Arc::clone(metrics),
        prices: Arc::clone(prices),
        clock: clock.clone(),
        tasks: tasks.clone(),
        stop: stop.clone(),
    };
    Ok(Router::new(config, parts))
}

/// Those that are configured, then the one that always is there.
fn providers(config: &Config, upstream: &Upstream) -> Result<Vec<Arc<dyn Provider>>, ClientError> {
    let configured = config.providers.iter().map(|provider| crate::providers::configured(provider, upstream));
    configured.chain([Ok(Arc::new(Demo::default()) as Arc<dyn Provider>)]).collect()
}

/// The embedder; where instances share a Redis, behind what they leave there for each other.
fn embeddings(
    config: &EmbeddingConfig,
    upstream: &Upstream,
    shared: Option<&Memo>,
) -> Result<EmbeddingService, EmbedError> {
    let embedder: Arc<dyn Embedder> = match &config.remote {
        Some(remote) => Arc::new(Remote::new(remote.clone(), upstream.clone())),
        None => Arc::new(MiniLm::start(config.workers, config.queue.get(), config.batch_size)?),
    };
    let embedder = match shared {
        Some(memo) => Arc::new(SharedEmbedder::new(memo.clone(), embedder, config.cache_ttl)),
        None => embedder,
    };
    let settings =
        EmbeddingSettings { cache_size: config.cache_size, cache_ttl: config.cache_ttl, patience: config.wait };
    Ok(EmbeddingService::new(embedder, settings))
}

fn access(config: &Config, local: bool, cli_token: &str) -> Access {
    Access {
        local,
        allowed_origins: config.server.allowed_origins.clone(),
        trusted_proxies: config.server.trusted_proxies.clone(),
        cli_token: cli_token.to_owned(),
    }
}

fn seats(config: &Config, metrics: &Arc<Metrics>) -> Seats {
    let limits = SeatLimits {
        all: config.server.max_connections,
        per_key: config.server.max_connections_per_key,
        per_address: config.server.max_connections_per_address,
    };
    Seats::new(limits, Arc::clone(metrics))
}

fn window(config: &Config) -> Window {
    Window { messages: config.chat.history_window, summary_after: config.chat.summary_after }
}

fn default_model(config: &Config) -> String {
    let first_listed = config.providers.iter().find_map(|provider| provider.models.first().cloned());
    config.chat.default_model.clone().or(first_listed).unwrap_or_else(|| "demo".to_owned())
}

fn facts(config: &Config, clock: &Clock) -> ServerFacts {
    ServerFacts {
        default_model: default_model(config),
        max_body_bytes: config.server.max_body_bytes,
        max_frame_bytes: config.server.max_frame_bytes,
        max_frames_per_second: config.server.max_frames_per_second,
        drain_timeout: config.server.drain_timeout,
        heartbeat: Heartbeat::every(config.server.heartbeat),
        window: window(config),
        instance_id: config.server.instance_name(),
        serve_metrics: config.server.metrics,
        started_ms: clock.now_ms(),
        clock: clock.clone(),
    }
}
