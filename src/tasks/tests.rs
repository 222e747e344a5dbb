//! What the queue promises, on each of its databases.

mod callers;
mod property;
mod workers;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::headroom::{Limit, Limits};
use super::outcome::{End, Moment, settled};
use super::present::Sign;
use super::stored::{Claim, Claimed, Held, Settled};
use super::*;
use crate::clock::new_id;
use crate::config::{Config, Environment};
use crate::db::tests::{Backend, TestDb, contract};
use crate::db::{MigrationSet, PostgresDb, Purpose, SqliteDb};

contract![
    a_task_is_stored_as_it_was_meant,
    the_most_urgent_is_claimed_first_and_waiting_makes_up_for_priority,
    only_what_is_due_known_and_not_paused_is_claimed,
    no_two_workers_get_one_task,
    an_end_is_of_the_claim_that_holds,
    a_failure_comes_back_and_the_last_is_a_dead_letter,
    what_a_lost_worker_had_is_done_by_another_until_it_is_poison,
    a_heartbeat_keeps_a_lease_and_hears_of_a_wish_to_cancel,
    a_living_task_keeps_its_twin_out,
    a_wish_that_is_repeated_is_the_same_task,
    all_of_a_batch_is_stored_or_none,
    limits_hold_over_workers,
    operators_cancel_retry_pause_and_purge,
    what_ended_long_ago_is_forgotten,
    a_slot_is_moved_on_once,
    a_task_is_there_exactly_if_its_transaction_is,
    tasks_are_counted_by_kind_queue_and_state,
    a_process_is_known_while_it_says_so,
];

/// The plan of a statement on an empty file.
pub(super) async fn sqlite_plan(statement: &'static str) -> String {
    let database = TestDb::new(Backend::Sqlite).await;
    let Db::Sqlite(db) = database.open(MigrationSet::ISH).await else { panic!("it is a file") };
    let plan = sqlx::query_as(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
    let rows: Vec<(i64, i64, i64, String)> = plan.fetch_all(&mut *db.read().await.unwrap()).await.unwrap();
    rows.into_iter().map(|(.., line)| line + "\n").collect()
}

/// A job with one argument.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Greet {
    name: String,
}

impl Job for Greet {
    const KIND: &'static str = "greet";
    const VERSION: u16 = 2;
    const POLICY: Policy = Policy { priority: Priority::High, max_attempts: 3, queue: "mail", ..Policy::DEFAULT };
    type State = ();
    type Output = String;

    async fn run(self, _: Arc<()>, _: JobContext) -> Result<String, JobError> {
        Ok(format!("hello, {}", self.name))
    }
}

const THREE: NonZeroU16 = NonZeroU16::new(3).unwrap();

fn greet(name: &str) -> NewTask {
    NewTask::new(&Greet { name: name.to_owned() })
}

fn config() -> TasksConfig {
    Config::read(&Environment::default(), None).unwrap().tasks
}

async fn queue(database: &TestDb) -> Queue {
    Queue::new(database.open(MigrationSet::ISH).await, &config())
}

/// Lets so much time pass for all tasks.
async fn age(queue: &Queue, by: Duration) {
    let aged = "UPDATE tasks SET run_at = run_at - $1, rank = rank - $1, lease_until = lease_until - $1, \
                enqueued_at = enqueued_at - $1, ended_at = ended_at - $1";
    run(queue, aged, ms(by)).await;
    run(queue, "UPDATE task_keys SET expires_at = expires_at - $1", ms(by)).await;
}

/// How long a task's lease is good for.
async fn lease_left(queue: &Queue, id: Uuid) -> Duration {
    let until: i64 = match &queue.inner.db {
        Db::Sqlite(db) => {
            let query = sqlx::query_scalar("SELECT lease_until FROM tasks WHERE id = $1").bind(id.to_string());
            query.fetch_one(&mut *db.read().await.unwrap()).await.unwrap()
        }
        Db::Postgres(db) => {
            let query = sqlx::query("SELECT lease_until FROM tasks WHERE id = $1").bind(id);
            sqlx::Row::get(&db.system(Purpose::Tasks).await.unwrap().one(query).await.unwrap(), 0)
        }
    };
    Duration::from_millis((until - queue.slots().await.unwrap().1).max(0) as u64)
}

async fn run(queue: &Queue, statement: &'static str, number: i64) {
    match &queue.inner.db {
        Db::Sqlite(db) => {
            let aged = db.write(move |tx| {
                Box::pin(async move { sqlx::query(statement).bind(number).execute(tx).await.map(drop) })
            });
            aged.await.unwrap();
        }
        Db::Postgres(db) => {
            let mut tx = db.system(Purpose::Tasks).await.unwrap();
            tx.execute(sqlx::query(statement).bind(number)).await.unwrap();
            tx.commit().await.unwrap();
        }
    }
}

fn claim_of(worker: Uuid, count: u32) -> Claim {
    Claim { worker, versions: r#"{"greet":2}"#.to_owned(), count, lease_ms: 30_000 }
}

async fn claim(queue: &Queue, count: u32) -> Vec<Claimed> {
    queue.claim(claim_of(new_id(), count), &Limits::default()).await.unwrap()
}

async fn claim_one(queue: &Queue) -> Claimed {
    claim(queue, 1).await.pop().unwrap()
}

fn ended(claimed: &Claimed, end: End) -> Settled {
    settled(claimed, end, None, Backoff::DEFAULT, Moment { now_ms: 7, jitter: 1.0 })
}

async fn settle(queue: &Queue, claimed: &Claimed, end: End) -> bool {
    queue.settle(vec![ended(claimed, end)]).await.unwrap() == [claimed.id]
}

fn ids(claimed: &[Claimed]) -> Vec<Uuid> {
    claimed.iter().map(|task| task.id).collect()
}

async fn a_task_is_stored_as_it_was_meant(database: TestDb) {
    let queue = queue(&database).await;
    let enqueued = queue.enqueue(greet("Ada").tenant("acme").delay(Duration::from_mins(1))).await.unwrap();
    assert!(enqueued.is_new);
    let task = queue.task(enqueued.id).await.unwrap();
    assert_eq!((task.kind.as_str(), task.version, task.queue.as_str()), ("greet", 2, "mail"));
    assert_eq!((task.priority, task.state, task.attempt, task.max_attempts), (Priority::High, State::Available, 0, 3));
    assert_eq!((task.tenant.as_str(), task.arguments.get()), ("acme", r#"{"name":"Ada"}"#));
    assert_eq!(task.run_at_ms, task.enqueued_at_ms + 60_000);
    assert!(matches!(queue.task(Uuid::nil()).await, Err(TaskError::NotFound)));

    let large = queue.enqueue(greet(&"x".repeat(MOST_BYTES))).await;
    assert!(matches!(large, Err(TaskError::TooLarge { .. })), "{large:?}");
    assert!(matches!(queue.enqueue(greet("x").queue("a b")).await, Err(TaskError::Name(_))));
    assert!(matches!(queue.enqueue(greet("x").unique("")).await, Err(TaskError::Key(_))));
    assert_eq!(queue.list(&Filter::default(), 10).await.unwrap().len(), 1);
}

async fn the_most_urgent_is_claimed_first_and_waiting_makes_up_for_priority(database: TestDb) {
    let queue = queue(&database).await;
    let enqueue = async |priority| queue.enqueue(greet("x").priority(priority)).await.unwrap().id;
    let low = enqueue(Priority::Low).await;
    age(&queue, config().aging * 2 + Duration::from_secs(30)).await;
    let normal = enqueue(Priority::Normal).await;
    let second = enqueue(Priority::Normal).await;
    let high = enqueue(Priority::High).await;
    let critical = enqueue(Priority::Critical).await;
    assert_eq!(ids(&claim(&queue, 2).await), [critical, low], "two levels were waited for, and half a minute");
    assert_eq!(ids(&claim(&queue, 4).await), [high, normal, second]);
    assert!(claim(&queue, 4).await.is_empty());
}

async fn only_what_is_due_known_and_not_paused_is_claimed(database: TestDb) {
    let queue = queue(&database).await;
    let later = queue.enqueue(greet("later").delay(Duration::from_hours(1))).await.unwrap().id;
    let far = queue.enqueue(greet("at its time").run_at(u64::MAX)).await.unwrap().id;
    let mut newer = greet("newer");
    newer.version = 3;
    let mut unknown = greet("unknown");
    unknown.kind = "novel".to_owned();
    queue.enqueue_all(vec![newer, unknown]).await.unwrap();
    let paused = queue.enqueue(greet("paused").queue("slow")).await.unwrap().id;
    queue.pause(&Pause::Queue("slow".to_owned())).await.unwrap();
    assert!(claim(&queue, 10).await.is_empty());

    assert!(queue.resume(&Pause::Queue("slow".to_owned())).await.unwrap());
    queue.pause(&Pause::Kind("greet".to_owned())).await.unwrap();
    assert_eq!(queue.pauses().await.unwrap(), [Pause::Kind("greet".to_owned())]);
    assert!(claim(&queue, 10).await.is_empty());
    queue.resume(&Pause::Kind("greet".to_owned())).await.unwrap();
    assert_eq!(ids(&claim(&queue, 10).await), [paused]);

    age(&queue, Duration::from_mins(61)).await;
    assert_eq!(ids(&claim(&queue, 10).await), [later]);
    assert_eq!(queue.task(far).await.unwrap().state, State::Available);
}

async fn no_two_workers_get_one_task(database: TestDb) {
    let queue = queue(&database).await;
    let enqueued = queue.enqueue_all((0..200).map(|number| greet(&number.to_string())).collect()).await.unwrap();
    let workers = (0..8).map(|_| {
        let queue = queue.clone();
        tokio::spawn(async move {
            let mut all = Vec::new();
            loop {
                let claimed = claim(&queue, 3).await;
                if claimed.is_empty() {
                    return all;
                }
                all.extend(ids(&claimed));
            }
        })
    });
    let mut claimed = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        claimed.extend(worker.await.unwrap());
    }
    let once: BTreeSet<_> = claimed.iter().copied().collect();
    assert_eq!((claimed.len(), once), (200, enqueued.iter().map(|task| task.id).collect()));
}

async fn an_end_is_of_the_claim_that_holds(database: TestDb) {
    let queue = queue(&database).await;
    let id = queue.enqueue(greet("Ada")).await.unwrap().id;
    let first = claim_one(&queue).await;
    age(&queue, Duration::from_secs(31)).await;
    let lost = queue.expired(10).await.unwrap();
    assert_eq!(ids(&lost), [id]);
    assert!(settle(&queue, &lost[0], End::WorkerLost).await);
    assert!(!settle(&queue, &first, End::Done(None)).await, "it is another's");
    assert!(!settle(&queue, &lost[0], End::WorkerLost).await, "it was taken over once");

    age(&queue, Duration::from_secs(2)).await;
    let second = claim_one(&queue).await;
    assert!(!settle(&queue, &first, End::Done(None)).await, "it is not that claim");
    assert!(settle(&queue, &second, End::Done(Some("\"done\"".to_owned()))).await);
    let task = queue.task(id).await.unwrap();
    assert_eq!((task.state, task.attempt, task.result.unwrap().get()), (State::Completed, 2, "\"done\""));
    assert!(task.worker.is_none() && task.ended_at_ms.is_some() && task.failures.len() == 1);
}

async fn a_failure_comes_back_and_the_last_is_a_dead_letter(database: TestDb) {
    let queue = queue(&database).await;
    let id = queue.enqueue(greet("x")).await.unwrap().id;
    for attempt in 1..=3 {
        let claimed = claim_one(&queue).await;
        assert_eq!(claimed.attempt, attempt);
        assert!(settle(&queue, &claimed, End::Failed(JobError::retry(format_args!("no {attempt}")))).await);
        assert!(claim(&queue, 1).await.is_empty(), "it waits");
        age(&queue, Duration::from_secs(1 << (attempt - 1))).await;
    }
    let task = queue.task(id).await.unwrap();
    let errors: Vec<_> = task.failures.iter().map(|failure| failure.error.as_str()).collect();
    assert_eq!((task.state, errors), (State::Discarded, vec!["no 1", "no 2", "no 3"]));
    assert_eq!(queue.waiting().await.unwrap().1, 1);
    assert_eq!(queue.stats().await.unwrap().states.get("discarded"), Some(&1));

    let drained = queue.enqueue(greet("drained")).await.unwrap().id;
    let claimed = claim_one(&queue).await;
    let draining = Some(Interruption::Draining);
    let back = settled(&claimed, End::HandedBack, draining, Backoff::DEFAULT, Moment { now_ms: 0, jitter: 0.0 });
    queue.settle(vec![back]).await.unwrap();
    let again = claim_one(&queue).await;
    assert_eq!((again.id, again.attempt), (drained, 1), "what was handed back is no attempt");
    assert!(!settle(&queue, &claimed, End::Done(None)).await, "and no claim");
}

async fn what_a_lost_worker_had_is_done_by_another_until_it_is_poison(database: TestDb) {
    let queue = queue(&database).await;
    let id = queue.enqueue(greet("poison")).await.unwrap().id;
    for _ in 0..3 {
        assert_eq!(claim_one(&queue).await.id, id);
        assert!(queue.expired(10).await.unwrap().is_empty());
        age(&queue, Duration::from_mins(10)).await;
        let lost = queue.expired(10).await.unwrap();
        assert!(settle(&queue, &lost[0], End::WorkerLost).await);
        age(&queue, Duration::from_mins(10)).await;
    }
    assert!(claim(&queue, 1).await.is_empty());
    assert_eq!(queue.task(id).await.unwrap().state, State::Discarded);
}

async fn a_heartbeat_keeps_a_lease_and_hears_of_a_wish_to_cancel(database: TestDb) {
    let queue = queue(&database).await;
    queue.enqueue_all(vec![greet("a"), greet("b")]).await.unwrap();
    let [one, other] = claim(&queue, 2).await.try_into().unwrap();
    age(&queue, Duration::from_secs(29)).await;
    let held = |claimed: &Claimed, progress: Option<&str>| Held {
        id: claimed.id,
        epoch: claimed.epoch,
        progress: progress.map(str::to_owned),
    };
    assert_eq!(queue.beat(vec![held(&one, Some("[1]"))], 30_000).await.unwrap(), [(one.id, false)]);
    age(&queue, Duration::from_secs(2)).await;
    assert_eq!(ids(&queue.expired(10).await.unwrap()), [other.id]);
    assert!(settle(&queue, &other, End::Done(None)).await, "late, but nobody else has it");

    assert_eq!(queue.cancel(one.id).await.unwrap(), State::Running);
    let both = vec![held(&one, None), held(&other, None)];
    assert_eq!(queue.beat(both, 30_000).await.unwrap(), [(one.id, true)]);
    assert_eq!(queue.task(one.id).await.unwrap().progress.unwrap().get(), "[1]");
    age(&queue, Duration::from_secs(31)).await;
    let lost = queue.expired(10).await.unwrap();
    assert!(settle(&queue, &lost[0], End::WorkerLost).await);
    assert_eq!(queue.task(one.id).await.unwrap().state, State::Cancelled, "nobody wants it done again");
}

async fn a_living_task_keeps_its_twin_out(database: TestDb) {
    let queue = queue(&database).await;
    let first = queue.enqueue(greet("a").unique("key")).await.unwrap();
    let twin = queue.enqueue(greet("b").unique("key")).await.unwrap();
    assert_eq!((twin.id, twin.is_new), (first.id, false));
    assert!(queue.enqueue(greet("b").unique("key").tenant("other")).await.unwrap().is_new);
    let claimed = claim_one(&queue).await;
    assert!(!queue.enqueue(greet("b").unique("key")).await.unwrap().is_new, "it runs");
    assert!(settle(&queue, &claimed, End::Failed(JobError::fatal("no"))).await);
    assert!(queue.enqueue(greet("c").unique("key")).await.unwrap().is_new, "it has ended");
    assert!(matches!(queue.retry(first.id, THREE).await, Err(TaskError::HasTwin)));

    let racing = (0..8).map(|_| {
        let queue = queue.clone();
        tokio::spawn(async move { queue.enqueue(greet("x").unique("race")).await.unwrap() })
    });
    let mut won = Vec::new();
    for raced in racing.collect::<Vec<_>>() {
        won.push(raced.await.unwrap());
    }
    assert!(won.iter().all(|task| task.id == won[0].id) && won.iter().filter(|task| task.is_new).count() == 1);
}

async fn a_wish_that_is_repeated_is_the_same_task(database: TestDb) {
    let queue = queue(&database).await;
    let first = queue.enqueue(greet("a").idempotency("wish")).await.unwrap();
    let claimed = claim_one(&queue).await;
    assert!(settle(&queue, &claimed, End::Done(None)).await);
    let again = queue.enqueue(greet("a").idempotency("wish")).await.unwrap();
    assert_eq!((again.id, again.is_new), (first.id, false));
    assert!(matches!(queue.enqueue(greet("b").idempotency("wish")).await, Err(TaskError::Conflict)));
    age(&queue, config().idempotency + Duration::from_secs(1)).await;
    assert!(queue.enqueue(greet("b").idempotency("wish")).await.unwrap().is_new, "it is forgotten");

    let both = |name| greet(name).unique("only").idempotency(format!("wish {name}"));
    let one = queue.enqueue(both("one")).await.unwrap();
    let two = queue.enqueue(both("two")).await.unwrap();
    assert_eq!((two.id, two.is_new), (one.id, false));
    assert_eq!(queue.enqueue(both("two")).await.unwrap().id, one.id);
}

async fn all_of_a_batch_is_stored_or_none(database: TestDb) {
    let queue = queue(&database).await;
    queue.enqueue(greet("known").idempotency("known")).await.unwrap();
    let conflicting = vec![greet("a"), greet("b").idempotency("new"), greet("c").idempotency("known")];
    assert!(matches!(queue.enqueue_all(conflicting).await, Err(TaskError::Conflict)));
    let twice = vec![greet("a").idempotency("twice"), greet("b").idempotency("twice")];
    assert!(matches!(queue.enqueue_all(twice).await, Err(TaskError::Conflict)));
    assert_eq!(queue.list(&Filter::default(), 10).await.unwrap().len(), 1);

    let same = vec![greet("a").idempotency("same"), greet("plain"), greet("a").idempotency("same")];
    let same = queue.enqueue_all(same).await.unwrap();
    assert_eq!(same.iter().map(|task| task.is_new).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(same[0].id, same[2].id);
    let many = queue.enqueue_all((0..1_200).map(|number| greet(&number.to_string())).collect()).await.unwrap();
    assert_eq!(queue.list(&Filter::default(), 10_000).await.unwrap().len(), 1_000, "a page");
    assert_eq!(queue.task(many[1_199].id).await.unwrap().arguments.get(), r#"{"name":"1199"}"#);
}

async fn limits_hold_over_workers(database: TestDb) {
    let queue = queue(&database).await;
    let tenants = (0..40).map(|number| greet("x").tenant(["a", "b", NewTask::OWN_TENANT][number % 3]));
    queue.enqueue_all(tenants.collect()).await.unwrap();
    let limits = Limits::new(&Registry::new(), Limit { running: Some(3), per_minute: None });
    let workers = (0..6).map(|_| {
        let (queue, limits) = (queue.clone(), limits.clone());
        tokio::spawn(async move { queue.claim(claim_of(new_id(), 8), &limits).await.unwrap() })
    });
    let mut claimed = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        claimed.extend(worker.await.unwrap());
    }
    let of = |tenant| claimed.iter().filter(|task| task.tenant == tenant).count();
    assert_eq!([of("a"), of("b"), of(NewTask::OWN_TENANT)], [3, 3, 13], "the deployment's own have no limit");
    let mine = claimed.iter().find(|task| task.tenant == "a").unwrap();
    assert!(settle(&queue, mine, End::Done(None)).await);
    let next = queue.claim(claim_of(new_id(), 8), &limits).await.unwrap();
    assert_eq!(next.iter().map(|task| task.tenant.as_str()).collect::<Vec<_>>(), ["a"]);

    let rate = Limits::new(&Registry::new(), Limit { running: None, per_minute: Some(1) });
    for most in [2, 0] {
        assert_eq!(queue.claim(claim_of(new_id(), 8), &rate).await.unwrap().len(), most, "one of each tenant");
    }
}

async fn operators_cancel_retry_pause_and_purge(database: TestDb) {
    let queue = queue(&database).await;
    let of = |priority| greet("x").priority(priority);
    let [runs, fails, waits] = [of(Priority::Critical), of(Priority::High), of(Priority::Low)];
    let enqueued = queue.enqueue_all(vec![runs, fails, waits]).await.unwrap();
    let [runs, fails, waits] = [enqueued[0].id, enqueued[1].id, enqueued[2].id];
    let claimed = claim(&queue, 2).await;
    assert_eq!(queue.cancel(waits).await.unwrap(), State::Cancelled);
    assert!(matches!(queue.cancel(waits).await, Err(TaskError::Unfit(State::Cancelled))));
    assert!(matches!(queue.cancel(Uuid::nil()).await, Err(TaskError::NotFound)));
    assert!(matches!(queue.retry(runs, THREE).await, Err(TaskError::Unfit(State::Running))));
    assert!(settle(&queue, &claimed[1], End::Failed(JobError::fatal("no"))).await);
    assert!(settle(&queue, &claimed[0], End::Done(None)).await);
    assert!(matches!(queue.retry(runs, THREE).await, Err(TaskError::Unfit(State::Completed))));

    let dead = Filter { state: Some(State::Discarded), ..Filter::default() };
    assert_eq!(queue.list(&dead, 10).await.unwrap().iter().map(|task| task.id).collect::<Vec<_>>(), [fails]);
    queue.retry(fails, THREE).await.unwrap();
    let again = claim_one(&queue).await;
    assert_eq!((again.id, again.attempt, again.failures.len()), (fails, 2, 1));
    assert_eq!(again.max_attempts, 4, "one was made, and three are to go");

    let all = queue.list(&Filter::default(), 2).await.unwrap();
    let before = Filter { before: all.last().map(|task| task.id), ..Filter::default() };
    assert_eq!((all.len(), queue.list(&before, 2).await.unwrap().len()), (2, 1));
    let others = Filter { tenant: Some("nobody".to_owned()), ..Filter::default() };
    assert_eq!(queue.purge(&others).await.unwrap(), 0);
    assert_eq!(queue.purge(&Filter::default()).await.unwrap(), 2, "what runs stays");
    assert_eq!(queue.list(&Filter::default(), 10).await.unwrap()[0].id, fails);
}

async fn what_ended_long_ago_is_forgotten(database: TestDb) {
    let queue = queue(&database).await;
    queue.enqueue_all(vec![greet("done").idempotency("k"), greet("dead"), greet("waits")]).await.unwrap();
    let claimed = claim(&queue, 2).await;
    assert!(settle(&queue, &claimed[0], End::Done(None)).await);
    assert!(settle(&queue, &claimed[1], End::Failed(JobError::fatal("no"))).await);
    assert_eq!(queue.trim(60_000, 600_000, 10).await.unwrap(), 0);
    age(&queue, Duration::from_mins(2)).await;
    assert_eq!(queue.trim(60_000, 600_000, 10).await.unwrap(), 1);
    age(&queue, Duration::from_mins(9)).await;
    assert_eq!(queue.trim(60_000, 600_000, 10).await.unwrap(), 1);
    let left = queue.list(&Filter::default(), 10).await.unwrap();
    assert_eq!(left.iter().map(|task| task.state).collect::<Vec<_>>(), [State::Available]);
}

async fn a_slot_is_moved_on_once(database: TestDb) {
    let queue = queue(&database).await;
    let task = || Some(greet("slot").checked().unwrap());
    assert!(queue.move_slot("s", (None, 1), None).await.unwrap());
    assert!(!queue.move_slot("s", (None, 2), task()).await.unwrap());
    let racing = (0..8).map(|_| {
        let (queue, task) = (queue.clone(), task());
        tokio::spawn(async move { queue.move_slot("s", (Some(1), 5), task).await.unwrap() })
    });
    let mut moved = 0;
    for raced in racing.collect::<Vec<_>>() {
        moved += u32::from(raced.await.unwrap());
    }
    assert_eq!((moved, queue.list(&Filter::default(), 10).await.unwrap().len()), (1, 1));
    assert_eq!(queue.slots().await.unwrap().0, [("s".to_owned(), 5)]);
}

async fn tasks_are_counted_by_kind_queue_and_state(database: TestDb) {
    let queue = queue(&database).await;
    queue.enqueue_all(vec![greet("runs"), greet("waits"), greet("elsewhere").queue("other")]).await.unwrap();
    claim(&queue, 1).await;
    let stats = queue.stats().await.unwrap();
    assert_eq!(stats.states, BTreeMap::from([("available", 2), ("running", 1)]));
    let kind = |queue: &str, states: &[(&'static str, u64)]| KindStats {
        kind: "greet".to_owned(),
        queue: queue.to_owned(),
        states: states.iter().copied().collect(),
    };
    assert_eq!(stats.kinds, [kind("mail", &[("available", 1), ("running", 1)]), kind("other", &[("available", 1)])]);
}

async fn a_process_is_known_while_it_says_so(database: TestDb) {
    let queue = queue(&database).await;
    let sign = |name: &str| Sign { id: new_id(), name: name.to_owned(), room: 4, is_draining: false, lease_ms: 30_000 };
    let (busy, idle) = (sign("a"), sign("b"));
    queue.sign(busy.clone()).await.unwrap();
    queue.sign(idle.clone()).await.unwrap();
    queue.enqueue(greet("x")).await.unwrap();
    queue.claim(claim_of(busy.id, 1), &Limits::default()).await.unwrap();
    let known = async || queue.workers().await.unwrap();
    let of = |worker: &Worker| (worker.id, worker.name.clone(), worker.room, worker.running, worker.is_draining);
    assert_eq!(
        known().await.iter().map(of).collect::<Vec<_>>(),
        [(busy.id, "a".to_owned(), 4, 1, false), (idle.id, "b".to_owned(), 4, 0, false)]
    );
    let since = known().await[1].started_at_ms;
    queue.sign(Sign { room: 9, is_draining: true, ..idle.clone() }).await.unwrap();
    assert_eq!(of(&known().await[1]), (idle.id, "b".to_owned(), 9, 0, true));
    assert_eq!(known().await[1].started_at_ms, since, "it began when it began");

    run(&queue, "UPDATE task_workers SET lease_until = lease_until - $1 WHERE name = 'a'", 30_001).await;
    assert_eq!(known().await.iter().map(of).collect::<Vec<_>>(), [(idle.id, "b".to_owned(), 9, 0, true)]);
    queue.sign(idle.clone()).await.unwrap();
    run(&queue, "UPDATE task_workers SET lease_until = lease_until + $1", 60_000).await;
    assert_eq!(known().await.len(), 1, "who was silent for a lease is forgotten");
    queue.leave(idle.id).await.unwrap();
    assert_eq!(known().await, []);
}

#[test]
fn a_retry_has_as_many_attempts_as_the_job() {
    let registry = Registry::new().register::<Greet>(Arc::default());
    assert_eq!([registry.attempts("greet").get(), registry.attempts("novel").get()], [3, 5]);
}

/// A tenant's row and its task are one.
async fn a_task_is_there_exactly_if_its_transaction_is(database: TestDb) {
    let queue = queue(&database).await;
    let kept = match &queue.inner.db {
        Db::Sqlite(db) => kept_of_a_file(&queue, db).await,
        Db::Postgres(db) => kept_of_a_server(&queue, db).await,
    };
    let all = queue.list(&Filter::default(), 10).await.unwrap();
    assert_eq!(all.iter().map(|task| task.id).collect::<Vec<_>>(), [kept.id]);
}

async fn kept_of_a_file(queue: &Queue, db: &SqliteDb) -> Enqueued {
    let row = "INSERT INTO conversations (id, tenant, title, created_at, updated_at) VALUES (?1, 'acme', 'x', 1, 1)";
    let enqueued = async |name: &'static str, key: &'static str| {
        let queue = queue.clone();
        db.write(move |tx| {
            Box::pin(async move {
                sqlx::query(row).bind(key).execute(&mut *tx).await?;
                Ok(queue.enqueue_in(&mut *tx, greet(name).tenant("acme").idempotency("k")).await?)
            })
        })
        .await
    };
    let kept = enqueued("kept", "1").await.unwrap();
    // The task is refused, and its row is not there; the row is refused, and its task is not there.
    assert!(matches!(enqueued("another", "2").await, Err(DbError::Sql(sqlx::Error::Encode(_)))));
    assert!(enqueued("kept", "1").await.unwrap_err().is_duplicate());
    let undone = db.write({
        let queue = queue.clone();
        move |tx| {
            Box::pin(async move {
                queue.enqueue_in(&mut *tx, greet("undone")).await?;
                sqlx::query(row).bind("1").execute(tx).await.map(drop)
            })
        }
    });
    assert!(undone.await.unwrap_err().is_duplicate());
    let rows: Vec<String> =
        sqlx::query_scalar("SELECT id FROM conversations").fetch_all(&mut *db.read().await.unwrap()).await.unwrap();
    assert_eq!(rows, ["1"]);
    kept
}

async fn kept_of_a_server(queue: &Queue, db: &PostgresDb) -> Enqueued {
    let mut tx = db.write("acme").await.unwrap();
    queue.enqueue_in(&mut tx, greet("undone").tenant("acme")).await.unwrap();
    drop(tx);
    let mut tx = db.write("acme").await.unwrap();
    let kept = queue.enqueue_in(&mut tx, greet("kept").tenant("acme").idempotency("k")).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = db.write("acme").await.unwrap();
    let foreign = queue.enqueue_in(&mut tx, greet("foreign").tenant("other")).await;
    assert!(matches!(foreign, Err(TaskError::Store(_))), "{foreign:?}");
    kept
}

#[tokio::test]
async fn a_claim_among_very_many_reads_few() {
    let database = TestDb::new(Backend::Postgres).await;
    let queue = queue(&database).await;
    for _ in 0..4 {
        queue.enqueue_all((0..2_000).map(|_| greet("x")).collect()).await.unwrap();
    }
    database.analyze().await;
    let Db::Postgres(db) = &queue.inner.db else { panic!("it is a server") };
    let mut tx = db.system(Purpose::Tasks).await.unwrap();
    let none = Vec::<String>::new();
    let plan = crate::db::tests::plan(postgres::CLAIM, &mut tx, |query| {
        query.bind(r#"{"greet":2}"#).bind(new_id()).bind(4_i64).bind(30_000_i64).bind(none.clone()).bind(none)
    })
    .await;
    assert!(plan.contains("Index Scan using tasks_waiting") && !plan.contains("Sort"), "{plan}");
    assert!(!plan.contains("Seq Scan on tasks"), "{plan}");
}
