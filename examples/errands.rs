//! The queue by itself, to be shot at: a process that enqueues errands, or runs them, or both, and writes down what it does, until it
//! is killed. Some errands fail at first, some outlast their lease, some never succeed, and some kill the process that runs them.
//! `tests/soak/tasks.py` starts and kills many of these and judges what they wrote; `tests/it/tasks.rs` runs a few.
//!
//! `cargo run --example errands -- --folder FOLDER --enqueue 100 --work`, with `DATABASE_URL` for a Postgres.

use std::collections::BTreeSet;
use std::fs::{OpenOptions, read_to_string};
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use ish::clock::Clock;
use ish::config::{Config, Environment};
use ish::db::{Db, DbError, Durability, MigrationSet};
use ish::metrics::Metrics;
use ish::pool::Pools;
use ish::redis::{Redis, RedisParts};
use ish::tasks::{
    Backoff, Enqueued, Job, JobContext, JobError, NewTask, Policy, Priority, Queue, Registry, Schedules, TaskError,
    WorkerParts, Workers,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// How many errands are enqueued at once.
const BATCH: u32 = 25;

/// Between two tries of a store that is away.
const AGAIN: Duration = Duration::from_millis(100);

/// What a process is to do.
#[derive(Debug, Parser)]
struct Orders {
    /// Where it writes down what it does; without a `DATABASE_URL` the queue is a file there as well.
    #[arg(long)]
    folder: PathBuf,
    /// Enqueue the errands below this number that nobody has been promised yet.
    #[arg(long, default_value_t = 0)]
    enqueue: u32,
    /// Run errands, until it is killed.
    #[arg(long)]
    work: bool,
}

/// The folder's files. Each note is one write at a file's end: what a process has written is there when it is killed.
#[derive(Debug, Clone)]
pub struct Notes {
    folder: PathBuf,
}

impl Notes {
    /// In this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// What jobs did: `begun` or `done`, the task, the attempt.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// What the queue has promised: a number, its kind, its task.
    pub fn promised(&self) -> PathBuf {
        self.folder.join("promised")
    }

    fn of_job(&self, what: &str, context: &JobContext) -> std::io::Result<()> {
        append(&self.log(), &format!("{what} {} {}\n", context.task(), context.attempt()))
    }
}

fn append(path: &PathBuf, text: &str) -> std::io::Result<()> {
    OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())
}

const OFTEN: Policy = Policy {
    max_attempts: 100,
    backoff: Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(1) },
    ..Policy::DEFAULT
};

/// Is done after a while, in the attempt after so many that fail.
#[derive(Debug, Serialize, Deserialize)]
pub struct Errand {
    /// Which.
    pub number: u32,
    /// How long it takes.
    pub ms: u64,
    /// How often it fails first.
    pub fails: u16,
}

impl Job for Errand {
    const KIND: &'static str = "errand";
    const VERSION: u16 = 1;
    const POLICY: Policy = OFTEN;
    type State = Notes;
    type Output = u32;

    async fn run(self, notes: Arc<Notes>, context: JobContext) -> Result<u32, JobError> {
        notes.of_job("begun", &context)?;
        tokio::time::sleep(Duration::from_millis(self.ms)).await;
        if context.attempt() <= self.fails {
            return Err(JobError::retry("not yet"));
        }
        notes.of_job("done", &context)?;
        Ok(self.number)
    }
}

/// Kills its process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Poison {
    /// Which.
    pub number: u32,
}

impl Job for Poison {
    const KIND: &'static str = "poison";
    const VERSION: u16 = 1;
    const POLICY: Policy = Policy { max_attempts: 2, ..OFTEN };
    type State = Notes;
    type Output = ();

    async fn run(self, notes: Arc<Notes>, context: JobContext) -> Result<(), JobError> {
        notes.of_job("begun", &context)?;
        std::process::abort();
    }
}

/// Never succeeds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hopeless {
    /// Which.
    pub number: u32,
}

impl Job for Hopeless {
    const KIND: &'static str = "hopeless";
    const VERSION: u16 = 1;
    const POLICY: Policy = Policy { max_attempts: 3, ..OFTEN };
    type State = Notes;
    type Output = ();

    async fn run(self, notes: Arc<Notes>, context: JobContext) -> Result<(), JobError> {
        notes.of_job("begun", &context)?;
        Err(JobError::retry("never"))
    }
}

/// The errand of this number: of 500, one is poison; of 100, one is hopeless; of 50, one takes three seconds; of ten, one fails twice.
fn errand(number: u32) -> (&'static str, NewTask) {
    let urgent = Priority::ALL[number as usize % Priority::ALL.len()];
    let key = format!("errand-{number}");
    let (kind, task) = if number % 500 == 250 {
        (Poison::KIND, NewTask::new(&Poison { number }))
    } else if number % 100 == 20 {
        (Hopeless::KIND, NewTask::new(&Hopeless { number }))
    } else {
        let ms = if number % 50 == 30 { 3_000 } else { u64::from(number % 7) * 10 };
        let fails = if number % 10 == 3 { 2 } else { 0 };
        (Errand::KIND, NewTask::new(&Errand { number, ms, fails }))
    };
    (kind, task.priority(urgent).idempotency(key))
}

/// The queue that `config` names, with the wake-ups of its Redis; one that is away is waited for.
pub async fn queue(config: &Config, folder: &Notes, metrics: &Arc<Metrics>) -> anyhow::Result<Queue> {
    let pools = Pools::default();
    let db = loop {
        let opened = match &config.database {
            None => Db::open(&folder.folder.join("ish.db"), Durability::Full, MigrationSet::ISH).await,
            Some(database) => Db::connect(database, &pools).await,
        };
        match opened {
            Err(DbError::Away(_)) => tokio::time::sleep(AGAIN).await,
            opened => break opened?,
        }
    };
    let queue = Queue::new(db, &config.tasks);
    if let Some(config) = &config.redis {
        let (tasks, stop, metrics) = (TaskTracker::new(), CancellationToken::new(), Arc::clone(metrics));
        let redis = Redis::start(RedisParts { config, metrics, pools: &pools, tasks: &tasks, stop: &stop }).await?;
        queue.share(&redis, &tasks, &stop);
    }
    Ok(queue)
}

/// Begins to run errands.
pub fn work(queue: &Queue, config: &Config, notes: &Notes, metrics: Arc<Metrics>) -> Workers {
    let notes = Arc::new(notes.clone());
    let registry = Registry::new()
        .register::<Errand>(Arc::clone(&notes))
        .register::<Poison>(Arc::clone(&notes))
        .register::<Hopeless>(notes);
    Workers::start(WorkerParts {
        queue: queue.clone(),
        registry: Arc::new(registry),
        schedules: Schedules::new(),
        config: config.tasks.clone(),
        metrics,
        clock: Clock::system(),
        tasks: TaskTracker::new(),
    })
}

/// Enqueues what has not been promised yet, and notes each promise. Who had no answer asks again under the same key.
async fn enqueue_all(queue: &Queue, notes: &Notes, numbers: Range<u32>) -> anyhow::Result<()> {
    let promised = promised(notes)?;
    let open: Vec<u32> = numbers.filter(|number| !promised.contains(number)).collect();
    for batch in open.chunks(BATCH as usize) {
        let ids = loop {
            match enqueue(queue, batch).await {
                Err(TaskError::Store(error)) => {
                    eprintln!("asked again: {error}");
                    tokio::time::sleep(AGAIN).await;
                }
                enqueued => break enqueued?,
            }
        };
        let lines = batch.iter().zip(ids).map(|(number, id)| format!("{number} {} {id}\n", errand(*number).0));
        append(&notes.promised(), &lines.collect::<String>())?;
    }
    Ok(())
}

async fn enqueue(queue: &Queue, batch: &[u32]) -> Result<Vec<Uuid>, TaskError> {
    let enqueued: Vec<Enqueued> = queue.enqueue_all(batch.iter().map(|number| errand(*number).1).collect()).await?;
    Ok(enqueued.iter().map(|task| task.id).collect())
}

fn promised(notes: &Notes) -> anyhow::Result<BTreeSet<u32>> {
    if !notes.promised().exists() {
        return Ok(BTreeSet::new());
    }
    let text = read_to_string(notes.promised())?;
    Ok(text.lines().map(|line| line.split(' ').next().unwrap_or_default().parse()).collect::<Result<_, _>>()?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    #[cfg(feature = "failpoints")]
    let _crash_points = fail::FailScenario::setup();
    let orders = Orders::parse();
    let (config, notes) = (Config::read(&Environment::of_process(), None)?, Notes::new(orders.folder));
    let metrics = Arc::new(Metrics::new());
    let queue = queue(&config, &notes, &metrics).await?;
    let _workers = orders.work.then(|| work(&queue, &config, &notes, metrics));
    enqueue_all(&queue, &notes, 0..orders.enqueue).await?;
    if orders.work {
        println!("all is enqueued");
        std::future::pending::<()>().await;
    }
    Ok(())
}
