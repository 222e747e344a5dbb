//! Users: people as a provider of identities names them, within a tenant. Who names one for the first time makes him. What is
//! a user's own is kept under [`space`]; who may act as whom is [`crate::keys`]' and the API's business.

mod name;
mod postgres;
mod sqlite;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

pub use name::{NoUserName, UserName};

use crate::clock::{Clock, new_id};
use crate::db::{Db, DbError, query};

/// How long a look-up is remembered, and so how late `last_seen_at` may be.
const REMEMBERED: Duration = Duration::from_mins(5);

/// Users that are remembered at most.
const CAPACITY: u64 = 100_000;

/// Users listed at once.
const PAGE: usize = 500;

/// A user as listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// The identifier that his own are kept under.
    pub id: Uuid,
    /// Who he is: `PROVIDER/ID`.
    pub user: UserName,
    /// RFC 3339: when he was first named.
    pub created_at: String,
    /// RFC 3339: when he was last named, to five minutes.
    pub last_seen_at: String,
}

/// Whose conversations are meant: a tenant's own, or those of one of its users. They are as far apart as two tenants are,
/// since a tenant's name holds no slash.
pub fn space(tenant: &str, user: Option<Uuid>) -> String {
    match user {
        Some(user) => format!("{tenant}/{user}"),
        None => tenant.to_owned(),
    }
}

/// The store of users. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Users {
    db: Db,
    clock: Clock,
    known: moka::sync::Cache<(String, UserName), Uuid>,
}

impl Users {
    /// Over `db`, whose schema is [`crate::db::MigrationSet::ISH`].
    pub fn new(db: Db, clock: Clock) -> Self {
        let known = moka::sync::Cache::builder().max_capacity(CAPACITY).time_to_live(REMEMBERED).build();
        Self { db, clock, known }
    }

    /// The tenant's user of that name, made where there is none yet.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn identify(&self, tenant: &str, name: &UserName) -> Result<Uuid, DbError> {
        let known_by = (tenant.to_owned(), name.clone());
        if let Some(id) = self.known.get(&known_by) {
            return Ok(id);
        }
        let id = query!(&self.db, see(tenant.to_owned(), name.clone(), new_id(), self.clock.now_ms()))?;
        self.known.insert(known_by, id);
        Ok(id)
    }

    /// The tenant's user of that name; `None` where there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find(&self, tenant: &str, name: &UserName) -> Result<Option<Uuid>, DbError> {
        match self.known.get(&(tenant.to_owned(), name.clone())) {
            Some(id) => Ok(Some(id)),
            None => query!(&self.db, find(tenant, name)),
        }
    }

    /// The tenant's users by name, behind `after`; at most 500 of them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, tenant: &str, after: Option<&UserName>) -> Result<Vec<User>, DbError> {
        query!(&self.db, list(tenant, after, PAGE))
    }
}
