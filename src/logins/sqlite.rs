//! Logins in SQLite.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::stored::listed_row;
use super::{Listed, Login, LoginDigest, LoginFilter, Since, Which};
use crate::db::{DbError, SqliteDb};

/// Ended ones that a new one sweeps away at most.
const SWEPT: i64 = 100;

/// Returns how many of the key's others had to go.
pub(super) async fn insert(
    db: &SqliteDb,
    login: Login,
    digest: LoginDigest,
    since: Since,
    per_key: usize,
) -> Result<u64, DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            let (id, key) = (login.id.to_string(), login.key.to_string());
            let sweep = "DELETE FROM logins WHERE id IN (SELECT id FROM logins WHERE seen_at <= ?1 LIMIT ?2)";
            sqlx::query(sweep).bind(since.seen_ms as i64).bind(SWEPT).execute(&mut *tx).await?;
            let insert = "INSERT INTO logins (id, hash, key_id, created_at, seen_at) VALUES (?1, ?2, ?3, ?4, ?5)";
            let insert = sqlx::query(insert).bind(&id).bind(digest.0.to_vec()).bind(&key);
            insert.bind(login.created_ms as i64).bind(login.seen_ms as i64).execute(&mut *tx).await?;
            let crowded_out = sqlx::query(
                "DELETE FROM logins WHERE id IN \
                 (SELECT id FROM logins WHERE key_id = ?1 AND id <> ?2 ORDER BY seen_at DESC, id DESC LIMIT -1 OFFSET ?3)",
            );
            let crowded_out = crowded_out.bind(&key).bind(&id).bind(per_key as i64 - 1);
            Ok(crowded_out.execute(tx).await?.rows_affected())
        })
    })
    .await
}

pub(super) async fn find(db: &SqliteDb, digest: LoginDigest) -> Result<Option<Login>, DbError> {
    let query = sqlx::query("SELECT * FROM logins WHERE hash = ?1").bind(digest.0.to_vec());
    let row = query.fetch_optional(&mut *db.read().await?).await?;
    Ok(row.as_ref().map(login).transpose()?)
}

pub(super) async fn end(db: &SqliteDb, which: Which) -> Result<u64, DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            let query = match which {
                Which::Cookie(digest) => sqlx::query("DELETE FROM logins WHERE hash = ?1").bind(digest.0.to_vec()),
                Which::Id(id) => sqlx::query("DELETE FROM logins WHERE id = ?1").bind(id.to_string()),
                Which::OfKey(key) => sqlx::query("DELETE FROM logins WHERE key_id = ?1").bind(key.to_string()),
            };
            Ok(query.execute(tx).await?.rows_affected())
        })
    })
    .await
}

pub(super) async fn touch(db: &SqliteDb, touched: Vec<(LoginDigest, u64)>) -> Result<(), DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            for (digest, at_ms) in touched {
                let query = sqlx::query("UPDATE logins SET seen_at = max(seen_at, ?2) WHERE hash = ?1");
                query.bind(digest.0.to_vec()).bind(at_ms as i64).execute(&mut *tx).await?;
            }
            Ok(())
        })
    })
    .await
}

pub(super) async fn list(
    db: &SqliteDb,
    filter: LoginFilter,
    since: Since,
    limit: usize,
) -> Result<Vec<(Login, Listed)>, DbError> {
    let query = sqlx::query(
        "SELECT logins.*, keys.name, keys.tenant, keys.role, keys.is_service, keys.expires_at_ms, \
             users.provider || '/' || users.external_id AS user_name \
         FROM logins JOIN keys ON keys.id = logins.key_id LEFT JOIN users ON users.id = keys.user_id \
         WHERE logins.created_at > ?1 AND logins.seen_at > ?2 AND keys.revoked_at IS NULL \
             AND coalesce(keys.expires_at_ms > ?3, true) AND (?4 IS NULL OR keys.id = ?4) \
             AND (?5 IS NULL OR keys.user_id = ?5) AND (?6 IS NULL OR logins.id < ?6) \
             AND (?7 IS NULL OR keys.tenant = ?7) \
         ORDER BY logins.id DESC LIMIT ?8",
    );
    let text = |id: Option<Uuid>| id.map(|id| id.to_string());
    let query = query.bind(since.created_ms as i64).bind(since.seen_ms as i64).bind(since.now_ms as i64);
    let query = query.bind(text(filter.key)).bind(text(filter.user)).bind(text(filter.before));
    let query = query.bind(filter.tenant).bind(limit as i64);
    let rows = query.fetch_all(&mut *db.read().await?).await?;
    Ok(rows.iter().map(|row| Ok((login(row)?, listed(row)?))).collect::<Result<_, sqlx::Error>>()?)
}

fn login(row: &SqliteRow) -> Result<Login, sqlx::Error> {
    Ok(Login {
        id: id(row, "id")?,
        key: id(row, "key_id")?,
        created_ms: row.try_get::<i64, _>("created_at")? as u64,
        seen_ms: row.try_get::<i64, _>("seen_at")? as u64,
    })
}

fn listed(row: &SqliteRow) -> Result<Listed, sqlx::Error> {
    listed_row!(row).listed().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn id(row: &SqliteRow, column: &str) -> Result<Uuid, sqlx::Error> {
    row.try_get::<&str, _>(column)?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
