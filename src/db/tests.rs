//! A database of its own for each test, on SQLite, on Postgres, and on Postgres through PgBouncer; and what the wrapper
//! around Postgres promises. The servers are those of `make services`.

mod schema;
mod server;
mod tenancy;
mod wrong_answers;

use std::path::PathBuf;

use server::TestServer;

use super::{Db, Durability, MigrationSet};

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
