//! Conversations in SQLite: one verb per function, every row by tenant. This file owns the conversations themselves.

/// The columns of a listed conversation; a macro, since statements are static text.
macro_rules! conversation_columns {
    () => {
        "conversations.id, conversations.title, conversations.model, conversations.created_at, conversations.updated_at, \
         conversations.leaf, \
         (SELECT count(*) FROM messages WHERE conversation = conversations.id) AS messages"
    };
}

mod branches;
mod messages;
mod owners;
mod search;
mod summaries;
mod turns;

use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row, SqliteConnection};
use uuid::Uuid;

pub(super) use branches::{branch, branch_ids, newest_below, select};
pub(super) use messages::{
    delete_newest_messages, explanation, message, message_of_stream, messages, messages_after, messages_by_id,
};
pub(super) use owners::{cancels, claim, release, want_cancel};
pub(super) use search::search;
#[cfg(test)]
pub(super) use summaries::CHAIN;
pub(super) use summaries::{chain, keep_summary, summaries_after};
pub(super) use turns::{begin_reply, begin_turn, checkpoint, finish};

use super::Conversation;
use super::page::{ListCursor, Slice};
use crate::clock::rfc3339;
use crate::db::{DbError, SqliteDb};

pub(super) async fn insert_conversation(
    db: &SqliteDb,
    tenant: &str,
    id: Uuid,
    title: &str,
    now: u64,
) -> Result<(), DbError> {
    let (tenant, title) = (tenant.to_owned(), title.to_owned());
    db.write(move |tx| Box::pin(async move { new_conversation(tx, &tenant, id, &title, None, now).await })).await
}

async fn new_conversation(
    tx: &mut SqliteConnection,
    tenant: &str,
    id: Uuid,
    title: &str,
    model: Option<&str>,
    now: u64,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO conversations (id, tenant, title, model, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
    )
    .bind(id.to_string())
    .bind(tenant)
    .bind(title)
    .bind(model)
    .bind(now as i64)
    .execute(tx)
    .await
    .map(drop)
}

pub(super) async fn list_conversations(
    db: &SqliteDb,
    tenant: &str,
    slice: Slice,
    after: Option<ListCursor>,
) -> Result<Vec<(ListCursor, Conversation)>, DbError> {
    let (time, id) = after.map_or((i64::MAX, String::new()), |last| (last.updated_ms as i64, last.id.to_string()));
    let rows = sqlx::query(concat!(
        "SELECT ",
        conversation_columns!(),
        " FROM conversations WHERE tenant = ?1 AND (updated_at, id) < (?2, ?3) \
         ORDER BY updated_at DESC, id DESC LIMIT ?4 OFFSET ?5"
    ))
    .bind(tenant)
    .bind(time)
    .bind(id)
    .bind(slice.probe() as i64)
    .bind(slice.offset() as i64)
    .fetch_all(&mut *db.read().await?)
    .await?;
    let place = |row: &SqliteRow| -> Result<_, Error> {
        let conversation = read_conversation(row)?;
        Ok((ListCursor { updated_ms: row.try_get::<i64, _>("updated_at")? as u64, id: conversation.id }, conversation))
    };
    Ok(rows.iter().map(place).collect::<Result<_, _>>()?)
}

pub(super) async fn conversation(db: &SqliteDb, tenant: &str, id: Uuid) -> Result<Option<Conversation>, DbError> {
    let sql = concat!("SELECT ", conversation_columns!(), " FROM conversations WHERE id = ?1 AND tenant = ?2");
    let row = sqlx::query(sql).bind(id.to_string()).bind(tenant).fetch_optional(&mut *db.read().await?).await?;
    Ok(row.as_ref().map(read_conversation).transpose()?)
}

pub(super) async fn rename_conversation(db: &SqliteDb, tenant: &str, id: Uuid, title: String) -> Result<bool, DbError> {
    let tenant = tenant.to_owned();
    db.write(move |tx| {
        Box::pin(async move {
            let query = sqlx::query("UPDATE conversations SET title = ?3 WHERE id = ?1 AND tenant = ?2");
            let renamed = query.bind(id.to_string()).bind(tenant).bind(title).execute(tx).await?;
            Ok(renamed.rows_affected() == 1)
        })
    })
    .await
}

pub(super) async fn delete_conversation(db: &SqliteDb, tenant: &str, id: Uuid) -> Result<bool, DbError> {
    let tenant = tenant.to_owned();
    db.write(move |tx| {
        Box::pin(async move {
            let deleted = sqlx::query("DELETE FROM conversations WHERE id = ?1 AND tenant = ?2")
                .bind(id.to_string())
                .bind(tenant)
                .execute(tx)
                .await?;
            Ok(deleted.rows_affected() == 1)
        })
    })
    .await
}

fn read_conversation(row: &SqliteRow) -> Result<Conversation, Error> {
    Ok(Conversation {
        id: uuid(row, "id")?,
        title: row.try_get("title")?,
        model: row.try_get("model")?,
        created_at: rfc3339(row.try_get::<i64, _>("created_at")? as u64),
        updated_at: rfc3339(row.try_get::<i64, _>("updated_at")? as u64),
        messages: row.try_get("messages")?,
        leaf: optional_uuid(row, "leaf")?,
    })
}

fn uuid(row: &SqliteRow, name: &str) -> Result<Uuid, Error> {
    row.try_get::<&str, _>(name)?.parse().map_err(|error| Error::Decode(Box::new(error)))
}

fn optional_uuid(row: &SqliteRow, name: &str) -> Result<Option<Uuid>, Error> {
    let text = row.try_get::<Option<&str>, _>(name)?;
    text.map(|text| text.parse().map_err(|error| Error::Decode(Box::new(error)))).transpose()
}
