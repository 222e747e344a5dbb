//! Money of keys in Postgres: many instances change the same rows. A reserve checks and changes its key's row in one
//! statement, which waits for whoever else is at it and then looks again. Whatever touches both tables goes to `reserves`
//! first, so that no two wait for each other.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{Hold, MOST_SPENT, Reserved, Spent, billionths, money};
use crate::db::{DbError, PostgresDb, Purpose, Transaction};
use crate::keys::Money;

pub(super) async fn reserve(db: &PostgresDb, hold: Hold) -> Result<Reserved, DbError> {
    let mut tx = db.system(Purpose::Spending).await?;
    let mut held = try_reserve(&mut tx, hold).await?;
    if !held {
        // The period's first reserve makes its row.
        let open = sqlx::query("INSERT INTO spending (key, period) VALUES ($1, $2) ON CONFLICT DO NOTHING");
        let is_new = tx.execute(open.bind(hold.key).bind(hold.period as i64)).await? == 1;
        held = is_new && try_reserve(&mut tx, hold).await?;
    }
    let reserved = if held { Reserved::Yes } else { short(&mut tx, hold.key, hold.period as i64).await? };
    tx.commit().await?;
    Ok(reserved)
}

/// Holds an amount, where there is room for it.
pub(super) const RESERVE: &str = "WITH held AS ( \
       UPDATE spending SET reserved = reserved + $4 WHERE key = $2 AND period = $3 AND spent + reserved + $4 \
         <= coalesce((SELECT budget FROM keys WHERE id = $2), 9223372036854775807) \
       RETURNING key, period) \
     INSERT INTO reserves (id, key, period, amount, until_ms) SELECT $1, key, period, $4, $5 FROM held";

async fn try_reserve(tx: &mut Transaction, hold: Hold) -> Result<bool, DbError> {
    let query = sqlx::query(RESERVE)
        .bind(hold.id)
        .bind(hold.key)
        .bind(hold.period as i64)
        .bind(billionths(hold.amount))
        .bind(hold.until_ms as i64);
    Ok(tx.execute(query).await? == 1)
}

async fn short(tx: &mut Transaction, key: Uuid, period: i64) -> Result<Reserved, DbError> {
    let query = sqlx::query(
        "SELECT greatest(0, (SELECT budget FROM keys WHERE id = $1) - spent - reserved) FROM spending \
         WHERE key = $1 AND period = $2",
    );
    let left: Option<i64> = tx.one(query.bind(key).bind(period)).await?.try_get(0)?;
    Ok(Reserved::Short(money(left.unwrap_or(0))))
}

pub(super) async fn extend(db: &PostgresDb, id: Uuid, amount: Money, until_ms: u64) -> Result<Reserved, DbError> {
    let mut tx = db.system(Purpose::Spending).await?;
    let found = sqlx::query("SELECT key, period FROM reserves WHERE id = $1 FOR UPDATE").bind(id);
    let row = tx.one(found).await?;
    let (key, period): (Uuid, i64) = (row.try_get("key")?, row.try_get("period")?);
    let hold = sqlx::query(
        "UPDATE spending SET reserved = reserved + $3 WHERE key = $1 AND period = $2 AND spent + reserved + $3 \
           <= coalesce((SELECT budget FROM keys WHERE id = $1), 9223372036854775807)",
    );
    let reserved = if tx.execute(hold.bind(key).bind(period).bind(billionths(amount))).await? == 1 {
        let grow = sqlx::query("UPDATE reserves SET amount = amount + $2, until_ms = $3 WHERE id = $1");
        tx.execute(grow.bind(id).bind(billionths(amount)).bind(until_ms as i64)).await?;
        Reserved::Yes
    } else {
        short(&mut tx, key, period).await?
    };
    tx.commit().await?;
    Ok(reserved)
}

pub(super) async fn settle(db: &PostgresDb, id: Uuid, cost: Money) -> Result<(), DbError> {
    let mut tx = db.system(Purpose::Spending).await?;
    let query = sqlx::query(
        "WITH ended AS (DELETE FROM reserves WHERE id = $1 RETURNING key, period, amount) \
         UPDATE spending SET reserved = reserved - ended.amount, spent = least(spent + $2, $3) FROM ended \
         WHERE spending.key = ended.key AND spending.period = ended.period",
    );
    tx.execute(query.bind(id).bind(billionths(cost)).bind(MOST_SPENT)).await?;
    tx.commit().await
}

/// Books the reserves that no call can hold any more; another instance may hold the others.
pub(super) async fn recover(db: &PostgresDb, now_ms: u64) -> Result<u64, DbError> {
    let mut tx = db.system(Purpose::Spending).await?;
    let query = sqlx::query(
        "WITH ended AS (DELETE FROM reserves WHERE until_ms <= $1 RETURNING key, period, amount), \
         sums AS (SELECT key, period, sum(amount)::bigint AS amount FROM ended GROUP BY key, period), \
         booked AS (UPDATE spending SET reserved = reserved - sums.amount, spent = least(spent + sums.amount, $2) FROM sums \
           WHERE spending.key = sums.key AND spending.period = sums.period) \
         SELECT count(*) FROM ended",
    );
    let ended: i64 = tx.one(query.bind(now_ms as i64).bind(MOST_SPENT)).await?.try_get(0)?;
    tx.commit().await?;
    Ok(ended as u64)
}

pub(super) async fn by_key(
    db: &PostgresDb,
    day: u64,
    month: u64,
    now_ms: u64,
) -> Result<HashMap<Uuid, Spent>, DbError> {
    let mut tx = db.system(Purpose::Spending).await?;
    let query = sqlx::query(
        "SELECT spending.key, least(spent + left_over, $4) AS spent, reserved - left_over AS reserved \
         FROM keys JOIN spending ON spending.key = keys.id \
         AND spending.period = CASE keys.budget_period WHEN 'day' THEN $1 WHEN 'month' THEN $2 ELSE 0 END, \
         LATERAL (SELECT coalesce(sum(amount), 0)::bigint AS left_over FROM reserves \
           WHERE reserves.key = spending.key AND reserves.period = spending.period AND until_ms <= $3) AS killed",
    );
    let rows = tx.all(query.bind(day as i64).bind(month as i64).bind(now_ms as i64).bind(MOST_SPENT)).await?;
    Ok(rows.iter().map(spent).collect::<Result<_, _>>()?)
}

fn spent(row: &PgRow) -> Result<(Uuid, Spent), sqlx::Error> {
    let spent = Spent { spent: money(row.try_get("spent")?), reserved: money(row.try_get("reserved")?) };
    Ok((row.try_get("key")?, spent))
}
