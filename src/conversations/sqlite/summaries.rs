//! The way from a message to the first, as far as a window reaches or to a summary; and summaries themselves.

use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use super::uuid;
use crate::conversations::window::{Chain, Link, Summary};
use crate::db::packed::text;
use crate::db::{DbError, SqliteDb};
use crate::message::Role;

/// The whole window in one read: the walk ends with the window, or, further back, with the first summary that it meets; the
/// instructions are found by an index of their own.
pub(in crate::conversations) const CHAIN: &str = "WITH RECURSIVE chain (id, parent, role, content, packed, depth, summary) AS ( \
         SELECT id, parent, role, content, packed, 0, NULL FROM messages WHERE id = ?1 AND tenant = ?2 \
         UNION ALL \
         SELECT m.id, m.parent, m.role, m.content, m.packed, depth + 1, \
             coalesce(chain.summary, (SELECT message FROM summaries WHERE message = m.id AND ?3 < ?4)) \
         FROM chain JOIN messages AS m ON m.id = chain.parent \
         WHERE depth + 1 < CASE WHEN chain.summary IS NULL THEN ?4 ELSE ?3 END) \
     SELECT id, role AS kind, content, packed, depth, parent IS NULL AS is_first, summary IS NOT NULL AS is_summarised \
         FROM chain \
     UNION ALL \
     SELECT id, 'instructions', content, packed, -1, 0, 0 FROM messages \
         WHERE role = 'system' AND (content <> '' OR packed IS NOT NULL) \
         AND conversation = (SELECT conversation FROM messages WHERE id = ?1 AND tenant = ?2) \
     UNION ALL \
     SELECT message, 'summary', content, NULL, -1, 0, 0 FROM summaries \
         WHERE message = (SELECT summary FROM chain WHERE summary IS NOT NULL LIMIT 1) \
     ORDER BY 5 DESC";

/// From `message` to `messages` before it; to `reach` before it as long as no summary has been met.
pub(in crate::conversations) async fn chain(
    db: &SqliteDb,
    tenant: &str,
    message: Uuid,
    messages: usize,
    reach: usize,
) -> Result<Chain, DbError> {
    let query = sqlx::query(CHAIN).bind(message.to_string()).bind(tenant).bind(messages as i64).bind(reach as i64);
    let rows = query.fetch_all(&mut *db.read().await?).await?;
    let mut chain = Chain::default();
    for row in &rows {
        let text = text(row, "content", "packed")?;
        match row.try_get::<&str, _>("kind")? {
            "instructions" => chain.instructions.push(text),
            "summary" => chain.summary = Some(text),
            role => chain.links.push(link(row, role, text)?),
        }
    }
    Ok(chain)
}

fn link(row: &SqliteRow, role: &str, text: String) -> Result<Link, Error> {
    Ok(Link {
        id: uuid(row, "id")?,
        role: Role::stored(role),
        text,
        depth: row.try_get::<i64, _>("depth")? as usize,
        is_first: row.try_get("is_first")?,
        is_summarised: row.try_get("is_summarised")?,
    })
}

pub(in crate::conversations) async fn keep_summary(
    db: &SqliteDb,
    tenant: &str,
    message: Uuid,
    content: &str,
    model: &str,
    now: u64,
) -> Result<bool, DbError> {
    let (tenant, content, model) = (tenant.to_owned(), content.to_owned(), model.to_owned());
    db.write(move |tx| {
        Box::pin(async move {
            let kept = sqlx::query(
                "INSERT INTO summaries (message, tenant, conversation, content, model, created_at) \
                 SELECT id, tenant, conversation, ?3, ?4, ?5 FROM messages WHERE id = ?1 AND tenant = ?2 \
                 ON CONFLICT DO NOTHING",
            );
            let kept = kept.bind(message.to_string()).bind(tenant).bind(content).bind(model).bind(now as i64);
            Ok(kept.execute(tx).await?.rows_affected() == 1)
        })
    })
    .await
}

/// A conversation's summaries behind the one of `last`, in the order of their messages.
pub(in crate::conversations) async fn summaries_after(
    db: &SqliteDb,
    tenant: &str,
    conversation: Uuid,
    last: Option<Uuid>,
    limit: usize,
) -> Result<Vec<Summary>, DbError> {
    let rows = sqlx::query(
        "SELECT message, content, model, created_at FROM summaries \
         WHERE conversation = ?1 AND tenant = ?2 AND message > ?3 ORDER BY message LIMIT ?4",
    )
    .bind(conversation.to_string())
    .bind(tenant)
    .bind(last.map_or_else(String::new, |id| id.to_string()))
    .bind(limit as i64)
    .fetch_all(&mut *db.read().await?)
    .await?;
    let read = |row: &SqliteRow| -> Result<Summary, Error> {
        let (content, model) = (row.try_get("content")?, row.try_get("model")?);
        Ok(Summary::new(uuid(row, "message")?, content, model, row.try_get("created_at")?))
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}
