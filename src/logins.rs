//! Logins of browsers: a person gives a key once, and a cookie speaks for it from then on: until it was not used for
//! `logins.idle`, was there for `logins.lifetime`, is ended, or its key is good no longer. What it may do is asked of its key
//! each time, so that it never is more.
//!
//! A cookie holds 256 random bits and is never stored, only its hash: there is nothing to guess, and nothing to read. How it
//! travels, and when it counts, is [`crate::api`]'s business.

mod postgres;
mod sqlite;
mod stored;
#[cfg(test)]
mod tests;
mod touched;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::{Clock, new_id, rfc3339, secret_hex};
use crate::config::LoginsConfig;
use crate::db::{Db, DbError, query};
use crate::keys::{KeyRole, Keys, Principal, Remembered, Standing};
use crate::metrics::{MemoMetrics, Metrics};
use crate::users::UserName;
use touched::Touched;

/// How long a reading of a login is believed. Its end is heard of sooner; that of its key too.
const REMEMBERED: Duration = Duration::from_secs(30);

/// How late the time of the last use may be, where logins may be idle for long enough.
const TOUCHED_EVERY: Duration = Duration::from_mins(1);

/// Logins of one key; a further one ends the one that was not used for longest.
const PER_KEY: usize = 100;

/// Logins listed at once.
const PAGE: usize = 500;

/// What a cookie is known by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoginDigest([u8; 32]);

impl LoginDigest {
    /// Of a cookie's value.
    pub fn of(cookie: &str) -> Self {
        Self(*blake3::hash(cookie.as_bytes()).as_bytes())
    }
}

/// A login as stored.
#[derive(Debug, Clone, Copy)]
struct Login {
    id: Uuid,
    key: Uuid,
    created_ms: u64,
    seen_ms: u64,
}

/// A login as remembered.
#[derive(Debug)]
struct Known {
    login: Login,
    /// When it was used last, as far as is known here.
    seen_ms: AtomicU64,
}

/// A new login, with what its cookie is to hold.
pub struct NewLogin {
    /// The cookie's value, told once.
    pub cookie: String,
    /// When it ends at the latest, in milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
}

/// A login as listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoginInfo {
    /// Its identifier, which opens nothing.
    pub id: Uuid,
    /// Its key.
    pub key: Uuid,
    /// What that is called.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// What it may do.
    pub role: KeyRole,
    /// The user whose key it is.
    pub user: Option<UserName>,
    /// RFC 3339: when the key was given.
    pub created_at: String,
    /// RFC 3339: when it was used last, to a minute.
    pub seen_at: String,
    /// RFC 3339: when it ends, at the latest.
    pub expires_at: String,
}

/// Which logins are listed.
#[derive(Debug, Clone, Default)]
pub struct LoginFilter {
    /// Those of this tenant.
    pub tenant: Option<String>,
    /// Those of this key.
    pub key: Option<Uuid>,
    /// Those of this user's keys.
    pub user: Option<Uuid>,
    /// Those that began before this one.
    pub before: Option<Uuid>,
}

/// Which logins are ended.
#[derive(Clone, Copy)]
pub enum Which {
    /// The one of this cookie.
    Cookie(LoginDigest),
    /// The one of this identifier.
    Id(Uuid),
    /// All of this key.
    OfKey(Uuid),
}

/// From when on a login must be to be one still.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "a number carries its unit")]
struct Since {
    now_ms: u64,
    /// Begun after this,
    created_ms: u64,
    /// and used after this.
    seen_ms: u64,
}

/// What the memory of logins holds, and how often it had what was looked for.
#[derive(Debug, Clone, Copy)]
pub struct LoginFigures {
    /// Logins in memory.
    pub entries: u64,
    /// Found there.
    pub hits: u64,
    /// Read from the store.
    pub misses: u64,
}

/// The store of logins. Cloning is cheap.
#[derive(Clone)]
pub struct Logins {
    db: Db,
    keys: Keys,
    clock: Clock,
    config: LoginsConfig,
    remembered: Remembered<LoginDigest, Arc<Known>>,
    touched: Arc<Touched>,
    metrics: Arc<Metrics>,
    lookups: Arc<MemoMetrics>,
}

impl Logins {
    /// Over `db`, whose schema is [`crate::db::MigrationSet::ISH`]. When logins were used is stored by [`Logins::keep`].
    pub fn new(db: Db, keys: Keys, clock: Clock, config: LoginsConfig, metrics: Arc<Metrics>) -> Self {
        let lookups = Arc::new(metrics.memo("logins"));
        let remembered = Remembered::new(REMEMBERED);
        Self { db, keys, clock, config, remembered, touched: Arc::default(), metrics, lookups }
    }

    /// Begins a login with this key, which was just given.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin(&self, key: &Principal) -> Result<NewLogin, DbError> {
        let (cookie, now_ms) = (secret_hex(), self.clock.now_ms());
        let login = Login { id: new_id(), key: key.key, created_ms: now_ms, seen_ms: now_ms };
        let crowded_out = query!(&self.db, insert(login, LoginDigest::of(&cookie), self.since(), PER_KEY))?;
        if crowded_out > 0 {
            self.forget();
        }
        self.count("begun", 1);
        Ok(NewLogin { cookie, expires_at_ms: self.end_of(&login, key) })
    }

    /// Notes that a login was asked for with a key that is none.
    pub fn refused(&self) {
        self.count("refused", 1);
    }

    /// Who comes by this login, which is a use of it; `None` where it has ended.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn recognise(&self, digest: LoginDigest) -> Result<Option<Principal>, DbError> {
        let Some((known, principal)) = self.look(digest).await? else { return Ok(None) };
        self.touch(digest, &known);
        Ok(Some(principal))
    }

    /// As [`Logins::recognise`], without being a use.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn standing(&self, digest: LoginDigest) -> Result<Option<Principal>, DbError> {
        Ok(self.look(digest).await?.map(|(_, principal)| principal))
    }

    /// Ends logins, here at once, elsewhere as soon as the change log is read there. Returns how many.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end(&self, which: Which) -> Result<u64, DbError> {
        let ended = query!(&self.db, end(which));
        // Also where it is not known whether it was done.
        self.forget();
        let ended = ended?;
        self.count("ended", ended);
        Ok(ended)
    }

    /// The newest of those that go on, at most 500.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, filter: LoginFilter) -> Result<Vec<LoginInfo>, DbError> {
        let stored = query!(&self.db, list(filter, self.since(), PAGE))?;
        Ok(stored.into_iter().map(|(login, info)| self.shown(&login, info)).collect())
    }

    /// Reads every login anew: one of them may have ended.
    pub fn forget(&self) {
        self.remembered.forget();
    }

    /// Stores when logins were used, now and then, until `stop`; then what is left.
    pub async fn keep(self, stop: CancellationToken) {
        loop {
            let wait = stop.run_until_cancelled(self.touched.gathered()).await;
            self.store_touched().await;
            if wait.is_none() {
                return;
            }
        }
    }

    /// How the memory does.
    pub fn figures(&self) -> LoginFigures {
        let entries = self.remembered.count();
        self.lookups.entries.set(entries as i64);
        LoginFigures { entries, hits: self.lookups.l1.get(), misses: self.lookups.miss.get() }
    }

    /// The login, if it goes on, and who its key says that it is.
    async fn look(&self, digest: LoginDigest) -> Result<Option<(Arc<Known>, Principal)>, DbError> {
        let Some(known) = self.known(digest).await? else { return Ok(None) };
        let Standing::Good(principal) = self.keys.standing(known.login.key).await? else { return Ok(None) };
        let end = self.end_of(&known.login, &principal);
        Ok((self.clock.now_ms() < end).then_some((known, Principal { expires_at_ms: Some(end), ..principal })))
    }

    async fn known(&self, digest: LoginDigest) -> Result<Option<Arc<Known>>, DbError> {
        let held = self.remembered.get(&digest).map(|reading| reading.found);
        // One that seems idle may have been used on another instance since it was read.
        if let Some(found) = held.filter(|found| found.as_ref().is_none_or(|known| !self.is_idle(known))) {
            self.lookups.l1.inc();
            return Ok(found);
        }
        self.lookups.miss.inc();
        let moment = self.remembered.now();
        let read = query!(&self.db, find(digest))?;
        let found = read.map(|login| Arc::new(Known { seen_ms: AtomicU64::new(login.seen_ms), login }));
        self.remembered.keep(digest, moment, found.clone());
        Ok(found.filter(|known| !self.is_idle(known)))
    }

    fn is_idle(&self, known: &Known) -> bool {
        known.seen_ms.load(Ordering::Relaxed) <= self.since().seen_ms
    }

    /// Notes the use, unless it was noted a moment ago.
    fn touch(&self, digest: LoginDigest, known: &Known) {
        let (now_ms, seen_ms) = (self.clock.now_ms(), known.seen_ms.load(Ordering::Relaxed));
        let every_ms = millis(TOUCHED_EVERY.min(self.config.idle / 4));
        let is_due = now_ms >= seen_ms.saturating_add(every_ms);
        // Of many at the same time one is enough.
        if is_due && known.seen_ms.compare_exchange(seen_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.touched.add(digest, now_ms);
        }
    }

    /// Uses that are not stored are noted again, once the login is read anew.
    async fn store_touched(&self) {
        let touched = self.touched.take();
        if touched.is_empty() {
            return;
        }
        let stored = query!(&self.db, touch(touched));
        if let Err(error) = stored {
            tracing::warn!(%error, "when logins were used last could not be stored");
        }
    }

    fn since(&self) -> Since {
        let now_ms = self.clock.now_ms();
        let ago = |time| now_ms.saturating_sub(millis(time));
        Since { now_ms, created_ms: ago(self.config.lifetime), seen_ms: ago(self.config.idle) }
    }

    /// With its key, if that ends sooner.
    fn end_of(&self, login: &Login, key: &Principal) -> u64 {
        let end = self.lifetime_end(login);
        key.expires_at_ms.map_or(end, |key_end| key_end.min(end))
    }

    fn lifetime_end(&self, login: &Login) -> u64 {
        login.created_ms.saturating_add(millis(self.config.lifetime))
    }

    fn shown(&self, login: &Login, listed: Listed) -> LoginInfo {
        let Listed { name, tenant, role, user, key_expires_at_ms } = listed;
        let end = self.lifetime_end(login);
        LoginInfo {
            id: login.id,
            key: login.key,
            name,
            tenant,
            role,
            user,
            created_at: rfc3339(login.created_ms),
            seen_at: rfc3339(login.seen_ms),
            expires_at: rfc3339(key_expires_at_ms.map_or(end, |key_end| key_end.min(end))),
        }
    }

    fn count(&self, outcome: &str, logins: u64) {
        self.metrics.logins.with_label_values(&[outcome]).inc_by(logins);
    }
}

/// What a login's key says of it.
struct Listed {
    name: String,
    tenant: String,
    role: KeyRole,
    user: Option<UserName>,
    key_expires_at_ms: Option<u64>,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
