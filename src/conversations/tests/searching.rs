//! Search: what is found, by whom, and that no input is a fault.

use sqlx::Row;

use super::*;
use crate::db::tests::{Backend, contract};
use crate::db::{PostgresDb, Purpose, SqliteDb};

contract!(
    titles_questions_and_answers_are_found_and_marked,
    the_best_comes_first_and_pages_go_on,
    nobody_finds_what_is_anothers,
    the_index_follows_every_change,
    no_words_are_a_fault,
);

impl Store {
    pub(super) async fn found(&self, tenant: &str, words: &str) -> Vec<Found> {
        self.conversations.search(tenant, &SearchQuery::parse(words), Slice::default()).await.unwrap().data
    }

    async fn found_ids(&self, tenant: &str, words: &str) -> Vec<Uuid> {
        self.found(tenant, words).await.into_iter().map(|found| found.conversation.id).collect()
    }

    /// Has the index compared with the texts, and returns how many there are.
    pub(super) async fn checked_texts(&self) -> i64 {
        match &self.db {
            Db::Sqlite(db) => checked_by_fts5(db).await,
            Db::Postgres(db) => compared_by_words(db).await,
        }
    }
}

/// FTS5 checks its own structure; what stands in the index must be what one made anew of the texts holds.
async fn checked_by_fts5(db: &SqliteDb) -> i64 {
    let begin = "INSERT INTO search (search) VALUES ('integrity-check'); \
         CREATE VIRTUAL TABLE temp.anew USING fts5 (tenant, text, tokenize = 'unicode61 remove_diacritics 2'); \
         CREATE VIRTUAL TABLE temp.held USING fts5vocab (main, search, instance); \
         CREATE VIRTUAL TABLE temp.due USING fts5vocab (temp, anew, instance);";
    let compare = "SELECT count(*) FROM (SELECT * FROM (SELECT * FROM held EXCEPT SELECT * FROM due) \
         UNION ALL SELECT * FROM (SELECT * FROM due EXCEPT SELECT * FROM held))";
    let texts = "SELECT texts.row, lower(hex(conversations.tenant)) AS tenant, \
         iif(message IS NULL, title, content) AS text, packed FROM texts \
         JOIN conversations ON conversations.id = texts.conversation LEFT JOIN messages ON messages.id = texts.message";
    let check = db.write(move |tx| {
        Box::pin(async move {
            sqlx::raw_sql(begin).execute(&mut *tx).await?;
            let texts = sqlx::query(texts).fetch_all(&mut *tx).await?;
            for text in &texts {
                let query = sqlx::query("INSERT INTO anew (rowid, tenant, text) VALUES (?1, ?2, ?3)");
                let query = query.bind(text.get::<i64, _>("row")).bind(text.get::<String, _>("tenant"));
                query.bind(crate::db::packed::text(text, "text", "packed")?).execute(&mut *tx).await?;
            }
            let differences: i64 = sqlx::query_scalar(compare).fetch_one(&mut *tx).await?;
            sqlx::raw_sql("DROP TABLE held; DROP TABLE due; DROP TABLE anew").execute(tx).await?;
            Ok((differences, texts.len() as i64))
        })
    });
    let (differences, texts) = check.await.unwrap();
    assert_eq!(differences, 0, "words of the index and of the texts");
    texts
}

async fn compared_by_words(db: &PostgresDb) -> i64 {
    let texts = "SELECT texts.conversation, message, CASE WHEN message IS NULL THEN title ELSE content END AS text FROM texts \
                 JOIN conversations ON conversations.id = texts.conversation LEFT JOIN messages ON messages.id = message";
    let mut tx = db.system(Purpose::Restart).await.unwrap();
    let texts = tx.all(sqlx::query(texts)).await.unwrap();
    for text in &texts {
        let words = postgres::words_literal(text.get("text"));
        let compare = "SELECT words = ish_words(tenant, $3) FROM texts WHERE conversation = $1 AND message IS NOT DISTINCT FROM $2";
        let compare = sqlx::query(compare).bind(text.get::<Uuid, _>("conversation"));
        let compare = compare.bind(text.get::<Option<Uuid>, _>("message")).bind(&words);
        assert!(tx.one(compare).await.unwrap().get::<bool, _>(0), "{words}");
    }
    texts.len() as i64
}

async fn titles_questions_and_answers_are_found_and_marked(database: TestDb) {
    let store = Store::new(database).await;
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

async fn the_best_comes_first_and_pages_go_on(database: TestDb) {
    let store = Store::new(database).await;
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
    let store = Store::new(TestDb::new(Backend::Sqlite).await).await;
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

async fn nobody_finds_what_is_anothers(database: TestDb) {
    let store = Store::new(database).await;
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

async fn the_index_follows_every_change(database: TestDb) {
    let store = Store::new(database).await;
    let begun = store.ask("t", turn("What is a running answer?")).await;
    store.conversations.checkpoint("t", begun.reply, progress("halfway zebra")).await.unwrap();
    assert_eq!(store.found("t", "zebra").await.len(), 0, "an answer is found once it has ended");
    store.conversations.finish("t", begun.reply, outcome("the zebra stands")).await.unwrap();
    assert_eq!(store.found("t", "zebra").await.len(), 1);
    assert_eq!(store.checked_texts().await, 3, "the title, the question, the answer");

    let cut = store.ask("t", NewTurn { conversation: Some(begun.conversation), ..turn("And again?") }).await;
    store.conversations.checkpoint("t", cut.reply, progress("a quagga")).await.unwrap();
    store.interrupt_all().await;
    assert_eq!(store.found("t", "quagga").await.len(), 1, "what a restart cut is found as far as it came");

    store.conversations.rename("t", begun.conversation, "Stripes").await.unwrap();
    assert_eq!(store.found("t", "stripes").await.len(), 1);
    assert_eq!(store.checked_texts().await, 5);

    let running = store.ask("t", NewTurn { conversation: Some(begun.conversation), ..turn("Once more?") }).await;
    store.conversations.delete("t", begun.conversation).await.unwrap();
    store.conversations.finish("t", running.reply, outcome("too late")).await.unwrap();
    assert_eq!(store.found("t", "stripes").await.len(), 0);
    assert_eq!(store.checked_texts().await, 0, "nothing is left behind");
}

async fn no_words_are_a_fault(database: TestDb) {
    let store = &Store::new(database).await;
    let first = store.say("t", None, "AND OR NOT NEAR", "a* ^b \"c\" {d} e:f (g) -h +i").await.conversation;
    let grammar = prop::sample::select(vec![
        "\"", "*", "^", "(", ")", "{", "}", ":", "-", "+", "AND", "OR", "NOT", "NEAR(", "NEAR/2", ",", "\0", "'",
        "text:", "tenant :", "\u{301}", "漢字", "a", "b", " ", "\u{2}", "\u{e000}", "²",
    ]);
    let words = prop_oneof![
        any::<String>(),
        prop::collection::vec(grammar, 0..12).prop_map(|parts| parts.concat()),
        "\\PC{0,60}",
    ];
    holds(600, words, |words| async move {
        let query = SearchQuery::parse(&words);
        let found = store.conversations.search("t", &query, slice(10)).await;
        if query.check().is_err() {
            assert!(matches!(found, Err(ConversationError::Invalid(_))), "{words:?}: {found:?}");
            return;
        }
        let found = found.unwrap_or_else(|error| panic!("{words:?}: {error:?}"));
        assert!(found.data.iter().all(|found| found.conversation.id == first));
    });
}
