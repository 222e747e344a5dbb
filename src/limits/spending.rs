//! Money of keys: reserved before a call, settled after it. Both stand in the database, each change in one durable
//! transaction, so that no crash forgets what was spent.
//!
//! A reserve is granted only while spent + reserved + reserve fits into the budget, checked in the transaction that
//! writes it. What a killed process had reserved counts as spent, in a file at the next start, in Postgres after a time:
//! what the provider made of those calls is not known, and money that may be gone is gone.

mod postgres;
mod sqlite;

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use uuid::Uuid;

use crate::clock::Clock;
use crate::db::{Db, DbError, query};
use crate::keys::{BudgetPeriod, Money};

/// Longer than any call lasts (`upstream.total_timeout` is ten minutes unless it is set): where several instances share a
/// database, a reserve that has not grown for so long is of a process that was killed.
const LEASE: Duration = Duration::from_hours(1);

/// As much as the books show: sums of this and any one amount are still whole numbers to the database.
const MOST_SPENT: i64 = i64::MAX / 2;

/// A key's money in its current period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Spent {
    /// Settled.
    #[serde(rename = "spent_usd")]
    pub spent: Money,
    /// Held for calls under way.
    #[serde(rename = "reserved_usd")]
    pub reserved: Money,
}

/// What became of a wish for a reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// Granted.
    Yes,
    /// It does not fit: this much is left.
    Short(Money),
}

/// A reserve to be made.
#[derive(Debug, Clone, Copy)]
struct Hold {
    id: Uuid,
    key: Uuid,
    /// When its period began, in milliseconds since the Unix epoch.
    period: u64,
    amount: Money,
    /// When nobody can hold it any more.
    until_ms: u64,
}

/// The books.
#[derive(Debug, Clone)]
pub struct Spending {
    db: Db,
    clock: Clock,
}

impl Spending {
    /// Over `db`, whose schema is [`crate::db::MigrationSet::ISH`].
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock }
    }

    /// Books what killed processes had reserved as spent; says how many reserves that were.
    pub async fn recover(&self) -> Result<u64, DbError> {
        query!(&self.db, recover(self.clock.now_ms()))
    }

    /// Reserves `amount` of `key` under the new identifier `id`.
    pub async fn reserve(&self, id: Uuid, key: Uuid, period: BudgetPeriod, amount: Money) -> Result<Reserved, DbError> {
        let now_ms = self.clock.now_ms();
        let hold = Hold { id, key, period: start(period, now_ms), amount, until_ms: until(now_ms) };
        query!(&self.db, reserve(hold))
    }

    /// Adds `amount` to a reserve.
    pub async fn extend(&self, reserve: Uuid, amount: Money) -> Result<Reserved, DbError> {
        query!(&self.db, extend(reserve, amount, until(self.clock.now_ms())))
    }

    /// Ends a reserve: `cost` of it was spent. A second ending changes nothing.
    pub async fn settle(&self, reserve: Uuid, cost: Money) -> Result<(), DbError> {
        query!(&self.db, settle(reserve, cost))
    }

    /// What each key has spent in its budget's current period; keys that spent nothing are left out.
    pub async fn by_key(&self) -> Result<HashMap<Uuid, Spent>, DbError> {
        let now_ms = self.clock.now_ms();
        let [day, month] = [BudgetPeriod::Day, BudgetPeriod::Month].map(|period| start(period, now_ms));
        query!(&self.db, by_key(day, month, now_ms))
    }
}

fn until(now_ms: u64) -> u64 {
    now_ms + u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX / 2)
}

/// An amount as the database holds it; what is larger than any budget is refused like the largest that it can hold.
fn billionths(money: Money) -> i64 {
    i64::try_from(money.billionths()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

fn money(billionths: i64) -> Money {
    Money::from_billionths(u64::try_from(billionths).unwrap_or(0))
}

/// When the period that `now_ms` lies in began, in milliseconds since the Unix epoch; 0 for one without an end.
fn start(period: BudgetPeriod, now_ms: u64) -> u64 {
    let now = Timestamp::from_millisecond(i64::try_from(now_ms).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX);
    let now = now.to_zoned(TimeZone::UTC);
    let begun = match period {
        BudgetPeriod::Total => return 0,
        BudgetPeriod::Day => now.start_of_day(),
        BudgetPeriod::Month => now.first_of_month().and_then(|first| first.start_of_day()),
    };
    begun.map_or(0, |begun| u64::try_from(begun.timestamp().as_millisecond()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
