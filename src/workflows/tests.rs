//! What workflows promise, on each of their databases.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::keeper::Looks;
use super::*;
use crate::clock::Clock;
use crate::config::{Config, Environment, TasksConfig};
use crate::db::MigrationSet;
use crate::db::tests::{TestDb, contract};
use crate::tasks::{Backoff, Filter, JobError, Pause, Policy, Priority, Registry, Schedules, WorkerParts, Workers};

contract![
    a_diamond_goes_from_both_sides,
    a_list_fans_out_and_in,
    what_was_done_is_undone_the_latest_first,
    a_cancelled_run_ends_and_is_undone,
    a_retry_goes_on_where_it_failed,
    an_element_that_fails_undoes_the_others,
    a_compensation_that_fails_stays_until_it_is_retried,
    a_start_that_is_repeated_is_the_same_run,
    an_unknown_version_waits_and_is_told_of,
    a_task_that_is_gone_has_another_and_one_that_was_cancelled_fails_its_run,
    runs_are_listed_and_forgotten,
];

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_mins(1);

/// Tried twice, at once.
const TWICE: Policy = Policy {
    max_attempts: 2,
    backoff: Backoff { base: Duration::from_millis(1), cap: Duration::from_millis(1) },
    ..Policy::DEFAULT
};

/// What the steps of tests do, by their keys; and which of them fail.
#[derive(Default)]
struct Stage {
    effects: Mutex<Vec<String>>,
    failing: Mutex<BTreeSet<&'static str>>,
    gate: watch::Sender<bool>,
}

impl Stage {
    fn fail(&self, step: &'static str) {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).insert(step);
    }

    fn mend(&self) {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn does(&self, step: &str, context: &StepContext) -> Result<(), JobError> {
        if self.failing.lock().unwrap_or_else(PoisonError::into_inner).contains(step) {
            return Err(JobError::retry(format_args!("{step} fails")));
        }
        self.effects.lock().unwrap_or_else(PoisonError::into_inner).push(context.key().to_owned());
        Ok(())
    }

    /// The keys of what was done, without their run.
    fn done(&self) -> Vec<String> {
        let effects = self.effects.lock().unwrap_or_else(PoisonError::into_inner);
        effects.iter().map(|key| key.split_once('/').unwrap().1.to_owned()).collect()
    }
}

/// A step that returns `output`, and can be undone.
fn plain(stage: &Arc<Stage>, name: &'static str, output: Value) -> Step {
    let (does, undoes) = (Arc::clone(stage), Arc::clone(stage));
    let code = move |context: StepContext| {
        let done = does.does(name, &context).map(|()| output.clone());
        async move { done }
    };
    let undo = move |context: StepContext| {
        let undone = undoes.does("undo", &context);
        async move { undone }
    };
    Step::new(name, code).policy(TWICE).undo(undo).undo_policy(TWICE)
}

/// A process that knows some workflows.
struct Process {
    workflows: Workflows,
    queue: Queue,
    workers: Workers,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
}

fn config() -> TasksConfig {
    let mut config = Config::read(&Environment::default(), None).unwrap().tasks;
    config.heartbeat = Duration::from_millis(20);
    config
}

fn defined(workflow: Workflow) -> Definitions {
    Definitions::new().with(workflow).unwrap()
}

impl Process {
    async fn start(database: &TestDb, definitions: Definitions) -> Self {
        let (db, config) = (database.open(MigrationSet::ISH).await, config());
        let (queue, metrics, tasks) = (Queue::new(db.clone(), &config), Arc::new(Metrics::new()), TaskTracker::new());
        let workflows = Workflows::new(db, queue.clone(), definitions, Arc::clone(&metrics));
        let workers = Workers::start(WorkerParts {
            queue: queue.clone(),
            registry: Arc::new(workflows.register(Registry::new())),
            schedules: Schedules::new(),
            config,
            metrics: Arc::clone(&metrics),
            clock: Clock::system(),
            tasks: tasks.clone(),
        });
        Self { workflows, queue, workers, metrics, tasks }
    }

    async fn begin(&self, workflow: &str, input: Value) -> Uuid {
        self.workflows.start(NewRun::new(workflow, &input)).await.unwrap().id
    }

    /// Looks after runs once, as a process does every few seconds.
    async fn look(&self) {
        self.workflows.look_once(&mut Looks::default()).await.unwrap();
    }

    async fn once(&self, run: Uuid, is_so: impl Fn(&Run) -> bool) -> Run {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.workflows.run(run).await.unwrap();
            if is_so(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{seen:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn ended(&self, run: Uuid) -> Run {
        self.once(run, |run| run.state.has_ended()).await
    }

    async fn end(self) {
        self.workers.drained(Instant::now() + PATIENCE).await;
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait()).await.unwrap();
    }
}

fn states(run: &Run) -> BTreeMap<&str, StepState> {
    run.steps.iter().map(|step| (step.name.as_str(), step.state)).collect()
}

fn step<'r>(run: &'r Run, name: &str) -> &'r RunStep {
    run.steps.iter().find(|step| step.name == name).unwrap_or_else(|| panic!("{name} in {run:?}"))
}

async fn a_diamond_goes_from_both_sides(database: TestDb) {
    let stage = Arc::new(Stage::default());
    let join = |context: StepContext| async move {
        let (left, right): (u32, u32) = (context.output("left")?, context.output("right")?);
        Ok(context.input::<u32>()? + left + right)
    };
    let diamond = Workflow::new("diamond", 1)
        .step(Step::new("join", join).after(["left", "right"]))
        .step(plain(&stage, "left", json!(10)).after(["top"]))
        .step(plain(&stage, "right", json!(20)).after(["top"]))
        .step(plain(&stage, "top", json!(null)));
    let process = Process::start(&database, defined(diamond)).await;
    let run = process.ended(process.begin("diamond", json!(3)).await).await;
    assert_eq!((run.state, run.output.as_ref().unwrap().get()), (RunState::Completed, "33"));
    assert_eq!(stage.done()[0], "top", "the others wait for it");
    assert_eq!(stage.done().len(), 3);
    assert!(run.steps.iter().all(|step| step.state == StepState::Completed && step.attempt == 1));
    assert!(run.steps.iter().all(|step| step.started_at_ms.is_some() && step.ended_at_ms.is_some()), "{run:?}");
    assert_eq!(step(&run, "join").after, ["left", "right"]);
    assert_eq!(process.metrics.workflows_ended.with_label_values(&["diamond", "completed"]).get(), 1);
    process.end().await;
}

async fn a_list_fans_out_and_in(database: TestDb) {
    let list = |context: StepContext| async move { Ok((0..context.input::<u32>()?).collect::<Vec<_>>()) };
    let double = |context: StepContext| async move {
        assert_eq!(context.index(), Some(context.element::<u32>()?));
        Ok(context.element::<u32>()? * 2)
    };
    let sum = |context: StepContext| async move {
        let doubled: Vec<u32> = context.output("double")?;
        assert!(doubled.iter().enumerate().all(|(place, doubled)| *doubled as usize == 2 * place), "in their order");
        Ok(doubled.iter().sum::<u32>())
    };
    let fan = Workflow::new("fan", 1)
        .step(Step::new("list", list))
        .step(Step::each("double", "list", double).at_once(NonZeroU16::new(50).unwrap()))
        .step(Step::new("sum", sum).after(["double"]));
    let process = Process::start(&database, defined(fan)).await;
    let run = process.ended(process.begin("fan", json!(1_000)).await).await;
    assert_eq!((run.state, run.output.as_ref().unwrap().get()), (RunState::Completed, "999000"), "{:?}", run.error);
    let items = ItemCounts { total: 1_000, completed: 1_000, failed: 0, running: 0 };
    assert_eq!((step(&run, "double").items, step(&run, "double").kind.as_str()), (Some(items), "each"));
    assert_eq!(process.queue.list(&Filter::default(), 1_000).await.unwrap().len(), 1_000, "1,002 tasks: one for each");
    let empty = process.ended(process.begin("fan", json!(0)).await).await;
    assert_eq!((empty.state, empty.output.unwrap().get()), (RunState::Completed, "0"));
    process.end().await;
}

async fn what_was_done_is_undone_the_latest_first(database: TestDb) {
    let stage = Arc::new(Stage::default());
    stage.fail("c");
    let flow = Workflow::new("flow", 1)
        .step(plain(&stage, "a", json!("A")))
        .step(plain(&stage, "b", json!("B")).after(["a"]))
        .step(plain(&stage, "c", json!("C")).after(["b"]))
        .step(plain(&stage, "d", json!("D")).after(["c"]));
    let process = Process::start(&database, defined(flow)).await;
    let run = process.ended(process.begin("flow", json!({})).await).await;
    assert_eq!((run.state, run.error.as_deref()), (RunState::Failed, Some("c: c fails")));
    assert_eq!(stage.done(), ["a", "b", "b/undo", "a/undo"]);
    let [a, c, d] = [StepState::Compensated, StepState::Failed, StepState::Skipped];
    let expected =
        [("a", a), ("b", a), ("c", c), ("d", d), ("a:undo", StepState::Completed), ("b:undo", StepState::Completed)];
    assert_eq!(states(&run), expected.into());
    assert_eq!((step(&run, "c").attempt, step(&run, "c").error.as_deref()), (2, Some("c fails")));
    assert_eq!(step(&run, "a:undo").compensates.as_deref(), Some("a"));
    assert_eq!(process.metrics.workflows_ended.with_label_values(&["flow", "failed"]).get(), 1);
    assert!(matches!(process.workflows.cancel(run.id).await, Err(WorkflowError::Unfit(RunState::Failed))));
    process.end().await;
}

async fn a_cancelled_run_ends_and_is_undone(database: TestDb) {
    let stage = Arc::new(Stage::default());
    let listen = |context: StepContext| async move {
        context.job().cancelled().await;
        Err::<(), _>(JobError::retry("it was interrupted"))
    };
    let wait = Arc::clone(&stage);
    let waits = move |_: StepContext| {
        let mut gate = wait.gate.subscribe();
        async move { gate.wait_for(|open| *open).await.map(drop).map_err(JobError::from) }
    };
    let flow = Workflow::new("flow", 1)
        .step(plain(&stage, "a", json!(1)))
        .step(Step::new("listens", listen).after(["a"]))
        .step(Step::new("waits", waits).after(["a"]))
        .step(Step::new("paused", |_| async { Ok(()) }).after(["a"]))
        .step(plain(&stage, "last", json!(1)).after(["listens"]));
    let process = Process::start(&database, defined(flow)).await;
    process.queue.pause(&Pause::Kind("flow:1:paused".to_owned())).await.unwrap();
    let id = process.begin("flow", json!({})).await;
    process
        .once(id, |run| {
            step(run, "listens").state == StepState::Running && step(run, "waits").state == StepState::Running
        })
        .await;
    assert_eq!(process.workflows.cancel(id).await.unwrap(), RunState::Compensating);
    let run = process.once(id, |run| step(run, "listens").state == StepState::Skipped).await;
    assert_eq!((run.state, step(&run, "paused").state), (RunState::Compensating, StepState::Skipped));
    assert_eq!(stage.done(), ["a"], "what is in work may end first");
    stage.gate.send_replace(true);
    let run = process.ended(id).await;
    assert_eq!((run.state, run.error), (RunState::Cancelled, None));
    assert_eq!(stage.done(), ["a", "a/undo"]);
    assert!(matches!(process.workflows.cancel(Uuid::nil()).await, Err(WorkflowError::NotFound)));
    process.end().await;
}

async fn a_retry_goes_on_where_it_failed(database: TestDb) {
    let stage = Arc::new(Stage::default());
    stage.fail("c");
    let kept = Arc::clone(&stage);
    let keep = move |context: StepContext| {
        let done = kept.does("kept", &context);
        async move { done }
    };
    let flow = Workflow::new("flow", 1)
        .step(Step::new("kept", keep))
        .step(plain(&stage, "b", json!(2)).after(["kept"]))
        .step(plain(&stage, "c", json!(3)).after(["b"]));
    let process = Process::start(&database, defined(flow)).await;
    let id = process.begin("flow", json!({})).await;
    assert_eq!(process.ended(id).await.state, RunState::Failed);
    stage.mend();
    assert_eq!(process.workflows.retry(id).await.unwrap(), RunState::Running);
    let run = process.ended(id).await;
    assert_eq!((run.state, run.error.as_ref(), run.steps.len()), (RunState::Completed, None, 3), "{run:?}");
    assert_eq!(
        stage.done(),
        ["kept", "b", "b/undo", "b~1", "c"],
        "what was undone is done anew, under a key of its own"
    );
    assert!(matches!(process.workflows.retry(id).await, Err(WorkflowError::Unfit(RunState::Completed))));
    process.end().await;
}

async fn an_element_that_fails_undoes_the_others(database: TestDb) {
    let stage = Arc::new(Stage::default());
    stage.fail("2");
    let (does, undoes) = (Arc::clone(&stage), Arc::clone(&stage));
    let each = move |context: StepContext| {
        let done = context.element::<String>().and_then(|element| does.does(&element, &context).map(|()| element));
        async move { done }
    };
    let undo = move |context: StepContext| {
        let undone = context.output::<String>("each").and_then(|_| undoes.does("undo", &context));
        async move { undone }
    };
    let flow = Workflow::new("flow", 1)
        .step(plain(&stage, "list", json!(["0", "1", "2", "3"])))
        .step(Step::each("each", "list", each).policy(TWICE).at_once(NonZeroU16::MIN).undo(undo))
        .step(plain(&stage, "end", json!(1)).after(["each"]));
    let process = Process::start(&database, defined(flow)).await;
    let id = process.begin("flow", json!({})).await;
    let run = process.ended(id).await;
    assert_eq!((run.state, run.error.as_deref()), (RunState::Failed, Some("each: 2 fails")));
    assert_eq!(stage.done(), ["list", "each/0", "each/1", "each/1/undo", "each/0/undo", "list/undo"]);
    assert_eq!((step(&run, "each").state, step(&run, "each").items.unwrap().failed), (StepState::Failed, 1));
    stage.mend();
    process.workflows.retry(id).await.unwrap();
    let run = process.ended(id).await;
    assert_eq!(run.state, RunState::Completed, "{run:?}");
    assert_eq!(stage.done()[6..], ["list~1", "each/0~1", "each/1~1", "each/2~1", "each/3~1", "end"], "of another list");
    assert_eq!(step(&run, "each").output.as_ref().unwrap().get(), r#"["0","1","2","3"]"#);
    process.end().await;
}

async fn a_compensation_that_fails_stays_until_it_is_retried(database: TestDb) {
    let stage = Arc::new(Stage::default());
    stage.fail("undo");
    let hostile = |_: StepContext| async { Err::<(), _>(JobError::fatal(format_args!("\0{}", "é".repeat(2_000)))) };
    let flow = Workflow::new("flow", 1).step(plain(&stage, "a", json!("A"))).step(Step::new("b", hostile).after(["a"]));
    let process = Process::start(&database, defined(flow)).await;
    let id = process.begin("flow", json!({})).await;
    let run = process.ended(id).await;
    assert_eq!((run.state, step(&run, "a").state), (RunState::CompensationFailed, StepState::Compensating));
    assert_eq!(step(&run, "a:undo").error.as_deref(), Some("undo fails"));
    let error = step(&run, "b").error.as_deref().unwrap();
    assert!(error.starts_with("\u{fffd}é") && error.len() < 2_010, "{error}");
    stage.mend();
    process.workflows.retry(id).await.unwrap();
    assert_eq!(process.ended(id).await.state, RunState::Failed);
    assert_eq!(stage.done(), ["a", "a/undo"]);
    process.end().await;
}

async fn a_start_that_is_repeated_is_the_same_run(database: TestDb) {
    let stage = Arc::new(Stage::default());
    let process = Process::start(&database, defined(Workflow::new("flow", 1).step(plain(&stage, "a", json!(1))))).await;
    let racing = (0..8).map(|_| {
        let workflows = process.workflows.clone();
        tokio::spawn(async move { workflows.start(NewRun::new("flow", &1).key("k")).await.unwrap() })
    });
    let mut started = Vec::new();
    for raced in racing.collect::<Vec<_>>() {
        started.push(raced.await.unwrap());
    }
    assert!(started.iter().all(|run| run.id == started[0].id));
    assert_eq!(started.iter().filter(|run| run.is_new).count(), 1);
    process.ended(started[0].id).await;
    assert_eq!(stage.done(), ["a"]);
    let start = async |run: NewRun| process.workflows.start(run).await;
    assert!(matches!(start(NewRun::new("flow", &2).key("k")).await, Err(WorkflowError::Conflict)));
    assert!(start(NewRun::new("flow", &2).key("k").tenant("acme")).await.unwrap().is_new);
    assert!(matches!(start(NewRun::new("flow", &2).key("")).await, Err(WorkflowError::Key(_))));
    assert!(matches!(start(NewRun::new("other", &2)).await, Err(WorkflowError::Unknown(_))));
    let large = start(NewRun::new("flow", &"x".repeat(MOST_INPUT_BYTES))).await;
    assert!(matches!(large, Err(WorkflowError::TooLarge { .. })), "{large:?}");
    process.end().await;
}

async fn an_unknown_version_waits_and_is_told_of(database: TestDb) {
    let stage = Arc::new(Stage::default());
    let of = |version| Workflow::new("flow", version).step(plain(&stage, "a", json!(version)));
    let older = Process::start(&database, defined(of(1))).await;
    older.queue.pause(&Pause::Kind("flow:1:a".to_owned())).await.unwrap();
    let id = older.begin("flow", json!({})).await;
    older.end().await;
    let newer = Process::start(&database, defined(of(2))).await;
    newer.queue.resume(&Pause::Kind("flow:1:a".to_owned())).await.unwrap();
    let own = newer.ended(newer.begin("flow", json!({})).await).await;
    assert_eq!((own.version, own.state), (2, RunState::Completed));
    newer.look().await;
    assert_eq!((newer.metrics.workflows_running.get(), newer.metrics.workflows_stuck.get()), (1, 1));
    let run = newer.workflows.run(id).await.unwrap();
    assert_eq!((run.state, run.version, step(&run, "a").state), (RunState::Running, 1, StepState::Ready));
    let cancelled = newer.workflows.cancel(id).await;
    assert!(matches!(cancelled, Err(WorkflowError::UnknownVersion { version: 1, .. })), "{cancelled:?}");
    newer.end().await;
    let both = Process::start(&database, defined(of(1)).with(of(2)).unwrap()).await;
    let run = both.ended(id).await;
    assert_eq!((run.state, run.output.unwrap().get()), (RunState::Completed, "1"));
    both.look().await;
    assert_eq!((both.metrics.workflows_running.get(), both.metrics.workflows_stuck.get()), (0, 0));
    both.end().await;
}

async fn a_task_that_is_gone_has_another_and_one_that_was_cancelled_fails_its_run(database: TestDb) {
    let stage = Arc::new(Stage::default());
    let flow = Workflow::new("flow", 1).step(plain(&stage, "a", json!(1)));
    let process = Process::start(&database, defined(flow)).await;
    let pause = Pause::Kind("flow:1:a".to_owned());
    process.queue.pause(&pause).await.unwrap();
    let (gone, cancelled) = (process.begin("flow", json!(1)).await, process.begin("flow", json!(2)).await);
    let task_of = async |run| step(&process.workflows.run(run).await.unwrap(), "a").task.unwrap();
    let first = task_of(gone).await;
    process.queue.cancel(task_of(cancelled).await).await.unwrap();
    process.queue.purge(&Filter::default()).await.unwrap();
    process.look().await;
    assert_eq!(process.workflows.run(gone).await.unwrap().state, RunState::Running);
    assert_eq!(task_of(gone).await, first, "what lives is left alone");
    let second = task_of(cancelled).await;
    process.queue.cancel(second).await.unwrap();
    process.look().await;
    let run = process.workflows.run(cancelled).await.unwrap();
    assert_eq!((run.state, run.error.as_deref()), (RunState::Failed, Some("a: its task was cancelled")));
    process.queue.resume(&pause).await.unwrap();
    assert_eq!(process.ended(gone).await.state, RunState::Completed);
    process.end().await;
}

async fn runs_are_listed_and_forgotten(database: TestDb) {
    let stage = Arc::new(Stage::default());
    stage.fail("bad");
    let good =
        Workflow::new("good", 1).step(plain(&stage, "a", json!([1]))).step(Step::each("e", "a", |_| async { Ok(()) }));
    let bad = Workflow::new("bad", 1)
        .step(plain(&stage, "bad", json!(1)).policy(Policy { priority: Priority::High, ..TWICE }));
    let process = Process::start(&database, defined(good).with(bad).unwrap()).await;
    let (first, second) = (process.begin("good", json!(1)).await, process.begin("bad", json!(2)).await);
    process.ended(first).await;
    process.ended(second).await;
    let list = async |filter: RunFilter| {
        process.workflows.list(&filter, 10).await.unwrap().iter().map(|run| run.id).collect::<Vec<_>>()
    };
    assert_eq!(list(RunFilter::default()).await, [second, first]);
    assert_eq!(list(RunFilter { before: Some(second), ..RunFilter::default() }).await, [first]);
    assert_eq!(list(RunFilter { state: Some(RunState::Failed), ..RunFilter::default() }).await, [second]);
    assert_eq!(list(RunFilter { workflow: Some("good".to_owned()), ..RunFilter::default() }).await, [first]);
    assert!(list(RunFilter { tenant: Some("acme".to_owned()), ..RunFilter::default() }).await.is_empty());
    let kinds = process.workflows.shapes();
    assert_eq!(kinds.iter().map(|shape| shape.name.as_str()).collect::<Vec<_>>(), ["bad", "good"]);
    // Whatever has ended, but what failed.
    let kept = Kept { ended: Duration::ZERO, dead: Duration::from_hours(1) };
    assert_eq!(process.workflows.forget(kept).await.unwrap(), 1);
    assert_eq!(list(RunFilter::default()).await, [second]);
    process.end().await;
}
