//! Logins in Postgres. A login says who asks, so that all of this is the system's work, not a tenant's. That one has ended is
//! told among the changes of keys.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::stored::listed_row;
use super::{Listed, Login, LoginDigest, LoginFilter, Since, Which};
use crate::changes::{Change, note};
use crate::db::{DbError, PostgresDb, Purpose};

/// Ended ones that a new one sweeps away at most.
const SWEPT: i64 = 100;

/// Returns how many of the key's others had to go.
pub(super) async fn insert(
    db: &PostgresDb,
    login: Login,
    digest: LoginDigest,
    since: Since,
    per_key: usize,
) -> Result<u64, DbError> {
    let mut tx = db.system(Purpose::Logins).await?;
    let sweep =
        "DELETE FROM logins WHERE id IN (SELECT id FROM logins WHERE seen_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
    tx.execute(sqlx::query(sweep).bind(since.seen_ms as i64).bind(SWEPT)).await?;
    let insert = sqlx::query("INSERT INTO logins (id, hash, key_id, created_at, seen_at) VALUES ($1, $2, $3, $4, $5)");
    let insert = insert.bind(login.id).bind(digest.0).bind(login.key);
    tx.execute(insert.bind(login.created_ms as i64).bind(login.seen_ms as i64)).await?;
    let crowded_out = sqlx::query(
        "DELETE FROM logins WHERE id IN \
         (SELECT id FROM logins WHERE key_id = $1 AND id <> $2 ORDER BY seen_at DESC, id DESC OFFSET $3)",
    );
    let crowded_out = crowded_out.bind(login.key).bind(login.id).bind(per_key as i64 - 1);
    let crowded_out = tx.execute(crowded_out).await?;
    if crowded_out > 0 {
        note(&mut tx, &Change::login()).await?;
    }
    tx.commit().await?;
    Ok(crowded_out)
}

/// The login of this cookie.
pub(super) const BY_DIGEST: &str = "SELECT * FROM logins WHERE hash = $1";

pub(super) async fn find(db: &PostgresDb, digest: LoginDigest) -> Result<Option<Login>, DbError> {
    let mut tx = db.system(Purpose::Authentication).await?;
    let row = tx.optional(sqlx::query(BY_DIGEST).bind(digest.0)).await?;
    Ok(row.as_ref().map(login).transpose()?)
}

pub(super) async fn end(db: &PostgresDb, which: Which) -> Result<u64, DbError> {
    let mut tx = db.system(Purpose::Logins).await?;
    let query = match which {
        Which::Cookie(digest) => sqlx::query("DELETE FROM logins WHERE hash = $1").bind(digest.0),
        Which::Id(id) => sqlx::query("DELETE FROM logins WHERE id = $1").bind(id),
        Which::OfKey(key) => sqlx::query("DELETE FROM logins WHERE key_id = $1").bind(key),
    };
    let ended = tx.execute(query).await?;
    note(&mut tx, &Change::login()).await?;
    tx.commit().await?;
    Ok(ended)
}

/// Those that another instance is noting at this moment are left to it.
pub(super) async fn touch(db: &PostgresDb, touched: Vec<(LoginDigest, u64)>) -> Result<(), DbError> {
    let (hashes, times): (Vec<Vec<u8>>, Vec<i64>) =
        touched.into_iter().map(|(digest, at_ms)| (digest.0.to_vec(), at_ms as i64)).unzip();
    let mut tx = db.system(Purpose::Logins).await?;
    let query = sqlx::query(
        "WITH mine AS (SELECT logins.id, touched.at FROM logins \
             JOIN unnest($1::bytea[], $2::bigint[]) AS touched (hash, at) ON touched.hash = logins.hash \
             FOR UPDATE OF logins SKIP LOCKED) \
         UPDATE logins SET seen_at = greatest(logins.seen_at, mine.at) FROM mine WHERE logins.id = mine.id",
    );
    tx.execute(query.bind(hashes).bind(times)).await?;
    tx.commit().await
}

pub(super) async fn list(
    db: &PostgresDb,
    filter: LoginFilter,
    since: Since,
    limit: usize,
) -> Result<Vec<(Login, Listed)>, DbError> {
    let query = sqlx::query(
        "SELECT logins.*, keys.name, keys.tenant, keys.role, keys.is_service, keys.expires_at_ms, \
             users.provider || '/' || users.external_id AS user_name \
         FROM logins JOIN keys ON keys.id = logins.key_id LEFT JOIN users ON users.id = keys.user_id \
         WHERE logins.created_at > $1 AND logins.seen_at > $2 AND keys.revoked_at IS NULL \
             AND coalesce(keys.expires_at_ms > $3, true) AND ($4::uuid IS NULL OR keys.id = $4) \
             AND ($5::uuid IS NULL OR keys.user_id = $5) AND ($6::uuid IS NULL OR logins.id < $6) \
             AND ($7::text IS NULL OR keys.tenant = $7) \
         ORDER BY logins.id DESC LIMIT $8",
    );
    let query = query.bind(since.created_ms as i64).bind(since.seen_ms as i64).bind(since.now_ms as i64);
    let query = query.bind(filter.key).bind(filter.user).bind(filter.before);
    let query = query.bind(filter.tenant).bind(limit as i64);
    let rows = db.system(Purpose::Logins).await?.all(query).await?;
    Ok(rows.iter().map(|row| Ok((login(row)?, listed(row)?))).collect::<Result<_, sqlx::Error>>()?)
}

fn login(row: &PgRow) -> Result<Login, sqlx::Error> {
    Ok(Login {
        id: row.try_get("id")?,
        key: row.try_get("key_id")?,
        created_ms: row.try_get::<i64, _>("created_at")? as u64,
        seen_ms: row.try_get::<i64, _>("seen_at")? as u64,
    })
}

fn listed(row: &PgRow) -> Result<Listed, sqlx::Error> {
    listed_row!(row).listed().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
