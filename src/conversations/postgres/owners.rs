//! Whose the unfinished answers are, of all tenants: taken over from the dead, given up, wished to end.

use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::messages::read_message;
use super::text;
use crate::conversations::{Orphan, Progress};
use crate::db::{DbError, PostgresDb, Purpose};

pub(in crate::conversations) async fn claim(
    db: &PostgresDb,
    owner: Uuid,
    lease: Duration,
    limit: usize,
) -> Result<Vec<Orphan>, DbError> {
    let mut tx = db.system(Purpose::Restart).await?;
    // Who is about to end one of these, or to take it over, is not waited for.
    let query = sqlx::query(
        "WITH orphans AS ( \
             SELECT id FROM messages WHERE state = 'streaming' AND owner IS DISTINCT FROM $1 AND NOT EXISTS ( \
                 SELECT FROM instances WHERE instances.id = messages.owner \
                     AND heartbeat_at >= clock_timestamp() - make_interval(secs => $2)) \
             ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED) \
         UPDATE messages SET owner = $1, epoch = epoch + 1 FROM orphans WHERE messages.id = orphans.id \
         RETURNING messages.*",
    );
    let rows = tx.all(query.bind(owner).bind(lease.as_secs_f64()).bind(limit as i64)).await?;
    let orphan = |row: &PgRow| -> Result<Orphan, sqlx::Error> {
        let (tenant, is_cancelled) = (row.try_get("tenant")?, row.try_get("cancel_wanted")?);
        Ok(Orphan { tenant, message: read_message(row)?, is_cancelled })
    };
    let orphans = rows.iter().map(orphan).collect::<Result<_, _>>()?;
    tx.commit().await?;
    Ok(orphans)
}

pub(in crate::conversations) async fn release(
    db: &PostgresDb,
    tenant: &str,
    reply: Uuid,
    owner: Uuid,
    progress: Progress,
) -> Result<bool, DbError> {
    let query = sqlx::query(
        "UPDATE messages SET owner = NULL, content = $3, reasoning = $4, seq = $5, epoch = $6 \
         WHERE id = $1 AND owner = $2 AND state = 'streaming' AND epoch <= $6",
    );
    let query = query
        .bind(reply)
        .bind(owner)
        .bind(text::stored(&progress.content))
        .bind(text::stored(&progress.reasoning))
        .bind(progress.seq as i64)
        .bind(i64::from(progress.epoch));
    let mut tx = db.write(tenant).await?;
    let released = tx.execute(query).await?;
    tx.commit().await?;
    Ok(released == 1)
}

pub(in crate::conversations) async fn want_cancel(
    db: &PostgresDb,
    tenant: &str,
    stream: Uuid,
) -> Result<bool, DbError> {
    let query = sqlx::query("UPDATE messages SET cancel_wanted = true WHERE stream = $1 AND state = 'streaming'");
    let mut tx = db.write(tenant).await?;
    let wanted = tx.execute(query.bind(stream)).await?;
    tx.commit().await?;
    Ok(wanted == 1)
}

pub(in crate::conversations) async fn cancels(db: &PostgresDb, owner: Uuid) -> Result<Vec<Uuid>, DbError> {
    let query = sqlx::query("SELECT stream FROM messages WHERE state = 'streaming' AND owner = $1 AND cancel_wanted");
    let rows = db.system(Purpose::Restart).await?.all(query.bind(owner)).await?;
    Ok(rows.iter().map(|row| row.try_get("stream")).collect::<Result<_, _>>()?)
}
