//! One Postgres, directly or through PgBouncer in transaction mode: its pool, and the three ways to begin a transaction on
//! it. Each takes on a role and says what it is for in its first message, so that row-level security holds whoever the
//! connection belongs to: `ish_tenant` sees one tenant's rows, `ish_system` what crosses tenants. Both are taken on by the
//! same login, so that one pool and one user of PgBouncer do for all.

use std::borrow::Cow;
use std::fmt::Write;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use tokio::time::{timeout, timeout_at};

use super::{DbError, MigrationSet, Transaction};
use crate::config::DatabaseConfig;
use crate::pool::{Gate, Pools};

/// How long the schema's connection may take to be made. Others have what is left of their caller's patience.
const CONNECT: Duration = Duration::from_secs(5);

/// What keeps a connection for longer is reported: no transaction stays open while a provider answers or a job runs.
const HELD_TOO_LONG: Duration = Duration::from_secs(10);

/// The oldest version that can be used, as the server counts.
const OLDEST: u32 = 150_000;

/// A connection that idled longer than this is asked whether it lives before it is used.
const FRESH: Duration = Duration::from_secs(30);

/// What a transaction across tenants is for; says so to who reads the server's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Who holds a key.
    Authentication,
    /// Keys made, listed, changed.
    Keys,
    /// Money of keys.
    Spending,
    /// Answers that a restart cut.
    Restart,
    /// Entries of the cache: loaded, written in groups, expired.
    Entries,
    /// Whether the database answers.
    Health,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Keys => "keys",
            Self::Spending => "spending",
            Self::Restart => "restart",
            Self::Entries => "entries",
            Self::Health => "health",
        }
    }
}

/// One server. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct PostgresDb {
    pool: PgPool,
    /// Before the pool, which never has to make anybody wait.
    gate: Gate,
    /// When a connection was last found dead: those that have idled since before are suspect.
    lost: Lost,
    /// How long to wait for a transaction to begin.
    acquire_timeout: Duration,
    /// How long one statement may take.
    statement_timeout: Duration,
}

#[derive(Debug, Clone, Default)]
struct Lost(Arc<Mutex<Option<Instant>>>);

impl Lost {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_suspect(&self, idle_for: Duration) -> bool {
        let lost = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle_for > FRESH || lost.is_some_and(|lost| lost.elapsed() <= idle_for)
    }
}

impl PostgresDb {
    /// As [`super::Db::connect`].
    pub(super) async fn connect(config: &DatabaseConfig, pools: &Pools) -> Result<Self, DbError> {
        let pooled = options(config.url.expose_secret())?;
        let direct = options(config.direct_url.expose_secret())?;
        let mut connection = connected(&direct).await?;
        version(&mut connection).await?;
        MigrationSet::POSTGRES.run(&mut connection).await?;
        grant_roles(&mut connection, pooled.get_username()).await?;
        let _ = connection.close().await;
        let db = Self::with_pool(config, pooled, pools);
        db.warm(config.min_connections.clamp(1, config.max_connections.get())).await?;
        Ok(db)
    }

    fn with_pool(config: &DatabaseConfig, options: PgConnectOptions, pools: &Pools) -> Self {
        let limit = config.max_connections;
        let gate = pools.gate("postgres", limit.try_into().unwrap_or(NonZeroUsize::MAX), HELD_TOO_LONG);
        let lost = Lost::default();
        let pool = pool_options(config, &gate, lost.clone()).connect_lazy_with(options);
        let measured = pool.clone();
        gate.with_size(move || measured.size() as usize);
        let (acquire_timeout, statement_timeout) = (config.acquire_timeout, config.statement_timeout);
        Self { pool, gate, lost, acquire_timeout, statement_timeout }
    }

    /// Opens the first connections; one is always tried, so that a start finds out whether the address works.
    async fn warm(&self, connections: u32) -> Result<(), DbError> {
        let begun = (0..connections).map(|_| self.system(Purpose::Health));
        futures_util::future::try_join_all(begun).await.map(drop)
    }

    /// Begins to read a tenant's rows.
    ///
    /// # Errors
    /// [`DbError::Away`] when none can begin in time.
    pub async fn read(&self, tenant: &str) -> Result<Transaction, DbError> {
        self.begin(&self.first("BEGIN READ ONLY", "ish_tenant", tenant), "a tenant's reading").await
    }

    /// Begins to change a tenant's rows.
    ///
    /// # Errors
    /// As [`PostgresDb::read`].
    pub async fn write(&self, tenant: &str) -> Result<Transaction, DbError> {
        self.begin(&self.first("BEGIN", "ish_tenant", tenant), "a tenant's writing").await
    }

    /// Begins work that crosses tenants. `tests/it/tidy.rs` says which files may.
    ///
    /// # Errors
    /// As [`PostgresDb::read`].
    pub async fn system(&self, purpose: Purpose) -> Result<Transaction, DbError> {
        let purpose = purpose.as_str();
        self.begin(&self.first(&format!("/* {purpose} */ BEGIN"), "ish_system", ""), purpose).await
    }

    pub(super) async fn check(&self) -> Result<(), DbError> {
        self.system(Purpose::Health).await.map(drop)
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// The first message: what begins the transaction and all that holds in it, in one way there and back. The tenant goes
    /// in hexadecimal: whatever it is, it ends no literal.
    fn first(&self, begin: &str, role: &str, tenant: &str) -> String {
        let mut hex = String::with_capacity(2 * tenant.len());
        for byte in tenant.bytes() {
            let _ = write!(hex, "{byte:02x}");
        }
        format!(
            "{begin}; SET LOCAL ROLE {role}; SELECT set_config('ish.tenant', convert_from('\\x{hex}', 'UTF8'), true), \
             set_config('statement_timeout', '{}', true)",
            self.statement_timeout.as_millis()
        )
    }

    /// Nothing was done before the first message, so that one that is lost with its connection is sent again on another.
    async fn begin(&self, first: &str, what: &'static str) -> Result<Transaction, DbError> {
        let deadline = tokio::time::Instant::now() + self.acquire_timeout;
        let permit = self.gate.enter(what, deadline).await.ok_or(sqlx::Error::PoolTimedOut)?;
        let begun = timeout_at(deadline, async {
            match Transaction::begin(&self.pool, first, self.statement_timeout).await {
                Err(error) if is_away(&error) => {
                    self.lost.note();
                    self.gate.note_error();
                    Transaction::begin(&self.pool, first, self.statement_timeout).await
                }
                begun => begun,
            }
        });
        let begun = begun.await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        if begun.as_ref().is_err_and(is_away) {
            self.gate.note_error();
        }
        Ok(begun?.holding(permit))
    }
}

/// What the pool does with its connections, and what of it is told at the gate.
fn pool_options(config: &DatabaseConfig, gate: &Gate, lost: Lost) -> PgPoolOptions {
    let (made, used, left) = (gate.clone(), gate.clone(), gate.clone());
    let lifetime = config.max_lifetime;
    PgPoolOptions::new()
        .max_connections(config.max_connections.get())
        .min_connections(config.min_connections.min(config.max_connections.get()))
        .acquire_timeout(config.acquire_timeout)
        .idle_timeout(config.idle_timeout)
        // Old ones are let go below, where they can be counted.
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_connect(move |_, _| {
            made.note_created();
            Box::pin(async { Ok(()) })
        })
        .before_acquire(move |connection, about| {
            let (suspect, gate) = (lost.is_suspect(about.idle_for), used.clone());
            Box::pin(async move {
                if suspect {
                    connection.ping().await.inspect_err(|_| gate.note_error())?;
                }
                Ok(is_young(&gate, about.age, lifetime))
            })
        })
        .after_release(move |_, about| {
            let keep = is_young(&left, about.age, lifetime);
            Box::pin(async move { Ok(keep) })
        })
}

/// Whether a connection may be used again; one that may not is counted.
fn is_young(gate: &Gate, age: Duration, lifetime: Duration) -> bool {
    let keep = age <= lifetime;
    if !keep {
        gate.note_recycled();
    }
    keep
}

/// Asks both addresses.
pub(super) async fn probe(config: &DatabaseConfig) -> Result<String, DbError> {
    let mut said = String::new();
    for url in [&config.direct_url, &config.url] {
        let mut connection = connected(&options(url.expose_secret())?).await?;
        said = version(&mut connection).await?;
        let _ = connection.close().await;
    }
    Ok(said)
}

async fn connected(options: &PgConnectOptions) -> Result<PgConnection, DbError> {
    Ok(timeout(CONNECT, options.connect()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))?)
}

/// The server's version, where it is one that can be used.
async fn version(connection: &mut PgConnection) -> Result<String, DbError> {
    let asked = sqlx::raw_sql("SELECT current_setting('server_version'), current_setting('server_version_num')");
    let row = asked.fetch_one(connection).await?;
    let (version, number): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    if number.parse::<u32>().is_ok_and(|number| number < OLDEST) {
        return Err(DbError::Unfit(format!("the server is PostgreSQL {version}: 15 or a newer one is needed")));
    }
    Ok(format!("PostgreSQL {version}"))
}

/// What an address says; without what PgBouncer would have to be told to ignore, and without named statements.
pub(super) fn options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    let options: PgConnectOptions = url.parse()?;
    Ok(options.extra_float_digits(None).statement_cache_capacity(0).application_name("ish"))
}

/// Lets the pool's login take on the roles.
pub(super) async fn grant_roles(connection: &mut PgConnection, login: &str) -> Result<(), DbError> {
    let Some(grant) = missing_grant(connection, login).await? else { return Ok(()) };
    let granted = sqlx::raw_sql(AssertSqlSafe(grant.clone())).execute(&mut *connection).await;
    // Another instance may have been as far.
    if granted.is_err() && missing_grant(connection, login).await?.is_some() {
        let fault = "the login of DATABASE_URL may not act for tenants: let an administrator run";
        return Err(DbError::Unfit(format!("{fault} `{grant}`")));
    }
    Ok(())
}

/// What would have to be run; `None` also for a login that the server does not know: it is PgBouncer's, and the pool's
/// check will tell.
async fn missing_grant(connection: &mut PgConnection, login: &str) -> Result<Option<String>, sqlx::Error> {
    // From version 16 on a member may take on a role only where that was granted as well.
    let query = sqlx::query(
        "SELECT 'GRANT ish_login TO ' || quote_ident(rolname) FROM pg_roles WHERE rolname = $1 AND NOT \
         (SELECT bool_and(pg_has_role(rolname, role, CASE WHEN current_setting('server_version_num')::int >= 160000 \
         THEN 'SET' ELSE 'MEMBER' END)) FROM unnest(ARRAY['ish_tenant', 'ish_system']) AS role)",
    );
    let mut tx = connection.begin().await?;
    let row = query.bind(login).persistent(false).fetch_optional(&mut *tx).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Text as Postgres can hold it: U+0000 it cannot, and U+FFFD stands for that.
pub fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{FFFD}")) } else { Cow::Borrowed(text) }
}

/// Whether the connection or the server is at fault, not the statement.
pub(super) fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // Connection exceptions (PgBouncer's own among them), too many of them, and a server that starts, stops or crashed.
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| ["08", "53300", "57P"].iter().any(|class| code.starts_with(class)))
        }
        _ => false,
    }
}
