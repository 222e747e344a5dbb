//! Keys in SQLite.

use std::num::NonZeroU32;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::{Allowance, BudgetPeriod, KeyInfo, KeyRole, Money, Principal};
use crate::clock::rfc3339;
use crate::db::{DbError, SqliteDb};

pub(super) async fn insert(
    db: &SqliteDb,
    info: KeyInfo,
    hash: [u8; 32],
    now: u64,
    expires_at_ms: Option<u64>,
) -> Result<(), DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            sqlx::query(
                "INSERT INTO keys (id, hash, name, tenant, role, hint, created_at, expires_at_ms) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )
            .bind(info.id.to_string())
            .bind(hash.to_vec())
            .bind(info.name)
            .bind(info.tenant)
            .bind(info.role.as_str())
            .bind(info.hint)
            .bind(now as i64)
            .bind(expires_at_ms.map(|ms| ms as i64))
            .execute(&mut *tx)
            .await?;
            set_allowance(tx, info.id, info.allowance).await.map(drop)
        })
    })
    .await
}

pub(super) async fn find(db: &SqliteDb, hash: [u8; 32]) -> Result<Option<Principal>, DbError> {
    let query = sqlx::query("SELECT * FROM keys WHERE hash = ?1 AND revoked_at IS NULL");
    let row = query.bind(hash.to_vec()).fetch_optional(&mut *db.read().await?).await?;
    Ok(row.as_ref().map(principal).transpose()?)
}

pub(super) async fn find_by_id(db: &SqliteDb, id: Uuid) -> Result<Option<Principal>, DbError> {
    let query = sqlx::query("SELECT * FROM keys WHERE id = ?1 AND revoked_at IS NULL");
    let row = query.bind(id.to_string()).fetch_optional(&mut *db.read().await?).await?;
    Ok(row.as_ref().map(principal).transpose()?)
}

fn principal(row: &SqliteRow) -> Result<Principal, sqlx::Error> {
    Ok(Principal {
        key: id(row)?,
        tenant: row.try_get("tenant")?,
        role: role(row.try_get("role")?),
        allowance: allowance(row)?,
        expires_at_ms: row.try_get::<Option<i64>, _>("expires_at_ms")?.map(|ms| ms as u64),
        as_of: 0,
        address: None,
    })
}

pub(super) async fn list(db: &SqliteDb) -> Result<Vec<KeyInfo>, DbError> {
    let rows = sqlx::query("SELECT * FROM keys ORDER BY id DESC").fetch_all(&mut *db.read().await?).await?;
    Ok(rows.iter().map(read_key).collect::<Result<_, _>>()?)
}

pub(super) async fn get(db: &SqliteDb, id: Uuid) -> Result<Option<KeyInfo>, DbError> {
    let query = sqlx::query("SELECT * FROM keys WHERE id = ?1").bind(id.to_string());
    let row = query.fetch_optional(&mut *db.read().await?).await?;
    Ok(row.as_ref().map(read_key).transpose()?)
}

pub(super) async fn allow(db: &SqliteDb, id: Uuid, allowance: Allowance) -> Result<bool, DbError> {
    db.write(move |tx| Box::pin(set_allowance(tx, id, allowance))).await
}

async fn set_allowance(tx: &mut SqliteConnection, id: Uuid, allowance: Allowance) -> Result<bool, sqlx::Error> {
    let number = |number: Option<NonZeroU32>| number.map(|number| i64::from(number.get()));
    let query = sqlx::query(
        "UPDATE keys SET requests_per_minute = ?2, request_burst = ?3, tokens_per_minute = ?4, token_burst = ?5, \
         max_tokens_default = ?6, budget = ?7, budget_period = ?8 WHERE id = ?1",
    );
    let query = query
        .bind(id.to_string())
        .bind(number(allowance.requests_per_minute))
        .bind(number(allowance.request_burst))
        .bind(number(allowance.tokens_per_minute))
        .bind(number(allowance.token_burst))
        .bind(number(allowance.max_tokens_default))
        .bind(allowance.budget.map(|budget| budget.billionths() as i64))
        .bind(allowance.budget_period.map(BudgetPeriod::as_str));
    Ok(query.execute(tx).await?.rows_affected() == 1)
}

pub(super) async fn revoke(db: &SqliteDb, id: Uuid, now: u64) -> Result<bool, DbError> {
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
        expires_at: row.try_get::<Option<i64>, _>("expires_at_ms")?.map(|ms| rfc3339(ms as u64)),
        revoked_at: row.try_get::<Option<i64>, _>("revoked_at")?.map(|ms| rfc3339(ms as u64)),
        allowance: allowance(row)?,
    })
}

fn allowance(row: &SqliteRow) -> Result<Allowance, sqlx::Error> {
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

fn id(row: &SqliteRow) -> Result<Uuid, sqlx::Error> {
    row.try_get::<&str, _>("id")?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn role(word: &str) -> KeyRole {
    if word == "admin" { KeyRole::Admin } else { KeyRole::User }
}
