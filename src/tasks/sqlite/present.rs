//! The process that runs tasks: one has the file, and those before it are forgotten in time.

use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use super::parsed;
use crate::db::{DbError, SqliteDb};
use crate::tasks::Worker;
use crate::tasks::present::Sign;

pub(in crate::tasks) async fn sign(db: &SqliteDb, sign: Sign) -> Result<(), DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            let lives = sqlx::query(concat!(
                "INSERT INTO task_workers (id, name, started_at, seen_at, lease_until, room, is_draining) VALUES (?1, ?2, ",
                now_ms!(),
                ", ",
                now_ms!(),
                ", ?3 + ",
                now_ms!(),
                ", ?4, ?5) ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, lease_until = excluded.lease_until, \
                     room = excluded.room, is_draining = excluded.is_draining"
            ));
            let lives = lives.bind(sign.id.to_string()).bind(sign.name).bind(sign.lease_ms);
            lives.bind(sign.room).bind(sign.is_draining).execute(&mut *tx).await?;
            let dead = sqlx::query(concat!("DELETE FROM task_workers WHERE lease_until < ", now_ms!()));
            dead.execute(tx).await.map(drop)
        })
    })
    .await
}

pub(in crate::tasks) async fn leave(db: &SqliteDb, worker: Uuid) -> Result<(), DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            let query = sqlx::query("DELETE FROM task_workers WHERE id = ?1").bind(worker.to_string());
            query.execute(tx).await.map(drop)
        })
    })
    .await
}

pub(in crate::tasks) async fn workers(db: &SqliteDb) -> Result<Vec<Worker>, DbError> {
    let query = sqlx::query(concat!(
        "SELECT id, name, started_at, seen_at, room, is_draining, \
             (SELECT count(*) FROM tasks WHERE state = 'running' AND worker = task_workers.id) AS running \
         FROM task_workers WHERE lease_until >= ",
        now_ms!(),
        " ORDER BY name, started_at"
    ));
    let rows = query.fetch_all(&mut *db.read().await?).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

fn read(row: &SqliteRow) -> Result<Worker, Error> {
    let ms = |name| row.try_get::<i64, _>(name).map(|ms| ms as u64);
    Ok(Worker {
        id: parsed(row.try_get("id")?)?,
        name: row.try_get("name")?,
        started_at_ms: ms("started_at")?,
        seen_at_ms: ms("seen_at")?,
        room: row.try_get("room")?,
        running: row.try_get("running")?,
        is_draining: row.try_get("is_draining")?,
    })
}
