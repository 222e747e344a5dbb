//! A connection whose statements end in time. SQLite goes on with a statement whose caller has gone, so it asks every few
//! instructions whether it still should.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Sqlite, SqliteConnection};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::DbError;

/// SQLite's instructions between two looks at the time: one row of a search may be milliseconds of work.
const INSTRUCTIONS: i32 = 100;

/// Such a connection.
#[derive(Debug)]
pub struct BoundedRead {
    /// Dropped first, so that the pool gets back a connection that is at rest soon.
    _stop: DropGuard,
    deadline: Instant,
    connection: PoolConnection<Sqlite>,
}

impl BoundedRead {
    pub(super) async fn begin(
        mut connection: PoolConnection<Sqlite>,
        limit: Duration,
        stop: CancellationToken,
    ) -> Result<Self, sqlx::Error> {
        let deadline = Instant::now() + limit;
        let stopped = stop.clone();
        let goes_on = move || !stopped.is_cancelled() && Instant::now() < deadline;
        connection.lock_handle().await?.set_progress_handler(INSTRUCTIONS, goes_on);
        Ok(Self { _stop: stop.drop_guard(), deadline, connection })
    }

    /// What a statement's failure means.
    pub fn failed(&self, error: sqlx::Error) -> DbError {
        if Instant::now() < self.deadline { error.into() } else { DbError::TooLong }
    }
}

impl Deref for BoundedRead {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for BoundedRead {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Durability, MigrationSet, SqliteDb};
    use super::*;

    const ENDLESS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

    const HOUR: Duration = Duration::from_hours(1);

    async fn run_endlessly(db: &SqliteDb, limit: Duration) -> DbError {
        endless(db.read_within(limit).await.unwrap()).await
    }

    async fn endless(mut connection: BoundedRead) -> DbError {
        let ran = sqlx::query_scalar::<_, i64>(ENDLESS).fetch_one(&mut *connection).await;
        connection.failed(ran.unwrap_err())
    }

    /// Resolves in any case, so that a test fails rather than hangs.
    async fn soon<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), future).await.unwrap()
    }

    #[tokio::test]
    async fn a_statement_ends_after_its_time_with_its_caller_and_with_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let db = SqliteDb::open(&folder.path().join("ish.db"), Durability::Normal, MigrationSet::ISH).await.unwrap();
        for _ in 0..4 {
            let ended = soon(run_endlessly(&db, Duration::from_millis(20))).await;
            assert!(matches!(ended, DbError::TooLong), "{ended:?}");
        }
        for _ in 0..4 {
            // There are fewer connections than this leaves behind.
            let left = tokio::time::timeout(Duration::from_millis(20), run_endlessly(&db, HOUR)).await;
            assert!(left.is_err(), "{left:?}");
        }
        let mut connection = soon(db.read_within(HOUR)).await.unwrap();
        let one: i64 = sqlx::query_scalar("SELECT 1").fetch_one(&mut *connection).await.unwrap();
        assert_eq!(one, 1, "what stopped the last statement does not stop this one");
        let (ended, ()) = soon(async { tokio::join!(endless(connection), db.close()) }).await;
        assert!(matches!(ended, DbError::Sql(_)), "{ended:?}");
    }
}
