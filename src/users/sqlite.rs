//! Users in SQLite.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::{User, UserName};
use crate::clock::rfc3339;
use crate::db::{DbError, SqliteDb};

/// Notes that he was here; makes him where he is new, under `id`. Returns the identifier that holds.
pub(super) async fn see(db: &SqliteDb, tenant: String, name: UserName, id: Uuid, now: u64) -> Result<Uuid, DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            let query = sqlx::query(
                "INSERT INTO users (id, tenant, provider, external_id, created_at, last_seen_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5) ON CONFLICT (tenant, provider, external_id) \
                 DO UPDATE SET last_seen_at = max(users.last_seen_at, excluded.last_seen_at) RETURNING id",
            );
            let query = query.bind(id.to_string()).bind(tenant).bind(name.provider().to_owned());
            read_id(&query.bind(name.id().to_owned()).bind(now as i64).fetch_one(tx).await?)
        })
    })
    .await
}

pub(super) async fn find(db: &SqliteDb, tenant: &str, name: &UserName) -> Result<Option<Uuid>, DbError> {
    let query = sqlx::query("SELECT id FROM users WHERE tenant = ?1 AND provider = ?2 AND external_id = ?3");
    let query = query.bind(tenant).bind(name.provider()).bind(name.id());
    let row = query.fetch_optional(&mut *db.read().await?).await?;
    Ok(row.as_ref().map(read_id).transpose()?)
}

pub(super) async fn list(
    db: &SqliteDb,
    tenant: &str,
    after: Option<&UserName>,
    limit: usize,
) -> Result<Vec<User>, DbError> {
    let (provider, id) = after.map_or(("", ""), |name| (name.provider(), name.id()));
    let query = sqlx::query(
        "SELECT * FROM users WHERE tenant = ?1 AND (provider, external_id) > (?2, ?3) ORDER BY provider, external_id LIMIT ?4",
    );
    let query = query.bind(tenant).bind(provider).bind(id).bind(limit as i64);
    let rows = query.fetch_all(&mut *db.read().await?).await?;
    Ok(rows.iter().map(read_user).collect::<Result<_, _>>()?)
}

fn read_user(row: &SqliteRow) -> Result<User, sqlx::Error> {
    Ok(User {
        id: read_id(row)?,
        user: UserName::stored(row.try_get("provider")?, row.try_get("external_id")?),
        created_at: rfc3339(row.try_get::<i64, _>("created_at")? as u64),
        last_seen_at: rfc3339(row.try_get::<i64, _>("last_seen_at")? as u64),
    })
}

fn read_id(row: &SqliteRow) -> Result<Uuid, sqlx::Error> {
    row.try_get::<&str, _>("id")?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
