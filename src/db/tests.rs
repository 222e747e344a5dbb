//! A database of its own for each test, on SQLite, on Postgres, and on Postgres through PgBouncer; and what the wrapper
//! around Postgres promises. The servers are those of `make services`.

mod pool;
mod schema;
mod server;
mod tenancy;
mod vectors;
mod wrong_answers;

use std::path::PathBuf;

pub(crate) use server::TestServer;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres, Row};

use super::{Db, Durability, MigrationSet, Transaction};

/// What a store's contract runs on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
    PgBouncer,
}

/// A database; it goes when this does.
pub(crate) enum TestDb {
    File(tempfile::TempDir),
    Server(TestServer),
}

impl TestDb {
    pub(crate) async fn new(backend: Backend) -> Self {
        match backend {
            Backend::Sqlite => Self::File(tempfile::tempdir().unwrap()),
            Backend::Postgres => Self::Server(TestServer::direct().await),
            Backend::PgBouncer => Self::Server(TestServer::pooled().await),
        }
    }

    /// Opens it, as each instance does; `schema` is the file's.
    pub(crate) async fn open(&self, schema: MigrationSet) -> Db {
        match self {
            Self::File(_) => Db::open(&self.path(), Durability::Full, schema).await.unwrap(),
            Self::Server(server) => Db::Postgres(server.connect().await),
        }
    }

    /// The server's side of it, to connect to as the test wishes.
    pub(crate) fn server(&mut self) -> &mut TestServer {
        let Self::Server(server) = self else { panic!("it is no server") };
        server
    }

    /// Has a server count its rows, which its plans go by.
    pub(crate) async fn analyze(&self) {
        let Self::Server(server) = self else { panic!("it is no server") };
        server::run(&mut server.owner().await, "ANALYZE").await;
    }

    fn path(&self) -> PathBuf {
        let Self::File(folder) = self else { panic!("it is no file") };
        folder.path().join("test.db")
    }
}

/// How the server means to run a statement.
pub(crate) async fn plan(
    statement: &str,
    tx: &mut Transaction,
    bind: impl for<'q> FnOnce(Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments>,
) -> String {
    let explain = bind(sqlx::query(AssertSqlSafe(format!("EXPLAIN {statement}"))));
    let lines = tx.all(explain).await.unwrap();
    lines.iter().map(|line| line.get::<String, _>(0) + "\n").collect()
}

/// Makes of each named `async fn(TestDb)` three tests: what a store promises, it promises on every database.
macro_rules! contract {
    ($($promise:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                super::$promise($crate::db::tests::TestDb::new($crate::db::tests::Backend::Sqlite).await).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                super::$promise($crate::db::tests::TestDb::new($crate::db::tests::Backend::Postgres).await).await;
            })*
        }
        mod through_pgbouncer {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                super::$promise($crate::db::tests::TestDb::new($crate::db::tests::Backend::PgBouncer).await).await;
            })*
        }
    };
}
pub(crate) use contract;
