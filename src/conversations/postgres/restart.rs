//! Answers that a restart cut, of all tenants.

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::index::words_literal;
use super::text;
use crate::db::{DbError, PostgresDb, Purpose, Transaction};

/// Answers held at a time: each is found from then on by what was said of it.
const AT_ONCE: i64 = 16;

pub(in crate::conversations) async fn interrupt_unfinished(db: &PostgresDb) -> Result<u64, DbError> {
    let mut interrupted = 0;
    loop {
        let mut tx = db.system(Purpose::Restart).await?;
        let found = interrupt_some(&mut tx).await?;
        tx.commit().await?;
        if found == 0 {
            return Ok(interrupted);
        }
        interrupted += found;
    }
}

async fn interrupt_some(tx: &mut Transaction) -> Result<u64, DbError> {
    let query =
        sqlx::query("SELECT id, content FROM messages WHERE state = 'streaming' ORDER BY id LIMIT $1 FOR UPDATE");
    let rows = tx.all(query.bind(AT_ONCE)).await?;
    let read = |row: &PgRow| -> Result<(Uuid, String), sqlx::Error> {
        Ok((row.try_get("id")?, words_literal(&text::written(row.try_get("content")?))))
    };
    let (ids, words): (Vec<Uuid>, Vec<String>) = rows.iter().map(read).collect::<Result<_, _>>()?;
    let query = sqlx::query(
        "WITH cut AS ( \
             UPDATE messages SET state = 'interrupted' FROM unnest($1::uuid[], $2::text[]) AS said (id, words) \
             WHERE messages.id = said.id RETURNING messages.id, tenant, conversation, said.words) \
         INSERT INTO texts (tenant, conversation, message, words) \
         SELECT tenant, conversation, id, ish_words(tenant, words) FROM cut",
    );
    tx.execute(query.bind(ids).bind(words)).await
}
