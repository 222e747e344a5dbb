//! What the queue promises, on each of its databases.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::*;
use crate::config::{Config, Environment};
use crate::db::tests::{TestDb, contract};
use crate::db::MigrationSet;

contract![
    a_task_is_stored_as_it_was_meant,
];

/// The plan of a statement on an empty file.
pub(super) async fn sqlite_plan(statement: &'static str) -> String {
    let database = TestDb::new(crate::db::tests::Backend::Sqlite).await;
    let Db::Sqlite(db) = database.open(MigrationSet::ISH).await else { panic!("it is a file") };
    let plan = sqlx::query_as(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
    let rows: Vec<(i64, i64, i64, String)> = plan.fetch_all(&mut *db.read().await.unwrap()).await.unwrap();
    rows.into_iter().map(|(.., line)| line + "\n").collect()
}

/// A job with one argument.
#[derive(Debug, Serialize, Deserialize)]
struct Greet {
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

fn greet(name: &str) -> NewTask {
    NewTask::new(&Greet { name: name.to_owned() })
}

fn config() -> TasksConfig {
    Config::read(&Environment::default(), None).unwrap().tasks
}

async fn queue(database: &TestDb) -> Queue {
    Queue::new(database.open(MigrationSet::ISH).await, &config())
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
}
