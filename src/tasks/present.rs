//! Which processes run tasks, and how busy they are: each says that it does, and is forgotten when it has been silent for a
//! lease.

use serde::Serialize;
use uuid::Uuid;

use super::{Queue, TaskError, postgres, sqlite};
use crate::db::{DbError, query};

/// A process that runs tasks, from one start to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Worker {
    /// Of this start alone; what its tasks name.
    pub id: Uuid,
    /// What people call the process.
    pub name: String,
    /// When it began, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// When it last said that it lives.
    pub seen_at_ms: u64,
    /// How many tasks it would run at once by now.
    pub room: u32,
    /// How many it runs.
    pub running: u32,
    /// Whether it claims nothing more, and ends.
    pub is_draining: bool,
}

/// What a process says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sign {
    pub id: Uuid,
    pub name: String,
    pub room: u32,
    pub is_draining: bool,
    /// For how long this is good.
    pub lease_ms: i64,
}

impl Queue {
    /// The processes that run tasks, by their names.
    ///
    /// # Errors
    /// [`TaskError::Store`].
    pub async fn workers(&self) -> Result<Vec<Worker>, TaskError> {
        Ok(query!(&self.inner.db, workers())?)
    }

    /// A process lives, and those that have been silent for a lease are forgotten.
    pub(super) async fn sign(&self, sign: Sign) -> Result<(), DbError> {
        query!(&self.inner.db, sign(sign))
    }

    /// A process runs no tasks any more.
    pub(super) async fn leave(&self, worker: Uuid) -> Result<(), DbError> {
        query!(&self.inner.db, leave(worker))
    }
}
