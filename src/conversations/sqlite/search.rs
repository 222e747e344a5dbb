//! Search by SQLite's FTS5, whose index the triggers of the schema keep in step.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::{optional_uuid, read_conversation};
use crate::conversations::page::Slice;
use crate::conversations::search::{Found, Match, SearchQuery, SnippetPart, Term};
use crate::conversations::snippet::Sought;
use crate::db::packed::unpack;
use crate::db::{DbError, SqliteDb};

/// Matching texts that are ranked, the newest first: what bounds the time of a search for a word that is everywhere.
const RANKED: i64 = 10_000;

/// Characters of a text that snippets are taken from.
const SNIPPET_TEXT: i64 = 65_536;

/// Texts held at a time to take snippets of.
const TEXTS_AT_ONCE: usize = 16;

/// How long the store may look.
const PATIENCE: Duration = Duration::from_secs(2);

pub(in crate::conversations) async fn search(
    db: &SqliteDb,
    tenant: &str,
    query: &SearchQuery,
    slice: Slice,
) -> Result<Vec<Found>, DbError> {
    let Some(expression) = expression(tenant, &query.terms) else { return Ok(Vec::new()) };
    let mut connection = db.read_within(PATIENCE).await?;
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
    .await
    .map_err(|error| connection.failed(error))?;
    let numbers = rows.iter().map(|row| row.try_get("row")).collect::<Result<Vec<i64>, _>>()?;
    let mut snippets = HashMap::new();
    for some in numbers.chunks(TEXTS_AT_ONCE) {
        let texts = texts(&mut connection, some).await.map_err(|error| connection.failed(error))?;
        snippets.extend(cut(texts, query).await);
    }
    let found = rows.iter().zip(numbers).map(|(row, number)| read_found(row, snippets.remove(&number)));
    Ok(found.collect::<Result<_, sqlx::Error>>()?)
}

fn read_found(row: &SqliteRow, snippet: Option<Vec<SnippetPart>>) -> Result<Found, sqlx::Error> {
    let matched = Match {
        message: optional_uuid(row, "message")?,
        role: row.try_get("role")?,
        texts: row.try_get("texts")?,
        snippet: snippet.unwrap_or_default(),
    };
    Ok(Found { conversation: read_conversation(row)?, r#match: matched })
}

/// What is stored of a text.
struct Text {
    row: i64,
    plain: String,
    packed: Option<Vec<u8>>,
}

impl Text {
    /// As far as a snippet looks; nothing of what is damaged.
    fn beginning(self) -> String {
        let Some(packed) = self.packed else { return self.plain };
        let mut text = unpack(&packed).unwrap_or_default();
        if let Some((end, _)) = text.char_indices().nth(SNIPPET_TEXT as usize) {
            text.truncate(end);
        }
        text
    }
}

/// These texts, each as far as a snippet looks, or packed.
async fn texts(connection: &mut SqliteConnection, rows: &[i64]) -> Result<Vec<Text>, sqlx::Error> {
    let query = sqlx::query(
        "SELECT texts.row, substr(iif(texts.message IS NULL, conversations.title, messages.content), 1, ?2) AS text, \
         messages.packed FROM texts JOIN conversations ON conversations.id = texts.conversation \
         LEFT JOIN messages ON messages.id = texts.message WHERE texts.row IN (SELECT value FROM json_each(?1))",
    );
    let rows = query.bind(serde_json::json!(rows).to_string()).bind(SNIPPET_TEXT).fetch_all(connection).await?;
    let read = |row: &SqliteRow| {
        Ok(Text { row: row.try_get("row")?, plain: row.try_get("text")?, packed: row.try_get("packed")? })
    };
    rows.iter().map(read).collect()
}

/// Their snippets, cut on a thread that may be busy; none of them where that fails.
async fn cut(texts: Vec<Text>, query: &SearchQuery) -> Vec<(i64, Vec<SnippetPart>)> {
    let sought = Sought::new(query);
    let cut = move || texts.into_iter().map(|text| (text.row, sought.snippet(&text.beginning()))).collect();
    tokio::task::spawn_blocking(cut).await.unwrap_or_default()
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
}
