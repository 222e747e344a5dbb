//! One SQLite file. Reads take a pooled read-only connection; writes go to one writer that commits what waits together in
//! one transaction (group commit), so that many messages share an fsync.

use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Sqlite, SqliteConnection, SqlitePool};

use super::writer::Writer;
use super::{DbError, MigrationSet};

/// What a commit promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives the loss of power: `synchronous=FULL`, an fsync before a write is acknowledged.
    Full,
    /// Survives a crash of the process, and is never corrupt: `synchronous=NORMAL`.
    Normal,
}

/// One file. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct SqliteDb {
    reads: SqlitePool,
    writer: Writer,
}

impl SqliteDb {
    /// As [`super::Db::open`].
    ///
    /// # Errors
    /// As there.
    pub async fn open(path: &Path, durability: Durability, schema: MigrationSet) -> Result<Self, DbError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .synchronous(match durability {
                Durability::Full => SqliteSynchronous::Full,
                Durability::Normal => SqliteSynchronous::Normal,
            });
        let mut connection = options.clone().create_if_missing(true).connect().await?;
        schema.migrator().run(&mut connection).await?;
        let reads = SqlitePoolOptions::new()
            .min_connections(0)
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(5))
            .test_before_acquire(false)
            .connect_lazy_with(options.read_only(true));
        Ok(Self { reads, writer: Writer::start(connection) })
    }

    /// A connection to read with; it sees every write that was acknowledged.
    ///
    /// # Errors
    /// [`DbError::Away`] when none is free within five seconds.
    pub async fn read(&self) -> Result<PoolConnection<Sqlite>, DbError> {
        Ok(self.reads.acquire().await?)
    }

    /// Runs `work` in a write transaction and returns once that is committed. Its statements take effect together or
    /// not at all. Dropping the future does not undo a write that has been queued.
    ///
    /// # Errors
    /// [`DbError::Busy`] when too many writes wait, else what failed.
    pub async fn write<T, F>(&self, work: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        self.writer.write(work).await
    }

    pub(super) async fn check(&self) -> Result<(), DbError> {
        sqlx::query("SELECT 1").execute(&mut *self.read().await?).await?;
        Ok(())
    }

    /// Finishes the queued writes and closes the file.
    pub async fn close(&self) {
        self.writer.close().await;
        self.reads.close().await;
    }
}
