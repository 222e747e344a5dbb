//! Search: what is found, by whom, and that no input is a fault.

use proptest::prelude::*;

use super::*;

impl Store {
    async fn found(&self, tenant: &str, words: &str) -> Vec<Found> {
        self.conversations.search(tenant, &SearchQuery::parse(words), Slice::default()).await.unwrap().data
    }

    async fn found_ids(&self, tenant: &str, words: &str) -> Vec<Uuid> {
        self.found(tenant, words).await.into_iter().map(|found| found.conversation.id).collect()
    }

    /// Has FTS5 compare its index with the texts, and returns how many there are.
    async fn checked_texts(&self) -> i64 {
        self.execute("INSERT INTO search (search, rank) VALUES ('integrity-check', 1)").await;
        sqlx::query_scalar("SELECT count(*) FROM texts").fetch_one(&mut *self.db.read().await.unwrap()).await.unwrap()
    }
}

#[tokio::test]
async fn titles_questions_and_answers_are_found_and_marked() {
    let store = Store::new().await;
    let tides = store.say("t", None, "What causes spring tides?", "The Moon and the Sun pull together.").await;
    let bread = store.say("t", None, "Why does dough rise?", "Yeast makes gas. Übung hilft.").await.conversation;
    assert_eq!(store.found_ids("t", "moon").await, [tides.conversation]);
    assert_eq!(store.found_ids("t", "dough").await, [bread]);
    assert_eq!(store.found_ids("t", "ubung").await, [bread], "accents are forgiven");
    assert_eq!(store.found_ids("t", "moon yeast").await, [] as [Uuid; 0], "a text holds every word");
    assert_eq!(store.found_ids("t", "\"sun pull\"").await, [tides.conversation]);
    assert_eq!(store.found_ids("t", "\"pull sun\"").await, [] as [Uuid; 0]);
    assert_eq!(store.found_ids("t", "toge").await, [tides.conversation], "the word that is being typed");
    assert_eq!(store.found_ids("t", "toge ").await, [] as [Uuid; 0]);

    let found = store.found("t", "moon").await.remove(0);
    assert_eq!((found.r#match.message, found.r#match.role.as_deref()), (Some(tides.reply), Some("assistant")));
    assert_eq!(found.r#match.texts, 1);
    let marked: Vec<_> = found.r#match.snippet.iter().filter(|part| part.hit).map(|part| part.text.as_str()).collect();
    assert_eq!(marked, ["Moon"]);

    store.conversations.rename("t", bread, "Baking at home").await.unwrap();
    let found = store.found("t", "baking").await.remove(0);
    assert_eq!((found.conversation.id, found.r#match.message), (bread, None), "the title itself");
}

#[tokio::test]
async fn the_best_comes_first_and_pages_go_on() {
    let store = Store::new().await;
    let filler = "and many other words that only make this answer longer ".repeat(20);
    let weak = store.say("t", None, "A question", &format!("{filler} glacier {filler}")).await.conversation;
    let strong = store.say("t", None, "Glacier", "Glacier, glacier.").await.conversation;
    assert_eq!(store.found_ids("t", "glacier").await, [strong, weak]);
    let query = SearchQuery::parse("glacier");
    let first = store.conversations.search("t", &query, slice(1)).await.unwrap();
    assert_eq!((first.data[0].conversation.id, first.next_offset), (strong, Some(1)));
    let second = Slice::new(Some(1), Some(1)).unwrap();
    let second = store.conversations.search("t", &query, second).await.unwrap();
    assert_eq!((second.data[0].conversation.id, second.next_offset), (weak, None));
}

/// Snippets by FTS5 took minutes for such a text, of every connection that there was.
#[tokio::test]
async fn a_search_for_what_is_everywhere_ends_and_lets_others_read() {
    let store = Store::new().await;
    store.say("t", None, "A question", &"a b ".repeat(20_000)).await;
    let query = SearchQuery::parse(r#"a b "a b" "b a" "a b a" "b a b" "a b a b" "b a b a" "a b a b a""#);
    let searches = (0..6).map(|_| store.conversations.search("t", &query, Slice::default()));
    let searches = tokio::time::timeout(Duration::from_mins(1), futures_util::future::join_all(searches));
    let (searched, other) = tokio::join!(searches, store.conversations.list("u", Slice::default(), None));
    assert!(other.unwrap().data.is_empty());
    for found in searched.expect("every search ends") {
        match found {
            Ok(found) => assert!(found.data[0].r#match.snippet.iter().any(|part| part.hit), "{found:?}"),
            Err(error) => assert!(matches!(error, ConversationError::Store(DbError::TooLong)), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn nobody_finds_what_is_anothers() {
    let store = Store::new().await;
    for tenant in ["a", "b", "a-b", "a b", "A"] {
        store.say(tenant, None, &format!("secret of {}", tenant.escape_unicode()), "glacier").await;
    }
    for tenant in ["a", "b", "a-b", "a b", "A"] {
        assert_eq!(store.found(tenant, "glacier").await.len(), 1, "{tenant}");
    }
    for words in ["glacier", "secret", "61", "tenant", "tenant : 61", "\" OR tenant : \"61"] {
        assert_eq!(store.found("nobody", words).await.len(), 0, "{words}");
    }
}

fn progress(text: &str) -> Progress {
    Progress { content: text.to_owned(), seq: 1, epoch: 1, ..Progress::default() }
}

#[tokio::test]
async fn the_index_follows_every_change() {
    let store = Store::new().await;
    let begun = store.ask("t", turn("What is a running answer?")).await;
    store.conversations.checkpoint(begun.reply, progress("halfway zebra")).await.unwrap();
    assert_eq!(store.found("t", "zebra").await.len(), 0, "an answer is found once it has ended");
    store.conversations.finish(begun.reply, outcome("the zebra stands")).await.unwrap();
    assert_eq!(store.found("t", "zebra").await.len(), 1);
    assert_eq!(store.checked_texts().await, 3, "the title, the question, the answer");

    let cut = store.ask("t", NewTurn { conversation: Some(begun.conversation), ..turn("And again?") }).await;
    store.conversations.checkpoint(cut.reply, progress("a quagga")).await.unwrap();
    store.conversations.interrupt_unfinished().await.unwrap();
    assert_eq!(store.found("t", "quagga").await.len(), 1, "what a restart cut is found as far as it came");

    store.conversations.rename("t", begun.conversation, "Stripes").await.unwrap();
    assert_eq!(store.found("t", "stripes").await.len(), 1);
    assert_eq!(store.checked_texts().await, 5);

    let running = store.ask("t", NewTurn { conversation: Some(begun.conversation), ..turn("Once more?") }).await;
    store.conversations.delete("t", begun.conversation).await.unwrap();
    store.conversations.finish(running.reply, outcome("too late")).await.unwrap();
    assert_eq!(store.found("t", "stripes").await.len(), 0);
    assert_eq!(store.checked_texts().await, 0, "nothing is left behind");
}

#[tokio::test]
async fn a_database_of_the_first_schema_is_searched_too() {
    let old = Store::open(tempfile::tempdir().unwrap(), MigrationSet::ISH.oldest(1)).await;
    old.execute(
        "INSERT INTO conversations VALUES ('01890000-0000-7000-8000-000000000001', 't', 'Old tides', 'm', 1, 2);
         INSERT INTO messages (id, tenant, conversation, parent, role, state, content, created_at) VALUES
         ('01890000-0000-7000-8000-000000000002', 't', '01890000-0000-7000-8000-000000000001', NULL, 'system', 'complete', 'Be short about narwhals.', 1),
         ('01890000-0000-7000-8000-000000000003', 't', '01890000-0000-7000-8000-000000000001', '01890000-0000-7000-8000-000000000002', 'user', 'complete', 'Why tides?', 1),
         ('01890000-0000-7000-8000-000000000004', 't', '01890000-0000-7000-8000-000000000001', '01890000-0000-7000-8000-000000000003', 'assistant', 'streaming', 'The old Moon', 1);",
    )
    .await;
    let store = old.updated().await;
    assert_eq!(store.checked_texts().await, 2);
    store.conversations.interrupt_unfinished().await.unwrap();
    assert_eq!(store.checked_texts().await, 3, "what was being answered then is found too");
    let found = store.found("t", "moon").await.remove(0);
    assert_eq!((found.conversation.title.as_str(), found.conversation.messages), ("Old tides", 3));
    assert_eq!(store.found("t", "narwhals").await.len(), 0, "instructions are no part of the talk");
    assert_eq!(store.found("u", "moon").await.len(), 0);
}

#[test]
fn no_words_are_a_fault() {
    let (store, first) = block_on(async {
        let store = Store::new().await;
        let first = store.say("t", None, "AND OR NOT NEAR", "a* ^b \"c\" {d} e:f (g) -h +i").await.conversation;
        (store, first)
    });
    let grammar = prop::sample::select(vec![
        "\"", "*", "^", "(", ")", "{", "}", ":", "-", "+", "AND", "OR", "NOT", "NEAR(", "NEAR/2", ",", "\0", "'",
        "text:", "tenant :", "\u{301}", "漢字", "a", "b", " ", "\u{2}", "\u{e000}", "²",
    ]);
    let words = prop_oneof![
        any::<String>(),
        prop::collection::vec(grammar, 0..12).prop_map(|parts| parts.concat()),
        "\\PC{0,60}",
    ];
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(600));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runner
        .run(&words, |words| {
            let query = SearchQuery::parse(&words);
            let found = runtime.block_on(store.conversations.search("t", &query, slice(10)));
            if query.check().is_err() {
                prop_assert!(matches!(found, Err(ConversationError::Invalid(_))), "{words:?}: {found:?}");
                return Ok(());
            }
            let found = found.map_err(|error| TestCaseError::fail(format!("{words:?}: {error:?}")))?;
            prop_assert!(found.data.iter().all(|found| found.conversation.id == first));
            Ok(())
        })
        .unwrap();
}
