//! The application: every part made once, in dependency order; served, drained, and closed. The only file that may name
//! everything. `main` and the tests both go through [`App::build`].

mod entry;
mod error;
mod follow;
mod lock;
mod membership;
mod parts;
mod services;
mod watched;

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

use entry::{access, access_mode, facts, seats};
pub use error::BuildError;
use lock::DataLock;
pub use lock::{LockError, RunningServer};
use membership::Membership;
use parts::{
    alerts, cache, chat, data_folder, embeddings, gauges, jobs, join, limits, logins, measures, memo, own, queue,
    redis, router, stores, streams, worker_parts,
};
use services::watch;
use watched::Watched;

use crate::alerts::{Alerts, Lookout, Rule};
use crate::api::{ApiParts, ApiService, Callers, Door, Heartbeat, Peer, PreparedRequests, TokenTable, Wires};
use crate::chat::ChatService;
use crate::clock::{Clock, secret_hex};
use crate::collector::Collector;
use crate::config::Config;
use crate::conversations::Conversations;
use crate::db::{Db, DbError};
use crate::gauges::Gauges;
use crate::jobs::follow_embedder;
use crate::keys::Keys;
use crate::limits::{Limits, Living};
use crate::logins::Logins;
use crate::memo::Memo;
use crate::metrics::Metrics;
use crate::pool::Pools;
use crate::prices::Prices;
use crate::profiler::Profiler;
use crate::services::Services;
use crate::streams::Streams;
use crate::tasks::{Queue, Registry, WorkerParts, Workers};
use crate::upstream::Upstream;
use crate::users::Users;
use crate::workflows::{Definitions, Workflows};

/// What readers have for the end of their answers, once that is made for them.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a connection that is kept for a next request stays without one while the server stops: longer than whoever stands in
/// front keeps it (nginx/upstream.conf: a second).
const KEPT: Duration = Duration::from_secs(2);

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
    /// What this process finds wrong with itself.
    pub alerts: Alerts,
    gauges: Gauges,
    /// Parts that come up when they are needed, and checks of what is elsewhere.
    pub services: Services,
    profiler: Profiler,
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
    /// What sends traces, where there are any to send.
    collector: Option<Collector>,
    /// `None` once this process serves.
    lookout: Option<Lookout>,
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
        let (clock, rules) = (Clock::system(), Rule::of_config(&config)?);
        let (metrics, vitals) = measures(&config);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());

        let lock = data_folder(&config.server.data_dir)?;
        let (pools, services) = (Pools::new(Arc::clone(&metrics)), Services::new(clock.clone()));
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
        let collector = config.traces.as_ref().and_then(|traces| Collector::start(traces, &upstream, &metrics));
        let router = Arc::new(router(&config, &upstream, &metrics, &prices, &clock, &tasks, &stop)?);
        let memo = memo(&config, &stores[1], redis.as_ref(), (&clock, &metrics, &tasks)).await?;
        let embeddings =
            embeddings(&config.embedding, &upstream, redis.as_ref().map(|_| &memo), (&services, &metrics))?;
        let cache = cache(&config, &stores[1], embeddings, redis.as_ref(), (&metrics, &clock), (&tasks, &stop));
        services.add(cache.index_part());
        let logins = logins(&config, &keys, &stores[0], (&clock, &metrics), (&tasks, &stop));
        follow::start(changes, redis.as_ref(), (&cache, &keys, &logins, &memo, &metrics), &tasks, &stop);
        let chat = chat(cache, router, &limits, redis.as_ref(), (&tasks, &stop), &metrics, (prices, &clock));
        watch(&services, &config, &stores, redis.as_ref(), &chat);
        let streams = streams(&config, &chat, (&conversations, &queue), (&tasks, &stop), &metrics, redis.as_ref());

        let membership = join(&config, &stores[0], own, (&streams, &living), &metrics, (&tasks, &stop)).await?;

        let workflows = Workflows::new(stores[0].clone(), queue.clone(), program.workflows, Arc::clone(&metrics));
        let jobs = jobs(&config, (&queue, &workflows), &chat, (&conversations, &keys), (&stores[0], &metrics))
            .and(program.jobs);
        let jobs = Arc::new(workflows.register(jobs));
        let worker_parts = worker_parts(&config, &queue, &jobs, &metrics, &clock, &tasks)?;
        let profiler = Profiler::new(&config, &metrics, &pools);
        let (cli_token, users) = (secret_hex(), Users::new(stores[0].clone(), clock.clone(), memo.clone()));
        let callers = Callers::new(access(&config, local, &cli_token), keys.clone(), logins.clone(), users.clone());
        let gauges = gauges(&chat, &limits, &memo, &logins, (&pools, vitals));
        let (alerts, lookout) = alerts(&config, rules, &gauges, &upstream, (&clock, &metrics));
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
            gauges: gauges.clone(),
            alerts: alerts.clone(),
            services: services.clone(),
            tokens: TokenTable::new(&services),
            profiler: profiler.clone(),
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
            alerts,
            gauges,
            services,
            profiler,
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
            collector,
            lookout: Some(lookout),
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
        Box::pin(self.close_by(deadline)).await;
        served
    }

    /// Runs tasks until `shutdown` resolves; then drains as [`App::serve`] does. On `listener`, where there is one, it answers until
    /// its end to who watches it, and to nobody else.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn work(
        mut self,
        listener: Option<TcpListener>,
        shutdown: impl Future<Output = ()>,
    ) -> std::io::Result<()> {
        let watched = listener.map(|listener| Watched::begin(listener, &self.service, self.heartbeat)).transpose()?;
        self.start_workers();
        shutdown.await;
        self.close().await;
        if let Some(watched) = watched {
            watched.end().await;
        }
        Ok(())
    }

    /// What runs beside the answers: tasks' workers, the measuring of the runtime and of the process, and the look-out for alerts.
    fn start_workers(&mut self) {
        self.tasks.spawn(self.gauges.vitals.clone().watch(self.stop.clone()));
        self.tasks.spawn(self.profiler.clone().watch(self.stop.clone()));
        if let Some(lookout) = self.lookout.take() {
            self.tasks.spawn(lookout.keep(self.stop.clone()));
        }
        if let Some(parts) = &self.worker_parts
            && let Some(every) = parts.config.benchmark_every
        {
            let (kept, stop) = (crate::jobs::keep_measuring(parts.queue.clone(), every), self.stop.clone());
            self.tasks.spawn(async move { stop.run_until_cancelled(kept).await });
        }
        self.workers = self.worker_parts.take().map(Workers::start);
        if self.workers.is_some() {
            let (kept, stop) = (self.workflows.clone().keep(), self.stop.clone());
            self.tasks.spawn(async move { stop.run_until_cancelled(kept).await });
            let (followed, stop) = (follow_embedder(self.chat.cache().clone(), self.queue.clone()), self.stop.clone());
            self.tasks.spawn(async move { stop.run_until_cancelled(followed).await });
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
        self.gauges.refresh();
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
        // On the heap: it would make the future of every program around this as large as the application twice.
        Box::pin(self.close_by(deadline)).await;
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
        if let Some(collector) = self.collector {
            collector.finish().await;
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
