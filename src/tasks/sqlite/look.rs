//! Tasks as they are looked at.

use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use super::decoded;
use crate::db::{DbError, SqliteDb};
use crate::tasks::stored::{Counted, Waiting, task_row, waiting_row};
use crate::tasks::{Filter, Pause, State, Task};

pub(in crate::tasks) async fn task(db: &SqliteDb, id: Uuid) -> Result<Option<Task>, DbError> {
    let query = sqlx::query("SELECT * FROM tasks WHERE id = ?1").bind(id.to_string());
    let row = query.fetch_optional(&mut *db.read().await?).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

pub(in crate::tasks) async fn list(db: &SqliteDb, filter: &Filter, limit: u32) -> Result<Vec<Task>, DbError> {
    let query = sqlx::query(
        "SELECT * FROM tasks WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR kind = ?2) \
         AND (?3 IS NULL OR tenant = ?3) AND (?4 IS NULL OR id < ?4) ORDER BY id DESC LIMIT ?5",
    );
    let query = query
        .bind(filter.state.map(State::as_str))
        .bind(&filter.kind)
        .bind(&filter.tenant)
        .bind(filter.before.map(|id| id.to_string()))
        .bind(limit);
    let rows = query.fetch_all(&mut *db.read().await?).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

fn read(row: &SqliteRow) -> Result<Task, Error> {
    decoded(task_row!(row).task())
}

/// What could be claimed now, by priority, and how many dead letters there are.
pub(in crate::tasks) async fn waiting(db: &SqliteDb) -> Result<(Vec<Waiting>, u64), DbError> {
    let mut connection = db.read().await?;
    let waiting = sqlx::query(concat!(
        "SELECT priority, count(*) AS tasks, max(",
        now_ms!(),
        " - run_at) AS oldest_ms FROM tasks WHERE state IN ('available', 'retryable') AND run_at <= ",
        now_ms!(),
        " GROUP BY priority"
    ));
    let waiting = waiting.fetch_all(&mut *connection).await?;
    let of_priority = |row: &SqliteRow| -> Result<Waiting, Error> { Ok(waiting_row!(row).waiting()) };
    let waiting = waiting.iter().map(of_priority).collect::<Result<_, _>>()?;
    let dead = sqlx::query_scalar("SELECT count(*) FROM tasks WHERE state = 'discarded'");
    let dead: i64 = dead.fetch_one(&mut *connection).await?;
    Ok((waiting, dead as u64))
}

/// How many there are, by kind and queue.
pub(in crate::tasks) async fn counted(db: &SqliteDb) -> Result<Vec<Counted>, DbError> {
    let rows = sqlx::query(
        "SELECT kind, queue, state, count(*) AS tasks FROM tasks GROUP BY kind, queue, state ORDER BY kind, queue",
    );
    let rows = rows.fetch_all(&mut *db.read().await?).await?;
    let counted = |row: &SqliteRow| {
        let (tasks, kind, queue) =
            (row.try_get::<i64, _>("tasks")? as u64, row.try_get("kind")?, row.try_get("queue")?);
        Ok(Counted { kind, queue, state: row.try_get("state")?, tasks })
    };
    Ok(rows.iter().map(counted).collect::<Result<_, Error>>()?)
}

pub(in crate::tasks) async fn pauses(db: &SqliteDb) -> Result<Vec<Pause>, DbError> {
    let rows = sqlx::query("SELECT scope, name FROM task_pauses ORDER BY scope, name");
    let rows = rows.fetch_all(&mut *db.read().await?).await?;
    let pause = |row: &SqliteRow| Ok(Pause::of(row.try_get("scope")?, row.try_get("name")?));
    Ok(rows.iter().map(pause).collect::<Result<_, Error>>()?)
}

/// Up to which time each schedule's tasks were enqueued.
pub(in crate::tasks) async fn slots(db: &SqliteDb) -> Result<Vec<(String, i64)>, DbError> {
    let rows = sqlx::query("SELECT schedule, slot FROM task_slots").fetch_all(&mut *db.read().await?).await?;
    let slot = |row: &SqliteRow| Ok((row.try_get("schedule")?, row.try_get("slot")?));
    Ok(rows.iter().map(slot).collect::<Result<_, Error>>()?)
}

/// The time that all others here are compared with.
pub(in crate::tasks) async fn now_ms(db: &SqliteDb) -> Result<i64, DbError> {
    Ok(sqlx::query_scalar(concat!("SELECT ", now_ms!())).fetch_one(&mut *db.read().await?).await?)
}
