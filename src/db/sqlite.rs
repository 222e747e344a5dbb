//! One SQLite file. Reads take a pooled read-only connection; writes go to one writer that commits what waits together in
//! one transaction (group commit), so that many messages share an fsync.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Sqlite, SqliteConnection, SqlitePool};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::bounded::BoundedRead;
use super::watched::SLOW;
use super::writer::Writer;
use super::{DbError, MigrationSet};
use crate::traces;

/// What a commit promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives the loss of power: `synchronous=FULL`, an fsync before a write is acknowledged.
    Full,
    /// Survives a crash of the process, and is never corrupt: `synchronous=NORMAL`.
    Normal,
}

/// How long closing waits for connections that are in use.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// A connection to read with; in a trace, from when it was asked for until it is given back.
#[derive(Debug)]
pub struct Reading {
    connection: PoolConnection<Sqlite>,
    _span: Span,
}

impl Deref for Reading {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for Reading {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

/// One file. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct SqliteDb {
    reads: SqlitePool,
    /// For statements that may take long: however many those are, the others find a connection.
    long_reads: SqlitePool,
    closing: CancellationToken,
    writer: Writer,
}

fn options(path: &Path, durability: Durability) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        // No statement of files has its values written into it.
        .log_slow_statements("warn".parse().expect("invariant: it is a level"), SLOW)
        .synchronous(match durability {
            Durability::Full => SqliteSynchronous::Full,
            Durability::Normal => SqliteSynchronous::Normal,
        })
}

impl SqliteDb {
    /// As [`super::Db::open`].
    ///
    /// # Errors
    /// As there.
    pub async fn open(path: &Path, durability: Durability, schema: MigrationSet) -> Result<Self, DbError> {
        let options = options(path, durability);
        let mut connection = options.clone().create_if_missing(true).connect().await?;
        schema.migrator().run(&mut connection).await?;
        let options = options.read_only(true);
        let pool = |connections| {
            SqlitePoolOptions::new()
                .min_connections(0)
                .max_connections(connections)
                .acquire_timeout(Duration::from_secs(5))
                .test_before_acquire(false)
                .connect_lazy_with(options.clone())
        };
        let closing = CancellationToken::new();
        Ok(Self { reads: pool(4), long_reads: pool(2), closing, writer: Writer::start(connection) })
    }

    /// A connection to read with; it sees every write that was acknowledged.
    ///
    /// # Errors
    /// [`DbError::Away`] when none is free within five seconds.
    pub async fn read(&self) -> Result<Reading, DbError> {
        let span = traces::statement("sqlite", "read");
        Ok(Reading { connection: self.reads.acquire().await?, _span: span })
    }

    /// A connection for a statement that may take long. It is stopped after `limit`, when the caller drops it, and when the
    /// database closes.
    ///
    /// # Errors
    /// [`DbError::TooLong`] when none is free within five seconds.
    pub async fn read_within(&self, limit: Duration) -> Result<BoundedRead, DbError> {
        let connection = self.long_reads.acquire().await.map_err(|error| match error {
            sqlx::Error::PoolTimedOut => DbError::TooLong,
            error => error.into(),
        })?;
        Ok(BoundedRead::begin(connection, limit, self.closing.child_token()).await?)
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
        let span = traces::statement("sqlite", "write");
        let written = self.writer.write(work).instrument(span.clone()).await;
        if written.is_err() {
            traces::failed(&span, "database");
        }
        written
    }

    pub(super) async fn check(&self) -> Result<(), DbError> {
        sqlx::query("SELECT 1").execute(&mut *self.read().await?).await?;
        Ok(())
    }

    /// Finishes the queued writes and closes the file. Reads that take longer than a few seconds are left behind.
    pub async fn close(&self) {
        self.closing.cancel();
        self.writer.close().await;
        let closed = async { tokio::join!(self.reads.close(), self.long_reads.close()) };
        if tokio::time::timeout(CLOSE_PATIENCE, closed).await.is_err() {
            tracing::warn!("reads were still running when the database closed");
        }
    }
}
