//! Workflows in a process that is killed at every boundary of every step: before its code, after its effect, before the transaction
//! that stores its end, and after that. Each run ends as it would have, and the effect of each step is there once, by its key.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ish::clock::Clock;
use ish::config::{Config, Environment};
use ish::db::{Db, Durability, MigrationSet};
use ish::metrics::Metrics;
use ish::pool::Pools;
use ish::tasks::{Backoff, JobError, Policy, Queue, Registry, Schedules, WorkerParts, Workers};
use ish::workflows::{Definitions, NewRun, RunState, Step, StepContext, Workflow, Workflows};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::harness::{Database, report, soon};

/// Names the place to a process that is to run steps.
const PLACE: &str = "ISH_TEST_WORKFLOWS";

/// The boundaries of a step.
const POINTS: [&str; 4] = ["step-begins", "step-has-done", "workflow-before-commit", "workflow-after-commit"];

/// How many attempts at steps, and so how often each boundary is passed, in a run of each of the workflows.
const PASSES: u64 = 7;

/// Where the runs are, and where their steps leave what they do.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Place {
    /// Of a Postgres through PgBouncer, and direct; none: `ish.db` in the folder.
    urls: Option<(String, String)>,
    folder: PathBuf,
    /// The boundary that kills the process, and the how many'th time.
    dies_at: Option<(String, u64)>,
}

impl Place {
    fn config(&self) -> Config {
        let [lease, heartbeat] = [("ISH_TASK_LEASE", "1"), ("ISH_TASK_HEARTBEAT", "0.25")];
        let environment = match &self.urls {
            None => Environment::from([lease, heartbeat]),
            Some((url, direct)) => {
                let database = [("DATABASE_URL", url.as_str()), ("DATABASE_DIRECT_URL", direct)];
                Environment::from([lease, heartbeat, database[0], database[1], ("DB_MAX_CONNECTIONS", "8")])
            }
        };
        Config::read(&environment, None).unwrap()
    }

    async fn workflows(&self, metrics: &Arc<Metrics>) -> (Workflows, Queue) {
        let config = self.config();
        let db = match &config.database {
            None => Db::open(&self.folder.join("ish.db"), Durability::Full, MigrationSet::ISH).await.unwrap(),
            Some(config) => Db::connect(config, &Pools::default()).await.unwrap(),
        };
        let queue = Queue::new(db.clone(), &config.tasks);
        (Workflows::new(db, queue.clone(), self.definitions(), Arc::clone(metrics)), queue)
    }

    /// `whole` completes; `torn` fails at its end, and is undone.
    fn definitions(&self) -> Definitions {
        let whole = Workflow::new("whole", 1)
            .step(self.step("top", json!([1, 2, 3])))
            .step(self.step("left", json!(1)).after(["top"]))
            .step(self.step("right", json!(2)).after(["top"]))
            .step(self.each("parts", "top"))
            .step(self.step("join", json!("joined")).after(["left", "right", "parts"]));
        let fails = |context: StepContext| async move {
            passes("step-begins");
            passes("step-has-done");
            Err::<(), _>(JobError::fatal(format_args!("{} fails", context.run())))
        };
        let torn = Workflow::new("torn", 1)
            .step(self.step("top", json!([1, 2])))
            .step(self.each("parts", "top"))
            .step(Step::new("end", fails).after(["parts"]));
        Definitions::new().with(whole).unwrap().with(torn).unwrap()
    }

    fn step(&self, name: &str, output: Value) -> Step {
        let (place, undoing) = (self.clone(), self.clone());
        let code = move |context: StepContext| {
            let (place, output) = (place.clone(), output.clone());
            async move { place.leave(&context).map(|()| output) }
        };
        Step::new(name, code).policy(SOON).undo_policy(SOON).undo(move |context: StepContext| {
            let place = undoing.clone();
            async move { place.leave(&context) }
        })
    }

    fn each(&self, name: &str, over: &str) -> Step {
        let (place, undoing) = (self.clone(), self.clone());
        let code = move |context: StepContext| {
            let place = place.clone();
            async move { place.leave(&context) }
        };
        Step::each(name, over, code).policy(SOON).undo_policy(SOON).undo(move |context: StepContext| {
            let place = undoing.clone();
            async move { place.leave(&context) }
        })
    }

    /// An effect under its key: done again, it is as if done once; a trace of each time is left.
    fn leave(&self, context: &StepContext) -> Result<(), JobError> {
        passes("step-begins");
        let name = context.key().replace('/', "+");
        File::create(self.folder.join(format!("{name}#{}", uuid::Uuid::now_v7())))?;
        let done = OpenOptions::new().write(true).create_new(true).open(self.folder.join(name));
        if let Err(error) = done
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(error.into());
        }
        passes("step-has-done");
        Ok(())
    }

    /// What was done, without the run, and how many times more than once each.
    fn left(&self, run: Uuid) -> (BTreeSet<String>, usize) {
        let begin = format!("{run}+");
        let names = std::fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().file_name());
        let names: Vec<_> = names.filter_map(|name| Some(name.to_str()?.strip_prefix(&begin)?.to_owned())).collect();
        let (times, done): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| name.contains('#'));
        (done.iter().cloned().collect(), times.len() - done.len())
    }
}

/// Tried again at once.
const SOON: Policy =
    Policy { backoff: Backoff { base: Duration::from_millis(1), cap: Duration::from_millis(1) }, ..Policy::DEFAULT };

/// A place where the process may be killed.
fn passes(point: &'static str) {
    fail::fail_point!(point, |_| std::process::abort());
}

/// What a process is that [`Runner::start`] has made; to a run of the tests it is none, and has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "a process is told what it is")]
async fn as_a_runner() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let place: Place = serde_json::from_str(&place).unwrap();
    if let Some((point, pass)) = &place.dies_at {
        let before = if *pass > 1 { format!("{}*off->", pass - 1) } else { String::new() };
        fail::cfg(point.as_str(), &format!("{before}1*return->off")).unwrap();
    }
    let (metrics, tasks) = (Arc::new(Metrics::new()), TaskTracker::new());
    let (workflows, queue) = place.workflows(&metrics).await;
    let _workers = Workers::start(WorkerParts {
        queue,
        registry: Arc::new(workflows.register(Registry::new())),
        schedules: Schedules::new(),
        config: place.config().tasks,
        metrics,
        clock: Clock::system(),
        tasks,
    });
    workflows.keep().await;
}

/// A process that runs steps; killed when this is dropped.
struct Runner(Child);

impl Runner {
    fn start(place: &Place) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let place = serde_json::to_string(place).unwrap();
        command.args(["--exact", "workflows::as_a_runner", "--nocapture"]).env(PLACE, place);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Waits until it has died by itself.
    async fn dies(&mut self) {
        let died = async {
            while self.0.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon("the process's death", died).await;
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What all rounds of a store have shown.
#[derive(Debug, Default, Serialize)]
struct Tally {
    kills: usize,
    completed: usize,
    compensated: usize,
    effects: usize,
    done_again: usize,
}

impl Tally {
    /// One run, whose process is killed at a boundary; another goes on with it.
    async fn round(&mut self, place: &Place, workflows: &Workflows, workflow: &str, dies_at: (&str, u64)) {
        let run = workflows.start(NewRun::new(workflow, &json!({}))).await.unwrap().id;
        let deadly = Place { dies_at: Some((dies_at.0.to_owned(), dies_at.1)), ..place.clone() };
        Runner::start(&deadly).dies().await;
        assert!(!workflows.run(run).await.unwrap().state.has_ended() || dies_at == ("workflow-after-commit", PASSES));
        let _runner = Runner::start(place);
        let state = soon("the end of a run", async {
            loop {
                let state = workflows.run(run).await.unwrap().state;
                if state.has_ended() {
                    return state;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let (effects, done_again) = place.left(run);
        let whole = ["top", "left", "right", "parts+0", "parts+1", "parts+2", "join"].map(str::to_owned);
        let torn = ["top", "parts+0", "parts+1", "parts+0+undo", "parts+1+undo", "top+undo"].map(str::to_owned);
        if workflow == "whole" {
            assert_eq!((state, &effects), (RunState::Completed, &BTreeSet::from(whole)), "{dies_at:?}");
        } else {
            assert_eq!((state, &effects), (RunState::Failed, &BTreeSet::from(torn)), "{dies_at:?}");
        }
        // Elements run side by side: each that was in work when the process died begins again.
        assert!(done_again <= 5, "{dies_at:?}: {done_again} done again");
        self.kills += 1;
        self.completed += usize::from(workflow == "whole");
        self.compensated += usize::from(workflow == "torn");
        self.effects += effects.len();
        self.done_again += done_again;
    }
}

/// Which passes of each boundary kill; all of them where the full count is played.
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests chooses")]
fn passes_played() -> Vec<u64> {
    let is_full = std::env::var("ISH_TEST_ROUNDS").is_ok_and(|rounds| rounds.parse::<u64>().is_ok_and(|n| n >= PASSES));
    if is_full { (1..=PASSES).collect() } else { vec![3] }
}

async fn all_boundaries(place: Place) -> Tally {
    let (workflows, _) = place.workflows(&Arc::new(Metrics::new())).await;
    let mut tally = Tally::default();
    for workflow in ["whole", "torn"] {
        for point in POINTS {
            for pass in passes_played() {
                tally.round(&place, &workflows, workflow, (point, pass)).await;
            }
        }
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_at_a_boundary_goes_on_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let tally = all_boundaries(Place { urls: None, folder: folder.path().to_owned(), dies_at: None }).await;
    report::write(
        "workflows-sqlite",
        "a process that aborts at the boundaries of steps",
        &json!({"store": "sqlite", "rounds": tally}),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_at_a_boundary_is_followed_by_another_on_postgres() {
    let (database, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let urls = Some((database.url.clone(), database.direct_url.clone()));
    let tally = all_boundaries(Place { urls, folder: folder.path().to_owned(), dies_at: None }).await;
    let counted = json!({"store": "postgres through pgbouncer", "rounds": tally});
    report::write("workflows-postgres", "a process that aborts at the boundaries of steps", &counted);
}
