//! Turns written: begun in one commit, checkpointed, finished once. Who begins one holds its conversation until the commit, so
//! that each follows the one before, whichever instance writes it.

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::index::words_literal;
use super::text;
use crate::clock::new_id;
use crate::conversations::{BegunTurn, Hold, NewTurn, Outcome, Parent, Progress};
use crate::db::{DbError, PostgresDb, Transaction};
use crate::tasks::{NewTask, Queue, TaskError};

pub(in crate::conversations) async fn begin_turn(
    db: &PostgresDb,
    tenant: String,
    turn: NewTurn,
    title: String,
    owner: Uuid,
    now: u64,
) -> Result<Option<BegunTurn>, DbError> {
    match try_begin_turn(db, &tenant, &turn, &title, owner, now).await {
        Err(error) if error.is_duplicate() => try_begin_turn(db, &tenant, &turn, &title, owner, now).await,
        begun => begun,
    }
}

/// A send of the same client identifier that was committed meanwhile is a duplicate: the next look finds that.
async fn try_begin_turn(
    db: &PostgresDb,
    tenant: &str,
    turn: &NewTurn,
    title: &str,
    owner: Uuid,
    now: u64,
) -> Result<Option<BegunTurn>, DbError> {
    let (follows, parent) = match turn.parent {
        Parent::Selected => ("selected", None),
        Parent::Start => ("start", None),
        Parent::Message(id) => ("message", Some(id)),
    };
    let query = sqlx::query(
        "SELECT * FROM ish_begin_turn($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
    );
    let query = query
        .bind(turn.client_id.as_deref().map(text::stored))
        .bind(turn.conversation)
        .bind(follows)
        .bind(parent)
        .bind(new_id())
        .bind(text::stored(title))
        .bind(words_literal(title))
        .bind(text::stored(&turn.model))
        .bind(turn.system.as_deref().map(text::stored))
        .bind(new_id())
        .bind(text::stored(&turn.content))
        .bind(words_literal(&turn.content))
        // Identifiers sort by the time of their making: the question's before its answer's.
        .bind(new_id())
        .bind(new_id())
        .bind(new_id())
        .bind(owner)
        .bind(now as i64);
    let mut tx = db.write(tenant).await?;
    let Some(row) = tx.optional(query).await? else { return Ok(None) };
    tx.commit().await?;
    Ok(Some(BegunTurn {
        conversation: row.try_get("its_conversation")?,
        message: row.try_get("its_message")?,
        reply: row.try_get("its_reply")?,
        stream: row.try_get("its_stream")?,
        duplicate: row.try_get("is_duplicate")?,
    }))
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
        Err(error) if error.is_duplicate() => try_begin_reply(db, &tenant, begun, client_id, &model, owner, now).await,
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
    // Selects the branch that the new answer ends.
    let query = sqlx::query(
        "WITH continued AS (UPDATE conversations SET updated_at = $8, model = $4, leaf = $1 WHERE id = $2) \
         INSERT INTO messages (id, tenant, conversation, parent, role, state, content, model, client_id, stream, owner, \
             created_at) \
         VALUES ($1, current_setting('ish.tenant'), $2, $3, 'assistant', 'streaming', '', $4, $5, $6, $7, $8)",
    );
    let query = query.bind(begun.reply).bind(begun.conversation).bind(begun.message).bind(text::stored(model));
    let query = query.bind(client_id.map(text::stored)).bind(begun.stream).bind(owner).bind(now as i64);
    tx.execute(query).await?;
    tx.commit().await?;
    Ok(begun)
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
    let query = sqlx::query("SELECT ish_finish($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)");
    let query = query
        .bind(reply)
        .bind(owner)
        .bind(outcome.state.as_str())
        .bind(text::stored(&outcome.content))
        .bind(text::stored(&outcome.reasoning))
        .bind(outcome.seq as i64)
        .bind(i64::from(outcome.epoch))
        .bind(outcome.finish_reason.as_deref().map(text::stored))
        .bind(outcome.usage.map(|usage| usage.input_tokens as i64))
        .bind(outcome.usage.map(|usage| usage.output_tokens as i64))
        .bind(outcome.cache)
        .bind(outcome.explanation)
        .bind(outcome.error)
        .bind(outcome.elapsed_ms.map(|elapsed_ms| elapsed_ms as i64))
        .bind(words_literal(&outcome.content))
        .bind(now as i64);
    let mut tx = db.write(tenant).await?;
    let is_ours = tx.one(query).await?.try_get(0)?;
    if let (true, Some((queue, task))) = (is_ours, follows) {
        queue.enqueue_in(&mut tx, task).await.map_err(TaskError::into_store)?;
    }
    tx.commit().await?;
    Ok(is_ours)
}
