//! Each part made from the configuration and what stands below it.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::BuildError;
use super::lock::DataLock;
use super::membership::Membership;
use crate::ai::Ai;
use crate::alerts::{AlertParts, Alerts, Lookout, Rule};
use crate::cache::flight::Leases;
use crate::cache::{CacheParts, SemanticCache};
use crate::chat::{ChatParts, ChatService};
use crate::clock::{Clock, new_id};
use crate::config::{Config, EmbeddingConfig, TasksConfig};
use crate::conversations::{ConversationError, Conversations, Window};
use crate::db::{Db, DbError, Durability, MigrationSet};
use crate::embedding::{EmbedError, Embedder, EmbeddingService, EmbeddingSettings, MiniLm, ModelTimes, Remote};
use crate::gauges::Gauges;
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
use crate::services::Services;
use crate::streams::{StreamParts, Streams, Tails};
use crate::tasks::{Queue, Registry, ScheduleError, WorkerParts};
use crate::upstream::{ClientError, Upstream};
use crate::vitals::Vitals;
use crate::workflows::Workflows;

/// The data folder, made where it is missing, and held.
pub(super) fn data_folder(path: &Path) -> Result<DataLock, BuildError> {
    std::fs::create_dir_all(path).map_err(|source| BuildError::DataDir { path: path.to_owned(), source })?;
    Ok(DataLock::take(path)?)
}

/// The database of what must never be lost, and that of what can be made again; on a server both are the same.
pub(super) async fn stores(config: &Config, pools: &Pools) -> Result<[Db; 2], BuildError> {
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
pub(super) async fn join(
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
pub(super) async fn redis(
    config: &Config,
    (metrics, pools): (&Arc<Metrics>, &Pools),
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Option<Redis>, RedisAddressError> {
    let Some(config) = &config.redis else { return Ok(None) };
    Redis::start(RedisParts { config, metrics: Arc::clone(metrics), pools, tasks, stop }).await.map(Some)
}

pub(super) fn cache(
    config: &Config,
    db: &Db,
    embeddings: EmbeddingService,
    redis: Option<&Redis>,
    (metrics, clock): (&Arc<Metrics>, &Clock),
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> SemanticCache {
    let parts = CacheParts {
        config: config.cache.clone(),
        db: db.clone(),
        embeddings,
        redis: redis.cloned(),
        metrics: Arc::clone(metrics),
        clock: clock.clone(),
    };
    SemanticCache::start(parts, tasks, stop)
}

/// Where work in the background goes; other processes are told of it where there is a way to.
pub(super) fn queue(
    config: &Config,
    db: &Db,
    redis: Option<&Redis>,
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> Queue {
    let queue = Queue::new(db.clone(), &config.tasks);
    if let Some(redis) = redis {
        queue.share(redis, tasks, stop);
    }
    queue
}

pub(super) fn streams(
    config: &Config,
    chat: &ChatService,
    (conversations, queue): (&Conversations, &Queue),
    (tasks, stop): (&TaskTracker, &CancellationToken),
    metrics: &Arc<Metrics>,
    redis: Option<&Redis>,
) -> Streams {
    Streams::new(StreamParts {
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
    })
}

/// What tasks can be run for.
pub(super) fn jobs(
    config: &Config,
    (queue, workflows): (&Queue, &Workflows),
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
        workflows,
        config: &config.tasks,
        cache: chat.cache().clone(),
        memory,
        db: db.clone(),
        metrics: Arc::clone(metrics),
    })
}

/// What runs tasks; `None` where this process runs none.
pub(super) fn worker_parts(
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
pub(super) async fn limits(
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
pub(super) async fn memo(
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
pub(super) fn logins(
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

pub(super) fn measures(config: &Config) -> (Arc<Metrics>, Vitals) {
    let metrics = Arc::new(Metrics::new());
    metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    crate::profile::tell(&metrics);
    let vitals = Vitals::new(config.server.data_dir.clone(), Arc::clone(&metrics));
    (metrics, vitals)
}

pub(super) fn chat(
    cache: SemanticCache,
    router: Arc<Router>,
    limits: &Limits,
    redis: Option<&Redis>,
    (tasks, stop): (&TaskTracker, &CancellationToken),
    metrics: &Arc<Metrics>,
    (prices, clock): (Arc<Prices>, &Clock),
) -> ChatService {
    ChatService::new(ChatParts {
        cache,
        router,
        limits: limits.clone(),
        leases: redis.cloned().map(Leases::new),
        tasks: tasks.clone(),
        stop: stop.clone(),
        metrics: Arc::clone(metrics),
        prices,
        clock: clock.clone(),
    })
}

/// What is brought up to date before metrics are read.
pub(super) fn gauges(
    chat: &ChatService,
    limits: &Limits,
    memo: &Memo,
    logins: &Logins,
    (pools, vitals): (&Pools, Vitals),
) -> Gauges {
    Gauges {
        chat: chat.clone(),
        limits: limits.clone(),
        memo: memo.clone(),
        logins: logins.clone(),
        pools: pools.clone(),
        vitals,
    }
}

/// What this process finds wrong with itself, and who looks for it.
pub(super) fn alerts(
    config: &Config,
    rules: Vec<Rule>,
    gauges: &Gauges,
    upstream: &Upstream,
    (clock, metrics): (&Clock, &Arc<Metrics>),
) -> (Alerts, Lookout) {
    Alerts::new(AlertParts {
        rules,
        interval: config.monitoring.interval,
        webhook: config.alerts.webhook.clone(),
        instance: config.server.instance_name(),
        gauges: gauges.clone(),
        metrics: Arc::clone(metrics),
        upstream: upstream.clone(),
        clock: clock.clone(),
    })
}

/// This process among those that share a database.
pub(super) fn own(config: &Config) -> Instance {
    Instance { id: new_id(), name: config.server.instance_name(), address: config.server.listen.to_string() }
}

pub(super) fn router(
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
pub(super) fn providers(config: &Config, upstream: &Upstream) -> Result<Vec<Arc<dyn Provider>>, ClientError> {
    let configured = config.providers.iter().map(|provider| crate::providers::configured(provider, upstream));
    configured.chain([Ok(Arc::new(Demo::default()) as Arc<dyn Provider>)]).collect()
}

/// The embedder; where instances share a Redis, behind what they leave there for each other.
pub(super) fn embeddings(
    config: &EmbeddingConfig,
    upstream: &Upstream,
    shared: Option<&Memo>,
    (services, metrics): (&Services, &Metrics),
) -> Result<EmbeddingService, EmbedError> {
    let embedder: Arc<dyn Embedder> = if let Some(remote) = &config.remote {
        let remote = Remote::new(remote.clone(), upstream.clone());
        services.add(remote.part());
        Arc::new(remote)
    } else {
        let stages = &metrics.stages;
        let times = ModelTimes { queue: Arc::clone(&stages.embed_queue), model: Arc::clone(&stages.embed_model) };
        let (workers, queue, batch) = (config.workers, config.queue.get(), config.batch_size);
        let minilm = MiniLm::start_counted(workers, queue, batch, Some(&times))?;
        services.add(minilm.part());
        Arc::new(minilm)
    };
    let embedder = match shared {
        Some(memo) => Arc::new(SharedEmbedder::new(memo.clone(), embedder, config.cache_ttl)),
        None => embedder,
    };
    let settings =
        EmbeddingSettings { cache_size: config.cache_size, cache_ttl: config.cache_ttl, patience: config.wait };
    Ok(EmbeddingService::new(embedder, settings))
}

pub(super) fn window(config: &Config) -> Window {
    Window { messages: config.chat.history_window, summary_after: config.chat.summary_after }
}

pub(super) fn default_model(config: &Config) -> String {
    let first_listed = config.providers.iter().find_map(|provider| provider.models.first().cloned());
    config.chat.default_model.clone().or(first_listed).unwrap_or_else(|| "demo".to_owned())
}
