//! Messages read: in pages, one by one, by the stream of an answer.

use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use super::text;
use crate::clock::rfc3339;
use crate::conversations::page::Slice;
use crate::conversations::{MessageState, StoredMessage};
use crate::db::{DbError, PostgresDb, Written};
use crate::message::Usage;

pub(in crate::conversations) async fn messages(
    db: &PostgresDb,
    tenant: &str,
    conversation: Uuid,
    slice: Slice,
    before: Option<Uuid>,
) -> Result<Vec<StoredMessage>, DbError> {
    let query =
        sqlx::query("SELECT * FROM messages WHERE conversation = $1 AND id < $2 ORDER BY id DESC LIMIT $3 OFFSET $4");
    let query = query.bind(conversation).bind(before.unwrap_or(Uuid::max()));
    let query = query.bind(slice.probe() as i64).bind(slice.offset() as i64);
    read_all(&db.read(tenant).await?.all(query).await?)
}

/// Deletes the newest messages of a conversation, at most `limit`; returns how many there were.
pub(in crate::conversations) async fn delete_newest_messages(
    db: &PostgresDb,
    tenant: &str,
    conversation: Uuid,
    limit: usize,
) -> Result<usize, DbError> {
    let query = sqlx::query(
        "DELETE FROM messages WHERE id = ANY(ARRAY( \
             SELECT id FROM messages WHERE conversation = $1 ORDER BY id DESC LIMIT $2))",
    );
    let mut tx = db.write(tenant).await?;
    let deleted = tx.execute(query.bind(conversation).bind(limit as i64)).await?;
    tx.commit().await?;
    Ok(deleted as usize)
}

/// The next messages in the order of their making, of all branches. Where they end only the primary knows.
pub(in crate::conversations) async fn messages_after(
    db: &PostgresDb,
    tenant: &str,
    conversation: Uuid,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Vec<StoredMessage>, DbError> {
    let query = || {
        let query = sqlx::query("SELECT * FROM messages WHERE conversation = $1 AND id > $2 ORDER BY id LIMIT $3");
        query.bind(conversation).bind(after.unwrap_or(Uuid::nil())).bind(limit as i64)
    };
    let mut rows = db.read_lagging(tenant).await?.all(query()).await?;
    if rows.len() < limit && db.has_replica() {
        rows = db.read(tenant).await?.all(query()).await?;
    }
    read_all(&rows)
}

/// These messages, in this order; one that is gone is left out.
pub(in crate::conversations) async fn messages_by_id(
    db: &PostgresDb,
    tenant: &str,
    ids: &[Uuid],
) -> Result<Vec<StoredMessage>, DbError> {
    let query = || {
        let query = "SELECT messages.* FROM unnest($1::uuid[]) WITH ORDINALITY AS wanted (id, place) \
                     JOIN messages ON messages.id = wanted.id ORDER BY wanted.place";
        sqlx::query(query).bind(ids)
    };
    let mut rows = db.read_lagging(tenant).await?.all(query()).await?;
    if rows.len() < ids.len() && db.has_replica() {
        rows = db.read(tenant).await?.all(query()).await?;
    }
    read_all(&rows)
}

pub(in crate::conversations) async fn message(
    db: &PostgresDb,
    tenant: &str,
    id: Uuid,
) -> Result<Option<StoredMessage>, DbError> {
    let rows = db.ask(tenant, &Written::new("SELECT * FROM messages WHERE id = $1").bind(id)).await?;
    Ok(rows.first().map(read_message).transpose()?)
}

pub(in crate::conversations) async fn message_of_stream(
    db: &PostgresDb,
    tenant: &str,
    stream: Uuid,
) -> Result<Option<StoredMessage>, DbError> {
    let rows = db.ask(tenant, &Written::new("SELECT * FROM messages WHERE stream = $1").bind(stream)).await?;
    Ok(rows.first().map(read_message).transpose()?)
}

pub(in crate::conversations) async fn explanation(
    db: &PostgresDb,
    tenant: &str,
    message: Uuid,
) -> Result<Option<String>, DbError> {
    let query = sqlx::query("SELECT explanation FROM messages WHERE id = $1").bind(message);
    let row = db.read(tenant).await?.optional(query).await?;
    Ok(row.map(|row| row.try_get("explanation")).transpose()?.flatten())
}

fn read_all(rows: &[PgRow]) -> Result<Vec<StoredMessage>, DbError> {
    Ok(rows.iter().map(read_message).collect::<Result<_, _>>()?)
}

pub(super) fn read_message(row: &PgRow) -> Result<StoredMessage, Error> {
    let text = |name: &str| row.try_get::<&str, _>(name).map(text::written);
    let optional_text = |name: &str| Ok::<_, Error>(row.try_get::<Option<&str>, _>(name)?.map(text::written));
    let json = |name: &str| -> Result<Option<serde_json::Value>, Error> {
        Ok(row.try_get::<Option<&str>, _>(name)?.and_then(|text| serde_json::from_str(text).ok()))
    };
    let count = |name: &str| -> Result<Option<u64>, Error> {
        Ok(row.try_get::<Option<i64>, _>(name)?.map(|value| value as u64))
    };
    let usage = match (count("input_tokens")?, count("output_tokens")?) {
        (Some(input_tokens), Some(output_tokens)) => Some(Usage { input_tokens, output_tokens, ..Usage::default() }),
        _ => None,
    };
    Ok(StoredMessage {
        id: row.try_get("id")?,
        conversation: row.try_get("conversation")?,
        parent: row.try_get("parent")?,
        role: row.try_get("role")?,
        content: text("content")?,
        reasoning: text("reasoning")?,
        state: MessageState::parse(row.try_get("state")?),
        model: optional_text("model")?,
        created_at: rfc3339(row.try_get::<i64, _>("created_at")? as u64),
        finish_reason: optional_text("finish_reason")?,
        usage,
        cache: json("cache")?,
        error: json("error")?,
        stream: row.try_get("stream")?,
        epoch: row.try_get::<i64, _>("epoch")? as u32,
        seq: row.try_get::<i64, _>("seq")? as u64,
        elapsed_ms: count("elapsed_ms")?,
        siblings: None,
    })
}
