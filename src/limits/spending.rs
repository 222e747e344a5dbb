//! Money of keys: reserved before a call, settled after it. Both stand in the database, each change in one durable
//! transaction, so that no crash forgets what was spent.
//!
//! A reserve is granted only while spent + reserved + reserve fits into the budget, checked in the transaction that
//! writes it. What a killed process had reserved counts as spent at the next start: what the provider made of those
//! calls is not known, and money that may be gone is gone.

mod sqlite;

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use uuid::Uuid;

use crate::clock::{Clock, new_id};
use crate::db::{Db, DbError};
use crate::keys::{BudgetPeriod, Money};

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

    /// Books what a process before this one had reserved as spent; says how many reserves that were.
    pub async fn recover(&self) -> Result<u64, DbError> {
        // Asked first: a start that has nothing to mend writes nothing.
        if sqlite::has_reserves(&self.db).await? { sqlite::settle_all(&self.db).await } else { Ok(0) }
    }

    /// Reserves `amount` of `key` under a new identifier.
    pub async fn reserve(&self, key: Uuid, period: BudgetPeriod, amount: Money) -> Result<(Uuid, Reserved), DbError> {
        let id = new_id();
        let reserved = sqlite::reserve(&self.db, id, key, start(period, self.clock.now_ms()), amount).await?;
        Ok((id, reserved))
    }

    /// Adds `amount` to a reserve.
    pub async fn extend(&self, reserve: Uuid, amount: Money) -> Result<Reserved, DbError> {
        sqlite::extend(&self.db, reserve, amount).await
    }

    /// Ends a reserve: `cost` of it was spent. A second ending changes nothing.
    pub async fn settle(&self, reserve: Uuid, cost: Money) -> Result<(), DbError> {
        sqlite::settle(&self.db, reserve, cost).await
    }

    /// What each key has spent in its budget's current period; keys that spent nothing are left out.
    pub async fn by_key(&self) -> Result<HashMap<Uuid, Spent>, DbError> {
        let now = self.clock.now_ms();
        let [day, month] = [BudgetPeriod::Day, BudgetPeriod::Month].map(|period| start(period, now));
        sqlite::by_key(&self.db, day, month).await
    }
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
