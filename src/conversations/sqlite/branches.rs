//! A conversation as a tree: the chain of parents that leads to a message.

use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use crate::db::{Db, DbError};
use crate::message::Role;

pub(in crate::conversations) async fn history(
    db: &Db,
    tenant: &str,
    message: Uuid,
    window: usize,
) -> Result<Vec<(Role, String)>, DbError> {
    // Answers that were cut or failed with nothing said would only confuse the model: empty ones are left out.
    let rows = sqlx::query(
        "WITH RECURSIVE chain (id, parent, role, content, depth) AS ( \
             SELECT id, parent, role, content, 0 FROM messages WHERE id = ?1 AND tenant = ?2 \
             UNION ALL \
             SELECT m.id, m.parent, m.role, m.content, depth + 1 FROM messages AS m JOIN chain ON m.id = chain.parent) \
         SELECT role, content, depth FROM chain WHERE content <> '' AND (depth < ?3 OR role = 'system') ORDER BY depth DESC",
    )
    .bind(message.to_string())
    .bind(tenant)
    .bind(window as i64)
    .fetch_all(&mut *db.read().await?)
    .await?;
    let turn = |row: &SqliteRow| -> Result<(Role, String), Error> {
        let role = match row.try_get::<&str, _>("role")? {
            "system" => Role::System,
            "user" => Role::User,
            _ => Role::Assistant,
        };
        Ok((role, row.try_get("content")?))
    };
    Ok(rows.iter().map(turn).collect::<Result<_, _>>()?)
}
