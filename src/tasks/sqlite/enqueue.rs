//! Tasks on their way in.

use sqlx::{Error, Row, SqliteConnection};
use uuid::Uuid;

use super::parsed;
use crate::db::{DbError, SqliteDb};
use crate::tasks::new_task::{Checked, Conflict};
use crate::tasks::{Batch, Enqueued};

pub(in crate::tasks) async fn enqueue(
    db: &SqliteDb,
    tasks: Vec<Checked>,
    aging_ms: i64,
    remember_ms: i64,
) -> Result<Result<Vec<Enqueued>, Conflict>, DbError> {
    db.write(move |tx| Box::pin(async move { enqueue_in(tx, &tasks, aging_ms, remember_ms).await })).await
}

impl Batch {
    /// Stores them with whatever else `tx` does in the file.
    pub(crate) async fn insert_into_file(&self, tx: &mut SqliteConnection) -> Result<(), Error> {
        for task in &self.tasks {
            insert(&mut *tx, task, self.aging_ms, 0).await?;
        }
        Ok(())
    }
}

/// All of them, or none where one conflicts; nobody else writes meanwhile.
pub(in crate::tasks) async fn enqueue_in(
    tx: &mut SqliteConnection,
    tasks: &[Checked],
    aging_ms: i64,
    remember_ms: i64,
) -> Result<Result<Vec<Enqueued>, Conflict>, Error> {
    for task in tasks {
        if remembered(tx, task).await?.is_some_and(|(_, digest)| digest != task.digest) {
            return Ok(Err(Conflict));
        }
    }
    let mut enqueued = Vec::with_capacity(tasks.len());
    for task in tasks {
        // Asked again: an earlier one of these may have the key by now.
        enqueued.push(match remembered(tx, task).await? {
            Some((id, _)) => Enqueued { id, is_new: false },
            None => insert(tx, task, aging_ms, remember_ms).await?,
        });
    }
    Ok(Ok(enqueued))
}

async fn remembered(tx: &mut SqliteConnection, task: &Checked) -> Result<Option<(Uuid, Vec<u8>)>, Error> {
    let Some(key) = &task.idempotency else { return Ok(None) };
    let row = sqlx::query(concat!(
        "SELECT task, digest FROM task_keys WHERE tenant = ?1 AND kind = ?2 AND key = ?3 AND expires_at > ",
        now_ms!()
    ))
    .bind(&task.tenant)
    .bind(&task.kind)
    .bind(key)
    .fetch_optional(tx)
    .await?;
    row.map(|row| Ok((parsed(row.try_get("task")?)?, row.try_get("digest")?))).transpose()
}

async fn insert(tx: &mut SqliteConnection, task: &Checked, aging_ms: i64, remember_ms: i64) -> Result<Enqueued, Error> {
    let inserted = sqlx::query(concat!(
        "INSERT INTO tasks (id, tenant, kind, version, queue, priority, arguments, max_attempts, unique_key, run_at, rank, \
             enqueued_at) \
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, run_at, run_at + ?6 * ?12, now \
         FROM (SELECT coalesce(?10, now + ?11) AS run_at, now FROM (SELECT ",
        now_ms!(),
        " AS now)) WHERE true ON CONFLICT (tenant, kind, unique_key) WHERE state IN ('available', 'running', 'retryable') DO NOTHING"
    ))
    .bind(task.id.to_string())
    .bind(&task.tenant)
    .bind(&task.kind)
    .bind(i32::from(task.version))
    .bind(&task.queue)
    .bind(task.priority.level())
    .bind(&task.arguments)
    .bind(i32::from(task.max_attempts))
    .bind(&task.unique)
    .bind(task.run_at_ms)
    .bind(task.delay_ms)
    .bind(aging_ms)
    .execute(&mut *tx)
    .await?;
    let enqueued = if inserted.rows_affected() == 1 {
        Enqueued { id: task.id, is_new: true }
    } else {
        Enqueued { id: twin(tx, task).await?, is_new: false }
    };
    remember(tx, task, enqueued.id, remember_ms).await?;
    Ok(enqueued)
}

/// The living task that has its unique key.
async fn twin(tx: &mut SqliteConnection, task: &Checked) -> Result<Uuid, Error> {
    let query = sqlx::query(
        "SELECT id FROM tasks WHERE tenant = ?1 AND kind = ?2 AND unique_key = ?3 \
         AND state IN ('available', 'running', 'retryable')",
    );
    let row = query.bind(&task.tenant).bind(&task.kind).bind(&task.unique).fetch_one(tx).await?;
    parsed(row.try_get("id")?)
}

async fn remember(tx: &mut SqliteConnection, task: &Checked, id: Uuid, remember_ms: i64) -> Result<(), Error> {
    let Some(key) = &task.idempotency else { return Ok(()) };
    sqlx::query(concat!(
        "INSERT OR REPLACE INTO task_keys (tenant, kind, key, task, digest, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6 + ",
        now_ms!(),
        ")"
    ))
    .bind(&task.tenant)
    .bind(&task.kind)
    .bind(key)
    .bind(id.to_string())
    .bind(task.digest.to_vec())
    .bind(remember_ms)
    .execute(tx)
    .await
    .map(drop)
}

/// Moves a schedule from one slot to another, and enqueues what is due by that; false where it was moved already.
pub(in crate::tasks) async fn move_slot(
    db: &SqliteDb,
    schedule: &str,
    (from, to): (Option<i64>, i64),
    due: Option<Checked>,
    aging_ms: i64,
) -> Result<bool, DbError> {
    let schedule = schedule.to_owned();
    db.write(move |tx| {
        Box::pin(async move {
            let moved = match from {
                None => sqlx::query("INSERT INTO task_slots (schedule, slot) VALUES (?1, ?2) ON CONFLICT DO NOTHING"),
                Some(_) => sqlx::query("UPDATE task_slots SET slot = ?2 WHERE schedule = ?1 AND slot = ?3"),
            };
            let moved = moved.bind(schedule).bind(to).bind(from).execute(&mut *tx).await?.rows_affected() == 1;
            if let (true, Some(task)) = (moved, due) {
                insert(tx, &task, aging_ms, 0).await?;
            }
            Ok(moved)
        })
    })
    .await
}
