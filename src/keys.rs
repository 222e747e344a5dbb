//! API keys: made, listed, revoked, recognised. Only a hash is stored; a key is shown once.
//!
//! A key holds 256 random bits, so that a plain hash is enough: there is nothing to guess.

mod allowance;
mod postgres;
mod remembered;
mod sqlite;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

pub use allowance::{Allowance, BudgetPeriod, Money};

use crate::clock::{Clock, new_id, rfc3339, secret_hex};
use crate::db::{Db, DbError, query};
use crate::users::{self, UserName};
pub(crate) use remembered::Remembered;

/// How long a reading of a key is believed.
const REMEMBERED: Duration = Duration::from_secs(5);

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum KeyRole {
    /// Chat, and the conversations of one user, or of the tenant itself where the key is nobody's.
    User,
    /// The same for any user of its tenant, whom each request names.
    Service,
    /// The same, and keys.
    Admin,
}

impl KeyRole {
    /// As the store's two columns say it.
    pub(crate) fn stored(is_admin: bool, is_service: bool) -> Self {
        match (is_admin, is_service) {
            (true, _) => Self::Admin,
            (false, true) => Self::Service,
            (false, false) => Self::User,
        }
    }

    /// The word of the older of the two.
    fn stored_word(self) -> &'static str {
        match self {
            Self::User | Self::Service => "user",
            Self::Admin => "admin",
        }
    }

    /// Whether a request may name whose conversations are meant.
    pub fn acts_for_users(self) -> bool {
        matches!(self, Self::Service | Self::Admin)
    }
}

/// Who asks: every row and every cache entry belongs to a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The key's identifier; nil for local mode and the command line, which have none.
    pub key: Uuid,
    /// The tenant.
    pub tenant: String,
    /// The key's role.
    pub role: KeyRole,
    /// The user whose key it is, or whom the request names; `None`: the tenant itself asks.
    pub user: Option<Uuid>,
    /// What it may use.
    pub allowance: Allowance,
    /// When the key ends, in milliseconds since the Unix epoch; `None`: once it is revoked.
    pub expires_at_ms: Option<u64>,
    /// Which reading of the key this is: of two, the one with the larger number tells what holds now. 0 without a key.
    pub as_of: u64,
    /// Where the request came from; `None` where it came over no connection.
    pub address: Option<IpAddr>,
}

impl Principal {
    /// The one of local mode.
    pub fn local() -> Self {
        Self::keyless("local")
    }

    /// Someone who may do everything without a key.
    pub fn keyless(tenant: &str) -> Self {
        let allowance = Allowance::default();
        Self {
            key: Uuid::nil(),
            tenant: tenant.to_owned(),
            role: KeyRole::Admin,
            user: None,
            allowance,
            expires_at_ms: None,
            as_of: 0,
            address: None,
        }
    }

    /// What the one person is called whom a request of this key is for: as the server knows him, else as the request says.
    pub fn called<'r>(&self, named: Option<&'r str>) -> Option<Cow<'r, str>> {
        self.user.map(|user| user.to_string().into()).or(named.map(Cow::Borrowed))
    }

    /// Whose conversations it reads and writes.
    pub fn space(&self) -> String {
        users::space(&self.tenant, self.user)
    }

    /// The same one, asking from there.
    #[must_use]
    pub fn from_address(self, address: Option<IpAddr>) -> Self {
        Self { address, ..self }
    }

    fn has_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|end| end <= now_ms)
    }
}

/// A key as listed; its secret is gone.
#[derive(Debug, Clone, Serialize)]
pub struct KeyInfo {
    /// Its identifier.
    pub id: Uuid,
    /// What its owner calls it.
    pub name: String,
    /// Whose requests it makes.
    pub tenant: String,
    /// What it may do.
    pub role: KeyRole,
    /// The user whose key it is.
    pub user: Option<UserName>,
    /// Its first characters, to tell keys apart.
    pub hint: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339; `None`: it does not expire.
    pub expires_at: Option<String>,
    /// RFC 3339, once revoked.
    pub revoked_at: Option<String>,
    /// What it may use.
    #[serde(flatten)]
    pub allowance: Allowance,
}

/// What a new key is to be.
#[derive(Debug, Clone)]
pub struct KeyWish {
    /// What its owner calls it.
    pub name: String,
    /// Whose requests it makes.
    pub tenant: String,
    /// What it may do.
    pub role: KeyRole,
    /// The user whose key it is to be, with his identifier; only with [`KeyRole::User`].
    pub user: Option<(Uuid, UserName)>,
    /// What it may use.
    pub allowance: Allowance,
    /// When it ends, in milliseconds since the Unix epoch; `None`: once it is revoked.
    pub expires_at_ms: Option<u64>,
}

impl KeyWish {
    /// A key without limits that does not end.
    pub fn new(name: &str, tenant: &str, role: KeyRole) -> Self {
        let (name, tenant) = (name.to_owned(), tenant.to_owned());
        Self { name, tenant, role, user: None, allowance: Allowance::default(), expires_at_ms: None }
    }
}

/// A new key with its secret, shown once.
#[derive(Debug, Serialize)]
pub struct NewKey {
    /// What is kept.
    #[serde(flatten)]
    pub info: KeyInfo,
    /// The bearer.
    pub key: String,
}

/// What has become of a key that was recognised before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is good, and may now do this.
    Good(Principal),
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

/// The key store.
#[derive(Debug, Clone)]
pub struct Keys {
    db: Db,
    clock: Clock,
    /// Recognised keys, by their hashes.
    recognised: Remembered<[u8; 32], Principal>,
    /// The same by identifier, for sockets, which ask again and again.
    standing: Remembered<Uuid, Principal>,
    /// How often keys were read.
    readings: Arc<AtomicU64>,
}

impl Keys {
    /// Over `db`, whose schema is [`crate::db::MigrationSet::ISH`].
    pub fn new(db: Db, clock: Clock) -> Self {
        let (recognised, standing) = (Remembered::new(REMEMBERED), Remembered::new(REMEMBERED));
        Self { db, clock, recognised, standing, readings: Arc::default() }
    }

    /// Makes a key.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn create(&self, wish: KeyWish) -> Result<NewKey, DbError> {
        let secret = secret_hex();
        self.store(format!("ish_{secret}"), wish).await
    }

    /// Stores a key that an operator chose, unless it is known already. False where it is known and no longer good: it was
    /// revoked, or its time is over.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn ensure_admin(&self, key: &str) -> Result<bool, DbError> {
        if self.recognise(key).await?.is_some() {
            return Ok(true);
        }
        match self.store(key.to_owned(), KeyWish::new("admin key file", "default", KeyRole::Admin)).await {
            Err(error) if error.is_duplicate() => Ok(false),
            stored => stored.map(|_| true),
        }
    }

    /// Who holds `key`; `None` when nobody does, it was revoked, or its time is over.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn recognise(&self, key: &str) -> Result<Option<Principal>, DbError> {
        let hash = *blake3::hash(key.as_bytes()).as_bytes();
        let principal = match self.recognised.get(&hash) {
            Some(known) => known.found,
            None => {
                let moment = self.recognised.now();
                let found = self.reading(async { query!(&self.db, find(hash)) }).await?;
                self.recognised.keep(hash, moment, found.clone());
                found
            }
        };
        let now_ms = self.clock.now_ms();
        Ok(principal.filter(|principal| !principal.has_expired(now_ms)))
    }

    /// Whether `key`, which was not recognised just now, was good once and its time is over.
    pub fn has_expired(&self, key: &str) -> bool {
        let known = self.recognised.get(blake3::hash(key.as_bytes()).as_bytes());
        known.and_then(|known| known.found).is_some_and(|principal| principal.has_expired(self.clock.now_ms()))
    }

    /// What has become of a key that was recognised before. Costs a query every few seconds at most.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn standing(&self, id: Uuid) -> Result<Standing, DbError> {
        let known = match self.standing.get(&id) {
            Some(known) => known.found,
            None => {
                let moment = self.standing.now();
                let found = self.reading(async { query!(&self.db, find_by_id(id)) }).await?;
                self.standing.keep(id, moment, found.clone());
                found
            }
        };
        let now_ms = self.clock.now_ms();
        Ok(match known {
            None => Standing::Revoked,
            Some(principal) if principal.has_expired(now_ms) => Standing::Expired,
            Some(principal) => Standing::Good(principal),
        })
    }

    /// All keys, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<KeyInfo>, DbError> {
        query!(&self.db, list())
    }

    /// One key; `None` where there is none of that identifier.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn get(&self, id: Uuid) -> Result<Option<KeyInfo>, DbError> {
        query!(&self.db, get(id))
    }

    /// Changes what a key may use; false when there is none of that identifier. Requests begun afterwards keep to it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn allow(&self, id: Uuid, allowance: Allowance) -> Result<bool, DbError> {
        let changed = query!(&self.db, allow(id, allowance))?;
        self.forget();
        Ok(changed)
    }

    /// Revokes a key; false when there is none of that identifier that still works.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revoke(&self, id: Uuid) -> Result<bool, DbError> {
        let revoked = query!(&self.db, revoke(id, self.clock.now_ms()))?;
        self.forget();
        Ok(revoked)
    }

    /// Numbers a reading. Of two that overlap the older may get the larger number; the next one, seconds later, sets that
    /// right.
    async fn reading(
        &self,
        read: impl Future<Output = Result<Option<Principal>, DbError>>,
    ) -> Result<Option<Principal>, DbError> {
        let as_of = self.readings.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(read.await?.map(|principal| Principal { as_of, ..principal }))
    }

    /// Reads every key anew: one of them may have changed.
    pub fn forget(&self) {
        self.recognised.forget();
        self.standing.forget();
    }

    async fn store(&self, key: String, wish: KeyWish) -> Result<NewKey, DbError> {
        let now = self.clock.now_ms();
        let KeyWish { name, tenant, role, user, allowance, expires_at_ms } = wish;
        let (user_id, user) = user.unzip();
        let hint: String = key.chars().take(10).collect();
        let info = KeyInfo {
            id: new_id(),
            name,
            tenant,
            role,
            user,
            hint,
            created_at: rfc3339(now),
            expires_at: expires_at_ms.map(rfc3339),
            revoked_at: None,
            allowance,
        };
        let hash = *blake3::hash(key.as_bytes()).as_bytes();
        query!(&self.db, insert(info.clone(), hash, user_id, now, expires_at_ms))?;
        self.forget();
        Ok(NewKey { info, key })
    }
}
