//! Search by SQLite's FTS5, whose index the triggers of the schema keep in step.

use sqlx::Row;

use super::{optional_uuid, read_conversation};
use crate::conversations::page::Slice;
use crate::conversations::search::{Found, HIT_BEGINS, HIT_ENDS, Match, snippet_parts};
use crate::db::{Db, DbError};

/// Matching texts that are ranked, the newest first: what bounds the time of a search for a word that is everywhere.
const RANKED: i64 = 10_000;

/// Words of a snippet.
const SNIPPET_WORDS: i64 = 20;

pub(in crate::conversations) async fn search(
    db: &Db,
    tenant: &str,
    expression: &str,
    slice: Slice,
) -> Result<Vec<Found>, DbError> {
    let rows = sqlx::query(concat!(
        "WITH hits AS MATERIALIZED ( \
             SELECT rowid AS row, bm25(search, 0.0, 1.0) AS cost FROM search WHERE search MATCH ?1 ORDER BY rowid DESC LIMIT ?5), \
         best AS ( \
             SELECT texts.conversation, texts.message, hits.row, min(hits.cost) AS cost, count(*) AS texts \
             FROM hits JOIN texts ON texts.row = hits.row GROUP BY texts.conversation) \
         SELECT ",
        conversation_columns!(),
        ", best.message, best.texts, (SELECT role FROM messages WHERE id = best.message) AS role, \
           (SELECT snippet(search, 1, ?6, ?7, '…', ?8) FROM search WHERE search MATCH ?1 AND rowid = best.row) AS snippet \
         FROM best JOIN conversations ON conversations.id = best.conversation AND conversations.tenant = ?2 \
         ORDER BY best.cost, conversations.updated_at DESC, conversations.id DESC LIMIT ?3 OFFSET ?4"
    ))
    .bind(expression)
    .bind(tenant)
    .bind(slice.probe() as i64)
    .bind(slice.offset() as i64)
    .bind(RANKED)
    .bind(HIT_BEGINS.to_string())
    .bind(HIT_ENDS.to_string())
    .bind(SNIPPET_WORDS)
    .fetch_all(&mut *db.read().await?)
    .await?;
    let found = rows.iter().map(|row| {
        let matched = Match {
            message: optional_uuid(row, "message")?,
            role: row.try_get("role")?,
            texts: row.try_get("texts")?,
            snippet: snippet_parts(row.try_get("snippet")?),
        };
        Ok(Found { conversation: read_conversation(row)?, r#match: matched })
    });
    Ok(found.collect::<Result<_, sqlx::Error>>()?)
}
