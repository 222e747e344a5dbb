//! The workers of one process: tasks claimed as there is room, run, kept by a heartbeat, settled, and handed back when the
//! process ends.

mod attempt;
mod dispatch;
mod maintenance;
mod presence;
mod pulse;
mod settling;

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::headroom::{Limit, Limits};
use super::scale::Scale;
use super::{Interruption, JobContext, Queue, Registry, Schedules};
use crate::clock::{Clock, new_id};
use crate::config::TasksConfig;
use crate::metrics::Metrics;
use settling::Ended;

/// What handing back may take, once the time to end is over.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What workers are made of.
pub struct WorkerParts {
    /// Where tasks come from.
    pub queue: Queue,
    /// The jobs that they run.
    pub registry: Arc<Registry>,
    /// Tasks that come by the clock.
    pub schedules: Schedules,
    /// How many at once, how long a lease is.
    pub config: TasksConfig,
    /// Counted here.
    pub metrics: Arc<Metrics>,
    /// The time of failures.
    pub clock: Clock,
    /// Where they are spawned.
    pub tasks: TaskTracker,
}

/// The workers of this process. Cloning is cheap.
#[derive(Clone)]
pub struct Workers {
    crew: Arc<Crew>,
}

/// What all of them share.
struct Crew {
    /// This start of this process.
    id: Uuid,
    queue: Queue,
    registry: Arc<Registry>,
    schedules: Schedules,
    limits: Limits,
    config: TasksConfig,
    scale: Scale,
    metrics: Arc<Metrics>,
    clock: Clock,
    tasks: TaskTracker,
    running: Mutex<HashMap<Uuid, Running>>,
    /// How many there is room for.
    room: AtomicUsize,
    /// How many there are, for those who wait for room or for the end.
    load: watch::Sender<Load>,
    ended: mpsc::Sender<Ended>,
    /// Nothing more is claimed.
    draining: CancellationToken,
    /// What runs is dropped and handed back.
    abandoned: CancellationToken,
    /// All is settled.
    over: CancellationToken,
}

/// How many tasks this process has.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    /// Whose jobs run.
    running: usize,
    /// Whose ends are being stored. As many may be claimed meanwhile.
    settling: usize,
}

impl Load {
    /// How many more may be claimed where `room` may run: a store that takes ends slowly gives out no more than twice as many.
    fn free(self, room: usize) -> usize {
        let unsettled = self.running + self.settling;
        room.saturating_sub(self.running).min((2 * room).saturating_sub(unsettled))
    }
}

/// A task that this process has.
struct Running {
    epoch: i64,
    context: JobContext,
}

impl Workers {
    /// Begins to claim and run.
    pub fn start(parts: WorkerParts) -> Self {
        let config = parts.config;
        let tenant = Limit {
            running: config.tenant_max_running.map(Into::into),
            per_minute: config.tenant_per_minute.map(Into::into),
        };
        let room = AtomicUsize::new(config.min_workers.get() as usize);
        let (ended, to_settle) = mpsc::channel(config.max_workers.get() as usize);
        let crew = Arc::new(Crew {
            id: new_id(),
            limits: Limits::new(&parts.registry, tenant),
            scale: Scale {
                least: config.min_workers.get() as usize,
                most: config.max_workers.get() as usize,
                after: config.scale_after,
            },
            queue: parts.queue,
            registry: parts.registry,
            schedules: parts.schedules,
            config,
            metrics: parts.metrics,
            clock: parts.clock,
            tasks: parts.tasks,
            running: Mutex::default(),
            room,
            load: watch::Sender::new(Load::default()),
            ended,
            draining: CancellationToken::new(),
            abandoned: CancellationToken::new(),
            over: CancellationToken::new(),
        });
        crew.tasks.spawn(dispatch::run(Arc::clone(&crew)));
        crew.tasks.spawn(settling::run(Arc::clone(&crew), to_settle));
        crew.tasks.spawn(pulse::run(Arc::clone(&crew)));
        crew.tasks.spawn(maintenance::run(Arc::clone(&crew)));
        crew.tasks.spawn(presence::run(Arc::clone(&crew)));
        Self { crew }
    }

    /// Claims nothing more, and asks what runs to end.
    pub fn drain(&self) {
        self.crew.draining.cancel();
        for running in self.crew.running().values() {
            running.context.interrupt(Interruption::Draining);
        }
    }

    /// Drains; what still runs at the deadline is dropped and handed back, so that another process has it at once.
    pub async fn drained(&self, deadline: Instant) {
        self.drain();
        if tokio::time::timeout_at(deadline, self.crew.idle()).await.is_err() {
            self.crew.abandoned.cancel();
            if tokio::time::timeout(LAST_WORDS, self.crew.idle()).await.is_err() {
                tracing::warn!("tasks could not be handed back; others take them over when their lease is over");
            }
        }
        self.crew.over.cancel();
    }
}

impl Crew {
    fn running(&self) -> MutexGuard<'_, HashMap<Uuid, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task is this process's from now on.
    fn begin(&self, id: Uuid, running: Running) {
        let context = running.context.clone();
        self.running().insert(id, running);
        // Only now: who drains asks those that are there.
        if self.draining.is_cancelled() {
            context.interrupt(Interruption::Draining);
        }
        self.load.send_modify(|load| load.running += 1);
        self.metrics.tasks_running.inc();
    }

    /// Its job has ended: there is room for another, while its end is being stored.
    fn make_room(&self) {
        self.load.send_modify(|load| (load.running, load.settling) = (load.running - 1, load.settling + 1));
    }

    /// It is settled, or lost.
    fn end(&self, id: Uuid) {
        self.running().remove(&id);
        self.load.send_modify(|load| load.settling -= 1);
        self.metrics.tasks_running.dec();
    }

    /// Resolves when nothing runs.
    async fn idle(&self) {
        let _ = self.load.subscribe().wait_for(|load| load.running + load.settling == 0).await;
    }
}
