//! One transaction on Postgres: the only way to its statements. PgBouncer gives a server connection to a transaction, not
//! to a client, and version 1.18 knows no named statements: outside of a transaction a client can get another's answer.
//! So nothing runs outside of one, and no statement is named.

use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgPool, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};
use tokio::sync::Notify;
use tokio::time::timeout;
use uuid::Uuid;

use super::DbError;
use crate::pool::Permit;

/// How long an abandoned transaction may take to end before its connection is closed instead.
const ROLLBACK: Duration = Duration::from_secs(5);

/// A statement with its arguments.
type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Who writes, to those who read the change log.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    /// What the process calls itself.
    pub(super) name: Uuid,
    /// Told of every commit that others have to know of.
    pub(super) has_written: Arc<Notify>,
}

/// A transaction with its role and tenant. Dropping it undoes what it did, in the background.
#[derive(Debug)]
pub struct Transaction {
    /// Gone only when it has ended.
    connection: Option<PoolConnection<Postgres>>,
    /// How long one statement may take.
    patience: Duration,
    /// Whether the first message was answered.
    has_begun: bool,
    /// Whether a statement failed: a commit would silently undo everything then.
    has_failed: bool,
    writer: Writer,
    /// Whether its commit is one that others have to know of.
    has_changes: bool,
    /// The right to the connection; given back after it.
    permit: Option<Permit>,
}

impl Transaction {
    /// Takes a connection and sends `first`, which begins the transaction. Dropping the future gives all of it back.
    pub(super) async fn begin(
        pool: &PgPool,
        first: &str,
        patience: Duration,
        writer: &Writer,
    ) -> Result<Self, sqlx::Error> {
        // Held by the transaction before the first message leaves: whatever happens, it is ended.
        let connection = Some(pool.acquire().await?);
        let (writer, has_changes) = (writer.clone(), false);
        let mut transaction =
            Self { connection, patience, has_begun: false, has_failed: false, writer, has_changes, permit: None };
        sqlx::raw_sql(AssertSqlSafe(first)).execute(transaction.connection()).await?;
        transaction.has_begun = true;
        Ok(transaction)
    }

    /// Keeps the right to its connection as long as that is in use.
    pub(super) fn holding(self, permit: Permit) -> Self {
        let mut holding = self;
        holding.permit = Some(permit);
        holding
    }

    /// Runs a statement; returns how many rows it changed.
    ///
    /// # Errors
    /// [`DbError::Away`] also when it takes too long, [`DbError::Sql`].
    pub async fn execute(&mut self, statement: Statement<'_>) -> Result<u64, DbError> {
        let patience = self.patience;
        let done = within(patience, statement.persistent(false).execute(self.connection())).await;
        self.noted(done).map(|done| done.rows_affected())
    }

    /// Runs a statement that gives at most one row.
    ///
    /// # Errors
    /// As [`Transaction::execute`].
    pub async fn optional(&mut self, statement: Statement<'_>) -> Result<Option<PgRow>, DbError> {
        let patience = self.patience;
        let row = within(patience, statement.persistent(false).fetch_optional(self.connection())).await;
        self.noted(row)
    }

    /// Runs a statement that gives one row.
    ///
    /// # Errors
    /// As [`Transaction::execute`]; none is a fault.
    pub async fn one(&mut self, statement: Statement<'_>) -> Result<PgRow, DbError> {
        self.optional(statement).await?.ok_or(DbError::Sql(sqlx::Error::RowNotFound))
    }

    /// Runs a statement that gives rows.
    ///
    /// # Errors
    /// As [`Transaction::execute`].
    pub async fn all(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, DbError> {
        let patience = self.patience;
        let rows = within(patience, statement.persistent(false).fetch_all(self.connection())).await;
        self.noted(rows)
    }

    /// Says that the commit is one that others have to know of; returns the name of who writes.
    pub fn changes(&mut self) -> Uuid {
        self.has_changes = true;
        self.writer.name
    }

    /// Commits.
    ///
    /// # Errors
    /// [`DbError::Commit`] when a statement had failed, or when it is not known what became of it.
    pub async fn commit(mut self) -> Result<(), DbError> {
        if self.has_failed {
            return Err(DbError::Commit("a statement of the transaction had failed".to_owned()));
        }
        let patience = self.patience;
        match within(patience, sqlx::raw_sql("COMMIT").execute(self.connection())).await.map_err(DbError::from) {
            Ok(_) => {
                drop(self.connection.take());
                if self.has_changes {
                    self.writer.has_written.notify_one();
                }
                Ok(())
            }
            Err(DbError::Away(error)) => Err(DbError::Commit(error.to_string())),
            Err(error) => Err(error),
        }
    }

    fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("invariant: the connection goes when the transaction ends")
    }

    fn noted<T>(&mut self, outcome: Result<T, sqlx::Error>) -> Result<T, DbError> {
        self.has_failed |= outcome.is_err();
        Ok(outcome?)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        // A pooler whose server is away answers when that comes back: its connection is not waited for.
        if !self.has_begun {
            connection.close_on_drop();
            return;
        }
        let permit = self.permit.take();
        tokio::spawn(async move {
            let _permit = permit;
            // What is still under way on it is waited for first.
            let ended = timeout(ROLLBACK, sqlx::raw_sql("ROLLBACK").execute(&mut *connection)).await;
            if !matches!(ended, Ok(Ok(_))) {
                connection.close_on_drop();
            }
        });
    }
}

/// A server that is reached and says nothing is as good as away.
async fn within<T>(patience: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let silence = || sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time"));
    timeout(patience, work).await.unwrap_or_else(|_| Err(silence()))
}
