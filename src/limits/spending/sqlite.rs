//! Money of keys in SQLite. The budget itself is read in the transaction that reserves, so that a change of it holds
//! for the next reserve.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::{Reserved, Spent};
use crate::db::{Db, DbError};
use crate::keys::Money;

/// As much as the books show: sums of this and any one amount are still whole numbers to the database.
const MOST_SPENT: i64 = i64::MAX / 2;

pub(super) async fn reserve(db: &Db, id: Uuid, key: Uuid, period: u64, amount: Money) -> Result<Reserved, DbError> {
    let (id, key, period) = (id.to_string(), key.to_string(), period as i64);
    db.write(move |tx| {
        Box::pin(async move {
            sqlx::query("INSERT INTO spending (key, period) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
                .bind(&key)
                .bind(period)
                .execute(&mut *tx)
                .await?;
            let reserved = hold(tx, &key, period, amount).await?;
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

pub(super) async fn extend(db: &Db, id: Uuid, amount: Money) -> Result<Reserved, DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            let found = sqlx::query("SELECT key, period FROM reserves WHERE id = ?1").bind(id.to_string());
            let row = found.fetch_one(&mut *tx).await?;
            let (key, period): (String, i64) = (row.try_get("key")?, row.try_get("period")?);
            let reserved = hold(tx, &key, period, amount).await?;
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
async fn hold(tx: &mut SqliteConnection, key: &str, period: i64, amount: Money) -> Result<Reserved, sqlx::Error> {
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

pub(super) async fn settle(db: &Db, id: Uuid, cost: Money) -> Result<(), DbError> {
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

pub(super) async fn has_reserves(db: &Db) -> Result<bool, DbError> {
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM reserves) OR EXISTS (SELECT 1 FROM spending WHERE reserved > 0)",
    );
    Ok(query.fetch_one(&mut *db.read().await?).await?)
}

pub(super) async fn settle_all(db: &Db) -> Result<u64, DbError> {
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

pub(super) async fn by_key(db: &Db, day: u64, month: u64) -> Result<HashMap<Uuid, Spent>, DbError> {
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

/// An amount as the database holds it; what is larger than any budget is refused like the largest that it can hold.
fn billionths(money: Money) -> i64 {
    i64::try_from(money.billionths()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

fn money(billionths: i64) -> Money {
    Money::from_billionths(u64::try_from(billionths).unwrap_or(0))
}
