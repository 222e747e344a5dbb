//! Search by SQLite's FTS5, whose index the triggers of the schema keep in step.

use std::collections::HashMap;
use std::fmt::Write;

use sqlx::{Row, SqliteConnection};

use super::{optional_uuid, read_conversation};
use crate::conversations::page::Slice;
use crate::conversations::search::{Found, Match, SNIPPET_WORDS, SearchQuery, SnippetPart, Term};
use crate::db::{DbError, SqliteDb};

/// Matching texts that are ranked, the newest first: what bounds the time of a search for a word that is everywhere.
const RANKED: i64 = 10_000;

/// Stands before what was looked for, in FTS5's snippet.
const HIT_BEGINS: char = '\u{2}';

/// Stands behind it.
const HIT_ENDS: char = '\u{3}';

pub(in crate::conversations) async fn search(
    db: &SqliteDb,
    tenant: &str,
    query: &SearchQuery,
    slice: Slice,
) -> Result<Vec<Found>, DbError> {
    let Some(expression) = expression(tenant, &query.terms) else { return Ok(Vec::new()) };
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
    .bind(&expression)
    .bind(tenant)
    .bind(slice.probe() as i64)
    .bind(slice.offset() as i64)
    .bind(RANKED)
    .fetch_all(&mut *connection)
    .await?;
    let numbers = rows.iter().map(|row| row.try_get("row")).collect::<Result<Vec<i64>, _>>()?;
    let mut snippets = snippets(connection, &expression, &numbers).await?;
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
    .bind(SNIPPET_WORDS as i64)
    .fetch_all(connection)
    .await?;
    found.iter().map(|row| Ok((row.try_get("row")?, snippet_parts(row.try_get("snippet")?)))).collect()
}

/// The expression for FTS5, held to the tenant's texts; `None` when nothing could be found by it. Each term is a quoted string
/// of letters, digits and spaces, so nothing in it is an operator.
fn expression(tenant: &str, terms: &[Term]) -> Option<String> {
    if terms.is_empty() {
        return None;
    }
    let mut expression = "tenant : \"".to_owned();
    for byte in tenant.bytes() {
        let _ = write!(expression, "{byte:02x}");
    }
    let quoted = |Term { words, open }: &Term| format!("\"{words}\"{}", if *open { "*" } else { "" });
    let terms: Vec<String> = terms.iter().map(quoted).collect();
    let _ = write!(expression, "\" AND text : ({})", terms.join(" AND "));
    Some(expression)
}

/// The parts of a snippet with marks in it. A message that holds such marks itself is shown oddly, and no worse.
fn snippet_parts(marked: &str) -> Vec<SnippetPart> {
    let mut parts = Vec::new();
    let mut hit = false;
    for piece in marked.split_inclusive([HIT_BEGINS, HIT_ENDS]) {
        let text = piece.trim_end_matches([HIT_BEGINS, HIT_ENDS]);
        if !text.is_empty() {
            parts.push(SnippetPart { text: text.to_owned(), hit });
        }
        hit = piece.ends_with(HIT_BEGINS);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_become_quoted_strings() {
        let expression = |text: &str| expression("a-b", &SearchQuery::parse(text).terms).unwrap_or_default();
        let tenant = "tenant : \"612d62\" AND text : ";
        assert_eq!(expression("tides moon"), format!("{tenant}(\"tides\" AND \"moon\"*)"));
        assert_eq!(expression("\"spring tide\" OR"), format!("{tenant}(\"spring tide\" AND \"OR\"*)"));
        assert_eq!(expression("NEAR(a b, 2) "), format!("{tenant}(\"NEAR\" AND \"a\" AND \"b\" AND \"2\")"));
        assert_eq!(expression(" \"\" -!* "), "");
    }

    #[test]
    fn a_snippet_is_taken_apart() {
        let part = |text: &str, hit| SnippetPart { text: text.to_owned(), hit };
        let marked = "the \u{2}Moon\u{3} pulls the \u{2}sea\u{3}";
        let parts = [part("the ", false), part("Moon", true), part(" pulls the ", false), part("sea", true)];
        assert_eq!(snippet_parts(marked), parts);
        assert_eq!(snippet_parts(""), []);
    }
}
