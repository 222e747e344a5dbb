//! The store's promises, on each database; what only files and what only a server must keep.

mod branching;
mod exporting;
mod files;
mod owning;
mod paging;
mod replica;
mod searching;
mod server;
mod summarising;
mod turns;

use std::num::NonZeroUsize;
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
    /// This instance, by the name that its answers carry.
    owner: Uuid,
    /// Goes last.
    database: TestDb,
}

impl Store {
    async fn new(database: TestDb) -> Self {
        let db = database.open(MigrationSet::ISH).await;
        let (clock, owner) = (Clock::manual(1_700_000_000_000), new_id());
        Self { conversations: Conversations::new(db.clone(), clock.clone(), owner), db, clock, owner, database }
    }

    /// Another instance on the same database.
    async fn beside(&self) -> Conversations {
        Conversations::new(self.database.open(MigrationSet::ISH).await, self.clock.clone(), new_id())
    }

    /// Another instance, which knows this one to be dead, ends what that was answering.
    async fn interrupt_all(&self) {
        let other = self.beside().await;
        loop {
            let orphans = other.claim(Duration::from_secs(8), 16).await.unwrap();
            if orphans.is_empty() {
                return;
            }
            for orphan in orphans {
                assert!(other.finish(&orphan.tenant, orphan.message.id, orphan.interrupted()).await.unwrap());
            }
        }
    }

    /// A question and its whole answer; in a new conversation where none is named.
    async fn say(&self, tenant: &str, conversation: Option<Uuid>, question: &str, answer: &str) -> BegunTurn {
        let begun = self.ask(tenant, NewTurn { conversation, ..turn(question) }).await;
        assert!(self.conversations.finish(tenant, begun.reply, outcome(answer)).await.unwrap());
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
        elapsed_ms: Some(1),
    }
}

fn slice(limit: usize) -> Slice {
    Slice::new(Some(limit), None).unwrap()
}

fn window(messages: usize, summary_after: usize) -> Window {
    Window { messages: NonZeroUsize::new(messages).unwrap(), summary_after }
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
