//! The queue and its workers in this process, with a job that does nothing, and one that takes its time.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ish::clock::Clock;
use ish::config::{Config, Environment};
use ish::db::{Db, Durability, MigrationSet};
use ish::metrics::Metrics;
use ish::pool::Pools;
use ish::tasks::{
    Job, JobContext, JobError, NewTask, Policy, Priority, Queue, Registry, Schedules, WorkerParts, Workers,
};
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;

use crate::ground::{Ground, LOOK};
use crate::{AT_ONCE, AT_ONCE_TEXT, Way};

/// Of tasks that wait or run.
pub const OPEN: &str = "state IN ('available', 'retryable', 'running')";

/// How many are enqueued at once, where many are.
const MANY: u32 = 500;

/// Does nothing.
#[derive(Serialize, Deserialize)]
struct Nothing {
    number: u32,
}

impl Job for Nothing {
    const KIND: &'static str = "nothing";
    const VERSION: u16 = 1;
    const POLICY: Policy = Policy::DEFAULT;
    type State = ();
    type Output = ();

    async fn run(self, _: Arc<()>, _: JobContext) -> Result<(), JobError> {
        Ok(())
    }
}

/// Says how long after `asked_us` it began, by the watch that is its state.
#[derive(Serialize, Deserialize)]
pub struct Timed {
    pub asked_us: u64,
}

/// A clock, and how long after they were asked for those began that are timed by it.
pub struct Watch {
    zero: Instant,
    waited: Mutex<Vec<Duration>>,
}

impl Watch {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { zero: Instant::now(), waited: Mutex::default() })
    }

    /// A task that is asked for now.
    pub fn task(&self, priority: Priority) -> NewTask {
        NewTask::new(&Timed { asked_us: self.zero.elapsed().as_micros() as u64 }).priority(priority)
    }

    pub fn waited(&self) -> Vec<Duration> {
        self.waited.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Job for Timed {
    const KIND: &'static str = "timed";
    const VERSION: u16 = 1;
    const POLICY: Policy = Policy::DEFAULT;
    type State = Watch;
    type Output = ();

    async fn run(self, watch: Arc<Watch>, _: JobContext) -> Result<(), JobError> {
        let waited = watch.zero.elapsed().saturating_sub(Duration::from_micros(self.asked_us));
        watch.waited.lock().unwrap_or_else(PoisonError::into_inner).push(waited);
        Ok(())
    }
}

/// Takes some milliseconds, and nobody asks when it began.
#[derive(Serialize, Deserialize)]
pub struct Filler {
    pub ms: u64,
}

impl Job for Filler {
    const KIND: &'static str = "filler";
    const VERSION: u16 = 1;
    const POLICY: Policy = Policy::DEFAULT;
    type State = AtomicU32;
    type Output = ();

    async fn run(self, done: Arc<AtomicU32>, _: JobContext) -> Result<(), JobError> {
        tokio::time::sleep(Duration::from_millis(self.ms)).await;
        done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A queue with its workers.
pub struct Ours {
    pub queue: Queue,
    pub watch: Arc<Watch>,
    /// How many fillers are done.
    pub filled: Arc<AtomicU32>,
    db: Db,
    workers: Workers,
    tasks: TaskTracker,
}

/// As many at once as are compared.
fn at_once() -> [(&'static str, &'static str); 3] {
    ["ISH_TASK_MIN_WORKERS", "ISH_TASK_MAX_WORKERS", "DB_MAX_CONNECTIONS"].map(|name| (name, AT_ONCE_TEXT))
}

impl Ours {
    pub async fn on_postgres(ground: &Ground) -> anyhow::Result<Self> {
        Self::on_postgres_aging(ground, "300").await
    }

    /// Where a level of priority is worth so many seconds.
    pub async fn on_postgres_aging(ground: &Ground, seconds: &str) -> anyhow::Result<Self> {
        let (url, direct_url) = ground.urls()?;
        let [least, most, connections] = at_once();
        let database = [("DATABASE_URL", url.as_str()), ("DATABASE_DIRECT_URL", direct_url.as_str())];
        let aging = ("ISH_TASK_AGING", seconds);
        let environment = Environment::from([least, most, connections, database[0], database[1], aging]);
        let config = Config::read(&environment, None)?;
        let database = config.database.as_ref().ok_or_else(|| anyhow::anyhow!("no Postgres is configured"))?;
        let db = Db::connect(database, &Pools::default()).await?;
        Ok(Self::start(db, &config))
    }

    fn start(db: Db, config: &Config) -> Self {
        let (queue, tasks) = (Queue::new(db.clone(), &config.tasks), TaskTracker::new());
        let (watch, filled) = (Watch::new(), Arc::new(AtomicU32::new(0)));
        let registry = Registry::new()
            .register::<Nothing>(Arc::new(()))
            .register::<Timed>(Arc::clone(&watch))
            .register::<Filler>(Arc::clone(&filled));
        let workers = Workers::start(WorkerParts {
            queue: queue.clone(),
            registry: Arc::new(registry),
            schedules: Schedules::new(),
            config: config.tasks.clone(),
            metrics: Arc::new(Metrics::new()),
            clock: Clock::system(),
            tasks: tasks.clone(),
        });
        Self { queue, watch, filled, db, workers, tasks }
    }

    /// Has so many tasks done; says how long that took.
    pub async fn window<F: Future<Output = anyhow::Result<bool>>>(
        &self,
        tasks: u32,
        way: Way,
        is_done: impl Fn() -> F,
    ) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        match way {
            Way::One => self.enqueue_each(tasks).await?,
            Way::Many => {
                for first in (0..tasks).step_by(MANY as usize) {
                    let batch = (first..tasks.min(first + MANY)).map(|number| NewTask::new(&Nothing { number }));
                    self.queue.enqueue_all(batch.collect()).await?;
                }
            }
        }
        while !is_done().await? {
            tokio::time::sleep(LOOK).await;
        }
        Ok(begun.elapsed())
    }

    async fn enqueue_each(&self, tasks: u32) -> anyhow::Result<()> {
        let next = Arc::new(AtomicU32::new(0));
        let callers = (0..AT_ONCE).map(|_| {
            let (queue, next) = (self.queue.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= tasks {
                        return anyhow::Ok(());
                    }
                    queue.enqueue(NewTask::new(&Nothing { number })).await?;
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await??;
        }
        Ok(())
    }

    /// Tasks that wait for a few milliseconds each.
    pub async fn fill(&self, tasks: u32, ms: u64, priority: Priority) -> anyhow::Result<()> {
        for first in (0..tasks).step_by(MANY as usize) {
            let batch = (first..tasks.min(first + MANY)).map(|_| NewTask::new(&Filler { ms }).priority(priority));
            self.queue.enqueue_all(batch.collect()).await?;
        }
        Ok(())
    }

    pub async fn close(self) {
        self.workers.drained(tokio::time::Instant::now() + Duration::from_secs(5)).await;
        self.tasks.close();
        self.tasks.wait().await;
        self.db.close().await;
    }
}

/// The same on a file, under the folder that builds go to: a disk, where `/tmp` may be memory.
pub async fn on_sqlite(tasks: u32, way: Way) -> anyhow::Result<Duration> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let db = Db::open(&folder.path().join("ish.db"), Durability::Full, MigrationSet::ISH).await?;
    let [least, most, _] = at_once();
    let ours = Ours::start(db, &Config::read(&Environment::from([least, most]), None)?);
    let is_done = async || {
        let states = ours.queue.stats().await?.states;
        Ok(states.get("completed").is_some_and(|completed| *completed == u64::from(tasks)))
    };
    let took = ours.window(tasks, way, is_done).await?;
    ours.close().await;
    Ok(took)
}
