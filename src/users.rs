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
use crate::memo::{CacheKey, Key, KeyWriter, Memo, Scope, Space};

/// How late `last_seen_at` may be: so long after he was last noted, a user is noted again.
const REMEMBERED: Duration = Duration::from_mins(5);

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
///
/// What is remembered of a user is his identifier, which never changes: nothing of it has to fall.
#[derive(Clone)]
pub struct Users {
    db: Db,
    clock: Clock,
    memo: Memo,
}

/// Why no user was found.
enum NotFound {
    /// There is none; who asks again may find one.
    Absent,
    Store(DbError),
}

impl CacheKey for UserName {
    fn feed(&self, writer: &mut KeyWriter) {
        (self.provider(), self.id()).feed(writer);
    }
}

impl Users {
    /// Over `db`, whose schema is [`crate::db::MigrationSet::ISH`]; look-ups are kept in `memo`.
    pub fn new(db: Db, clock: Clock, memo: Memo) -> Self {
        Self { db, clock, memo }
    }

    /// The tenant's user of that name, made where there is none yet.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn identify(&self, tenant: &str, name: &UserName) -> Result<Uuid, DbError> {
        let see = || async { query!(&self.db, see(tenant.to_owned(), name.clone(), new_id(), self.clock.now_ms())) };
        self.memo.cached(&key("user seen", tenant, name), REMEMBERED, see).await
    }

    /// The tenant's user of that name; `None` where there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find(&self, tenant: &str, name: &UserName) -> Result<Option<Uuid>, DbError> {
        let find = || async {
            let found = query!(&self.db, find(tenant, name)).map_err(NotFound::Store)?;
            found.ok_or(NotFound::Absent)
        };
        match self.memo.with(&key("user", tenant, name)).run(find).await {
            Ok(id) => Ok(Some(id)),
            Err(NotFound::Absent) => Ok(None),
            Err(NotFound::Store(error)) => Err(error),
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

fn key(what: &str, tenant: &str, name: &UserName) -> Key {
    Key::of(what, 1, Scope::Tenant(tenant), name).within(Space::Users)
}
