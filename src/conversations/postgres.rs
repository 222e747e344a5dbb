//! Conversations in Postgres: one verb per function. Which tenant's rows a statement sees is the transaction's
//! (row-level security), so that no statement names a tenant but to write it. Who locks a conversation and its messages
//! locks the conversation first. This file owns the conversations themselves.

/// The columns of a listed conversation; a macro, since statements are static text.
macro_rules! conversation_columns {
    () => {
        "conversations.id, conversations.title, conversations.model, conversations.created_at, conversations.updated_at, \
         conversations.leaf, (SELECT count(*) FROM messages WHERE conversation = conversations.id) AS messages"
    };
}

mod branches;
mod index;
mod messages;
mod owners;
mod search;
mod summaries;
mod text;
mod turns;

use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

#[cfg(test)]
pub(super) use branches::BRANCH;
pub(super) use branches::{branch, branch_ids, newest_below, select};
#[cfg(test)]
pub(super) use index::words_literal;
pub(super) use messages::{
    delete_newest_messages, explanation, message, message_of_stream, messages, messages_after, messages_by_id,
};
pub(super) use owners::{cancels, claim, release, want_cancel};
#[cfg(test)]
pub(super) use search::HITS;
pub(super) use search::search;
#[cfg(test)]
pub(super) use summaries::CHAIN;
pub(super) use summaries::{chain, keep_summary, summaries_after};
pub(super) use turns::{begin_reply, begin_turn, checkpoint, finish};

use super::Conversation;
use super::page::{ListCursor, Slice};
use crate::clock::rfc3339;
use crate::db::{DbError, PostgresDb, Transaction, Written};

pub(super) async fn insert_conversation(
    db: &PostgresDb,
    tenant: &str,
    id: Uuid,
    title: &str,
    now: u64,
) -> Result<(), DbError> {
    let query = sqlx::query(
        "WITH made AS ( \
             INSERT INTO conversations (tenant, id, title, created_at, updated_at) VALUES ($1, $2, $3, $4, $4) \
             RETURNING tenant, id) \
         INSERT INTO texts (tenant, conversation, words) SELECT tenant, id, ish_words(tenant, $5) FROM made",
    );
    let query = query.bind(tenant).bind(id).bind(text::stored(title)).bind(now as i64);
    let mut tx = db.write(tenant).await?;
    tx.execute(query.bind(index::words_literal(title))).await?;
    tx.commit().await
}

/// Gives it another title, which is found from then on; false where there is no such conversation.
async fn retitle(tx: &mut Transaction, id: Uuid, title: &str) -> Result<bool, DbError> {
    let query = sqlx::query("UPDATE conversations SET title = $2 WHERE id = $1").bind(id).bind(text::stored(title));
    let found = tx.execute(query).await? == 1;
    let query =
        sqlx::query("UPDATE texts SET words = ish_words(tenant, $2) WHERE conversation = $1 AND message IS NULL");
    tx.execute(query.bind(id).bind(index::words_literal(title))).await?;
    Ok(found)
}

pub(super) const LIST: &str = concat!(
    "SELECT ",
    conversation_columns!(),
    " FROM conversations WHERE (updated_at, id) < ($1, $2) ORDER BY updated_at DESC, id DESC LIMIT $3 OFFSET $4"
);

pub(super) async fn list_conversations(
    db: &PostgresDb,
    tenant: &str,
    slice: Slice,
    after: Option<ListCursor>,
) -> Result<Vec<(ListCursor, Conversation)>, DbError> {
    let (time, id) = after.map_or((i64::MAX, Uuid::nil()), |last| (last.updated_ms as i64, last.id));
    let query = sqlx::query(LIST).bind(time).bind(id).bind(slice.probe() as i64).bind(slice.offset() as i64);
    let rows = db.read_lagging(tenant).await?.all(query).await?;
    let place = |row: &PgRow| -> Result<_, Error> {
        let conversation = read_conversation(row)?;
        Ok((ListCursor { updated_ms: row.try_get::<i64, _>("updated_at")? as u64, id: conversation.id }, conversation))
    };
    Ok(rows.iter().map(place).collect::<Result<_, _>>()?)
}

pub(super) async fn conversation(db: &PostgresDb, tenant: &str, id: Uuid) -> Result<Option<Conversation>, DbError> {
    let asked = Written::new(concat!("SELECT ", conversation_columns!(), " FROM conversations WHERE id = $1")).bind(id);
    let rows = db.ask(tenant, &asked).await?;
    Ok(rows.first().map(read_conversation).transpose()?)
}

pub(super) async fn rename_conversation(
    db: &PostgresDb,
    tenant: &str,
    id: Uuid,
    title: String,
) -> Result<bool, DbError> {
    let mut tx = db.write(tenant).await?;
    let renamed = retitle(&mut tx, id, &title).await?;
    tx.commit().await?;
    Ok(renamed)
}

pub(super) async fn delete_conversation(db: &PostgresDb, tenant: &str, id: Uuid) -> Result<bool, DbError> {
    let mut tx = db.write(tenant).await?;
    let deleted = tx.execute(sqlx::query("DELETE FROM conversations WHERE id = $1").bind(id)).await? == 1;
    tx.commit().await?;
    Ok(deleted)
}

fn read_conversation(row: &PgRow) -> Result<Conversation, Error> {
    Ok(Conversation {
        id: row.try_get("id")?,
        title: text::written(row.try_get("title")?),
        model: row.try_get::<Option<&str>, _>("model")?.map(text::written),
        created_at: rfc3339(row.try_get::<i64, _>("created_at")? as u64),
        updated_at: rfc3339(row.try_get::<i64, _>("updated_at")? as u64),
        messages: row.try_get("messages")?,
        leaf: row.try_get("leaf")?,
    })
}
