//! One transaction on Postgres: the only way to its statements. PgBouncer gives a server connection to a transaction, not
//! to a client, and version 1.18 knows no named statements: outside of a transaction a client can get another's answer.
//! So nothing runs outside of one, and no statement is named. What is read with one statement is one message ([`alone`]).

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgPool, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Execute, PgConnection, Postgres, SqlStr};
use tokio::sync::Notify;
use tokio::time::timeout;
use uuid::Uuid;

use super::kept::{Kept, Lent};
use super::postgres::is_away;
use super::watched::watched;
use super::{DbError, Written};
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

/// Where its connections come from, and where those go that have ended one well.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) pool: PgPool,
    pub(super) kept: Kept,
}

/// A transaction with its role and tenant. Dropping it undoes what it did, in the background.
#[derive(Debug)]
pub struct Transaction {
    /// Gone only when it has ended.
    lent: Option<Lent>,
    kept: Kept,
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
        source: &Source,
        first: &str,
        patience: Duration,
        writer: &Writer,
    ) -> Result<Self, sqlx::Error> {
        // Held by the transaction before the first message leaves: whatever happens, it is ended.
        let (lent, kept) = (Some(source.kept.take(&source.pool).await?), source.kept.clone());
        let (writer, has_changes) = (writer.clone(), false);
        let mut transaction =
            Self { lent, kept, patience, has_begun: false, has_failed: false, writer, has_changes, permit: None };
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
        let named = named(statement);
        let (text, statement) = self.noted(named)?;
        let done = watched(text.as_str(), within(patience, statement.execute(self.connection()))).await;
        self.noted(done).map(|done| done.rows_affected())
    }

    /// Runs a statement that gives at most one row.
    ///
    /// # Errors
    /// As [`Transaction::execute`].
    pub async fn optional(&mut self, statement: Statement<'_>) -> Result<Option<PgRow>, DbError> {
        let patience = self.patience;
        let named = named(statement);
        let (text, statement) = self.noted(named)?;
        let row = watched(text.as_str(), within(patience, statement.fetch_optional(self.connection()))).await;
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
        let named = named(statement);
        let (text, statement) = self.noted(named)?;
        let rows = watched(text.as_str(), within(patience, statement.fetch_all(self.connection()))).await;
        self.noted(rows)
    }

    /// Runs a statement whose arguments are written into it, in one way there and back.
    ///
    /// # Errors
    /// As [`Transaction::execute`].
    pub async fn ask(&mut self, statement: &Written) -> Result<Vec<PgRow>, DbError> {
        let (patience, text) = (self.patience, statement.text());
        let asked = sqlx::raw_sql(AssertSqlSafe(text.as_ref())).fetch_all(self.connection());
        let rows = watched(statement.statement(), within(patience, asked)).await;
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
    pub async fn commit(self) -> Result<(), DbError> {
        self.end("COMMIT", "COMMIT").await
    }

    /// Runs one more statement and commits, in one message.
    ///
    /// # Errors
    /// As [`Transaction::commit`]; [`DbError::Sql`] when the statement fails: nothing was changed then.
    pub async fn commit_with(self, last: &Written) -> Result<(), DbError> {
        self.end(&format!("{}; COMMIT", last.text()), last.statement()).await
    }

    /// Sends the last message; `statement` is what of it may be shown.
    async fn end(mut self, message: &str, statement: &str) -> Result<(), DbError> {
        if self.has_failed {
            return Err(DbError::Commit("a statement of the transaction had failed".to_owned()));
        }
        let patience = self.patience;
        let sent = sqlx::raw_sql(AssertSqlSafe(message)).execute(self.connection());
        let ended = watched(statement, within(patience, sent)).await;
        match ended.map_err(DbError::from) {
            Ok(_) => {
                if let Some(lent) = self.lent.take() {
                    self.kept.put(lent);
                }
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
        &mut self.lent.as_mut().expect("invariant: the connection goes when the transaction ends").connection
    }

    fn noted<T>(&mut self, outcome: Result<T, sqlx::Error>) -> Result<T, DbError> {
        self.has_failed |= outcome.is_err();
        Ok(outcome?)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(mut lent) = self.lent.take() else { return };
        // A pooler whose server is away answers when that comes back: its connection is not waited for.
        if !self.has_begun {
            lent.connection.close_on_drop();
            return;
        }
        let permit = self.permit.take();
        tokio::spawn(async move {
            let _permit = permit;
            // What is still under way on it is waited for first.
            let ended = timeout(ROLLBACK, sqlx::raw_sql("ROLLBACK").execute(&mut *lent.connection)).await;
            if !matches!(ended, Ok(Ok(_))) {
                lent.connection.close_on_drop();
            }
        });
    }
}

/// Sends a message that is a transaction by itself: the server begins one for it, and ends it with the message, or undoes it
/// where a statement fails. Dropped, its connection is closed, as that of a transaction which had not begun.
pub(super) async fn alone(source: &Source, message: &str, patience: Duration) -> Result<Vec<PgRow>, sqlx::Error> {
    let mut alone = Alone(Some(source.kept.take(&source.pool).await?));
    let rows = within(patience, sqlx::raw_sql(AssertSqlSafe(message)).fetch_all(alone.connection())).await;
    // Whatever else failed, the server has said so and is done.
    if !rows.as_ref().is_err_and(is_away)
        && let Some(lent) = alone.0.take()
    {
        source.kept.put(lent);
    }
    rows
}

/// A connection whose message is under way.
struct Alone(Option<Lent>);

impl Alone {
    fn connection(&mut self) -> &mut PgConnection {
        &mut self.0.as_mut().expect("invariant: the connection goes when the message was answered").connection
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if let Some(lent) = &mut self.0 {
            lent.connection.close_on_drop();
        }
    }
}

/// A statement's text, and the statement without a name on the server.
fn named(mut statement: Statement<'_>) -> Result<(SqlStr, Statement<'static>), sqlx::Error> {
    let arguments = statement.take_arguments().map_err(sqlx::Error::Encode)?.unwrap_or_default();
    let text = statement.sql();
    Ok((text.clone(), sqlx::query_with(text, arguments).persistent(false)))
}

/// A server that is reached and says nothing is as good as away.
async fn within<T>(patience: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let silence = || sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time"));
    timeout(patience, work).await.unwrap_or_else(|_| Err(silence()))
}
