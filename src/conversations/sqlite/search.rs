//! Search by SQLite's FTS5, whose index the triggers of the schema keep in step.

use std::collections::HashMap;

use sqlx::{Row, SqliteConnection};

use super::{optional_uuid, read_conversation};
use crate::conversations::page::Slice;
use crate::conversations::search::{Found, HIT_BEGINS, HIT_ENDS, Match, SnippetPart, snippet_parts};
use crate::db::{DbError, SqliteDb};

/// Matching texts that are ranked, the newest first: what bounds the time of a search for a word that is everywhere.
const RANKED: i64 = 10_000;

/// Words of a snippet.
const SNIPPET_WORDS: i64 = 20;

pub(in crate::conversations) async fn search(
    db: &SqliteDb,
    tenant: &str,
    expression: &str,
    slice: Slice,
) -> Result<Vec<Found>, DbError> {
    let connection = &mut *db.read().await?;
    let rows = sqlx::query(concat!(
        "WITH hits AS MATERIALIZED ( \
             SELECT rowid AS row, bm25(search, 0.0, 1.0) AS cost FROM search WHERE search MATCH ?1 ORDER BY rowid DESC LIMIT ?5), \
         best AS ( \
             SELECT texts.conversation, texts.message, hits.row, min(hits.cost) AS cost, count(*) AS texts \
             FROM hits JOIN texts ON texts.row = hits.row GROUP BY texts.conversation) \
         SELECT ",
        conversation_columns!(),
        ", best.message, best.texts, best.row, (SELECT role FROM messages WHERE id = best.message) AS role \
         FROM best JOIN conversations ON conversations.id = best.conversation AND conversations.tenant = ?2 \
         ORDER BY best.cost, conversations.updated_at DESC, conversations.id DESC LIMIT ?3 OFFSET ?4"
    ))
    .bind(expression)
    .bind(tenant)
    .bind(slice.probe() as i64)
    .bind(slice.offset() as i64)
    .bind(RANKED)
    .fetch_all(&mut *connection)
    .await?;
    let numbers = rows.iter().map(|row| row.try_get("row")).collect::<Result<Vec<i64>, _>>()?;
    let mut snippets = snippets(connection, expression, &numbers).await?;
    let found = rows.iter().zip(numbers).map(|(row, number)| {
        let matched = Match {
            message: optional_uuid(row, "message")?,
            role: row.try_get("role")?,
            texts: row.try_get("texts")?,
            snippet: snippets.remove(&number).unwrap_or_default(),
        };
        Ok(Found { conversation: read_conversation(row)?, r#match: matched })
    });
    Ok(found.collect::<Result<_, sqlx::Error>>()?)
}

/// The snippets of these texts. One pass over all that matches: asked for by row, each would find the matches anew.
async fn snippets(
    connection: &mut SqliteConnection,
    expression: &str,
    rows: &[i64],
) -> Result<HashMap<i64, Vec<SnippetPart>>, sqlx::Error> {
    let found = sqlx::query(
        "SELECT rowid AS row, snippet(search, 1, ?3, ?4, '…', ?5) AS snippet FROM search \
         WHERE search MATCH ?1 AND +rowid IN (SELECT value FROM json_each(?2))",
    )
    .bind(expression)
    .bind(serde_json::json!(rows).to_string())
    .bind(HIT_BEGINS.to_string())
    .bind(HIT_ENDS.to_string())
    .bind(SNIPPET_WORDS)
    .fetch_all(connection)
    .await?;
    found.iter().map(|row| Ok((row.try_get("row")?, snippet_parts(row.try_get("snippet")?)))).collect()
}
