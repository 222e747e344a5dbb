//! Money of keys in SQLite. The budget itself is read in the transaction that reserves, so that a change of it holds
//! for the next reserve.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::{Hold, MOST_SPENT, Reserved, Spent, billionths, money};
use crate::db::{DbError, SqliteDb};
use crate::keys::Money;

pub(super) async fn reserve(db: &SqliteDb, hold: Hold) -> Result<Reserved, DbError> {
    let (id, key, period, amount) = (hold.id.to_string(), hold.key.to_string(), hold.period as i64, hold.amount);
    db.write(move |tx| {
        Box::pin(async move {
            sqlx::query("INSERT INTO spending (key, period) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
                .bind(&key)
                .bind(period)
                .execute(&mut *tx)
                .await?;
            let reserved = take(tx, &key, period, amount).await?;
            if reserved == Reserved::Yes {
                sqlx::query("INSERT INTO reserves (id, key, period, amount) VALUES (?1, ?2, ?3, ?4)")
                    .bind(id)
                    .bind(key)
                    .bind(period)
                    .bind(billionths(amount))
                    .execute(tx)
                    .await?;
            }
            Ok(reserved)
        })
    })
    .await
}

pub(super) async fn extend(db: &SqliteDb, id: Uuid, amount: Money, _until_ms: u64) -> Result<Reserved, DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            let found = sqlx::query("SELECT key, period FROM reserves WHERE id = ?1").bind(id.to_string());
            let row = found.fetch_one(&mut *tx).await?;
            let (key, period): (String, i64) = (row.try_get("key")?, row.try_get("period")?);
            let reserved = take(tx, &key, period, amount).await?;
            if reserved == Reserved::Yes {
                let grow = sqlx::query("UPDATE reserves SET amount = amount + ?2 WHERE id = ?1");
                grow.bind(id.to_string()).bind(billionths(amount)).execute(tx).await?;
            }
            Ok(reserved)
        })
    })
    .await
}

/// Adds to what is reserved where the budget has room for it.
async fn take(tx: &mut SqliteConnection, key: &str, period: i64, amount: Money) -> Result<Reserved, sqlx::Error> {
    let query = sqlx::query(
        "UPDATE spending SET reserved = reserved + ?3 WHERE key = ?1 AND period = ?2 \
         AND spent + reserved + ?3 <= coalesce((SELECT budget FROM keys WHERE id = ?1), 9223372036854775807)",
    );
    let held = query.bind(key).bind(period).bind(billionths(amount)).execute(&mut *tx).await?;
    if held.rows_affected() == 1 {
        return Ok(Reserved::Yes);
    }
    let left: Option<i64> = sqlx::query_scalar(
        "SELECT max(0, (SELECT budget FROM keys WHERE id = ?1) - spent - reserved) FROM spending WHERE key = ?1 AND period = ?2",
    )
    .bind(key)
    .bind(period)
    .fetch_one(tx)
    .await?;
    Ok(Reserved::Short(money(left.unwrap_or(0))))
}

pub(super) async fn settle(db: &SqliteDb, id: Uuid, cost: Money) -> Result<(), DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            let ended = sqlx::query("DELETE FROM reserves WHERE id = ?1 RETURNING key, period, amount");
            let Some(row) = ended.bind(id.to_string()).fetch_optional(&mut *tx).await? else { return Ok(()) };
            let (key, period, amount): (String, i64, i64) =
                (row.try_get("key")?, row.try_get("period")?, row.try_get("amount")?);
            sqlx::query(
                "UPDATE spending SET reserved = reserved - ?3, spent = min(spent + ?4, ?5) WHERE key = ?1 AND period = ?2",
            )
            .bind(key)
            .bind(period)
            .bind(amount)
            .bind(billionths(cost))
            .bind(MOST_SPENT)
            .execute(tx)
            .await
            .map(drop)
        })
    })
    .await
}

/// Books every reserve: a file has one process at a time, and what stands here at a start is of the one before.
pub(super) async fn recover(db: &SqliteDb, _now_ms: u64) -> Result<u64, DbError> {
    // Asked first: a start that has nothing to mend writes nothing.
    if has_reserves(db).await? { settle_all(db).await } else { Ok(0) }
}

async fn has_reserves(db: &SqliteDb) -> Result<bool, DbError> {
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM reserves) OR EXISTS (SELECT 1 FROM spending WHERE reserved > 0)",
    );
    Ok(query.fetch_one(&mut *db.read().await?).await?)
}

async fn settle_all(db: &SqliteDb) -> Result<u64, DbError> {
    db.write(|tx| {
        Box::pin(async move {
            sqlx::query("UPDATE spending SET spent = min(spent + reserved, ?1), reserved = 0 WHERE reserved > 0")
                .bind(MOST_SPENT)
                .execute(&mut *tx)
                .await?;
            Ok(sqlx::query("DELETE FROM reserves").execute(tx).await?.rows_affected())
        })
    })
    .await
}

pub(super) async fn by_key(db: &SqliteDb, day: u64, month: u64, _now_ms: u64) -> Result<HashMap<Uuid, Spent>, DbError> {
    let query = sqlx::query(
        "SELECT spending.* FROM keys JOIN spending ON spending.key = keys.id AND spending.period = \
         CASE keys.budget_period WHEN 'day' THEN ?1 WHEN 'month' THEN ?2 ELSE 0 END",
    );
    let rows = query.bind(day as i64).bind(month as i64).fetch_all(&mut *db.read().await?).await?;
    Ok(rows.iter().map(spent).collect::<Result<_, _>>()?)
}

fn spent(row: &SqliteRow) -> Result<(Uuid, Spent), sqlx::Error> {
    let key = row.try_get::<&str, _>("key")?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok((key, Spent { spent: money(row.try_get("spent")?), reserved: money(row.try_get("reserved")?) }))
}
