//! A conversation as a tree: the chain of parents that leads to a message, what stands beside each, the ends below.

use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use super::messages::read_message;
use super::{optional_uuid, uuid};
use crate::conversations::StoredMessage;
use crate::conversations::page::Slice;
use crate::db::{DbError, SqliteDb};

/// A part of the branch that ends with `leaf` (`None`: the selected one), from its end or from before a message of it, the
/// last first.
pub(in crate::conversations) async fn branch(
    db: &SqliteDb,
    tenant: &str,
    conversation: Uuid,
    leaf: Option<Uuid>,
    slice: Slice,
    before: Option<Uuid>,
) -> Result<Vec<StoredMessage>, DbError> {
    let rows = sqlx::query(
        "WITH RECURSIVE chain (id, parent, depth) AS ( \
             SELECT id, parent, 0 FROM messages WHERE conversation = ?1 AND tenant = ?2 AND id = CASE \
                 WHEN ?4 IS NOT NULL THEN (SELECT parent FROM messages WHERE id = ?4) \
                 ELSE coalesce(?3, (SELECT leaf FROM conversations WHERE id = ?1)) END \
             UNION ALL \
             SELECT m.id, m.parent, depth + 1 FROM chain JOIN messages AS m ON m.id = chain.parent \
             WHERE depth + 1 < ?5 + ?6) \
         SELECT messages.*, (SELECT json_group_array(beside.id) FROM messages AS beside WHERE beside.conversation = ?1 \
             AND beside.parent IS messages.parent AND beside.role = messages.role) AS siblings \
         FROM chain JOIN messages ON messages.id = chain.id ORDER BY depth LIMIT ?5 OFFSET ?6",
    )
    .bind(conversation.to_string())
    .bind(tenant)
    .bind(leaf.map(|id| id.to_string()))
    .bind(before.map(|id| id.to_string()))
    .bind(slice.probe() as i64)
    .bind(slice.offset() as i64)
    .fetch_all(&mut *db.read().await?)
    .await?;
    let read = |row: &SqliteRow| -> Result<StoredMessage, Error> {
        let mut siblings: Vec<Uuid> =
            serde_json::from_str(row.try_get("siblings")?).map_err(|error| Error::Decode(Box::new(error)))?;
        siblings.sort_unstable();
        Ok(StoredMessage { siblings: Some(siblings), ..read_message(row)? })
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// All of a branch by its identifiers, the first first.
pub(in crate::conversations) async fn branch_ids(
    db: &SqliteDb,
    tenant: &str,
    conversation: Uuid,
    leaf: Uuid,
) -> Result<Vec<Uuid>, DbError> {
    let rows = sqlx::query(
        "WITH RECURSIVE chain (id, parent, depth) AS ( \
             SELECT id, parent, 0 FROM messages WHERE id = ?1 AND conversation = ?2 AND tenant = ?3 \
             UNION ALL \
             SELECT m.id, m.parent, depth + 1 FROM chain JOIN messages AS m ON m.id = chain.parent) \
         SELECT id FROM chain ORDER BY depth DESC",
    )
    .bind(leaf.to_string())
    .bind(conversation.to_string())
    .bind(tenant)
    .fetch_all(&mut *db.read().await?)
    .await?;
    Ok(rows.iter().map(|row| uuid(row, "id")).collect::<Result<_, _>>()?)
}

/// The end of the branch through `message` that was written last: identifiers sort by the time of their making. `CROSS JOIN` keeps
/// the order of the walk: left to itself, SQLite reads the whole conversation at every step.
pub(in crate::conversations) async fn newest_below(
    db: &SqliteDb,
    tenant: &str,
    conversation: Uuid,
    message: Uuid,
) -> Result<Option<Uuid>, DbError> {
    let row = sqlx::query(
        "WITH RECURSIVE below (id) AS ( \
             SELECT id FROM messages WHERE id = ?1 AND conversation = ?2 AND tenant = ?3 \
             UNION ALL \
             SELECT m.id FROM below CROSS JOIN messages AS m ON m.conversation = ?2 AND m.parent = below.id) \
         SELECT max(id) AS id FROM below",
    )
    .bind(message.to_string())
    .bind(conversation.to_string())
    .bind(tenant)
    .fetch_one(&mut *db.read().await?)
    .await?;
    Ok(optional_uuid(&row, "id")?)
}

pub(in crate::conversations) async fn select(
    db: &SqliteDb,
    tenant: &str,
    conversation: Uuid,
    leaf: Uuid,
) -> Result<(), DbError> {
    let tenant = tenant.to_owned();
    db.write(move |tx| {
        Box::pin(async move {
            let query = sqlx::query("UPDATE conversations SET leaf = ?3 WHERE id = ?1 AND tenant = ?2");
            query.bind(conversation.to_string()).bind(tenant).bind(leaf.to_string()).execute(tx).await.map(drop)
        })
    })
    .await
}
