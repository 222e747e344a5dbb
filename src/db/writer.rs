//! The one writer of a SQLite file, with group commit: what waits is run in one transaction, each piece of work in a
//! savepoint of its own, and acknowledged only after the commit.

use std::sync::Arc;

use fail::fail_point;
use futures_util::future::BoxFuture;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::DbError;

/// Writes that may wait; beyond it the caller is told that the database is busy.
const QUEUE: usize = 4096;

/// Most pieces of work in one commit: bounds how long the first of them waits for its acknowledgement.
const GROUP: usize = 128;

/// Says to a waiting caller what became of the commit that its work was part of.
type Acknowledge = Box<dyn FnOnce(Result<(), DbError>) + Send>;

/// One caller's work: runs inside the transaction, and tells whether it succeeded.
type Job = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, (bool, Acknowledge)> + Send>;

#[derive(Debug, Clone)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    closing: mpsc::Sender<()>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Writer {
    pub(super) fn start(connection: SqliteConnection) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (closing, closed) = mpsc::channel(1);
        let task = tokio::spawn(run(connection, queue, closed));
        Self { jobs, closing, thread: Arc::new(Mutex::new(Some(task))) }
    }

    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            Box::pin(async move {
                let result = work(connection).await;
                let succeeded = result.is_ok();
                let acknowledge: Acknowledge = Box::new(move |committed| {
                    // The caller may have gone: its work is done all the same.
                    let _ = sender.send(result.map_err(DbError::from).and_then(|value| committed.map(|()| value)));
                });
                (succeeded, acknowledge)
            })
        });
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => DbError::Busy,
            mpsc::error::TrySendError::Closed(_) => DbError::Closed,
        })?;
        receiver.await.map_err(|_| DbError::Closed)?
    }

    pub(super) async fn close(&self) {
        // Full means that a close is under way already.
        let _ = self.closing.try_send(());
        if let Some(task) = self.thread.lock().await.take() {
            let _ = task.await;
        }
    }
}

async fn run(mut connection: SqliteConnection, mut queue: mpsc::Receiver<Job>, mut closed: mpsc::Receiver<()>) {
    let mut group = Vec::with_capacity(GROUP);
    loop {
        tokio::select! {
            biased;
            taken = queue.recv_many(&mut group, GROUP) => if taken == 0 { break },
            _ = closed.recv() => queue.close(),
        }
        commit_group(&mut connection, group.drain(..)).await;
    }
    let _ = connection.close().await;
}

async fn commit_group(connection: &mut SqliteConnection, group: impl ExactSizeIterator<Item = Job>) {
    if group.len() == 0 {
        return;
    }
    let mut acknowledgements = Vec::with_capacity(group.len());
    if let Err(error) = sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await {
        // The callers' oneshots are dropped with the jobs and read as closed; the cause is logged here.
        tracing::error!(%error, "a write transaction could not begin");
        return;
    }
    for job in group {
        let _ = sqlx::query("SAVEPOINT work").execute(&mut *connection).await;
        let (succeeded, acknowledge) = job(&mut *connection).await;
        if !succeeded {
            let _ = sqlx::query("ROLLBACK TO work").execute(&mut *connection).await;
        }
        let _ = sqlx::query("RELEASE work").execute(&mut *connection).await;
        acknowledgements.push(acknowledge);
    }
    let committed = sqlx::query("COMMIT").execute(&mut *connection).await.map_err(|error| error.to_string());
    if let Err(error) = &committed {
        tracing::error!(error, "a commit failed");
        let _ = sqlx::query("ROLLBACK").execute(&mut *connection).await;
    }
    fail_point!("commit-before-ack", |_| std::process::abort());
    for acknowledge in acknowledgements {
        let outcome = committed.as_ref().map(|_| ()).map_err(|error| DbError::Commit(error.clone()));
        acknowledge(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Durability, MigrationSet, SqliteDb};
    use super::*;

    async fn key_count(db: &SqliteDb) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM keys").fetch_one(&mut *db.read().await.unwrap()).await.unwrap()
    }

    fn insert(db: &SqliteDb, id: &'static str) -> impl Future<Output = Result<(), DbError>> {
        let db = db.clone();
        async move {
            db.write(move |tx| {
                Box::pin(async move {
                    sqlx::query(
                        "INSERT INTO keys (id, hash, name, tenant, role, hint, created_at) \
                         VALUES (?1, CAST(?1 AS BLOB), 'n', 't', 'user', '', 0)",
                    )
                    .bind(id)
                    .execute(tx)
                    .await
                    .map(drop)
                })
            })
            .await
        }
    }

    #[tokio::test]
    async fn one_failing_piece_of_work_does_not_undo_its_group() {
        let folder = tempfile::tempdir().unwrap();
        let db = SqliteDb::open(&folder.path().join("ish.db"), Durability::Full, MigrationSet::ISH).await.unwrap();
        let (first, twin, other) = tokio::join!(insert(&db, "a"), insert(&db, "a"), insert(&db, "b"));
        assert!(first.is_ok() && other.is_ok());
        assert!(matches!(twin, Err(DbError::Sql(_))));
        assert_eq!(key_count(&db).await, 2);
        db.close().await;
        assert!(matches!(insert(&db, "c").await, Err(DbError::Closed)));
    }
}
