//! Tasks as they are looked at.

use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use super::decoded;
use crate::db::{DbError, PostgresDb, Purpose};
use crate::tasks::stored::{Counted, Waiting, task_row, waiting_row};
use crate::tasks::{Filter, Pause, State, Task};

/// A whole row, its identifiers as text.
macro_rules! task_columns {
    () => {
        "id::text, tenant, kind, version, queue, priority, state, arguments, attempt, max_attempts, run_at, enqueued_at, \
         started_at, ended_at, worker::text, cancel_wanted, unique_key, progress, result, failures"
    };
}

pub(in crate::tasks) async fn task(db: &PostgresDb, id: Uuid) -> Result<Option<Task>, DbError> {
    let query = sqlx::query(concat!("SELECT ", task_columns!(), " FROM tasks WHERE id = $1")).bind(id);
    let row = db.system(Purpose::Tasks).await?.optional(query).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

pub(in crate::tasks) async fn list(db: &PostgresDb, filter: &Filter, limit: u32) -> Result<Vec<Task>, DbError> {
    let query = sqlx::query(concat!(
        "SELECT ",
        task_columns!(),
        " FROM tasks WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR kind = $2) \
             AND ($3::text IS NULL OR tenant = $3) AND ($4::uuid IS NULL OR tasks.id < $4) ORDER BY tasks.id DESC LIMIT $5"
    ));
    let query = query
        .bind(filter.state.map(State::as_str))
        .bind(&filter.kind)
        .bind(&filter.tenant)
        .bind(filter.before)
        .bind(i64::from(limit));
    let rows = db.system(Purpose::Tasks).await?.all(query).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

fn read(row: &PgRow) -> Result<Task, Error> {
    decoded(task_row!(row).task())
}

/// What could be claimed now, by priority, and how many dead letters there are.
pub(in crate::tasks) async fn waiting(db: &PostgresDb) -> Result<(Vec<Waiting>, u64), DbError> {
    let mut tx = db.system(Purpose::Tasks).await?;
    let waiting = sqlx::query(
        "SELECT priority, count(*) AS tasks, max(ish_now_ms() - run_at) AS oldest_ms FROM tasks \
         WHERE state IN ('available', 'retryable') AND run_at <= ish_now_ms() GROUP BY priority",
    );
    let waiting = tx.all(waiting).await?;
    let of_priority = |row: &PgRow| -> Result<Waiting, Error> { Ok(waiting_row!(row).waiting()) };
    let waiting = waiting.iter().map(of_priority).collect::<Result<_, _>>()?;
    let dead: i64 = tx.one(sqlx::query("SELECT count(*) FROM tasks WHERE state = 'discarded'")).await?.try_get(0)?;
    Ok((waiting, dead as u64))
}

/// How many there are, by kind and queue.
pub(in crate::tasks) async fn counted(db: &PostgresDb) -> Result<Vec<Counted>, DbError> {
    let query = sqlx::query(
        "SELECT kind, queue, state, count(*) AS tasks FROM tasks GROUP BY kind, queue, state ORDER BY kind, queue",
    );
    let rows = db.system(Purpose::Tasks).await?.all(query).await?;
    let counted = |row: &PgRow| {
        let (tasks, kind, queue) =
            (row.try_get::<i64, _>("tasks")? as u64, row.try_get("kind")?, row.try_get("queue")?);
        Ok(Counted { kind, queue, state: row.try_get("state")?, tasks })
    };
    Ok(rows.iter().map(counted).collect::<Result<_, Error>>()?)
}

pub(in crate::tasks) async fn pauses(db: &PostgresDb) -> Result<Vec<Pause>, DbError> {
    let query = sqlx::query("SELECT scope, name FROM task_pauses ORDER BY scope, name");
    let rows = db.system(Purpose::Tasks).await?.all(query).await?;
    let pause = |row: &PgRow| Ok(Pause::of(row.try_get("scope")?, row.try_get("name")?));
    Ok(rows.iter().map(pause).collect::<Result<_, Error>>()?)
}

/// Up to which time each schedule's tasks were enqueued.
pub(in crate::tasks) async fn slots(db: &PostgresDb) -> Result<Vec<(String, i64)>, DbError> {
    let rows = db.system(Purpose::Tasks).await?.all(sqlx::query("SELECT schedule, slot FROM task_slots")).await?;
    let slot = |row: &PgRow| Ok((row.try_get("schedule")?, row.try_get("slot")?));
    Ok(rows.iter().map(slot).collect::<Result<_, Error>>()?)
}

/// The time that all others here are compared with.
pub(in crate::tasks) async fn now_ms(db: &PostgresDb) -> Result<i64, DbError> {
    let row = db.system(Purpose::Tasks).await?.one(sqlx::query("SELECT ish_now_ms()")).await?;
    Ok(row.try_get(0)?)
}
