//! Turns written: begun in one commit, checkpointed, finished once. Who begins one holds its conversation until the commit, so
//! that each follows the one before, whichever instance writes it.

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::index::words_literal;
use super::{new_conversation, retitle, text};
use crate::clock::new_id;
use crate::conversations::{BegunTurn, Hold, MessageState, NewTurn, Outcome, Parent, Progress};
use crate::db::{DbError, PostgresDb, Transaction};
use crate::message::Role;
use crate::tasks::{NewTask, Queue, TaskError};

pub(in crate::conversations) async fn begin_turn(
    db: &PostgresDb,
    tenant: String,
    turn: NewTurn,
    title: String,
    owner: Uuid,
    now: u64,
) -> Result<BegunTurn, DbError> {
    match try_begin_turn(db, &tenant, &turn, &title, owner, now).await {
        Err(error) if is_taken(&error) => try_begin_turn(db, &tenant, &turn, &title, owner, now).await,
        begun => begun,
    }
}

async fn try_begin_turn(
    db: &PostgresDb,
    tenant: &str,
    turn: &NewTurn,
    title: &str,
    owner: Uuid,
    now: u64,
) -> Result<BegunTurn, DbError> {
    let mut tx = db.write(tenant).await?;
    if let Some(known) = begun_before(&mut tx, turn.client_id.as_deref()).await? {
        return Ok(known);
    }
    let (conversation, mut parent) = place(&mut tx, tenant, turn, title, now).await?;
    if let Some(system) = &turn.system {
        let id = new_id();
        insert(&mut tx, tenant, NewMessage::said(id, conversation, parent, Role::System, system, now)).await?;
        parent = Some(id);
    }
    let message = new_id();
    let question = NewMessage {
        client_id: turn.client_id.as_deref(),
        ..NewMessage::said(message, conversation, parent, Role::User, &turn.content, now)
    };
    insert(&mut tx, tenant, question).await?;
    let begun = BegunTurn { conversation, message, reply: new_id(), stream: new_id(), duplicate: false };
    insert(&mut tx, tenant, NewMessage::awaited(&begun, &turn.model, owner, now)).await?;
    continue_with(&mut tx, begun, &turn.model, now).await?;
    tx.commit().await?;
    Ok(begun)
}

/// The turn's conversation, made where it names none and held where it does, and what its first message follows.
async fn place(
    tx: &mut Transaction,
    tenant: &str,
    turn: &NewTurn,
    title: &str,
    now: u64,
) -> Result<(Uuid, Option<Uuid>), DbError> {
    let Some(id) = turn.conversation else {
        let id = new_id();
        new_conversation(tx, tenant, id, title, Some(&turn.model), now).await?;
        return Ok((id, None));
    };
    let query =
        sqlx::query("SELECT leaf, title = 'New chat' AS unnamed FROM conversations WHERE id = $1 FOR NO KEY UPDATE");
    let row = tx.one(query.bind(id)).await?;
    let parent = match turn.parent {
        Parent::Message(id) => Some(id),
        Parent::Start => instructions(tx, id).await?,
        Parent::Selected => row.try_get("leaf")?,
    };
    if parent.is_none() && row.try_get("unnamed")? {
        retitle(tx, id, title).await?;
    }
    Ok((id, parent))
}

pub(in crate::conversations) async fn begin_reply(
    db: &PostgresDb,
    tenant: String,
    begun: BegunTurn,
    client_id: Option<String>,
    model: String,
    owner: Uuid,
    now: u64,
) -> Result<BegunTurn, DbError> {
    let client_id = client_id.as_deref();
    match try_begin_reply(db, &tenant, begun, client_id, &model, owner, now).await {
        Err(error) if is_taken(&error) => try_begin_reply(db, &tenant, begun, client_id, &model, owner, now).await,
        begun => begun,
    }
}

async fn try_begin_reply(
    db: &PostgresDb,
    tenant: &str,
    begun: BegunTurn,
    client_id: Option<&str>,
    model: &str,
    owner: Uuid,
    now: u64,
) -> Result<BegunTurn, DbError> {
    let mut tx = db.write(tenant).await?;
    if let Some(known) = begun_before(&mut tx, client_id).await? {
        return Ok(known);
    }
    insert(&mut tx, tenant, NewMessage { client_id, ..NewMessage::awaited(&begun, model, owner, now) }).await?;
    continue_with(&mut tx, begun, model, now).await?;
    tx.commit().await?;
    Ok(begun)
}

/// Whether another send of the same client identifier was committed meanwhile: the next look finds that.
fn is_taken(error: &DbError) -> bool {
    matches!(error, DbError::Sql(sqlx::Error::Database(error)) if error.is_unique_violation())
}

/// The turn that the same client identifier has begun: it names the question of a send, the answer of a regenerate.
async fn begun_before(tx: &mut Transaction, client_id: Option<&str>) -> Result<Option<BegunTurn>, DbError> {
    let Some(client_id) = client_id else { return Ok(None) };
    let query = sqlx::query(
        "SELECT reply.conversation, reply.parent, reply.id, reply.stream FROM messages AS named \
         JOIN messages AS reply ON reply.role = 'assistant' AND reply.conversation = named.conversation \
              AND (reply.id = named.id OR reply.parent = named.id) \
         WHERE named.client_id = $1 ORDER BY reply.id LIMIT 1",
    );
    let row = tx.optional(query.bind(text::stored(client_id))).await?;
    let begun = |row: PgRow| -> Result<BegunTurn, sqlx::Error> {
        Ok(BegunTurn {
            conversation: row.try_get("conversation")?,
            message: row.try_get("parent")?,
            reply: row.try_get("id")?,
            stream: row.try_get("stream")?,
            duplicate: true,
        })
    };
    Ok(row.map(begun).transpose()?)
}

async fn instructions(tx: &mut Transaction, conversation: Uuid) -> Result<Option<Uuid>, DbError> {
    let query = sqlx::query("SELECT id FROM messages WHERE conversation = $1 AND role = 'system' LIMIT 1");
    let row = tx.optional(query.bind(conversation)).await?;
    Ok(row.map(|row| row.try_get("id")).transpose()?)
}

/// Selects the branch that the new answer ends.
async fn continue_with(tx: &mut Transaction, begun: BegunTurn, model: &str, now: u64) -> Result<(), DbError> {
    let query = sqlx::query("UPDATE conversations SET updated_at = $2, model = $3, leaf = $4 WHERE id = $1");
    let query = query.bind(begun.conversation).bind(now as i64).bind(text::stored(model)).bind(begun.reply);
    tx.execute(query).await.map(drop)
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

    /// What it is found by: instructions are no part of the talk, an answer is found once it has ended.
    fn words(&self) -> Option<String> {
        let is_found = self.role != Role::System && self.state != MessageState::Streaming;
        is_found.then(|| words_literal(self.content))
    }
}

async fn insert(tx: &mut Transaction, tenant: &str, message: NewMessage<'_>) -> Result<(), DbError> {
    let query = sqlx::query(
        "WITH said AS ( \
             INSERT INTO messages (id, tenant, conversation, parent, role, state, content, model, client_id, stream, owner, \
                 created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING tenant, conversation, id) \
         INSERT INTO texts (tenant, conversation, message, words) \
         SELECT tenant, conversation, id, ish_words(tenant, $13) FROM said WHERE $13::text IS NOT NULL",
    );
    let query = query
        .bind(message.id)
        .bind(tenant)
        .bind(message.conversation)
        .bind(message.parent)
        .bind(message.role.as_str())
        .bind(message.state.as_str())
        .bind(text::stored(message.content))
        .bind(message.model.map(text::stored))
        .bind(message.client_id.map(text::stored))
        .bind(message.stream)
        .bind(message.owner)
        .bind(message.now as i64)
        .bind(message.words());
    tx.execute(query).await.map(drop)
}

pub(in crate::conversations) async fn checkpoint(
    db: &PostgresDb,
    tenant: &str,
    reply: Uuid,
    owner: Uuid,
    progress: Progress,
) -> Result<Hold, DbError> {
    let query = sqlx::query(
        "UPDATE messages SET content = $3, reasoning = $4, seq = $5, epoch = $6 WHERE id = $1 AND owner = $2 \
         AND state = 'streaming' AND (epoch, seq) <= ($6, $5) RETURNING cancel_wanted",
    );
    let query = query
        .bind(reply)
        .bind(owner)
        .bind(text::stored(&progress.content))
        .bind(text::stored(&progress.reasoning))
        .bind(progress.seq as i64)
        .bind(i64::from(progress.epoch));
    let mut tx = db.write(tenant).await?;
    let row = tx.optional(query).await?;
    tx.commit().await?;
    Ok(Hold::of(row.map(|row| row.try_get("cancel_wanted")).transpose()?))
}

pub(in crate::conversations) async fn finish(
    db: &PostgresDb,
    tenant: &str,
    reply: Uuid,
    owner: Uuid,
    outcome: Outcome,
    follows: Option<(Queue, NewTask)>,
    now: u64,
) -> Result<bool, DbError> {
    let mut tx = db.write(tenant).await?;
    let touch = "UPDATE conversations SET updated_at = $2 WHERE id = (SELECT conversation FROM messages WHERE id = $1)";
    tx.execute(sqlx::query(touch).bind(reply).bind(now as i64)).await?;
    let query = sqlx::query(
        "WITH ended AS ( \
             UPDATE messages SET state = $2, content = $3, reasoning = $4, seq = $5, finish_reason = $6, input_tokens = $7, \
                 output_tokens = $8, cache = $9, explanation = $10, error = $11, elapsed_ms = $12, epoch = $13 \
             WHERE id = $1 AND state = 'streaming' AND owner = $15 AND epoch <= $13 RETURNING tenant, conversation, id) \
         INSERT INTO texts (tenant, conversation, message, words) \
         SELECT tenant, conversation, id, ish_words(tenant, $14) FROM ended",
    );
    let query = query
        .bind(reply)
        .bind(outcome.state.as_str())
        .bind(text::stored(&outcome.content))
        .bind(text::stored(&outcome.reasoning))
        .bind(outcome.seq as i64)
        .bind(outcome.finish_reason.as_deref().map(text::stored))
        .bind(outcome.usage.map(|usage| usage.input_tokens as i64))
        .bind(outcome.usage.map(|usage| usage.output_tokens as i64))
        .bind(outcome.cache)
        .bind(outcome.explanation)
        .bind(outcome.error)
        .bind(outcome.elapsed_ms.map(|elapsed_ms| elapsed_ms as i64))
        .bind(i64::from(outcome.epoch))
        .bind(words_literal(&outcome.content))
        .bind(owner);
    let has_ended = tx.execute(query).await? == 1;
    if let (true, Some((queue, task))) = (has_ended, follows) {
        queue.enqueue_in(&mut tx, task).await.map_err(TaskError::into_store)?;
    }
    tx.commit().await?;
    Ok(has_ended)
}
