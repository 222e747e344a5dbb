//! Exports: all of it, once, a page at a time.

use futures_util::TryStreamExt;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

impl Store {
    async fn pieces(&self, id: Uuid, format: ExportFormat, leaf: Option<Uuid>) -> Vec<String> {
        let (_, pieces) = self.conversations.export("t", id, format, leaf).await.unwrap();
        pieces.try_collect().await.unwrap()
    }

    async fn exported(&self, id: Uuid) -> Value {
        serde_json::from_str(&self.pieces(id, ExportFormat::Json, None).await.concat()).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn json_holds_every_message_of_every_branch_once(
        steps in prop::collection::vec((0_usize..3, any::<prop::sample::Index>(), "\\PC{1,20}"), 0..60),
    ) {
        block_on(async {
            let store = Store::new().await;
            let mut answers = vec![store.say("t", None, "root \"#\u{0}\n```", "to root").await];
            let id = answers[0].conversation;
            for (kind, at, text) in &steps {
                let chosen = *at.get(&answers);
                let parent = [Parent::Start, Parent::Selected, Parent::Message(chosen.reply)][*kind];
                let begun = store.ask("t", NewTurn { conversation: Some(id), parent, ..turn(text) }).await;
                store.conversations.finish(begun.reply, outcome(text)).await.unwrap();
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
}

#[tokio::test]
async fn markdown_is_the_selected_branch_or_the_one_named() {
    let store = Store::new().await;
    let one = store.say("t", None, "What is *one*?", "The first.\n").await;
    let edited = NewTurn { conversation: Some(one.conversation), parent: Parent::Start, ..turn("What is two?") };
    let two = store.ask("t", edited).await;
    let cut = Outcome { state: MessageState::Cancelled, ..outcome("The sec") };
    store.conversations.finish(two.reply, cut).await.unwrap();
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

#[tokio::test]
async fn a_conversation_deleted_meanwhile_is_no_whole_file() {
    for format in [ExportFormat::Json, ExportFormat::Markdown] {
        let store = Store::new().await;
        let id = store.say("t", None, "one", "to one").await.conversation;
        let (_, pieces) = store.conversations.export("t", id, format, None).await.unwrap();
        let mut pieces = std::pin::pin!(pieces);
        assert!(pieces.try_next().await.unwrap().is_some(), "its head");
        store.conversations.delete("t", id).await.unwrap();
        assert!(matches!(pieces.try_next().await, Err(ConversationError::NotFound(_))), "{format:?}");
    }
}

/// A conversation of 100,000 messages comes whole, in pieces of at most a page each, pulled one by one.
#[tokio::test]
async fn a_hundred_thousand_messages_come_a_page_at_a_time() {
    const MESSAGES: usize = 100_000;
    let store = Store::new().await;
    let id = store.conversations.create("t", Some("Long")).await.unwrap().id;
    let name = id.to_string();
    store
        .db
        .write(move |tx| {
            Box::pin(async move {
                sqlx::query(
                    "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?2) \
                     INSERT INTO messages (id, tenant, conversation, parent, role, state, content, created_at) \
                     SELECT printf('01890000-0000-7000-8000-%012x', n), 't', ?1, \
                            CASE n WHEN 1 THEN NULL ELSE printf('01890000-0000-7000-8000-%012x', n - 1) END, \
                            CASE n % 2 WHEN 1 THEN 'user' ELSE 'assistant' END, 'complete', 'number ' || n || '.', 1 \
                     FROM numbers",
                )
                .bind(&name)
                .bind(MESSAGES as i64)
                .execute(&mut *tx)
                .await?;
                let query = sqlx::query("UPDATE conversations SET leaf = (SELECT max(id) FROM messages) WHERE id = ?1");
                query.bind(&name).execute(tx).await.map(drop)
            })
        })
        .await
        .unwrap();
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
        assert!(count > MESSAGES / 32);
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
        assert_eq!(said.len(), MESSAGES);
    }
    let message = "01890000-0000-7000-8000-0000000186a0".parse().unwrap();
    let window = store.conversations.history("t", message, 20).await.unwrap();
    assert_eq!((window.len(), window[0].1.as_str()), (20, "number 99981."));

    // Deleting it lets others write meanwhile.
    let conversations = store.conversations.clone();
    let deleting = tokio::spawn(async move { conversations.delete("t", id).await });
    store.say("t", None, "Is there room?", "Yes.").await;
    assert!(!deleting.is_finished(), "a question is stored before all of it is gone");
    deleting.await.unwrap().unwrap();
    assert!(matches!(store.conversations.get("t", id).await, Err(ConversationError::NotFound(_))));
}
