//! Workers in processes of their own, killed: what was enqueued is done, what kills its workers is a dead letter, and nothing is run
//! again that nobody lost. The jobs write what they do to a file, and the judge compares that with the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ish::config::{Config, Environment};
use ish::metrics::Metrics;
use ish::pool::Pools;
use ish::redis::{Redis, RedisParts};
use ish::tasks::{Filter, NewTask, Queue, State, Task};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::harness::{DEADLINE, Database, redis_host, soon};
use errands::{Errand, Notes, Poison};

#[expect(dead_code, reason = "nobody calls its main")]
#[path = "../../examples/errands.rs"]
mod errands;

/// Names the place to a process that is to be a worker.
const PLACE: &str = "ISH_TEST_TASKS";

/// Where the tasks are, where their jobs write what they do, and which test's processes work on them.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Place {
    /// Of a Postgres through PgBouncer, and direct; none: `ish.db` in the folder.
    urls: Option<(String, String)>,
    folder: PathBuf,
    test: String,
}

impl Place {
    fn config(&self) -> Config {
        let quick = [("ISH_TASK_LEASE", "1.5"), ("ISH_TASK_HEARTBEAT", "0.3")];
        let [lease, heartbeat] = quick;
        let environment = match &self.urls {
            None => Environment::from([lease, heartbeat]),
            Some((url, direct)) => {
                let database = [("DATABASE_URL", url.as_str()), ("DATABASE_DIRECT_URL", direct)];
                Environment::from([lease, heartbeat, database[0], database[1], ("DB_MAX_CONNECTIONS", "8")])
            }
        };
        Config::read(&environment, None).unwrap()
    }

    async fn queue(&self) -> Queue {
        errands::queue(&self.config(), &self.notes(), &Arc::new(Metrics::new())).await.unwrap()
    }

    fn notes(&self) -> Notes {
        Notes::new(self.folder.clone())
    }
}

/// Here stays a process of a test that this test has started as a worker ([`Worker`]).
#[expect(clippy::disallowed_methods, reason = "a process is told what it is")]
async fn stay_if_a_worker() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let place: Place = serde_json::from_str(&place).unwrap();
    let queue = place.queue().await;
    let _workers = errands::work(&queue, &place.config(), &place.notes(), Arc::new(Metrics::new()));
    std::future::pending::<()>().await;
}

/// Of what the log says, how often each attempt has begun, and each task was done.
fn noted(place: &Place, what: &str) -> BTreeMap<(Uuid, u16), usize> {
    let mut noted = BTreeMap::new();
    for line in std::fs::read_to_string(place.notes().log()).unwrap().lines() {
        let [said, id, attempt] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        if said == what {
            *noted.entry((id.parse().unwrap(), attempt.parse().unwrap())).or_default() += 1;
        }
    }
    noted
}

/// A process of workers; started again when it has died, killed when this is dropped.
struct Worker {
    place: Place,
    child: Child,
}

impl Worker {
    fn start(place: &Place) -> Self {
        Self { place: place.clone(), child: spawned(place) }
    }

    /// Lets it live again, where it has died.
    fn revive(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            self.child = spawned(&self.place);
        }
    }

    /// `kill -9`, and a new one in its place.
    fn strike(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.revive();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawned(place: &Place) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &place.test, "--nocapture"]).env(PLACE, serde_json::to_string(place).unwrap());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn errand(ms: u64) -> NewTask {
    NewTask::new(&Errand { number: 0, ms, fails: 0 })
}

/// Enqueues, kills workers while they work, lets the rest be done, and judges.
async fn round(place: Place, processes: usize, strikes: usize) {
    let queue = place.queue().await;
    let counts = (0..240_u32).map(|number| errand(u64::from(number % 7) * 10));
    let mut enqueued: BTreeSet<Uuid> =
        queue.enqueue_all(counts.collect()).await.unwrap().iter().map(|task| task.id).collect();
    let mut workers: Vec<_> = (0..processes).map(|_| Worker::start(&place)).collect();
    for strike in 0..strikes {
        let target = 20 * (strike + 1);
        soon_done(&place, target, &mut workers).await;
        let worker = strike % workers.len();
        workers[worker].strike();
        // What is enqueued while workers die counts as well.
        let more = queue.enqueue_all((0..10).map(|_| errand(5)).collect()).await.unwrap();
        enqueued.extend(more.iter().map(|task| task.id));
    }
    let poison = queue.enqueue_all((0..2).map(|_| NewTask::new(&Poison { number: 0 })).collect()).await.unwrap();
    let poison: BTreeSet<_> = poison.iter().map(|task| task.id).collect();
    let all = enqueued.len() + poison.len();
    let ended = |tasks: &[Task]| tasks.iter().filter(|task| task.state.has_ended()).count() == all;
    let deadline = tokio::time::Instant::now() + 2 * DEADLINE;
    let tasks = loop {
        workers.iter_mut().for_each(Worker::revive);
        let tasks = queue.list(&Filter::default(), 1_000).await.unwrap();
        if ended(&tasks) {
            break tasks;
        }
        let left = tasks.iter().filter(|task| !task.state.has_ended()).count();
        assert!(tokio::time::Instant::now() < deadline, "{left} of {} have not ended", tasks.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    drop(workers);
    judge(&place, &tasks, &enqueued, &poison);
}

/// Waits until so much is done.
async fn soon_done(place: &Place, target: usize, workers: &mut [Worker]) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !place.notes().log().exists() || noted(place, "done").len() < target {
        assert!(tokio::time::Instant::now() < deadline, "nothing is done");
        workers.iter_mut().for_each(Worker::revive);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn judge(place: &Place, tasks: &[Task], enqueued: &BTreeSet<Uuid>, poison: &BTreeSet<Uuid>) {
    let (begun, done) = (noted(place, "begun"), noted(place, "done"));
    let in_state = |state| tasks.iter().filter(move |task| task.state == state).map(|task| task.id);
    assert_eq!(&in_state(State::Discarded).collect::<BTreeSet<_>>(), poison, "poison, and nothing else, is dead");
    assert_eq!(&in_state(State::Completed).collect::<BTreeSet<_>>(), enqueued, "nothing is lost");
    assert!(begun.values().all(|times| *times == 1), "no attempt has two workers: {begun:?}");
    for task in tasks {
        let dones = done.keys().filter(|(id, _)| *id == task.id).count();
        let failures = usize::from(task.attempt) - usize::from(task.state == State::Completed);
        assert!(task.failures.iter().all(|failure| failure.error == "its worker was lost"), "{:?}", task.failures);
        assert_eq!(task.failures.len(), failures.min(10), "each further attempt is counted, and has a reason");
        assert!(enqueued.contains(&task.id) == (dones >= 1), "{task:?}");
        assert!(dones <= 1 + failures, "what is done again was lost before");
    }
}

/// What one process enqueues wakes the workers of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_told_of_over_redis() {
    let (database, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let urls = Some((database.url.clone(), database.direct_url.clone()));
    let place = Place { urls, folder: folder.path().to_owned(), test: String::new() };
    let (address, prefix) = (format!("redis://{}", redis_host()), format!("test-{}:", Uuid::now_v7().simple()));
    let pairs = [("DATABASE_URL", "postgres://other"), ("REDIS_URL", &*address), ("ISH_REDIS_PREFIX", &*prefix)];
    let config = Config::read(&Environment::from(pairs), None).unwrap().redis.unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let shared = async || {
        let (metrics, pools) = (Arc::new(Metrics::new()), Pools::default());
        let parts = RedisParts { config: &config, metrics, pools: &pools, tasks: &tasks, stop: &stop };
        let queue = place.queue().await;
        queue.share(&Redis::start(parts).await.unwrap(), &tasks, &stop);
        queue
    };
    let (one, other) = (shared().await, shared().await);
    // It looks once when it begins to hear.
    soon("the other listens", other.woken()).await;
    one.enqueue(errand(0)).await.unwrap();
    soon("the other hears of it", other.woken()).await;
    stop.cancel();
    tasks.close();
    soon("the end of all tasks", tasks.wait()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_workers_lose_nothing_on_postgres() {
    stay_if_a_worker().await;
    let (database, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let urls = Some((database.url.clone(), database.direct_url.clone()));
    let test = "tasks::killed_workers_lose_nothing_on_postgres".to_owned();
    round(Place { urls, folder: folder.path().to_owned(), test }, 2, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_of_its_file() {
    stay_if_a_worker().await;
    let folder = tempfile::tempdir().unwrap();
    let test = "tasks::a_killed_process_loses_nothing_of_its_file".to_owned();
    round(Place { urls: None, folder: folder.path().to_owned(), test }, 1, 4).await;
    assert!(Path::exists(&folder.path().join("ish.db")));
}
