//! Whose the unfinished answers are: a file has one server at a time, so that whatever another start was making is nobody's.

use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use super::messages::read_message;
use super::uuid;
use crate::conversations::{Orphan, Progress};
use crate::db::{DbError, SqliteDb};

pub(in crate::conversations) async fn claim(
    db: &SqliteDb,
    owner: Uuid,
    _lease: Duration,
    limit: usize,
) -> Result<Vec<Orphan>, DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            let query = sqlx::query(
                "UPDATE messages SET owner = ?1, epoch = epoch + 1 WHERE id IN ( \
                     SELECT id FROM messages WHERE state = 'streaming' AND owner IS NOT ?1 LIMIT ?2) RETURNING *",
            );
            let rows = query.bind(owner.to_string()).bind(limit as i64).fetch_all(tx).await?;
            let orphan = |row: &SqliteRow| -> Result<Orphan, Error> {
                let (tenant, is_cancelled) = (row.try_get("tenant")?, row.try_get("cancel_wanted")?);
                Ok(Orphan { tenant, message: read_message(row)?, is_cancelled })
            };
            rows.iter().map(orphan).collect()
        })
    })
    .await
}

pub(in crate::conversations) async fn release(
    db: &SqliteDb,
    tenant: &str,
    reply: Uuid,
    owner: Uuid,
    progress: Progress,
) -> Result<bool, DbError> {
    let tenant = tenant.to_owned();
    db.write(move |tx| {
        Box::pin(async move {
            let query = sqlx::query(
                "UPDATE messages SET owner = NULL, content = ?3, reasoning = ?4, seq = ?5, epoch = ?6 \
                 WHERE id = ?1 AND owner = ?2 AND state = 'streaming' AND epoch <= ?6 AND tenant = ?7",
            );
            let query = query
                .bind(reply.to_string())
                .bind(owner.to_string())
                .bind(progress.content)
                .bind(progress.reasoning)
                .bind(progress.seq as i64)
                .bind(i64::from(progress.epoch))
                .bind(tenant);
            Ok(query.execute(tx).await?.rows_affected() == 1)
        })
    })
    .await
}

pub(in crate::conversations) async fn want_cancel(db: &SqliteDb, tenant: &str, stream: Uuid) -> Result<bool, DbError> {
    let tenant = tenant.to_owned();
    db.write(move |tx| {
        Box::pin(async move {
            let query = sqlx::query(
                "UPDATE messages SET cancel_wanted = 1 WHERE stream = ?1 AND state = 'streaming' AND tenant = ?2",
            );
            Ok(query.bind(stream.to_string()).bind(tenant).execute(tx).await?.rows_affected() == 1)
        })
    })
    .await
}

pub(in crate::conversations) async fn cancels(db: &SqliteDb, owner: Uuid) -> Result<Vec<Uuid>, DbError> {
    let query = sqlx::query("SELECT stream FROM messages WHERE state = 'streaming' AND owner = ?1 AND cancel_wanted");
    let rows = query.bind(owner.to_string()).fetch_all(&mut *db.read().await?).await?;
    Ok(rows.iter().map(|row| uuid(row, "stream")).collect::<Result<_, _>>()?)
}
