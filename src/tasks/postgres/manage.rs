//! Tasks as operators change them, and what is forgotten in time.

use sqlx::Row;
use uuid::Uuid;

use crate::db::{DbError, PostgresDb, Purpose};
use crate::tasks::{Filter, Pause, State};

/// What waits is cancelled, what runs is wished to end; says in which of the two states it is then.
pub(in crate::tasks) async fn cancel(db: &PostgresDb, id: Uuid) -> Result<Option<String>, DbError> {
    let mut tx = db.system(Purpose::Tasks).await?;
    let query = sqlx::query(
        "UPDATE tasks SET cancel_wanted = true, ended_at = CASE WHEN state <> 'running' THEN ish_now_ms() END, \
             state = CASE WHEN state = 'running' THEN state ELSE 'cancelled' END \
         WHERE id = $1 AND state IN ('available', 'running', 'retryable') RETURNING state",
    );
    let row = tx.optional(query.bind(id)).await?;
    tx.commit().await?;
    Ok(row.map(|row| row.try_get("state")).transpose()?)
}

/// Begins again, at once, with `attempts` to go; says whether it was in a state to.
pub(in crate::tasks) async fn retry(db: &PostgresDb, id: Uuid, attempts: u16, aging_ms: i64) -> Result<bool, DbError> {
    let mut tx = db.system(Purpose::Tasks).await?;
    let query = sqlx::query(
        "UPDATE tasks SET state = 'available', max_attempts = attempt + $2, cancel_wanted = false, ended_at = NULL, \
             run_at = ish_now_ms(), rank = ish_now_ms() + priority * $3 \
         WHERE id = $1 AND state IN ('retryable', 'cancelled', 'discarded')",
    );
    let retried = tx.execute(query.bind(id).bind(i32::from(attempts)).bind(aging_ms)).await?;
    tx.commit().await?;
    Ok(retried == 1)
}

/// Deletes those that have ended; says how many.
pub(in crate::tasks) async fn purge(db: &PostgresDb, filter: &Filter, limit: u32) -> Result<u64, DbError> {
    let query = sqlx::query(
        "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks \
         WHERE state IN ('completed', 'cancelled', 'discarded') AND ($1::text IS NULL OR state = $1) \
         AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR tenant = $3) AND ($4::uuid IS NULL OR id < $4) \
         LIMIT $5 FOR UPDATE SKIP LOCKED)",
    );
    let query = query
        .bind(filter.state.map(State::as_str))
        .bind(&filter.kind)
        .bind(&filter.tenant)
        .bind(filter.before)
        .bind(i64::from(limit));
    let mut tx = db.system(Purpose::Tasks).await?;
    let purged = tx.execute(query).await?;
    tx.commit().await?;
    Ok(purged)
}

pub(in crate::tasks) async fn pause(db: &PostgresDb, what: &Pause) -> Result<(), DbError> {
    let (scope, name) = what.parts();
    let mut tx = db.system(Purpose::Tasks).await?;
    let query = sqlx::query("INSERT INTO task_pauses (scope, name) VALUES ($1, $2) ON CONFLICT DO NOTHING");
    tx.execute(query.bind(scope).bind(name)).await?;
    tx.commit().await
}

pub(in crate::tasks) async fn resume(db: &PostgresDb, what: &Pause) -> Result<bool, DbError> {
    let (scope, name) = what.parts();
    let mut tx = db.system(Purpose::Tasks).await?;
    let query = sqlx::query("DELETE FROM task_pauses WHERE scope = $1 AND name = $2");
    let resumed = tx.execute(query.bind(scope).bind(name)).await?;
    tx.commit().await?;
    Ok(resumed == 1)
}

/// Forgets up to `limit` tasks that ended long ago, and as many idempotency keys; says how many tasks.
pub(in crate::tasks) async fn trim(
    db: &PostgresDb,
    keep_ms: i64,
    keep_dead_ms: i64,
    limit: u32,
) -> Result<u64, DbError> {
    let mut tx = db.system(Purpose::Tasks).await?;
    let keys = sqlx::query(
        "DELETE FROM task_keys WHERE (tenant, kind, key) IN (SELECT tenant, kind, key FROM task_keys \
         WHERE expires_at < ish_now_ms() LIMIT $1 FOR UPDATE SKIP LOCKED)",
    );
    tx.execute(keys.bind(i64::from(limit))).await?;
    let tasks = sqlx::query(
        "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks WHERE ended_at IS NOT NULL \
         AND ended_at < ish_now_ms() - least($1, $2) \
         AND ended_at < ish_now_ms() - CASE state WHEN 'discarded' THEN $2 ELSE $1 END LIMIT $3 FOR UPDATE SKIP LOCKED)",
    );
    let trimmed = tx.execute(tasks.bind(keep_ms).bind(keep_dead_ms).bind(i64::from(limit))).await?;
    tx.commit().await?;
    Ok(trimmed)
}
