//! One Postgres, directly or through PgBouncer in transaction mode, and the three ways to begin a transaction on it. Each takes on a role and says what it is for in its first message, so that row-level security holds whoever the
//! connection belongs to: `ish_tenant` sees one tenant's rows, `ish_system` what crosses tenants. Both are taken on by the
//! same login, so that one pool and one user of PgBouncer do for all.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::patience::patiently;
use super::pooled::Pooled;
use super::replica::Replica;
use super::{DbError, MigrationSet, Transaction, VectorSearch, Written};
use crate::config::{DatabaseConfig, VectorIndex};
use crate::pool::Pools;

/// How long the schema's connection may take to be made. Others have what is left of their caller's patience.
const CONNECT: Duration = Duration::from_secs(5);

/// The oldest version that can be used, as the server counts.
const OLDEST: u32 = 150_000;

/// What a transaction across tenants is for; says so to who reads the server's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Who holds a key.
    Authentication,
    /// Keys made, listed, changed.
    Keys,
    /// Logins of browsers made, listed, ended.
    Logins,
    /// Money of keys.
    Spending,
    /// Answers whose maker is dead.
    Restart,
    /// Which processes share the database.
    Instances,
    /// Entries of the cache: loaded, written in groups, expired.
    Entries,
    /// The change log.
    Changes,
    /// Work in the background.
    Tasks,
    /// What values outside the database depend on.
    Falls,
    /// Whether the database answers.
    Health,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Keys => "keys",
            Self::Logins => "logins",
            Self::Spending => "spending",
            Self::Restart => "restart",
            Self::Instances => "instances",
            Self::Entries => "entries",
            Self::Changes => "changes",
            Self::Tasks => "tasks",
            Self::Falls => "falls",
            Self::Health => "health",
        }
    }
}

/// One server. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct PostgresDb {
    primary: Pooled,
    /// For what may be behind.
    replica: Option<Arc<Replica>>,
    /// How vectors are searched, where it stores any.
    vectors: Option<VectorSearch>,
}

impl PostgresDb {
    /// As [`super::Db::connect`].
    pub(super) async fn connect(config: &DatabaseConfig, pools: &Pools) -> Result<Self, DbError> {
        let pooled = options(config.url.expose_secret())?;
        let direct = options(config.direct_url.expose_secret())?;
        let (deadline, login) = (Instant::now() + config.start_timeout, pooled.get_username().to_owned());
        let has_vectors = patiently(deadline, || up_to_date(&direct, &login, config.vector_index)).await?;
        let search = VectorSearch { index: config.vector_index, ef_search: config.ef_search, probes: config.probes };
        let primary = Pooled::new("postgres", config, pooled, pools);
        let replica = match &config.replica_url {
            Some(url) => Some(Pooled::new("postgres_replica", config, options(url.expose_secret())?, pools)),
            None => None,
        };
        let db =
            Self { primary, replica: replica.map(Replica::new).map(Arc::new), vectors: has_vectors.then_some(search) };
        patiently(deadline, || db.check()).await?;
        db.primary.warm(config.min_connections.min(config.max_connections.get()));
        Ok(db)
    }

    /// Begins to read a tenant's rows.
    ///
    /// # Errors
    /// [`DbError::Away`] when none can begin in time.
    pub async fn read(&self, tenant: &str) -> Result<Transaction, DbError> {
        self.primary.read(tenant).await
    }

    /// Reads a tenant's rows with one statement, in one way there and back.
    ///
    /// # Errors
    /// As [`PostgresDb::read`], also when the statement takes as long; [`DbError::Sql`].
    pub async fn ask(&self, tenant: &str, asked: &Written) -> Result<Vec<PgRow>, DbError> {
        self.primary.ask("ish_tenant", tenant, "a tenant's reading", asked).await
    }

    /// As [`PostgresDb::read`], of rows as they were a moment ago: on the replica, where there is one and it answers.
    ///
    /// # Errors
    /// As [`PostgresDb::read`].
    pub async fn read_lagging(&self, tenant: &str) -> Result<Transaction, DbError> {
        if let Some(replica) = &self.replica
            && let Some(begun) = replica.read(tenant).await
        {
            return Ok(begun);
        }
        self.read(tenant).await
    }

    /// Whether what is read may be behind at all.
    pub fn has_replica(&self) -> bool {
        self.replica.is_some()
    }

    /// Begins to change a tenant's rows.
    ///
    /// # Errors
    /// As [`PostgresDb::read`].
    pub async fn write(&self, tenant: &str) -> Result<Transaction, DbError> {
        self.primary.begin("BEGIN", "ish_tenant", tenant, "a tenant's writing").await
    }

    /// Begins work that crosses tenants. `tests/it/tidy.rs` says which files may.
    ///
    /// # Errors
    /// As [`PostgresDb::read`].
    pub async fn system(&self, purpose: Purpose) -> Result<Transaction, DbError> {
        let purpose = purpose.as_str();
        self.primary.begin(&format!("/* {purpose} */ BEGIN"), "ish_system", "", purpose).await
    }

    /// Reads across tenants with one statement, in one way there and back.
    ///
    /// # Errors
    /// As [`PostgresDb::ask`].
    pub async fn ask_system(&self, purpose: Purpose, asked: &Written) -> Result<Vec<PgRow>, DbError> {
        self.primary.ask("ish_system", "", purpose.as_str(), asked).await
    }

    /// How vectors are searched; `None` where they are not stored, for want of pgvector or of the wish.
    pub fn vectors(&self) -> Option<VectorSearch> {
        self.vectors
    }

    /// What this process is called in the change log.
    pub fn writer(&self) -> Uuid {
        self.primary.writer.name
    }

    /// Resolves once something was committed that others have to know of, since this was last asked.
    pub async fn has_written(&self) {
        self.primary.writer.has_written.notified().await;
    }

    pub(super) async fn check(&self) -> Result<(), DbError> {
        self.system(Purpose::Health).await.map(drop)
    }

    pub(super) async fn close(&self) {
        if let Some(replica) = &self.replica {
            replica.close().await;
        }
        self.primary.close().await;
    }
}

/// Brings the schema up to date; says whether vectors are stored.
async fn up_to_date(direct: &PgConnectOptions, login: &str, wished: VectorIndex) -> Result<bool, DbError> {
    let mut connection = connected(direct).await?;
    version(&mut connection).await?;
    let has_vectors = MigrationSet::POSTGRES.run(&mut connection, wished).await?;
    grant_roles(&mut connection, login).await?;
    let _ = connection.close().await;
    Ok(has_vectors)
}

/// Asks each address.
pub(super) async fn probe(config: &DatabaseConfig) -> Result<String, DbError> {
    let mut said = String::new();
    for url in [&config.direct_url].into_iter().chain(&config.replica_url).chain([&config.url]) {
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
