//! The store's promises, against a database of its own each.

mod branching;
mod exporting;
mod paging;
mod searching;

use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::db::{Durability, MigrationSet, SqliteDb};

/// A store on a file of its own, at a time that stands still.
struct Store {
    folder: TempDir,
    db: SqliteDb,
    conversations: Conversations,
    clock: Clock,
}

impl Store {
    async fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap(), MigrationSet::ISH).await
    }

    async fn open(folder: TempDir, schema: MigrationSet) -> Self {
        let db = SqliteDb::open(&folder.path().join("ish.db"), Durability::Normal, schema).await.unwrap();
        let clock = Clock::manual(1_700_000_000_000);
        Self { folder, conversations: Conversations::new(db.clone(), clock.clone()), db, clock }
    }

    /// The same file, brought up to date.
    async fn updated(self) -> Self {
        self.db.close().await;
        Self::open(self.folder, MigrationSet::ISH).await
    }

    async fn execute(&self, sql: &'static str) {
        self.db.write(move |tx| Box::pin(async move { sqlx::raw_sql(sql).execute(tx).await.map(drop) })).await.unwrap();
    }

    /// A question and its whole answer; in a new conversation where none is named.
    async fn say(&self, tenant: &str, conversation: Option<Uuid>, question: &str, answer: &str) -> BegunTurn {
        let begun = self.ask(tenant, NewTurn { conversation, ..turn(question) }).await;
        self.conversations.finish(begun.reply, outcome(answer)).await.unwrap();
        begun
    }

    async fn ask(&self, tenant: &str, turn: NewTurn) -> BegunTurn {
        self.clock.advance(Duration::from_millis(1));
        self.conversations.begin(tenant, turn).await.unwrap()
    }
}

fn turn(question: &str) -> NewTurn {
    NewTurn { content: question.to_owned(), model: "mock".to_owned(), ..NewTurn::default() }
}

fn outcome(answer: &str) -> Outcome {
    Outcome {
        state: MessageState::Complete,
        content: answer.to_owned(),
        reasoning: String::new(),
        epoch: 1,
        seq: 1,
        finish_reason: None,
        usage: None,
        cache: None,
        explanation: None,
        error: None,
        elapsed_ms: 1,
    }
}

fn slice(limit: usize) -> Slice {
    Slice::new(Some(limit), None).unwrap()
}

/// Runs a property's future.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}
