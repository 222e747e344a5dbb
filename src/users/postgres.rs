//! Users in Postgres. Who asks decides what a transaction may see: all of this is the system's work.

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{User, UserName};
use crate::clock::rfc3339;
use crate::db::{DbError, PostgresDb, Purpose};

/// Notes that he was here; makes him where he is new, under `id`. Returns the identifier that holds.
pub(super) async fn see(db: &PostgresDb, tenant: String, name: UserName, id: Uuid, now: u64) -> Result<Uuid, DbError> {
    let mut tx = db.system(Purpose::Authentication).await?;
    let query = sqlx::query(
        "INSERT INTO users (id, tenant, provider, external_id, created_at, last_seen_at) VALUES ($1, $2, $3, $4, $5, $5) \
         ON CONFLICT (tenant, provider, external_id) \
         DO UPDATE SET last_seen_at = greatest(users.last_seen_at, excluded.last_seen_at) RETURNING id",
    );
    let query = query.bind(id).bind(tenant).bind(name.provider()).bind(name.id()).bind(now as i64);
    let id = tx.one(query).await?.try_get(0)?;
    tx.commit().await?;
    Ok(id)
}

pub(super) async fn find(db: &PostgresDb, tenant: &str, name: &UserName) -> Result<Option<Uuid>, DbError> {
    let mut tx = db.system(Purpose::Authentication).await?;
    let query = sqlx::query("SELECT id FROM users WHERE tenant = $1 AND provider = $2 AND external_id = $3");
    let row = tx.optional(query.bind(tenant).bind(name.provider()).bind(name.id())).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

pub(super) async fn list(
    db: &PostgresDb,
    tenant: &str,
    after: Option<&UserName>,
    limit: usize,
) -> Result<Vec<User>, DbError> {
    let (provider, id) = after.map_or(("", ""), |name| (name.provider(), name.id()));
    let query = sqlx::query(
        "SELECT * FROM users WHERE tenant = $1 AND (provider, external_id) > ($2, $3) ORDER BY provider, external_id LIMIT $4",
    );
    let query = query.bind(tenant).bind(provider).bind(id).bind(limit as i64);
    let rows = db.system(Purpose::Keys).await?.all(query).await?;
    Ok(rows.iter().map(read_user).collect::<Result<_, _>>()?)
}

fn read_user(row: &PgRow) -> Result<User, sqlx::Error> {
    Ok(User {
        id: row.try_get("id")?,
        user: UserName::stored(row.try_get("provider")?, row.try_get("external_id")?),
        created_at: rfc3339(row.try_get::<i64, _>("created_at")? as u64),
        last_seen_at: rfc3339(row.try_get::<i64, _>("last_seen_at")? as u64),
    })
}
