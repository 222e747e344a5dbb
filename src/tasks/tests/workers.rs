//! Workers: what runs, how it ends, who has it.

use std::sync::Mutex;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::*;
use crate::clock::Clock;
use crate::metrics::Metrics;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A job that does as it is told.
#[derive(Debug, Serialize, Deserialize)]
enum Act {
    Return(String),
    Fail,
    Panic,
    /// Until the gate opens.
    Wait,
    /// For ever, whatever it is told.
    Stay,
    /// Until it is asked to end, and fails by that.
    Listen,
    Progress(u32),
}

/// What such jobs work with.
struct Stage {
    begun: mpsc::UnboundedSender<(Uuid, u16)>,
    interrupted: Mutex<Vec<Interruption>>,
    gate: watch::Receiver<bool>,
}

impl Job for Act {
    const KIND: &'static str = "act";
    const VERSION: u16 = 1;
    const POLICY: Policy = Policy {
        max_attempts: 2,
        backoff: Backoff { base: Duration::from_millis(1), cap: Duration::from_millis(1) },
        hard_limit: Duration::from_mins(10),
        ..Policy::DEFAULT
    };
    type State = Stage;
    type Output = Option<String>;

    async fn run(self, stage: Arc<Stage>, context: JobContext) -> Result<Option<String>, JobError> {
        let _ = stage.begun.send((context.task(), context.attempt()));
        match self {
            Self::Return(text) => return Ok(Some(text)),
            Self::Fail => return Err(JobError::retry("it fails")),
            Self::Panic => panic!("it panics"),
            Self::Wait => drop(stage.gate.clone().wait_for(|open| *open).await),
            Self::Stay => std::future::pending().await,
            Self::Listen => {
                let why = context.cancelled().await;
                stage.interrupted.lock().unwrap().push(why);
                return Err(JobError::retry("it was interrupted"));
            }
            Self::Progress(percent) => {
                context.progress(&percent);
                drop(stage.gate.clone().wait_for(|open| *open).await);
            }
        }
        Ok(None)
    }
}

/// The same, with limits that end soon.
#[derive(Debug, Serialize, Deserialize)]
struct Brief(Act);

impl Job for Brief {
    const KIND: &'static str = "brief";
    const VERSION: u16 = 1;
    const POLICY: Policy = Policy {
        max_attempts: 1,
        soft_limit: Duration::from_millis(10),
        hard_limit: Duration::from_millis(50),
        ..Policy::DEFAULT
    };
    type State = Stage;
    type Output = Option<String>;

    async fn run(self, stage: Arc<Stage>, context: JobContext) -> Result<Option<String>, JobError> {
        self.0.run(stage, context).await
    }
}

/// A process with workers.
struct Process {
    queue: Queue,
    workers: Workers,
    stage: Arc<Stage>,
    begun: mpsc::UnboundedReceiver<(Uuid, u16)>,
    gate: watch::Sender<bool>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
}

impl Process {
    async fn start(database: &TestDb, change: impl Fn(&mut TasksConfig)) -> Self {
        let mut config = config();
        config.heartbeat = Duration::from_millis(20);
        change(&mut config);
        let (queue, metrics) = (queue(database).await, Arc::new(Metrics::new()));
        let ((begun, has_begun), (gate, closed)) = (mpsc::unbounded_channel(), watch::channel(false));
        let stage = Arc::new(Stage { begun, interrupted: Mutex::default(), gate: closed });
        let tasks = TaskTracker::new();
        let workers = Workers::start(WorkerParts {
            queue: queue.clone(),
            registry: Arc::new(
                Registry::new().register::<Act>(Arc::clone(&stage)).register::<Brief>(Arc::clone(&stage)),
            ),
            schedules: Schedules::new(),
            config,
            metrics: Arc::clone(&metrics),
            clock: Clock::system(),
            tasks: tasks.clone(),
        });
        Self { queue, workers, stage, begun: has_begun, gate, metrics, tasks }
    }

    async fn enqueue(&self, act: Act) -> Uuid {
        self.queue.enqueue(NewTask::new(&act)).await.unwrap().id
    }

    async fn begun(&mut self) -> (Uuid, u16) {
        tokio::time::timeout(PATIENCE, self.begun.recv()).await.unwrap().unwrap()
    }

    /// The task once it is so.
    async fn once(&self, id: Uuid, is_so: impl Fn(&Task) -> bool) -> Task {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let task = self.queue.task(id).await.unwrap();
            if is_so(&task) {
                return task;
            }
            assert!(Instant::now() < deadline, "{task:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn ended(&self, id: Uuid) -> Task {
        self.once(id, |task| task.state.has_ended()).await
    }

    /// Ends the process in order; nothing of it is left over.
    async fn end(self) {
        self.workers.drained(Instant::now() + PATIENCE).await;
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait()).await.unwrap();
        assert_eq!(self.metrics.tasks_running.get(), 0);
    }
}

contract![
    jobs_are_run_and_what_they_return_is_kept,
    a_panic_and_a_limit_are_failures_like_others,
    who_is_cancelled_while_running_hears_of_it,
    a_drain_hands_back_what_does_not_end,
    a_task_longer_than_its_lease_on_a_full_worker_runs_once,
    a_lost_task_is_done_by_another_process,
    more_are_run_at_once_while_tasks_wait,
];

async fn jobs_are_run_and_what_they_return_is_kept(database: TestDb) {
    let mut process = Process::start(&database, |_| {}).await;
    let returns = process.enqueue(Act::Return("so".to_owned())).await;
    let task = process.ended(returns).await;
    assert_eq!((task.state, task.result.unwrap().get()), (State::Completed, "\"so\""));
    assert_eq!(process.begun().await, (returns, 1));
    let fails = process.enqueue(Act::Fail).await;
    let task = process.ended(fails).await;
    assert_eq!((task.state, task.attempt, task.failures.len()), (State::Discarded, 2, 2));
    let progress = process.enqueue(Act::Progress(40)).await;
    let task = process.once(progress, |task| task.progress.is_some()).await;
    assert_eq!(task.progress.unwrap().get(), "40");
    process.gate.send(true).unwrap();
    process.ended(progress).await;
    let metrics = Arc::clone(&process.metrics);
    process.end().await;
    let text = metrics.text();
    for line in [
        r#"ish_tasks_ended_total{kind="act",outcome="completed"} 2"#,
        r#"ish_tasks_ended_total{kind="act",outcome="discarded"} 1"#,
        r#"ish_tasks_ended_total{kind="act",outcome="retried"} 1"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

async fn a_panic_and_a_limit_are_failures_like_others(database: TestDb) {
    let process = Process::start(&database, |_| {}).await;
    let panics = process.enqueue(Act::Panic).await;
    let stays = process.queue.enqueue(NewTask::new(&Brief(Act::Stay))).await.unwrap().id;
    let listens = process.queue.enqueue(NewTask::new(&Brief(Act::Listen))).await.unwrap().id;
    let mut older = NewTask::new(&Act::Fail);
    older.version = 0;
    let older = process.queue.enqueue(older).await.unwrap().id;
    for (id, error) in [
        (panics, "the job panicked"),
        (stays, "it took longer than its hard limit"),
        (listens, "it was interrupted"),
        (older, "its arguments are of version 0, and the job takes version 1"),
    ] {
        let task = process.ended(id).await;
        assert_eq!((task.state, task.failures[0].error.as_str()), (State::Discarded, error));
    }
    assert_eq!(*process.stage.interrupted.lock().unwrap(), [Interruption::TimeIsUp]);
    process.end().await;
}

async fn who_is_cancelled_while_running_hears_of_it(database: TestDb) {
    let mut process = Process::start(&database, |_| {}).await;
    let id = process.enqueue(Act::Listen).await;
    process.begun().await;
    // As another process would.
    let elsewhere = queue(&database).await;
    assert_eq!(elsewhere.cancel(id).await.unwrap(), State::Running);
    assert_eq!(process.ended(id).await.state, State::Cancelled);
    assert_eq!(*process.stage.interrupted.lock().unwrap(), [Interruption::Cancelled]);
    process.end().await;
}

async fn a_drain_hands_back_what_does_not_end(database: TestDb) {
    let mut process = Process::start(&database, |_| {}).await;
    let (listens, stays, waits) =
        (process.enqueue(Act::Listen).await, process.enqueue(Act::Stay).await, process.enqueue(Act::Wait).await);
    for _ in 0..3 {
        process.begun().await;
    }
    process.workers.drain();
    process.once(listens, |task| task.state == State::Available).await;
    process.gate.send(true).unwrap();
    process.ended(waits).await;
    assert_eq!(process.queue.task(stays).await.unwrap().state, State::Running);
    process.workers.drained(Instant::now()).await;
    for id in [listens, stays] {
        let task = process.queue.task(id).await.unwrap();
        assert_eq!((task.state, task.attempt), (State::Available, 0), "it was no attempt");
    }
    process.end().await;
}

async fn a_task_longer_than_its_lease_on_a_full_worker_runs_once(database: TestDb) {
    let one = |config: &mut TasksConfig| {
        (config.min_workers, config.max_workers) = (1.try_into().unwrap(), 1.try_into().unwrap());
    };
    let mut busy = Process::start(&database, one).await;
    let long = busy.enqueue(Act::Wait).await;
    assert_eq!(busy.begun().await, (long, 1));
    let mut other = Process::start(&database, one).await;
    let lease = config().lease;
    for _ in 0..3 {
        age(&busy.queue, lease / 2).await;
        let deadline = Instant::now() + PATIENCE;
        while lease_left(&busy.queue, long).await < lease * 3 / 4 {
            assert!(Instant::now() < deadline, "a full worker does not renew its lease");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    busy.gate.send(true).unwrap();
    let task = busy.ended(long).await;
    assert_eq!((task.state, task.attempt), (State::Completed, 1));
    assert!(other.begun.try_recv().is_err(), "another has had it too");
    busy.end().await;
    other.end().await;
}

async fn a_lost_task_is_done_by_another_process(database: TestDb) {
    let queue = queue(&database).await;
    let id = queue.enqueue(NewTask::new(&Act::Return("at last".to_owned()))).await.unwrap().id;
    let versions = r#"{"act":1}"#.to_owned();
    let silent = Claim { worker: new_id(), versions, count: 1, lease_ms: 1 };
    let lost = queue.claim(silent, &Limits::default()).await.unwrap();
    let process = Process::start(&database, |_| {}).await;
    let task = process.ended(id).await;
    assert_eq!(
        (task.state, task.attempt, task.failures[0].error.as_str()),
        (State::Completed, 2, "its worker was lost")
    );
    assert!(!settle(&queue, &lost[0], End::Done(None)).await);
    assert_eq!(process.metrics.tasks_rescued.get(), 1);
    process.end().await;
}

async fn more_are_run_at_once_while_tasks_wait(database: TestDb) {
    let few = |config: &mut TasksConfig| {
        (config.min_workers, config.max_workers) = (1.try_into().unwrap(), 6.try_into().unwrap());
        config.scale_after = Duration::from_millis(20);
    };
    let mut process = Process::start(&database, few).await;
    let ids: Vec<_> = futures_util::future::join_all((0..8).map(|_| process.enqueue(Act::Wait))).await;
    for _ in 0..6 {
        process.begun().await;
    }
    assert_eq!(process.metrics.tasks_running.get(), 6);
    assert!(process.begun.try_recv().is_err(), "no more than may be");
    process.gate.send(true).unwrap();
    for id in ids {
        assert_eq!(process.ended(id).await.state, State::Completed);
    }
    process.end().await;
}
