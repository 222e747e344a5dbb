//! Conversations in SQLite: one verb per function, every row by tenant.

use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row, SqliteConnection};
use uuid::Uuid;

use super::{BegunTurn, Conversation, MessageState, NewTurn, Outcome, StoredMessage};
use crate::clock::{new_id, rfc3339};
use crate::db::{Db, DbError};
use crate::message::{Role, Usage};

/// The columns of a listed conversation; a macro, since statements are static text.
macro_rules! select_conversations {
    ($rest:literal) => {
        concat!(
            "SELECT id, title, model, created_at, updated_at, ",
            "(SELECT count(*) FROM messages WHERE conversation = conversations.id) AS messages FROM conversations ",
            $rest
        )
    };
}

pub(super) async fn insert_conversation(db: &Db, tenant: &str, id: Uuid, title: &str, now: u64) -> Result<(), DbError> {
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
    db: &Db,
    tenant: &str,
    limit: usize,
    after: Option<(u64, Uuid)>,
) -> Result<Vec<(u64, Conversation)>, DbError> {
    let sql = select_conversations!(
        "WHERE tenant = ?1 AND (updated_at, id) < (?2, ?3) ORDER BY updated_at DESC, id DESC LIMIT ?4"
    );
    let (time, id) = after.map_or((i64::MAX, String::new()), |(time, id)| (time as i64, id.to_string()));
    let rows =
        sqlx::query(sql).bind(tenant).bind(time).bind(id).bind(limit as i64).fetch_all(&mut *db.read().await?).await?;
    rows.iter().map(|row| Ok((row.try_get::<i64, _>("updated_at")? as u64, read_conversation(row)?))).collect()
}

pub(super) async fn conversation(db: &Db, tenant: &str, id: Uuid) -> Result<Option<Conversation>, DbError> {
    let sql = select_conversations!("WHERE id = ?1 AND tenant = ?2");
    let row = sqlx::query(sql).bind(id.to_string()).bind(tenant).fetch_optional(&mut *db.read().await?).await?;
    Ok(row.as_ref().map(read_conversation).transpose()?)
}

pub(super) async fn delete_conversation(db: &Db, tenant: &str, id: Uuid) -> Result<bool, DbError> {
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

pub(super) async fn messages(
    db: &Db,
    tenant: &str,
    conversation: Uuid,
    limit: usize,
    before: Option<Uuid>,
) -> Result<Vec<StoredMessage>, DbError> {
    let before = before.map_or_else(|| "~".to_owned(), |id| id.to_string());
    let rows = sqlx::query(
        "SELECT * FROM messages WHERE conversation = ?1 AND tenant = ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4",
    )
    .bind(conversation.to_string())
    .bind(tenant)
    .bind(before)
    .bind(limit as i64)
    .fetch_all(&mut *db.read().await?)
    .await?;
    Ok(rows.iter().map(read_message).collect::<Result<_, _>>()?)
}

pub(super) async fn message(db: &Db, tenant: &str, id: Uuid) -> Result<Option<StoredMessage>, DbError> {
    let query = sqlx::query("SELECT * FROM messages WHERE id = ?1 AND tenant = ?2");
    let row = query.bind(id.to_string()).bind(tenant).fetch_optional(&mut *db.read().await?).await?;
    Ok(row.as_ref().map(read_message).transpose()?)
}

pub(super) async fn message_of_stream(db: &Db, tenant: &str, stream: Uuid) -> Result<Option<StoredMessage>, DbError> {
    let query = sqlx::query("SELECT * FROM messages WHERE stream = ?1 AND tenant = ?2");
    let row = query.bind(stream.to_string()).bind(tenant).fetch_optional(&mut *db.read().await?).await?;
    Ok(row.as_ref().map(read_message).transpose()?)
}

pub(super) async fn explanation(db: &Db, tenant: &str, message: Uuid) -> Result<Option<String>, DbError> {
    let query =
        sqlx::query_scalar::<_, Option<String>>("SELECT explanation FROM messages WHERE id = ?1 AND tenant = ?2");
    Ok(query.bind(message.to_string()).bind(tenant).fetch_optional(&mut *db.read().await?).await?.flatten())
}

pub(super) async fn begin_turn(
    db: &Db,
    tenant: String,
    turn: NewTurn,
    title: String,
    now: u64,
) -> Result<BegunTurn, DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            if let Some(known) = begun_before(tx, &tenant, turn.client_id.as_deref()).await? {
                return Ok(known);
            }
            let conversation = match turn.conversation {
                Some(id) => id,
                None => {
                    let id = new_id();
                    new_conversation(tx, &tenant, id, &title, Some(&turn.model), now).await?;
                    id
                }
            };
            let mut parent = last_message(tx, conversation).await?;
            if parent.is_none() && turn.conversation.is_some() {
                rename(tx, conversation, &title).await?;
            }
            if let Some(system) = &turn.system {
                let id = new_id();
                insert_message(tx, &tenant, NewMessage::said(id, conversation, parent, Role::System, system, now))
                    .await?;
                parent = Some(id);
            }
            let message = new_id();
            let question = NewMessage {
                client_id: turn.client_id.as_deref(),
                ..NewMessage::said(message, conversation, parent, Role::User, &turn.content, now)
            };
            insert_message(tx, &tenant, question).await?;
            let begun = BegunTurn { conversation, message, reply: new_id(), stream: new_id(), duplicate: false };
            insert_message(tx, &tenant, NewMessage::awaited(&begun, &turn.model, now)).await?;
            touch(tx, conversation, &turn.model, now).await?;
            Ok(begun)
        })
    })
    .await
}

pub(super) async fn begin_reply(
    db: &Db,
    tenant: String,
    begun: BegunTurn,
    client_id: Option<String>,
    model: String,
    now: u64,
) -> Result<BegunTurn, DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            if let Some(known) = begun_before(tx, &tenant, client_id.as_deref()).await? {
                return Ok(known);
            }
            let reply = NewMessage { client_id: client_id.as_deref(), ..NewMessage::awaited(&begun, &model, now) };
            insert_message(tx, &tenant, reply).await?;
            touch(tx, begun.conversation, &model, now).await?;
            Ok(begun)
        })
    })
    .await
}

/// The turn that the same client identifier has begun: it names the question of a send, the answer of a regenerate.
async fn begun_before(
    tx: &mut SqliteConnection,
    tenant: &str,
    client_id: Option<&str>,
) -> Result<Option<BegunTurn>, Error> {
    let Some(client_id) = client_id else { return Ok(None) };
    let row = sqlx::query(
        "SELECT reply.conversation, reply.parent, reply.id, reply.stream FROM messages AS named \
         JOIN messages AS reply ON reply.role = 'assistant' AND reply.conversation = named.conversation \
              AND (reply.id = named.id OR reply.parent = named.id) \
         WHERE named.tenant = ?1 AND named.client_id = ?2 ORDER BY reply.id LIMIT 1",
    )
    .bind(tenant)
    .bind(client_id)
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(BegunTurn {
        conversation: uuid(&row, "conversation")?,
        message: uuid(&row, "parent")?,
        reply: uuid(&row, "id")?,
        stream: uuid(&row, "stream")?,
        duplicate: true,
    }))
}

async fn last_message(tx: &mut SqliteConnection, conversation: Uuid) -> Result<Option<Uuid>, Error> {
    let query = sqlx::query("SELECT id FROM messages WHERE conversation = ?1 ORDER BY id DESC LIMIT 1");
    let row = query.bind(conversation.to_string()).fetch_optional(tx).await?;
    row.map(|row| uuid(&row, "id")).transpose()
}

async fn rename(tx: &mut SqliteConnection, conversation: Uuid, title: &str) -> Result<(), Error> {
    let query = sqlx::query("UPDATE conversations SET title = ?2 WHERE id = ?1 AND title = 'New chat'");
    query.bind(conversation.to_string()).bind(title).execute(tx).await.map(drop)
}

async fn touch(tx: &mut SqliteConnection, conversation: Uuid, model: &str, now: u64) -> Result<(), Error> {
    let query = sqlx::query("UPDATE conversations SET updated_at = ?2, model = ?3 WHERE id = ?1");
    query.bind(conversation.to_string()).bind(now as i64).bind(model).execute(tx).await.map(drop)
}

struct NewMessage<'a> {
    id: Uuid,
    conversation: Uuid,
    parent: Option<Uuid>,
    role: Role,
    state: MessageState,
    content: &'a str,
    model: Option<&'a str>,
    client_id: Option<&'a str>,
    stream: Option<Uuid>,
    now: u64,
}

impl<'a> NewMessage<'a> {
    fn said(id: Uuid, conversation: Uuid, parent: Option<Uuid>, role: Role, content: &'a str, now: u64) -> Self {
        Self {
            id,
            conversation,
            parent,
            role,
            state: MessageState::Complete,
            content,
            model: None,
            client_id: None,
            stream: None,
            now,
        }
    }

    fn awaited(begun: &BegunTurn, model: &'a str, now: u64) -> Self {
        let said = Self::said(begun.reply, begun.conversation, Some(begun.message), Role::Assistant, "", now);
        Self { state: MessageState::Streaming, model: Some(model), stream: Some(begun.stream), ..said }
    }
}

async fn insert_message(tx: &mut SqliteConnection, tenant: &str, message: NewMessage<'_>) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO messages (id, tenant, conversation, parent, role, state, content, model, client_id, stream, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )
    .bind(message.id.to_string())
    .bind(tenant)
    .bind(message.conversation.to_string())
    .bind(message.parent.map(|id| id.to_string()))
    .bind(message.role.as_str())
    .bind(message.state.as_str())
    .bind(message.content)
    .bind(message.model)
    .bind(message.client_id)
    .bind(message.stream.map(|id| id.to_string()))
    .bind(message.now as i64)
    .execute(tx)
    .await
    .map(drop)
}

pub(super) async fn history(
    db: &Db,
    tenant: &str,
    message: Uuid,
    window: usize,
) -> Result<Vec<(Role, String)>, DbError> {
    // Answers that were cut or failed with nothing said would only confuse the model: empty ones are left out.
    let rows = sqlx::query(
        "WITH RECURSIVE chain (id, parent, role, content, depth) AS ( \
             SELECT id, parent, role, content, 0 FROM messages WHERE id = ?1 AND tenant = ?2 \
             UNION ALL \
             SELECT m.id, m.parent, m.role, m.content, depth + 1 FROM messages AS m JOIN chain ON m.id = chain.parent) \
         SELECT role, content, depth FROM chain WHERE content <> '' AND (depth < ?3 OR role = 'system') ORDER BY depth DESC",
    )
    .bind(message.to_string())
    .bind(tenant)
    .bind(window as i64)
    .fetch_all(&mut *db.read().await?)
    .await?;
    let turn = |row: &SqliteRow| -> Result<(Role, String), Error> {
        let role = match row.try_get::<&str, _>("role")? {
            "system" => Role::System,
            "user" => Role::User,
            _ => Role::Assistant,
        };
        Ok((role, row.try_get("content")?))
    };
    Ok(rows.iter().map(turn).collect::<Result<_, _>>()?)
}

pub(super) async fn checkpoint(
    db: &Db,
    reply: Uuid,
    content: String,
    reasoning: String,
    seq: u64,
) -> Result<(), DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            sqlx::query(
                "UPDATE messages SET content = ?2, reasoning = ?3, seq = ?4 WHERE id = ?1 AND state = 'streaming'",
            )
            .bind(reply.to_string())
            .bind(content)
            .bind(reasoning)
            .bind(seq as i64)
            .execute(tx)
            .await
            .map(drop)
        })
    })
    .await
}

pub(super) async fn finish(db: &Db, reply: Uuid, outcome: Outcome, now: u64) -> Result<(), DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            sqlx::query(
                "UPDATE messages SET state = ?2, content = ?3, reasoning = ?4, seq = ?5, finish_reason = ?6, input_tokens = ?7, \
                 output_tokens = ?8, cache = ?9, explanation = ?10, error = ?11, elapsed_ms = ?12 WHERE id = ?1 AND state = 'streaming'",
            )
            .bind(reply.to_string())
            .bind(outcome.state.as_str())
            .bind(outcome.content)
            .bind(outcome.reasoning)
            .bind(outcome.seq as i64)
            .bind(outcome.finish_reason)
            .bind(outcome.usage.map(|usage| usage.input_tokens as i64))
            .bind(outcome.usage.map(|usage| usage.output_tokens as i64))
            .bind(outcome.cache)
            .bind(outcome.explanation)
            .bind(outcome.error)
            .bind(outcome.elapsed_ms as i64)
            .execute(&mut *tx)
            .await?;
            let query = sqlx::query("UPDATE conversations SET updated_at = ?2 WHERE id = (SELECT conversation FROM messages WHERE id = ?1)");
            query.bind(reply.to_string()).bind(now as i64).execute(tx).await.map(drop)
        })
    })
    .await
}

pub(super) async fn interrupt_unfinished(db: &Db) -> Result<u64, DbError> {
    db.write(|tx| {
        Box::pin(async move {
            let query = sqlx::query("UPDATE messages SET state = 'interrupted' WHERE state = 'streaming'");
            Ok(query.execute(tx).await?.rows_affected())
        })
    })
    .await
}

pub(super) async fn check(db: &Db) -> Result<(), DbError> {
    sqlx::query("SELECT 1").execute(&mut *db.read().await?).await?;
    Ok(())
}

fn read_conversation(row: &SqliteRow) -> Result<Conversation, Error> {
    Ok(Conversation {
        id: uuid(row, "id")?,
        title: row.try_get("title")?,
        model: row.try_get("model")?,
        created_at: rfc3339(row.try_get::<i64, _>("created_at")? as u64),
        updated_at: rfc3339(row.try_get::<i64, _>("updated_at")? as u64),
        messages: row.try_get("messages")?,
    })
}

fn read_message(row: &SqliteRow) -> Result<StoredMessage, Error> {
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
        content: row.try_get("content")?,
        reasoning: row.try_get("reasoning")?,
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
    })
}

fn uuid(row: &SqliteRow, name: &str) -> Result<Uuid, Error> {
    row.try_get::<&str, _>(name)?.parse().map_err(|error| Error::Decode(Box::new(error)))
}

fn optional_uuid(row: &SqliteRow, name: &str) -> Result<Option<Uuid>, Error> {
    let text = row.try_get::<Option<&str>, _>(name)?;
    text.map(|text| text.parse().map_err(|error| Error::Decode(Box::new(error)))).transpose()
}
