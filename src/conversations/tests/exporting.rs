//! Exports: all of it, once, a page at a time.

use futures_util::TryStreamExt;
use serde_json::Value;

use super::*;
use crate::db::tests::contract;
use crate::db::{PostgresDb, SqliteDb};

contract!(
    json_holds_every_message_of_every_branch_once,
    markdown_is_the_selected_branch_or_the_one_named,
    a_conversation_deleted_meanwhile_is_no_whole_file,
    a_long_conversation_comes_a_page_at_a_time,
);

impl Store {
    async fn pieces(&self, id: Uuid, format: ExportFormat, leaf: Option<Uuid>) -> Vec<String> {
        let (_, pieces) = self.conversations.export("t", id, format, leaf).await.unwrap();
        pieces.try_collect().await.unwrap()
    }

    /// Messages of a conversation of tenant "t" that follow each other, with little effort.
    async fn insert_chain(&self, id: Uuid, count: i64) {
        match &self.db {
            Db::Sqlite(db) => insert_chain_in_sqlite(db, id, count).await,
            Db::Postgres(db) => insert_chain_in_postgres(db, id, count).await,
        }
    }

    async fn exported(&self, id: Uuid) -> Value {
        serde_json::from_str(&self.pieces(id, ExportFormat::Json, None).await.concat()).unwrap()
    }
}

async fn insert_chain_in_sqlite(db: &SqliteDb, id: Uuid, count: i64) {
    let insert = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?2) \
         INSERT INTO messages (id, tenant, conversation, parent, role, state, content, created_at) \
         SELECT printf('01890000-0000-7000-8000-%012x', n), 't', ?1, \
                CASE n WHEN 1 THEN NULL ELSE printf('01890000-0000-7000-8000-%012x', n - 1) END, \
                CASE n % 2 WHEN 1 THEN 'user' ELSE 'assistant' END, 'complete', 'number ' || n || '.', 1 \
         FROM numbers";
    let leaf = "UPDATE conversations SET leaf = (SELECT max(id) FROM messages) WHERE id = ?1";
    let written = db.write(move |tx| {
        Box::pin(async move {
            sqlx::query(insert).bind(id.to_string()).bind(count).execute(&mut *tx).await?;
            sqlx::query(leaf).bind(id.to_string()).execute(tx).await.map(drop)
        })
    });
    written.await.unwrap();
}

async fn insert_chain_in_postgres(db: &PostgresDb, id: Uuid, count: i64) {
    let insert = "WITH numbers AS (SELECT n, ('01890000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid AS id \
                         FROM generate_series(1, $2) AS n), \
         said AS (INSERT INTO messages (id, tenant, conversation, parent, role, state, content, created_at) \
             SELECT id, 't', $1, lag(id) OVER (ORDER BY n), CASE n % 2 WHEN 1 THEN 'user' ELSE 'assistant' END, 'complete', \
                    'number ' || n || '.', 1 FROM numbers RETURNING tenant, conversation, id) \
         INSERT INTO texts SELECT tenant, conversation, id, ish_words(tenant, '''number''') FROM said";
    let leaf = "UPDATE conversations SET leaf = (SELECT id FROM messages ORDER BY id DESC LIMIT 1) WHERE id = $1";
    let mut tx = db.write("t").await.unwrap();
    tx.execute(sqlx::query(insert).bind(id).bind(count)).await.unwrap();
    tx.execute(sqlx::query(leaf).bind(id)).await.unwrap();
    tx.commit().await.unwrap();
}

async fn json_holds_every_message_of_every_branch_once(database: TestDb) {
    let store = &Store::new(database).await;
    let steps = prop::collection::vec((0_usize..3, any::<prop::sample::Index>(), "\\PC{1,20}"), 0..60);
    holds(16, steps, |steps| async move {
        let mut answers = vec![store.say("t", None, "root \"#\u{0}\n```", "to root").await];
        let id = answers[0].conversation;
        for (kind, at, text) in &steps {
            let chosen = *at.get(&answers);
            let parent = [Parent::Start, Parent::Selected, Parent::Message(chosen.reply)][*kind];
            let begun = store.ask("t", NewTurn { conversation: Some(id), parent, ..turn(text) }).await;
            store.conversations.finish("t", begun.reply, outcome(text)).await.unwrap();
            answers.push(begun);
        }
        let exported = store.exported(id).await;
        let mut stored = store.conversations.messages("t", id, slice(200), None).await.unwrap().data;
        assert_eq!(stored.len(), 2 + 2 * steps.len());
        stored.sort_by_key(|message| message.id);
        assert_eq!(exported["messages"], serde_json::json!(stored));
        assert_eq!(exported["session"]["messages"], stored.len());
    });
}

async fn markdown_is_the_selected_branch_or_the_one_named(database: TestDb) {
    let store = Store::new(database).await;
    let one = store.say("t", None, "What is *one*?", "The first.\n").await;
    let edited = NewTurn { conversation: Some(one.conversation), parent: Parent::Start, ..turn("What is two?") };
    let two = store.ask("t", edited).await;
    let cut = Outcome { state: MessageState::Cancelled, ..outcome("The sec") };
    store.conversations.finish("t", two.reply, cut).await.unwrap();
    let selected = store.pieces(one.conversation, ExportFormat::Markdown, None).await.concat();
    let text =
        "# What is *one*?\n\n## You\n\nWhat is two?\n\n## Answer of mock\n\nThe sec\n\n*(stopped by its reader)*\n";
    assert_eq!(selected, text);
    let named = store.pieces(one.conversation, ExportFormat::Markdown, Some(one.reply)).await.concat();
    assert_eq!(named, "# What is *one*?\n\n## You\n\nWhat is *one*?\n\n## Answer of mock\n\nThe first.\n");
    let empty = store.conversations.create("t", Some("Nothing yet")).await.unwrap().id;
    assert_eq!(store.pieces(empty, ExportFormat::Markdown, None).await.concat(), "# Nothing yet\n");
    assert_eq!(store.exported(empty).await["messages"], serde_json::json!([]));
    let theirs = store.conversations.export("u", empty, ExportFormat::Json, None).await.err().unwrap();
    assert!(matches!(theirs, ConversationError::NotFound(_)));
}

async fn a_conversation_deleted_meanwhile_is_no_whole_file(database: TestDb) {
    let store = Store::new(database).await;
    for format in [ExportFormat::Json, ExportFormat::Markdown] {
        let id = store.say("t", None, "one", "to one").await.conversation;
        let (_, pieces) = store.conversations.export("t", id, format, None).await.unwrap();
        let mut pieces = std::pin::pin!(pieces);
        assert!(pieces.try_next().await.unwrap().is_some(), "its head");
        store.conversations.delete("t", id).await.unwrap();
        assert!(matches!(pieces.try_next().await, Err(ConversationError::NotFound(_))), "{format:?}");
    }
}

/// A long conversation comes whole, in pieces of at most a page each, pulled one by one. On a server it is less long: each page is
/// three messages there and back.
async fn a_long_conversation_comes_a_page_at_a_time(database: TestDb) {
    let store = Store::new(database).await;
    let count_of_messages: usize = match store.db {
        Db::Sqlite(_) => 100_000,
        Db::Postgres(_) => 10_000,
    };
    let id = store.conversations.create("t", Some("Long")).await.unwrap().id;
    store.insert_chain(id, count_of_messages as i64).await;
    let per_message = 500;
    for format in [ExportFormat::Json, ExportFormat::Markdown] {
        let (_, pieces) = store.conversations.export("t", id, format, None).await.unwrap();
        let mut pieces = std::pin::pin!(pieces);
        let (mut whole, mut count) = (String::new(), 0);
        while let Some(piece) = pieces.try_next().await.unwrap() {
            assert!(piece.len() <= 32 * per_message, "{} bytes at once", piece.len());
            whole.push_str(&piece);
            count += 1;
        }
        assert!(count > count_of_messages / 32);
        let said = match format {
            ExportFormat::Json => {
                let whole: Value = serde_json::from_str(&whole).unwrap();
                let messages = whole["messages"].as_array().unwrap();
                messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
            }
            ExportFormat::Markdown => {
                whole.lines().filter(|line| line.starts_with("number ")).map(str::to_owned).collect()
            }
        };
        assert!(said.iter().enumerate().all(|(at, text)| *text == format!("number {}.", at + 1)));
        assert_eq!(said.len(), count_of_messages);
    }
    let message = format!("01890000-0000-7000-8000-{count_of_messages:012x}").parse().unwrap();
    let window = store.window(message, 20).await;
    assert_eq!((window.len(), window[0].as_str()), (20, format!("number {}.", count_of_messages - 19).as_str()));

    // From its end to its beginning, and down again.
    let far = Slice::new(Some(2), Some(count_of_messages - 2)).unwrap();
    let first = store.conversations.branch("t", id, None, far, None).await.unwrap().data.remove(0);
    assert_eq!(first.content, "number 1.");
    store.conversations.select("t", id, first.id).await.unwrap();
    assert_eq!(store.conversations.get("t", id).await.unwrap().leaf, Some(message));

    // Deleting it lets others write meanwhile.
    let conversations = store.conversations.clone();
    let deleting = tokio::spawn(async move { conversations.delete("t", id).await });
    store.say("t", None, "Is there room?", "Yes.").await;
    assert!(!deleting.is_finished(), "a question is stored before all of it is gone");
    deleting.await.unwrap().unwrap();
    assert!(matches!(store.conversations.get("t", id).await, Err(ConversationError::NotFound(_))));
}
