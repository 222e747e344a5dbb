//! Tasks as operators change them, and what is forgotten in time.

use sqlx::Row;
use uuid::Uuid;

use crate::db::{DbError, SqliteDb};
use crate::tasks::{Filter, Pause, State};

/// What waits is cancelled, what runs is wished to end; says in which of the two states it is then.
pub(in crate::tasks) async fn cancel(db: &SqliteDb, id: Uuid) -> Result<Option<String>, DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            let query = sqlx::query(concat!(
                "UPDATE tasks SET cancel_wanted = 1, \
                     ended_at = CASE WHEN state = 'running' THEN NULL ELSE ",
                now_ms!(),
                " END, state = CASE WHEN state = 'running' THEN state ELSE 'cancelled' END \
                 WHERE id = ?1 AND state IN ('available', 'running', 'retryable') RETURNING state"
            ));
            let row = query.bind(id.to_string()).fetch_optional(tx).await?;
            row.map(|row| row.try_get("state")).transpose()
        })
    })
    .await
}

/// Begins again, at once, with `attempts` to go; says whether it was in a state to.
pub(in crate::tasks) async fn retry(db: &SqliteDb, id: Uuid, attempts: u16, aging_ms: i64) -> Result<bool, DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            let query = sqlx::query(concat!(
                "UPDATE tasks SET state = 'available', max_attempts = attempt + ?2, cancel_wanted = 0, ended_at = NULL, run_at = ",
                now_ms!(),
                ", rank = priority * ?3 + ",
                now_ms!(),
                " WHERE id = ?1 AND state IN ('retryable', 'cancelled', 'discarded')"
            ));
            let query = query.bind(id.to_string()).bind(i32::from(attempts)).bind(aging_ms);
            Ok(query.execute(tx).await?.rows_affected() == 1)
        })
    })
    .await
}

/// Deletes those that have ended; says how many.
pub(in crate::tasks) async fn purge(db: &SqliteDb, filter: &Filter, limit: u32) -> Result<u64, DbError> {
    let filter = filter.clone();
    db.write(move |tx| {
        Box::pin(async move {
            let query = sqlx::query(
                "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks \
                 WHERE state IN ('completed', 'cancelled', 'discarded') AND (?1 IS NULL OR state = ?1) \
                 AND (?2 IS NULL OR kind = ?2) AND (?3 IS NULL OR tenant = ?3) AND (?4 IS NULL OR id < ?4) LIMIT ?5)",
            );
            let query = query
                .bind(filter.state.map(State::as_str))
                .bind(filter.kind)
                .bind(filter.tenant)
                .bind(filter.before.map(|id| id.to_string()))
                .bind(limit);
            Ok(query.execute(tx).await?.rows_affected())
        })
    })
    .await
}

pub(in crate::tasks) async fn pause(db: &SqliteDb, what: &Pause) -> Result<(), DbError> {
    let (scope, name) = what.parts();
    let name = name.to_owned();
    db.write(move |tx| {
        Box::pin(async move {
            let query = sqlx::query("INSERT OR IGNORE INTO task_pauses (scope, name) VALUES (?1, ?2)");
            query.bind(scope).bind(name).execute(tx).await.map(drop)
        })
    })
    .await
}

pub(in crate::tasks) async fn resume(db: &SqliteDb, what: &Pause) -> Result<bool, DbError> {
    let (scope, name) = what.parts();
    let name = name.to_owned();
    db.write(move |tx| {
        Box::pin(async move {
            let query = sqlx::query("DELETE FROM task_pauses WHERE scope = ?1 AND name = ?2");
            Ok(query.bind(scope).bind(name).execute(tx).await?.rows_affected() == 1)
        })
    })
    .await
}

/// Forgets up to `limit` tasks that ended long ago, and as many idempotency keys; says how many tasks.
pub(in crate::tasks) async fn trim(db: &SqliteDb, keep_ms: i64, keep_dead_ms: i64, limit: u32) -> Result<u64, DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            let keys = sqlx::query(concat!(
                "DELETE FROM task_keys WHERE (tenant, kind, key) IN \
                 (SELECT tenant, kind, key FROM task_keys WHERE expires_at < ",
                now_ms!(),
                " LIMIT ?1)"
            ));
            keys.bind(limit).execute(&mut *tx).await?;
            let tasks = sqlx::query(concat!(
                "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks WHERE ended_at IS NOT NULL AND ended_at < ",
                now_ms!(),
                " - min(?1, ?2) AND ended_at < ",
                now_ms!(),
                " - CASE state WHEN 'discarded' THEN ?2 ELSE ?1 END LIMIT ?3)"
            ));
            Ok(tasks.bind(keep_ms).bind(keep_dead_ms).bind(limit).execute(tx).await?.rows_affected())
        })
    })
    .await
}
