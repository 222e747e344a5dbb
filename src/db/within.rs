//! A transaction of either store, for what is written together with its caller's own rows.

use sqlx::SqliteConnection;

use super::Transaction;

/// What a caller has begun: the connection that [`super::SqliteDb::write`] gives its closure, or a [`Transaction`].
#[derive(Debug)]
pub enum Within<'t> {
    /// In a file: the closure's error undoes all that it wrote.
    File(&'t mut SqliteConnection),
    /// On a server: what is not committed is undone.
    Server(&'t mut Transaction),
}

impl<'t> From<&'t mut SqliteConnection> for Within<'t> {
    fn from(connection: &'t mut SqliteConnection) -> Self {
        Self::File(connection)
    }
}

impl<'t> From<&'t mut Transaction> for Within<'t> {
    fn from(transaction: &'t mut Transaction) -> Self {
        Self::Server(transaction)
    }
}
