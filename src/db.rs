//! The database: SQLite files, or one Postgres. Each stands behind a wrapper that owns its connections, and every
//! statement goes through that. They are two sets of queries behind one store per domain, not one set behind sqlx's `Any`,
//! which knows neither UUIDs nor vectors; [`query`] picks the set.

mod bounded;
mod kept;
mod migrations;
pub(crate) mod packed;
mod patience;
mod pooled;
mod postgres;
mod replica;
mod sqlite;
#[cfg(test)]
pub(crate) mod tests;
mod transaction;
mod vectors;
mod within;
mod writer;
mod written;

use std::path::Path;

use sqlx::migrate::MigrateError;

pub use bounded::BoundedRead;
pub use migrations::MigrationSet;
pub use postgres::{PostgresDb, Purpose, without_nul};
pub use sqlite::{Durability, SqliteDb};
pub use transaction::Transaction;
pub use vectors::VectorSearch;
pub use within::Within;
pub use written::{Literal, Name, Written};

use crate::config::DatabaseConfig;
use crate::pool::Pools;

/// Why a statement did not do its work. To a caller: nothing was changed, but for [`DbError::Commit`].
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Too many writes wait already.
    #[error("the database's write queue is full")]
    Busy,
    /// The database is closing.
    #[error("the database is closed")]
    Closed,
    /// The server cannot be reached, has no connection to give in time, or went away meanwhile.
    #[error("the database is away")]
    Away(#[source] sqlx::Error),
    /// The statement was stopped, or its turn did not come: it had taken all the time that it may.
    #[error("the statement took longer than it may")]
    TooLong,
    /// The statement or the commit failed.
    #[error("the database failed")]
    Sql(#[source] sqlx::Error),
    /// The commit was not confirmed: of Postgres it is not known whether it took effect.
    #[error("the commit failed: {0}")]
    Commit(String),
    /// The schema could not be brought up to date, and a server that is away is not why.
    #[error("the database's schema could not be brought up to date")]
    Migrate(#[source] MigrateError),
    /// The server is too old, or its login may not do what it must.
    #[error("{0}")]
    Unfit(String),
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        if postgres::is_away(&error) { Self::Away(error) } else { Self::Sql(error) }
    }
}

impl From<MigrateError> for DbError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) if postgres::is_away(&error) => {
                Self::Away(error)
            }
            error => Self::Migrate(error),
        }
    }
}

impl DbError {
    /// Whether a row was refused because there is one like it.
    pub fn is_duplicate(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
    }
}

/// One database. Cloning is cheap.
#[derive(Debug, Clone)]
pub enum Db {
    /// A file.
    Sqlite(SqliteDb),
    /// A server.
    Postgres(PostgresDb),
}

/// Calls one verb of a store's queries, of the set that fits the database: `sqlite::verb(db, ...)` or
/// `postgres::verb(db, ...)`, both in the scope of the caller.
macro_rules! query {
    ($db:expr, $verb:ident($($argument:expr),* $(,)?)) => {
        match $db {
            $crate::db::Db::Sqlite(db) => sqlite::$verb(db, $($argument),*).await,
            $crate::db::Db::Postgres(db) => postgres::$verb(db, $($argument),*).await,
        }
    };
}
pub(crate) use query;

/// Reads the columns of a row into a struct whose members have their names, whichever database the row comes from; a macro, since rows
/// share no type.
macro_rules! columns {
    ($row:expr, $into:path { $($name:ident),* $(,)? }) => {{
        type Columns = $into;
        Columns { $($name: $row.try_get(stringify!($name))?),* }
    }};
}
pub(crate) use columns;

impl Db {
    /// Opens the file, making it where missing, and brings its schema up to date.
    ///
    /// # Errors
    /// [`DbError::Sql`] when the file cannot be opened, [`DbError::Migrate`] when its schema cannot be used.
    pub async fn open(path: &Path, durability: Durability, schema: MigrationSet) -> Result<Self, DbError> {
        Ok(Self::Sqlite(SqliteDb::open(path, durability, schema).await?))
    }

    /// Connects to the server and brings its schema up to date; several instances may do so at once. One that is away is waited for, for
    /// `config.start_timeout`. Its connections stand behind a gate of `pools`.
    ///
    /// # Errors
    /// [`DbError::Away`] when it cannot be reached by then, [`DbError::Migrate`] when its schema cannot be used,
    /// [`DbError::Unfit`] when server or login are.
    pub async fn connect(config: &DatabaseConfig, pools: &Pools) -> Result<Self, DbError> {
        Ok(Self::Postgres(PostgresDb::connect(config, pools).await?))
    }

    /// Asks the server what it is, by both of its addresses, and changes nothing.
    ///
    /// # Errors
    /// [`DbError::Away`], [`DbError::Unfit`].
    pub async fn probe(config: &DatabaseConfig) -> Result<String, DbError> {
        postgres::probe(config).await
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn check(&self) -> Result<(), DbError> {
        match self {
            Self::Sqlite(db) => db.check().await,
            Self::Postgres(db) => db.check().await,
        }
    }

    /// Finishes what is queued and closes the connections.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(db) => db.close().await,
            Self::Postgres(db) => db.close().await,
        }
    }
}
