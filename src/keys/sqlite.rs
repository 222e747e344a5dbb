//! Keys in SQLite.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{KeyInfo, KeyRole, Principal};
use crate::clock::rfc3339;
use crate::db::{Db, DbError};

pub(super) async fn insert(db: &Db, info: KeyInfo, hash: [u8; 32], now: u64) -> Result<(), DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            sqlx::query(
                "INSERT INTO keys (id, hash, name, tenant, role, hint, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )
            .bind(info.id.to_string())
            .bind(hash.to_vec())
            .bind(info.name)
            .bind(info.tenant)
            .bind(info.role.as_str())
            .bind(info.hint)
            .bind(now as i64)
            .execute(tx)
            .await
            .map(drop)
        })
    })
    .await
}

pub(super) async fn find(db: &Db, hash: [u8; 32]) -> Result<Option<Principal>, DbError> {
    let query = sqlx::query("SELECT id, tenant, role FROM keys WHERE hash = ?1 AND revoked_at IS NULL");
    let row = query.bind(hash.to_vec()).fetch_optional(&mut *db.read().await?).await?;
    let read = |row: SqliteRow| {
        let (key, tenant, role) = (id(&row)?, row.try_get("tenant")?, role(row.try_get("role")?));
        Ok::<_, sqlx::Error>(Principal { key, tenant, role })
    };
    Ok(row.map(read).transpose()?)
}

pub(super) async fn list(db: &Db) -> Result<Vec<KeyInfo>, DbError> {
    let rows = sqlx::query("SELECT * FROM keys ORDER BY id DESC").fetch_all(&mut *db.read().await?).await?;
    Ok(rows.iter().map(read_key).collect::<Result<_, _>>()?)
}

pub(super) async fn revoke(db: &Db, id: Uuid, now: u64) -> Result<bool, DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            let query = sqlx::query("UPDATE keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL");
            Ok(query.bind(id.to_string()).bind(now as i64).execute(tx).await?.rows_affected() == 1)
        })
    })
    .await
}

fn read_key(row: &SqliteRow) -> Result<KeyInfo, sqlx::Error> {
    Ok(KeyInfo {
        id: id(row)?,
        name: row.try_get("name")?,
        tenant: row.try_get("tenant")?,
        role: role(row.try_get("role")?),
        hint: row.try_get("hint")?,
        created_at: rfc3339(row.try_get::<i64, _>("created_at")? as u64),
        revoked_at: row.try_get::<Option<i64>, _>("revoked_at")?.map(|ms| rfc3339(ms as u64)),
    })
}

fn id(row: &SqliteRow) -> Result<Uuid, sqlx::Error> {
    row.try_get::<&str, _>("id")?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn role(word: &str) -> KeyRole {
    if word == "admin" { KeyRole::Admin } else { KeyRole::User }
}
