//! Which processes share the database: each says that it lives, and one that no longer does is dead to the others. What
//! follows from that is theirs who own it (`streams`: the answers of the dead). A file has one process, and needs none of
//! this.

mod postgres;
#[cfg(test)]
mod tests;

use std::time::Duration;

use uuid::Uuid;

use crate::db::{Db, DbError, PostgresDb};

/// One process, from its start to its end.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Of this start alone.
    pub id: Uuid,
    /// Of its place: a later start under this name follows it.
    pub name: String,
    /// Where it listens.
    pub address: String,
}

/// What a sign of life found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// How many processes live, this one among them.
    pub living: u64,
    /// Whether this one was not among them before: it starts, or had been taken for dead.
    pub is_new: bool,
}

/// The processes that share a Postgres, as one of them sees them.
#[derive(Debug, Clone)]
pub struct Instances {
    db: PostgresDb,
    own: Instance,
    lease: Duration,
}

impl Instances {
    /// `own` among those on `db`; without a sign of life for `lease`, one is dead. `None` where `db` is a file.
    pub fn new(db: &Db, own: Instance, lease: Duration) -> Option<Self> {
        let Db::Postgres(db) = db else { return None };
        Some(Self { db: db.clone(), own, lease })
    }

    /// Says that this process lives, and forgets those that are dead.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn beat(&self, draining: bool) -> Result<Beat, DbError> {
        postgres::beat(&self.db, &self.own, draining, self.lease).await
    }

    /// Takes the earlier starts under this process's name for dead at once.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn supersede(&self) -> Result<u64, DbError> {
        postgres::supersede(&self.db, &self.own).await
    }

    /// Says that this process is no more.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn leave(&self) -> Result<(), DbError> {
        postgres::leave(&self.db, self.own.id).await
    }
}
