//! Messages read: in pages, one by one, by the stream of an answer.

use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use super::{optional_uuid, uuid};
use crate::clock::rfc3339;
use crate::conversations::page::Slice;
use crate::conversations::{MessageState, StoredMessage};
use crate::db::packed::text;
use crate::db::{DbError, SqliteDb};
use crate::message::Usage;

pub(in crate::conversations) async fn messages(
    db: &SqliteDb,
    tenant: &str,
    conversation: Uuid,
    slice: Slice,
    before: Option<Uuid>,
) -> Result<Vec<StoredMessage>, DbError> {
    let before = before.map_or_else(|| "~".to_owned(), |id| id.to_string());
    let rows = sqlx::query(
        "SELECT * FROM messages WHERE conversation = ?1 AND tenant = ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4 OFFSET ?5",
    )
    .bind(conversation.to_string())
    .bind(tenant)
    .bind(before)
    .bind(slice.probe() as i64)
    .bind(slice.offset() as i64)
    .fetch_all(&mut *db.read().await?)
    .await?;
    Ok(rows.iter().map(read_message).collect::<Result<_, _>>()?)
}

/// Deletes the newest messages of a conversation, at most `limit`; returns how many there were.
pub(in crate::conversations) async fn delete_newest_messages(
    db: &SqliteDb,
    tenant: &str,
    conversation: Uuid,
    limit: usize,
) -> Result<usize, DbError> {
    let tenant = tenant.to_owned();
    db.write(move |tx| {
        Box::pin(async move {
            let deleted = sqlx::query(
                "DELETE FROM messages WHERE id IN ( \
                     SELECT id FROM messages WHERE conversation = ?1 AND tenant = ?2 ORDER BY id DESC LIMIT ?3)",
            )
            .bind(conversation.to_string())
            .bind(tenant)
            .bind(limit as i64)
            .execute(tx)
            .await?;
            Ok(deleted.rows_affected() as usize)
        })
    })
    .await
}

/// The next messages in the order of their making, of all branches.
pub(in crate::conversations) async fn messages_after(
    db: &SqliteDb,
    tenant: &str,
    conversation: Uuid,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Vec<StoredMessage>, DbError> {
    let rows =
        sqlx::query("SELECT * FROM messages WHERE conversation = ?1 AND tenant = ?2 AND id > ?3 ORDER BY id LIMIT ?4")
            .bind(conversation.to_string())
            .bind(tenant)
            .bind(after.map(|id| id.to_string()).unwrap_or_default())
            .bind(limit as i64)
            .fetch_all(&mut *db.read().await?)
            .await?;
    Ok(rows.iter().map(read_message).collect::<Result<_, _>>()?)
}

/// These messages, in this order; one that is gone is left out.
pub(in crate::conversations) async fn messages_by_id(
    db: &SqliteDb,
    tenant: &str,
    ids: &[Uuid],
) -> Result<Vec<StoredMessage>, DbError> {
    let rows = sqlx::query(
        "SELECT messages.* FROM json_each(?1) AS wanted JOIN messages ON messages.id = wanted.value \
         WHERE messages.tenant = ?2 ORDER BY wanted.key",
    )
    .bind(serde_json::json!(ids).to_string())
    .bind(tenant)
    .fetch_all(&mut *db.read().await?)
    .await?;
    Ok(rows.iter().map(read_message).collect::<Result<_, _>>()?)
}

pub(in crate::conversations) async fn message(
    db: &SqliteDb,
    tenant: &str,
    id: Uuid,
) -> Result<Option<StoredMessage>, DbError> {
    let query = sqlx::query("SELECT * FROM messages WHERE id = ?1 AND tenant = ?2");
    let row = query.bind(id.to_string()).bind(tenant).fetch_optional(&mut *db.read().await?).await?;
    Ok(row.as_ref().map(read_message).transpose()?)
}

pub(in crate::conversations) async fn message_of_stream(
    db: &SqliteDb,
    tenant: &str,
    stream: Uuid,
) -> Result<Option<StoredMessage>, DbError> {
    let query = sqlx::query("SELECT * FROM messages WHERE stream = ?1 AND tenant = ?2");
    let row = query.bind(stream.to_string()).bind(tenant).fetch_optional(&mut *db.read().await?).await?;
    Ok(row.as_ref().map(read_message).transpose()?)
}

pub(in crate::conversations) async fn explanation(
    db: &SqliteDb,
    tenant: &str,
    message: Uuid,
) -> Result<Option<String>, DbError> {
    let query =
        sqlx::query_scalar::<_, Option<String>>("SELECT explanation FROM messages WHERE id = ?1 AND tenant = ?2");
    Ok(query.bind(message.to_string()).bind(tenant).fetch_optional(&mut *db.read().await?).await?.flatten())
}

pub(super) fn read_message(row: &SqliteRow) -> Result<StoredMessage, Error> {
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
        id: uuid(row, "id")?,
        conversation: uuid(row, "conversation")?,
        parent: optional_uuid(row, "parent")?,
        role: row.try_get("role")?,
        content: text(row, "content", "packed")?,
        reasoning: text(row, "reasoning", "packed_reasoning")?,
        state: MessageState::parse(row.try_get("state")?),
        model: row.try_get("model")?,
        created_at: rfc3339(row.try_get::<i64, _>("created_at")? as u64),
        finish_reason: row.try_get("finish_reason")?,
        usage,
        cache: json("cache")?,
        error: json("error")?,
        stream: optional_uuid(row, "stream")?,
        epoch: row.try_get::<i64, _>("epoch")? as u32,
        seq: row.try_get::<i64, _>("seq")? as u64,
        elapsed_ms: count("elapsed_ms")?,
        siblings: None,
    })
}
