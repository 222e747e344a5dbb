//! Tasks of many callers, stored in groups: what comes while one group is being written is the next. A caller alone waits for
//! nobody, and nobody is told that a task is stored before it is.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::enqueue::{CHUNK, insert};
use crate::db::{DbError, PostgresDb, Purpose};
use crate::tasks::new_task::Checked;

/// A task, and who waits for it to be stored.
type Incoming = (Checked, oneshot::Sender<Result<(), DbError>>);

/// Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub(in crate::tasks) struct Intake {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Incoming>,
    is_written: bool,
}

impl Intake {
    /// Stores a task that no other may stand in the way of. Whoever waits no more does not stop the storing.
    pub(in crate::tasks) async fn store(&self, db: &PostgresDb, task: Checked, aging_ms: i64) -> Result<(), DbError> {
        debug_assert!(task.is_plain(), "a key is looked up in a transaction of its own");
        let (sender, told) = oneshot::channel();
        let is_first = {
            let mut state = self.state();
            state.waiting.push((task, sender));
            !std::mem::replace(&mut state.is_written, true)
        };
        if is_first {
            tokio::spawn(self.clone().write(db.clone(), aging_ms));
        }
        told.await.unwrap_or(Err(DbError::Closed))
    }

    /// One group after the other, until nothing waits.
    async fn write(self, db: PostgresDb, aging_ms: i64) {
        while let Some(group) = self.next() {
            let (tasks, told): (Vec<_>, Vec<_>) = group.into_iter().unzip();
            let stored = insert_all(&db, &tasks, aging_ms).await;
            if let (Err(DbError::Sql(_)), 2..) = (&stored, tasks.len()) {
                // Only the one that is at fault is to fail.
                for (task, told) in tasks.iter().zip(told) {
                    let _ = told.send(insert_all(&db, std::slice::from_ref(task), aging_ms).await);
                }
                continue;
            }
            for told in told {
                let _ = told.send(stored.as_ref().copied().map_err(same));
            }
        }
    }

    fn next(&self) -> Option<Vec<Incoming>> {
        let mut state = self.state();
        state.is_written = !state.waiting.is_empty();
        let count = state.waiting.len().min(CHUNK);
        state.is_written.then(|| state.waiting.drain(..count).collect())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn insert_all(db: &PostgresDb, tasks: &[Checked], aging_ms: i64) -> Result<(), DbError> {
    let mut tx = db.system(Purpose::Tasks).await?;
    insert(&mut tx, &tasks.iter().collect::<Vec<_>>(), aging_ms).await?;
    tx.commit().await
}

/// What befell a group, for each of it.
fn same(error: &DbError) -> DbError {
    match error {
        DbError::Busy => DbError::Busy,
        DbError::Closed => DbError::Closed,
        DbError::TooLong => DbError::TooLong,
        DbError::Commit(why) => DbError::Commit(why.clone()),
        DbError::Away(error) => DbError::Away(sqlx::Error::Io(io::Error::other(error.to_string()))),
        DbError::Sql(error) => DbError::Sql(sqlx::Error::Protocol(error.to_string())),
        DbError::Migrate(_) | DbError::Unfit(_) => DbError::Unfit(error.to_string()),
    }
}
