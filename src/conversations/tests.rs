//! The store's promises, on each database; what only files and what only a server must keep.

mod branching;
mod exporting;
mod files;
mod paging;
mod replica;
mod searching;
mod server;
mod turns;

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::db::MigrationSet;
use crate::db::tests::TestDb;

/// A store on a database of its own, at a time that stands still.
struct Store {
    db: Db,
    conversations: Conversations,
    clock: Clock,
    /// Goes last.
    database: TestDb,
}

impl Store {
    async fn new(database: TestDb) -> Self {
        let db = database.open(MigrationSet::ISH).await;
        let clock = Clock::manual(1_700_000_000_000);
        Self { conversations: Conversations::new(db.clone(), clock.clone()), db, clock, database }
    }

    /// Another instance on the same database.
    async fn beside(&self) -> Conversations {
        Conversations::new(self.database.open(MigrationSet::ISH).await, self.clock.clone())
    }

    /// A question and its whole answer; in a new conversation where none is named.
    async fn say(&self, tenant: &str, conversation: Option<Uuid>, question: &str, answer: &str) -> BegunTurn {
        let begun = self.ask(tenant, NewTurn { conversation, ..turn(question) }).await;
        self.conversations.finish(tenant, begun.reply, outcome(answer)).await.unwrap();
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

fn new_tenant() -> String {
    new_id().to_string()
}

/// Holds a property, whose cases share a database: each takes a tenant or a conversation of its own.
fn holds<S: Strategy, F: Future<Output = ()>>(cases: u32, values: S, property: impl Fn(S::Value) -> F) {
    let runtime = tokio::runtime::Handle::current();
    let mut runner = TestRunner::new(ProptestConfig::with_cases(cases));
    let held = tokio::task::block_in_place(|| {
        runner.run(&values, |value| {
            runtime.block_on(property(value));
            Ok(())
        })
    });
    held.unwrap_or_else(|broken| panic!("{broken}"));
}
