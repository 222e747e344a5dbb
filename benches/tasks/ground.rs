//! A database of a window's own, and what is seen of it by the server's own user: how far its log has come, what waits, which rows
//! have died.

use std::time::Duration;

use anyhow::Context;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, Row};
use tokio::sync::Mutex;
use url::Url;
use uuid::Uuid;

/// Between two looks at whether all is done.
pub const LOOK: Duration = Duration::from_millis(5);

/// The database.
pub struct Ground {
    name: String,
    direct: Mutex<PgConnection>,
}

/// What a task has cost.
pub struct Cost {
    /// Bytes of the server's log.
    pub wal: f64,
    /// Row versions that an update or a deletion left behind.
    pub dead: f64,
    /// Of those, updates that needed no new entry in an index, whose old version goes with the next look at its page.
    pub in_place: f64,
}

impl Ground {
    pub async fn new() -> anyhow::Result<Self> {
        let name = format!("bench_{}", Uuid::now_v7().simple());
        let mut owner = at("ISH_TEST_DATABASE_DIRECT_URL", "postgres")?.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut owner).await?;
        let mut url = address("ISH_TEST_DATABASE_DIRECT_URL", &name)?;
        url.set_username("postgres").map_err(|()| anyhow::anyhow!("{url} takes no user"))?;
        let direct = url.as_str().parse::<PgConnectOptions>()?.connect().await?;
        Ok(Self { name, direct: Mutex::new(direct) })
    }

    /// Through PgBouncer, and direct.
    pub fn urls(&self) -> anyhow::Result<(String, String)> {
        let at = |name| anyhow::Ok(address(name, &self.name)?.to_string());
        Ok((at("ISH_TEST_DATABASE_URL")?, at("ISH_TEST_DATABASE_DIRECT_URL")?))
    }

    /// How far the server's log has come.
    pub async fn wal(&self) -> anyhow::Result<i64> {
        self.number("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").await
    }

    /// Whether the table has no such row any more.
    pub async fn is_done(&self, table: &str, open: &str) -> anyhow::Result<bool> {
        Ok(self.number(&format!("SELECT count(*) FROM (SELECT FROM {table} WHERE {open} LIMIT 1) AS open")).await? == 0)
    }

    /// Since `before`. Whoever has written must be gone: a session tells of its rows when it ends.
    pub async fn cost(&self, before: i64, tasks: u32) -> anyhow::Result<Cost> {
        let share = |sum: i64| sum as f64 / f64::from(tasks);
        let wal = share(self.wal().await? - before);
        self.number(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await?;
        let alone =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        while self.number(alone).await? > 0 {
            tokio::time::sleep(LOOK).await;
        }
        let dead = "SELECT sum(n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables";
        let in_place = "SELECT sum(n_tup_hot_upd)::bigint FROM pg_stat_user_tables";
        Ok(Cost { wal, dead: share(self.number(dead).await?), in_place: share(self.number(in_place).await?) })
    }

    async fn number(&self, statement: &str) -> anyhow::Result<i64> {
        let row = sqlx::query(AssertSqlSafe(statement)).fetch_one(&mut *self.direct.lock().await).await;
        Ok(row.with_context(|| statement.to_owned())?.try_get(0)?)
    }
}

/// The test server's address for a database, as `scripts/services.sh` left it.
fn address(name: &str, database: &str) -> anyhow::Result<Url> {
    let left = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.services/env"));
    let left = left.context("`make services` starts what this needs")?;
    let found = left.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let mut url: Url = found.context("it is named")?.parse()?;
    url.set_path(database);
    Ok(url)
}

fn at(name: &str, database: &str) -> anyhow::Result<PgConnectOptions> {
    Ok(address(name, database)?.as_str().parse()?)
}
