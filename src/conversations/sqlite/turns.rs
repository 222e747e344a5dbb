//! Turns written: begun in one commit, checkpointed, finished once.

use sqlx::{Error, Row, SqliteConnection};
use uuid::Uuid;

use super::{new_conversation, optional_uuid, uuid};
use crate::clock::new_id;
use crate::conversations::{BegunTurn, Hold, MessageState, NewTurn, Outcome, Parent, Progress};
use crate::db::packed::pack;
use crate::db::{DbError, SqliteDb};
use crate::message::Role;
use crate::tasks::{NewTask, Queue};

pub(in crate::conversations) async fn begin_turn(
    db: &SqliteDb,
    tenant: String,
    turn: NewTurn,
    title: String,
    owner: Uuid,
    now: u64,
) -> Result<Option<BegunTurn>, DbError> {
    let packed = pack(&turn.content).await;
    let packed_system = match &turn.system {
        Some(system) => pack(system).await,
        None => None,
    };
    db.write(move |tx| {
        Box::pin(async move {
            if let Some(known) = begun_before(tx, &tenant, turn.client_id.as_deref()).await? {
                return Ok(Some(known));
            }
            let (conversation, leaf) = match turn.conversation {
                Some(id) => match selected_leaf(tx, &tenant, id).await? {
                    Some(leaf) => (id, leaf),
                    None => return Ok(None),
                },
                None => {
                    let id = new_id();
                    new_conversation(tx, &tenant, id, &title, Some(&turn.model), now).await?;
                    (id, None)
                }
            };
            let mut parent = match turn.parent {
                Parent::Message(id) => Some(id),
                Parent::Start => instructions(tx, conversation).await?,
                Parent::Selected => leaf,
            };
            if parent.is_none() && turn.conversation.is_some() {
                rename(tx, conversation, &title).await?;
            }
            if let Some(system) = &turn.system {
                let id = new_id();
                let said = NewMessage::said(id, conversation, parent, Role::System, system, now);
                insert_message(tx, &tenant, NewMessage { packed: packed_system.as_deref(), ..said }).await?;
                parent = Some(id);
            }
            let message = new_id();
            let question = NewMessage {
                packed: packed.as_deref(),
                client_id: turn.client_id.as_deref(),
                ..NewMessage::said(message, conversation, parent, Role::User, &turn.content, now)
            };
            insert_message(tx, &tenant, question).await?;
            let begun = BegunTurn { conversation, message, reply: new_id(), stream: new_id(), duplicate: false };
            insert_message(tx, &tenant, NewMessage::awaited(&begun, &turn.model, owner, now)).await?;
            continue_with(tx, begun, &turn.model, now).await?;
            Ok(Some(begun))
        })
    })
    .await
}

pub(in crate::conversations) async fn begin_reply(
    db: &SqliteDb,
    tenant: String,
    begun: BegunTurn,
    client_id: Option<String>,
    model: String,
    owner: Uuid,
    now: u64,
) -> Result<BegunTurn, DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            if let Some(known) = begun_before(tx, &tenant, client_id.as_deref()).await? {
                return Ok(known);
            }
            let awaited = NewMessage::awaited(&begun, &model, owner, now);
            let reply = NewMessage { client_id: client_id.as_deref(), ..awaited };
            insert_message(tx, &tenant, reply).await?;
            continue_with(tx, begun, &model, now).await?;
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

/// The end of the selected branch, where there is one; `None` where the tenant has no such conversation.
async fn selected_leaf(
    tx: &mut SqliteConnection,
    tenant: &str,
    conversation: Uuid,
) -> Result<Option<Option<Uuid>>, Error> {
    let query = sqlx::query("SELECT leaf FROM conversations WHERE id = ?1 AND tenant = ?2");
    let row = query.bind(conversation.to_string()).bind(tenant).fetch_optional(tx).await?;
    row.map(|row| optional_uuid(&row, "leaf")).transpose()
}

async fn instructions(tx: &mut SqliteConnection, conversation: Uuid) -> Result<Option<Uuid>, Error> {
    let query = sqlx::query("SELECT id FROM messages WHERE conversation = ?1 AND role = 'system' LIMIT 1");
    let row = query.bind(conversation.to_string()).fetch_optional(tx).await?;
    row.map(|row| uuid(&row, "id")).transpose()
}

async fn rename(tx: &mut SqliteConnection, conversation: Uuid, title: &str) -> Result<(), Error> {
    let query = sqlx::query("UPDATE conversations SET title = ?2 WHERE id = ?1 AND title = 'New chat'");
    query.bind(conversation.to_string()).bind(title).execute(tx).await.map(drop)
}

/// Selects the branch that the new answer ends.
async fn continue_with(tx: &mut SqliteConnection, begun: BegunTurn, model: &str, now: u64) -> Result<(), Error> {
    let query = sqlx::query("UPDATE conversations SET updated_at = ?2, model = ?3, leaf = ?4 WHERE id = ?1");
    let query = query.bind(begun.conversation.to_string()).bind(now as i64).bind(model).bind(begun.reply.to_string());
    query.execute(tx).await.map(drop)
}

struct NewMessage<'a> {
    id: Uuid,
    conversation: Uuid,
    parent: Option<Uuid>,
    role: Role,
    state: MessageState,
    content: &'a str,
    /// The content packed, where it is to be stored so.
    packed: Option<&'a [u8]>,
    model: Option<&'a str>,
    client_id: Option<&'a str>,
    stream: Option<Uuid>,
    owner: Option<Uuid>,
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
            packed: None,
            model: None,
            client_id: None,
            stream: None,
            owner: None,
            now,
        }
    }

    fn awaited(begun: &BegunTurn, model: &'a str, owner: Uuid, now: u64) -> Self {
        let said = Self::said(begun.reply, begun.conversation, Some(begun.message), Role::Assistant, "", now);
        let (model, stream, owner) = (Some(model), Some(begun.stream), Some(owner));
        Self { state: MessageState::Streaming, model, stream, owner, ..said }
    }
}

async fn insert_message(tx: &mut SqliteConnection, tenant: &str, message: NewMessage<'_>) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO messages (id, tenant, conversation, parent, role, state, content, model, client_id, stream, owner, \
             created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
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
    .bind(message.owner.map(|id| id.to_string()))
    .bind(message.now as i64)
    .execute(&mut *tx)
    .await?;
    put_away(tx, message.id, message.packed, None).await
}

/// Stores packed texts in the place of the plain ones, which the index has read by now.
async fn put_away(
    tx: &mut SqliteConnection,
    message: Uuid,
    content: Option<&[u8]>,
    reasoning: Option<&[u8]>,
) -> Result<(), Error> {
    if content.is_none() && reasoning.is_none() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE messages SET packed = ?2, content = iif(?2 IS NULL, content, ''), \
         packed_reasoning = ?3, reasoning = iif(?3 IS NULL, reasoning, '') WHERE id = ?1",
    )
    .bind(message.to_string())
    .bind(content)
    .bind(reasoning)
    .execute(tx)
    .await
    .map(drop)
}

pub(in crate::conversations) async fn checkpoint(
    db: &SqliteDb,
    tenant: &str,
    reply: Uuid,
    owner: Uuid,
    progress: Progress,
) -> Result<Hold, DbError> {
    let tenant = tenant.to_owned();
    db.write(move |tx| {
        Box::pin(async move {
            let row = sqlx::query(
                "UPDATE messages SET content = ?2, reasoning = ?3, seq = ?4, epoch = ?5 WHERE id = ?1 AND tenant = ?6 \
                 AND owner = ?7 AND state = 'streaming' AND (epoch, seq) <= (?5, ?4) RETURNING cancel_wanted",
            )
            .bind(reply.to_string())
            .bind(progress.content)
            .bind(progress.reasoning)
            .bind(progress.seq as i64)
            .bind(i64::from(progress.epoch))
            .bind(tenant)
            .bind(owner.to_string())
            .fetch_optional(tx)
            .await?;
            Ok(Hold::of(row.map(|row| row.try_get("cancel_wanted")).transpose()?))
        })
    })
    .await
}

pub(in crate::conversations) async fn finish(
    db: &SqliteDb,
    tenant: &str,
    reply: Uuid,
    owner: Uuid,
    outcome: Outcome,
    follows: Option<(Queue, NewTask)>,
    now: u64,
) -> Result<bool, DbError> {
    let tenant = tenant.to_owned();
    let (content, reasoning) = (pack(&outcome.content).await, pack(&outcome.reasoning).await);
    db.write(move |tx| {
        Box::pin(async move {
            let ended = sqlx::query(
                "UPDATE messages SET state = ?2, content = ?3, reasoning = ?4, seq = ?5, finish_reason = ?6, input_tokens = ?7, \
                 output_tokens = ?8, cache = ?9, explanation = ?10, error = ?11, elapsed_ms = ?12, epoch = ?13 \
                 WHERE id = ?1 AND tenant = ?14 AND owner = ?15 AND state = 'streaming' AND epoch <= ?13",
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
            .bind(outcome.elapsed_ms.map(|elapsed_ms| elapsed_ms as i64))
            .bind(i64::from(outcome.epoch))
            .bind(&tenant)
            .bind(owner.to_string())
            .execute(&mut *tx)
            .await?;
            if ended.rows_affected() == 1 {
                put_away(tx, reply, content.as_deref(), reasoning.as_deref()).await?;
                if let Some((queue, task)) = follows {
                    queue.enqueue_in(&mut *tx, task).await?;
                }
            }
            let query = sqlx::query(
                "UPDATE conversations SET updated_at = ?2 \
                 WHERE id = (SELECT conversation FROM messages WHERE id = ?1 AND tenant = ?3)",
            );
            query.bind(reply.to_string()).bind(now as i64).bind(tenant).execute(tx).await?;
            Ok(ended.rows_affected() == 1)
        })
    })
    .await
}
