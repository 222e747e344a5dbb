//! An empty database of its own on the test server, reached through PgBouncer; `make services` starts both.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};
use url::Url;
use uuid::Uuid;

/// A database; it goes when this does.
pub struct Database {
    name: String,
    /// `DATABASE_URL`.
    pub url: String,
    /// `DATABASE_DIRECT_URL`.
    pub direct_url: String,
}

impl Database {
    pub async fn new() -> Self {
        let name = format!("test_{}", Uuid::now_v7().simple());
        administer(&format!("CREATE DATABASE {name}")).await;
        let at = |variable| {
            let mut url = address(variable);
            url.set_path(&name);
            url.to_string()
        };
        let (url, direct_url) = (at("ISH_TEST_DATABASE_URL"), at("ISH_TEST_DATABASE_DIRECT_URL"));
        Self { name, url, direct_url }
    }
}

impl Drop for Database {
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

async fn administer(statement: &str) {
    let options: PgConnectOptions = address("ISH_TEST_DATABASE_DIRECT_URL").as_str().parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// The test server's Redis, as a host with its port.
pub fn redis_host() -> String {
    let url = address("ISH_TEST_REDIS_URL");
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
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
