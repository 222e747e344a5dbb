//! Tasks in SQLite: one process has the file, and its one writer makes every change a step of its own. Times are by SQLite's
//! clock, as on Postgres by the server's.

/// Milliseconds since the Unix epoch; a macro, since statements are static text.
macro_rules! now_ms {
    () => {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
}

mod enqueue;
mod look;
mod manage;
mod present;
mod work;

use sqlx::Error;
use uuid::Uuid;

pub(super) use enqueue::{enqueue, enqueue_in, move_slot};
pub(super) use look::{counted, list, now_ms, pauses, slots, task, waiting};
pub(super) use manage::{cancel, pause, purge, resume, retry, trim};
pub(super) use present::{leave, sign, workers};
pub(super) use work::{beat, claim, expired, settle};

use super::TaskError;
use super::stored::Unreadable;
use crate::db::DbError;

/// So that a closure of the writer that enqueues can end with `?`: its error undoes what it wrote.
impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Store(DbError::Sql(error)) => error,
            error => Self::Encode(Box::new(error)),
        }
    }
}

fn decoded<T>(read: Result<T, Unreadable>) -> Result<T, Error> {
    read.map_err(Error::Decode)
}

fn parsed(id: &str) -> Result<Uuid, Error> {
    id.parse().map_err(|error| Error::Decode(Box::new(error)))
}
