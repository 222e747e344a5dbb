//! Search by Postgres's full text index of words that are made here (`words.rs`). What is looked for is a setting of the
//! transaction, which the table's policy asks for: see the schema.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::index::query_literal;
use super::{read_conversation, text};
use crate::conversations::page::Slice;
use crate::conversations::search::{Found, Match, SearchQuery, SnippetPart};
use crate::conversations::snippet::Sought;
use crate::conversations::words::MAX_TEXT;
use crate::db::{DbError, PostgresDb, Transaction};

/// Matching texts that are ranked, the newest first: what bounds the time of a search for a word that is everywhere.
const RANKED: i64 = 10_000;

/// Texts held at a time to take snippets of.
const TEXTS_AT_ONCE: usize = 16;

/// The conversations of the texts that the policy lets through; $1 is what is looked for once more, to rank by.
pub(in crate::conversations) const HITS: &str = concat!(
    "WITH newest AS MATERIALIZED ( \
         SELECT conversation, message, words FROM texts ORDER BY coalesce(message, conversation) DESC LIMIT $2), \
     best AS ( \
         SELECT DISTINCT ON (conversation) conversation, message, ts_rank(words, $1::tsquery, 1) AS rank, \
             count(*) OVER (PARTITION BY conversation) AS texts \
         FROM newest ORDER BY conversation, rank DESC, message DESC) \
     SELECT ",
    conversation_columns!(),
    ", best.message, best.texts, (SELECT role FROM messages WHERE id = best.message) AS role \
     FROM best JOIN conversations ON conversations.id = best.conversation \
     ORDER BY best.rank DESC, conversations.updated_at DESC, conversations.id DESC LIMIT $3 OFFSET $4"
);

pub(in crate::conversations) async fn search(
    db: &PostgresDb,
    tenant: &str,
    query: &SearchQuery,
    slice: Slice,
) -> Result<Vec<Found>, DbError> {
    let sought = Sought::new(query);
    let Some(expression) = query_literal(&sought) else { return Ok(Vec::new()) };
    let mut tx = db.read_lagging(tenant).await?;
    tx.execute(sqlx::query("SELECT set_config('ish.sought', $1, true)").bind(&expression)).await?;
    let query = sqlx::query(HITS).bind(&expression).bind(RANKED);
    let rows = tx.all(query.bind(slice.probe() as i64).bind(slice.offset() as i64)).await?;
    let mut found = rows.iter().map(read_found).collect::<Result<Vec<_>, _>>()?;
    for some in found.chunks_mut(TEXTS_AT_ONCE) {
        take_snippets(&mut tx, some, &sought).await?;
    }
    Ok(found)
}

/// Without its snippet.
fn read_found(row: &PgRow) -> Result<Found, sqlx::Error> {
    let matched = Match {
        message: row.try_get("message")?,
        role: row.try_get("role")?,
        texts: row.try_get("texts")?,
        snippet: Vec::new(),
    };
    Ok(Found { conversation: read_conversation(row)?, r#match: matched })
}

async fn take_snippets(tx: &mut Transaction, found: &mut [Found], sought: &Sought) -> Result<(), DbError> {
    let ids: Vec<Uuid> = found.iter().filter_map(|found| found.r#match.message).collect();
    let query = sqlx::query("SELECT id, left(content, $2) AS content FROM messages WHERE id = ANY($1)");
    let rows = tx.all(query.bind(ids).bind(MAX_TEXT as i32)).await?;
    let take = |row: &PgRow| -> Result<(Uuid, Vec<SnippetPart>), sqlx::Error> {
        Ok((row.try_get("id")?, sought.snippet(&text::written(row.try_get("content")?))))
    };
    let mut snippets: HashMap<Uuid, Vec<SnippetPart>> = rows.iter().map(take).collect::<Result<_, _>>()?;
    for Found { conversation, r#match: matched } in found {
        matched.snippet = match matched.message {
            Some(message) => snippets.remove(&message).unwrap_or_default(),
            None => sought.snippet(&conversation.title),
        };
    }
    Ok(())
}
