//! Keys in Postgres. A key says which tenant asks: all of this is the system's work, not a tenant's.

/// Keys with the names of their users; a macro, since statements are static text.
macro_rules! named_keys {
    () => {
        "SELECT keys.*, users.provider || '/' || users.external_id AS user_name \
         FROM keys LEFT JOIN users ON users.id = keys.user_id"
    };
}

use std::num::NonZeroU32;

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{Allowance, BudgetPeriod, KeyInfo, KeyRole, Money, Principal};
use crate::changes::{Change, note};
use crate::clock::rfc3339;
use crate::db::{DbError, PostgresDb, Purpose, Transaction, without_nul};
use crate::users::UserName;

pub(super) async fn insert(
    db: &PostgresDb,
    info: KeyInfo,
    hash: [u8; 32],
    user: Option<Uuid>,
    now: u64,
    expires_at_ms: Option<u64>,
) -> Result<(), DbError> {
    let mut tx = db.system(Purpose::Keys).await?;
    let query = sqlx::query(
        "INSERT INTO keys (id, hash, name, tenant, role, hint, created_at, expires_at_ms, is_service, user_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    );
    let query = query
        .bind(info.id)
        .bind(hash)
        .bind(without_nul(&info.name))
        .bind(info.tenant)
        .bind(info.role.stored_word())
        .bind(info.hint)
        .bind(now as i64)
        .bind(expires_at_ms.map(|ms| ms as i64))
        .bind(info.role == KeyRole::Service)
        .bind(user);
    tx.execute(query).await?;
    set_allowance(&mut tx, info.id, info.allowance).await?;
    note(&mut tx, &Change::key()).await?;
    tx.commit().await
}

/// Who holds the key of this hash.
pub(super) const BY_HASH: &str = "SELECT * FROM keys WHERE hash = $1 AND revoked_at IS NULL";

pub(super) async fn find(db: &PostgresDb, hash: [u8; 32]) -> Result<Option<Principal>, DbError> {
    let mut tx = db.system(Purpose::Authentication).await?;
    let query = sqlx::query(BY_HASH).bind(hash);
    Ok(tx.optional(query).await?.as_ref().map(principal).transpose()?)
}

pub(super) async fn find_by_id(db: &PostgresDb, id: Uuid) -> Result<Option<Principal>, DbError> {
    let mut tx = db.system(Purpose::Authentication).await?;
    let query = sqlx::query("SELECT * FROM keys WHERE id = $1 AND revoked_at IS NULL").bind(id);
    Ok(tx.optional(query).await?.as_ref().map(principal).transpose()?)
}

fn principal(row: &PgRow) -> Result<Principal, sqlx::Error> {
    Ok(Principal {
        key: row.try_get("id")?,
        tenant: row.try_get("tenant")?,
        role: role(row)?,
        user: row.try_get("user_id")?,
        allowance: allowance(row)?,
        expires_at_ms: row.try_get::<Option<i64>, _>("expires_at_ms")?.map(|ms| ms as u64),
        as_of: 0,
        address: None,
    })
}

pub(super) async fn list(db: &PostgresDb) -> Result<Vec<KeyInfo>, DbError> {
    let rows =
        db.system(Purpose::Keys).await?.all(sqlx::query(concat!(named_keys!(), " ORDER BY keys.id DESC"))).await?;
    Ok(rows.iter().map(read_key).collect::<Result<_, _>>()?)
}

pub(super) async fn get(db: &PostgresDb, id: Uuid) -> Result<Option<KeyInfo>, DbError> {
    let mut tx = db.system(Purpose::Keys).await?;
    let row = tx.optional(sqlx::query(concat!(named_keys!(), " WHERE keys.id = $1")).bind(id)).await?;
    Ok(row.as_ref().map(read_key).transpose()?)
}

pub(super) async fn allow(db: &PostgresDb, id: Uuid, allowance: Allowance) -> Result<bool, DbError> {
    let mut tx = db.system(Purpose::Keys).await?;
    let changed = set_allowance(&mut tx, id, allowance).await?;
    note(&mut tx, &Change::key()).await?;
    tx.commit().await?;
    Ok(changed)
}

async fn set_allowance(tx: &mut Transaction, id: Uuid, allowance: Allowance) -> Result<bool, DbError> {
    let number = |number: Option<NonZeroU32>| number.map(|number| i64::from(number.get()));
    let query = sqlx::query(
        "UPDATE keys SET requests_per_minute = $2, request_burst = $3, tokens_per_minute = $4, token_burst = $5, \
         max_tokens_default = $6, budget = $7, budget_period = $8 WHERE id = $1",
    );
    let query = query
        .bind(id)
        .bind(number(allowance.requests_per_minute))
        .bind(number(allowance.request_burst))
        .bind(number(allowance.tokens_per_minute))
        .bind(number(allowance.token_burst))
        .bind(number(allowance.max_tokens_default))
        .bind(allowance.budget.map(|budget| budget.billionths() as i64))
        .bind(allowance.budget_period.map(BudgetPeriod::as_str));
    Ok(tx.execute(query).await? == 1)
}

pub(super) async fn revoke(db: &PostgresDb, id: Uuid, now: u64) -> Result<bool, DbError> {
    let mut tx = db.system(Purpose::Keys).await?;
    let query = sqlx::query("UPDATE keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL");
    let revoked = tx.execute(query.bind(id).bind(now as i64)).await? == 1;
    note(&mut tx, &Change::key()).await?;
    tx.commit().await?;
    Ok(revoked)
}

fn read_key(row: &PgRow) -> Result<KeyInfo, sqlx::Error> {
    Ok(KeyInfo {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        tenant: row.try_get("tenant")?,
        role: role(row)?,
        user: user_name(row)?,
        hint: row.try_get("hint")?,
        created_at: rfc3339(row.try_get::<i64, _>("created_at")? as u64),
        expires_at: row.try_get::<Option<i64>, _>("expires_at_ms")?.map(|ms| rfc3339(ms as u64)),
        revoked_at: row.try_get::<Option<i64>, _>("revoked_at")?.map(|ms| rfc3339(ms as u64)),
        allowance: allowance(row)?,
    })
}

fn allowance(row: &PgRow) -> Result<Allowance, sqlx::Error> {
    let number = |column| {
        let number = row.try_get::<Option<i64>, _>(column)?;
        Ok::<_, sqlx::Error>(number.and_then(|number| NonZeroU32::new(u32::try_from(number).ok()?)))
    };
    Ok(Allowance {
        requests_per_minute: number("requests_per_minute")?,
        request_burst: number("request_burst")?,
        tokens_per_minute: number("tokens_per_minute")?,
        token_burst: number("token_burst")?,
        max_tokens_default: number("max_tokens_default")?,
        budget: row.try_get::<Option<i64>, _>("budget")?.map(|amount| Money::from_billionths(amount as u64)),
        budget_period: row.try_get::<Option<&str>, _>("budget_period")?.map(BudgetPeriod::parse),
    })
}

fn role(row: &PgRow) -> Result<KeyRole, sqlx::Error> {
    Ok(KeyRole::stored(row.try_get::<&str, _>("role")? == "admin", row.try_get("is_service")?))
}

/// The name of the user whose key it is.
fn user_name(row: &PgRow) -> Result<Option<UserName>, sqlx::Error> {
    let word = row.try_get::<Option<&str>, _>("user_name")?;
    word.map(|word| word.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))).transpose()
}
