//! A conversation as a tree: the chain of parents that leads to a message, what stands beside each, the ends below.
//!
//! Each step of a walk is a look-up of its own (`LATERAL (... OFFSET 0)`): joined, a table that was not counted yet may be read
//! whole at every step, and 10,000 messages take more than 20 seconds.

use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use super::messages::read_message;
use crate::conversations::StoredMessage;
use crate::conversations::page::Slice;
use crate::db::{DbError, PostgresDb};

/// First the part of the chain, then what stands beside each: below the same parent, or among the first of all.
pub(in crate::conversations) const BRANCH: &str = "WITH RECURSIVE chain (id, parent, depth) AS ( \
         SELECT id, parent, 0::bigint FROM messages WHERE conversation = $1 AND id = CASE \
             WHEN $3::uuid IS NOT NULL THEN (SELECT parent FROM messages WHERE id = $3) \
             ELSE coalesce($2, (SELECT leaf FROM conversations WHERE id = $1)) END \
         UNION ALL \
         SELECT m.id, m.parent, depth + 1 FROM chain, LATERAL ( \
             SELECT id, parent FROM messages WHERE id = chain.parent OFFSET 0) AS m WHERE depth + 1 < $4 + $5) \
     SELECT messages.*, ARRAY( \
         SELECT id FROM messages AS beside WHERE beside.conversation = $1 AND beside.parent = messages.parent \
             AND beside.role = messages.role \
         UNION ALL \
         SELECT id FROM messages AS beside WHERE messages.parent IS NULL AND beside.conversation = $1 \
             AND beside.parent IS NULL AND beside.role = messages.role) AS siblings \
     FROM (SELECT id, depth FROM chain ORDER BY depth LIMIT $4 OFFSET $5) AS shown \
     JOIN messages ON messages.id = shown.id ORDER BY shown.depth";

/// A part of the branch that ends with `leaf` (`None`: the selected one), from its end or from before a message of it, the
/// last first.
pub(in crate::conversations) async fn branch(
    db: &PostgresDb,
    tenant: &str,
    conversation: Uuid,
    leaf: Option<Uuid>,
    slice: Slice,
    before: Option<Uuid>,
) -> Result<Vec<StoredMessage>, DbError> {
    let query = sqlx::query(BRANCH).bind(conversation).bind(leaf).bind(before);
    let query = query.bind(slice.probe() as i64).bind(slice.offset() as i64);
    let rows = db.read(tenant).await?.all(query).await?;
    let read = |row: &PgRow| -> Result<StoredMessage, Error> {
        let mut siblings: Vec<Uuid> = row.try_get("siblings")?;
        siblings.sort_unstable();
        Ok(StoredMessage { siblings: Some(siblings), ..read_message(row)? })
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// All of a branch by its identifiers, the first first.
pub(in crate::conversations) async fn branch_ids(
    db: &PostgresDb,
    tenant: &str,
    conversation: Uuid,
    leaf: Uuid,
) -> Result<Vec<Uuid>, DbError> {
    let query = sqlx::query(
        "WITH RECURSIVE chain (id, parent, depth) AS ( \
             SELECT id, parent, 0::bigint FROM messages WHERE id = $1 AND conversation = $2 \
             UNION ALL \
             SELECT m.id, m.parent, depth + 1 FROM chain, LATERAL ( \
                 SELECT id, parent FROM messages WHERE id = chain.parent OFFSET 0) AS m) \
         SELECT id FROM chain ORDER BY depth DESC",
    );
    let rows = db.read(tenant).await?.all(query.bind(leaf).bind(conversation)).await?;
    Ok(rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?)
}

/// The end of the branch through `message` that was written last: identifiers sort by the time of their making.
pub(in crate::conversations) async fn newest_below(
    db: &PostgresDb,
    tenant: &str,
    conversation: Uuid,
    message: Uuid,
) -> Result<Option<Uuid>, DbError> {
    let query = sqlx::query(
        "WITH RECURSIVE below (id) AS ( \
             SELECT id FROM messages WHERE id = $1 AND conversation = $2 \
             UNION ALL \
             SELECT m.id FROM below, LATERAL ( \
                 SELECT id FROM messages WHERE conversation = $2 AND parent = below.id OFFSET 0) AS m) \
         SELECT id FROM below ORDER BY id DESC LIMIT 1",
    );
    let row = db.read(tenant).await?.optional(query.bind(message).bind(conversation)).await?;
    Ok(row.map(|row| row.try_get("id")).transpose()?)
}

pub(in crate::conversations) async fn select(
    db: &PostgresDb,
    tenant: &str,
    conversation: Uuid,
    leaf: Uuid,
) -> Result<(), DbError> {
    let mut tx = db.write(tenant).await?;
    tx.execute(sqlx::query("UPDATE conversations SET leaf = $2 WHERE id = $1").bind(conversation).bind(leaf)).await?;
    tx.commit().await
}
