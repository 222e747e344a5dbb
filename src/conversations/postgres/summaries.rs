//! The way from a message to the first, as far as a window reaches or to a summary; and summaries themselves.

use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use super::text;
use crate::conversations::window::{Chain, Link, Summary};
use crate::db::{DbError, PostgresDb, Written};
use crate::message::Role;

/// The whole window in one read: the walk ends with the window, or, further back, with the first summary that it meets; the
/// instructions are found by an index of their own. Each step is a look-up of its own, as in `branches`.
pub(in crate::conversations) const CHAIN: &str = "WITH RECURSIVE chain (id, parent, role, content, depth, summary) AS ( \
         SELECT id, parent, role, content, 0::bigint, NULL::uuid FROM messages WHERE id = $1 \
         UNION ALL \
         SELECT m.id, m.parent, m.role, m.content, depth + 1, coalesce(chain.summary, m.summary) FROM chain, LATERAL ( \
             SELECT id, parent, role, content, ( \
                 SELECT message FROM summaries WHERE message = messages.id AND $2::bigint < $3::bigint) AS summary \
             FROM messages WHERE id = chain.parent OFFSET 0) AS m \
         WHERE depth + 1 < CASE WHEN chain.summary IS NULL THEN $3::bigint ELSE $2::bigint END) \
     SELECT id, role AS kind, content, depth, parent IS NULL AS is_first, summary IS NOT NULL AS is_summarised FROM chain \
     UNION ALL \
     SELECT id, 'instructions', content, -1, false, false FROM messages WHERE role = 'system' AND content <> '' \
         AND conversation = (SELECT conversation FROM messages WHERE id = $1) \
     UNION ALL \
     SELECT message, 'summary', content, -1, false, false FROM summaries \
         WHERE message = (SELECT summary FROM chain WHERE summary IS NOT NULL LIMIT 1) \
     ORDER BY 4 DESC";

/// From `message` to `messages` before it; to `reach` before it as long as no summary has been met.
pub(in crate::conversations) async fn chain(
    db: &PostgresDb,
    tenant: &str,
    message: Uuid,
    messages: usize,
    reach: usize,
) -> Result<Chain, DbError> {
    let asked = Written::new(CHAIN).bind(message).bind(messages as i64).bind(reach as i64);
    let rows = db.ask(tenant, &asked).await?;
    let mut chain = Chain::default();
    for row in &rows {
        let text = text::written(row.try_get("content")?);
        match row.try_get::<&str, _>("kind")? {
            "instructions" => chain.instructions.push(text),
            "summary" => chain.summary = Some(text),
            role => chain.links.push(link(row, role, text)?),
        }
    }
    Ok(chain)
}

fn link(row: &PgRow, role: &str, text: String) -> Result<Link, Error> {
    Ok(Link {
        id: row.try_get("id")?,
        role: Role::stored(role),
        text,
        depth: row.try_get::<i64, _>("depth")? as usize,
        is_first: row.try_get("is_first")?,
        is_summarised: row.try_get("is_summarised")?,
    })
}

pub(in crate::conversations) async fn keep_summary(
    db: &PostgresDb,
    tenant: &str,
    message: Uuid,
    content: &str,
    model: &str,
    now: u64,
) -> Result<bool, DbError> {
    let kept = sqlx::query(
        "INSERT INTO summaries (message, tenant, conversation, content, model, created_at) \
         SELECT id, tenant, conversation, $2, $3, $4 FROM messages WHERE id = $1 ON CONFLICT DO NOTHING",
    );
    let kept = kept.bind(message).bind(text::stored(content)).bind(text::stored(model)).bind(now as i64);
    let mut tx = db.write(tenant).await?;
    let kept = tx.execute(kept).await? == 1;
    tx.commit().await?;
    Ok(kept)
}

/// A conversation's summaries behind the one of `last`, in the order of their messages.
pub(in crate::conversations) async fn summaries_after(
    db: &PostgresDb,
    tenant: &str,
    conversation: Uuid,
    last: Option<Uuid>,
    limit: usize,
) -> Result<Vec<Summary>, DbError> {
    let query = sqlx::query(
        "SELECT message, content, model, created_at FROM summaries \
         WHERE conversation = $1 AND message > $2 ORDER BY message LIMIT $3",
    );
    let query = query.bind(conversation).bind(last.unwrap_or(Uuid::nil())).bind(limit as i64);
    let rows = db.read(tenant).await?.all(query).await?;
    let read = |row: &PgRow| -> Result<Summary, Error> {
        let [content, model] = [row.try_get("content")?, row.try_get("model")?].map(text::written);
        Ok(Summary::new(row.try_get("message")?, content, model, row.try_get("created_at")?))
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}
