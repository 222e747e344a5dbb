//! A database of its own on the test server, copied from a template that has the schema.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use url::Url;

use super::super::migrations::MigrationSet;
use super::super::postgres::{PostgresDb, grant_roles, options};
use crate::clock::new_id;
use crate::config::{DatabaseConfig, VectorIndex};
use crate::pool::Pools;

/// A database; it goes when this does.
pub(crate) struct TestServer {
    name: String,
    pub(crate) config: DatabaseConfig,
}

impl TestServer {
    /// Reached without a pooler, by the application's login.
    pub(crate) async fn direct() -> Self {
        let mut url = address("ISH_TEST_DATABASE_DIRECT_URL");
        url.set_username(address("ISH_TEST_DATABASE_URL").username()).unwrap();
        Self::at(url).await
    }

    /// Reached through PgBouncer.
    pub(crate) async fn pooled() -> Self {
        Self::at(address("ISH_TEST_DATABASE_URL")).await
    }

    async fn at(url: Url) -> Self {
        let server = Self::empty(url, Some(&template().await)).await;
        // The roles belong to the whole server; a login is made a member once.
        grant_roles(&mut server.owner().await, "ish_app").await.unwrap();
        server
    }

    /// A database without the schema.
    pub(super) async fn without_schema() -> Self {
        Self::empty(address("ISH_TEST_DATABASE_URL"), None).await
    }

    /// A database without the schema and without pgvector, which its owner may not add.
    pub(super) async fn without_vectors() -> Self {
        Self::empty(address("ISH_TEST_DATABASE_URL"), Some("template0")).await
    }

    async fn empty(mut url: Url, template: Option<&str>) -> Self {
        let name = format!("test_{}", new_id().simple());
        let from = template.map(|template| format!(" TEMPLATE {template}")).unwrap_or_default();
        administer(&format!("CREATE DATABASE {name}{from}")).await;
        let mut direct_url = address("ISH_TEST_DATABASE_DIRECT_URL");
        url.set_path(&name);
        direct_url.set_path(&name);
        let config = DatabaseConfig {
            url: SecretString::from(url.to_string()),
            direct_url: SecretString::from(direct_url.to_string()),
            replica_url: None,
            max_connections: 16.try_into().unwrap(),
            min_connections: 0,
            idle_timeout: Duration::from_mins(5),
            max_lifetime: Duration::from_hours(1),
            // How busy the machine is decides no test.
            acquire_timeout: Duration::from_secs(30),
            statement_timeout: Duration::from_secs(30),
            start_timeout: Duration::ZERO,
            vector_index: VectorIndex::Hnsw,
            ef_search: 100,
            probes: 10,
        };
        Self { name, config }
    }

    pub(crate) async fn connect(&self) -> PostgresDb {
        PostgresDb::connect(&self.config, &Pools::default()).await.unwrap()
    }

    /// A connection of its owner's, for what the application must not do.
    pub(super) async fn owner(&self) -> PgConnection {
        options(self.config.direct_url.expose_secret()).unwrap().connect().await.unwrap()
    }

    /// A connection of the application's login, without the wrapper.
    pub(super) async fn bare(&self) -> PgConnection {
        options(self.config.url.expose_secret()).unwrap().connect().await.unwrap()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let drop_it = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        // A test's own runtime may be ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(administer(&drop_it));
        });
        assert!(dropping.join().is_ok() || std::thread::panicking(), "the test's database is still there");
    }
}

/// The database that all are copied from; the first process to want it makes it.
async fn template() -> String {
    let name = format!("template_{}", MigrationSet::POSTGRES.digest());
    let mut connection = administration().await;
    run(&mut connection, "SELECT pg_advisory_lock(1)").await;
    let known = sqlx::query("SELECT FROM pg_database WHERE datname = $1").bind(&name);
    if known.fetch_optional(&mut connection).await.unwrap().is_none() {
        let making = format!("making_{}", new_id().simple());
        run(&mut connection, &format!("CREATE DATABASE {making}")).await;
        let mut url = address("ISH_TEST_DATABASE_DIRECT_URL");
        url.set_path(&making);
        let mut made = options(url.as_str()).unwrap().connect().await.unwrap();
        MigrationSet::POSTGRES.run(&mut made, VectorIndex::Hnsw).await.unwrap();
        made.close().await.unwrap();
        run(&mut connection, &format!("ALTER DATABASE {making} RENAME TO {name}")).await;
    }
    connection.close().await.unwrap();
    name
}

async fn administer(statement: &str) {
    run(&mut administration().await, statement).await;
}

async fn administration() -> PgConnection {
    options(address("ISH_TEST_DATABASE_DIRECT_URL").as_str()).unwrap().connect().await.unwrap()
}

pub(super) async fn run(connection: &mut PgConnection, statement: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// An address of the test server: of the environment, else as `make services` left it.
#[expect(clippy::disallowed_methods, reason = "tests are told where the servers are")]
fn address(name: &str) -> Url {
    let given = std::env::var(name).ok().or_else(|| {
        let left = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.services/env")).ok()?;
        left.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    });
    let given = given.unwrap_or_else(|| panic!("{name} is not set: `make services` starts what this test needs"));
    given.parse().unwrap()
}
