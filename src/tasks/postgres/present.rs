//! The processes that run tasks.

use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::db::{DbError, PostgresDb, Purpose};
use crate::tasks::Worker;
use crate::tasks::present::Sign;

pub(in crate::tasks) async fn sign(db: &PostgresDb, sign: Sign) -> Result<(), DbError> {
    let mut tx = db.system(Purpose::Tasks).await?;
    let lives = sqlx::query(
        "INSERT INTO task_workers (id, name, started_at, seen_at, lease_until, room, is_draining) \
         VALUES ($1, $2, ish_now_ms(), ish_now_ms(), ish_now_ms() + $3, $4, $5) \
         ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, lease_until = excluded.lease_until, \
             room = excluded.room, is_draining = excluded.is_draining",
    );
    let lives = lives.bind(sign.id).bind(sign.name).bind(sign.lease_ms).bind(sign.room as i32).bind(sign.is_draining);
    tx.execute(lives).await?;
    let dead = sqlx::query(
        "DELETE FROM task_workers WHERE id IN \
         (SELECT id FROM task_workers WHERE lease_until < ish_now_ms() FOR UPDATE SKIP LOCKED)",
    );
    tx.execute(dead).await?;
    tx.commit().await
}

pub(in crate::tasks) async fn leave(db: &PostgresDb, worker: Uuid) -> Result<(), DbError> {
    let mut tx = db.system(Purpose::Tasks).await?;
    tx.execute(sqlx::query("DELETE FROM task_workers WHERE id = $1").bind(worker)).await?;
    tx.commit().await
}

pub(in crate::tasks) async fn workers(db: &PostgresDb) -> Result<Vec<Worker>, DbError> {
    let query = sqlx::query(
        "SELECT id, name, started_at, seen_at, room, is_draining, \
             (SELECT count(*) FROM tasks WHERE state = 'running' AND worker = task_workers.id) AS running \
         FROM task_workers WHERE lease_until >= ish_now_ms() ORDER BY name, started_at",
    );
    let rows = db.system(Purpose::Tasks).await?.all(query).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

fn read(row: &PgRow) -> Result<Worker, Error> {
    let ms = |name| row.try_get::<i64, _>(name).map(|ms| ms as u64);
    Ok(Worker {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        started_at_ms: ms("started_at")?,
        seen_at_ms: ms("seen_at")?,
        room: row.try_get::<i32, _>("room")? as u32,
        running: row.try_get::<i64, _>("running")? as u32,
        is_draining: row.try_get("is_draining")?,
    })
}
