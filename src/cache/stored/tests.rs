//! What the store of entries promises, on each database.

use std::sync::{Arc, OnceLock};

use super::super::entry::{Entry, Matching};
use super::super::key::{Keys, MatchKeys, entry_id};
use super::super::known::KnownKeys;
use super::super::memory::FoundBy;
use super::super::touched::Person;
use super::super::{postgres, sqlite, told};
use super::*;
use crate::changes::{Kind, Page, Reader};
use crate::db::tests::{Backend, TestDb, contract, plan};
use crate::db::{Db, MigrationSet, query};
use crate::embedding::{DIM, WordVectors};
use crate::message::Completion;

contract!(
    an_entry_is_found_by_either_key_as_it_was_stored,
    a_long_answer_comes_back_beside_short_ones,
    the_newest_of_equal_keys_stands,
    nothing_is_found_across_tenants_or_after_its_time,
    entries_go_by_key_tag_model_and_age,
    the_index_is_loaded_in_pages_in_the_order_of_keys,
    a_blocked_pair_is_remembered,
    what_a_store_cannot_hold_leaves_the_others,
);

const NOW: u64 = 1_700_000_000_000;

struct Store {
    db: Db,
    known: Arc<KnownKeys>,
    /// Last: what is open closes before it goes.
    _database: TestDb,
}

impl Store {
    async fn new(database: TestDb) -> Self {
        Self { db: database.open(MigrationSet::CACHE).await, known: Arc::default(), _database: database }
    }

    async fn insert(&self, entries: impl IntoIterator<Item = Entry>) {
        query!(&self.db, insert(&self.known, entries.into_iter().map(Arc::new).collect())).unwrap();
    }

    async fn find(&self, tenant: &str, keys: &Keys, now_ms: u64) -> Option<(Arc<Entry>, FoundBy)> {
        query!(&self.db, find(tenant, keys, now_ms)).unwrap()
    }

    async fn by_ids(&self, tenant: &str, keys: &[u8]) -> Vec<Digest> {
        let ids: Vec<_> = keys.iter().map(|byte| entry_id(digest(*byte))).collect();
        let found = query!(&self.db, by_ids(tenant, &ids, NOW)).unwrap();
        found.iter().map(|entry| entry.key).collect()
    }

    /// Keys of what went, in their order.
    async fn delete(&self, tenant: &str, selection: Selection) -> Vec<u8> {
        let deleted = query!(&self.db, delete(&self.known, tenant, selection)).unwrap();
        let mut gone: Vec<_> = deleted.gone.iter().map(|(key, _)| key.0[0]).collect();
        gone.sort_unstable();
        gone
    }

    async fn prompts(&self, tenant: &str, limit: usize, containing: &str) -> Vec<String> {
        let newest = query!(&self.db, newest(tenant, limit, containing)).unwrap();
        newest.iter().map(|entry| entry.prompt.clone()).collect()
    }
}

fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

fn place(normalized: u8) -> Place {
    Place { normalized: digest(normalized), partition: digest(200) }
}

fn keys(exact: u8, normalized: u8) -> Keys {
    let matching = Some(MatchKeys { place: place(normalized), standalone: true, context: None });
    Keys { exact: digest(exact), matching }
}

/// An entry of tenant `t`; its normalized key is 100 above its own.
fn entry(key: u8) -> Entry {
    Entry {
        key: digest(key),
        place: Some(place(100 + key)),
        tenant: "t".to_owned(),
        scope: format!(r#"{{"tenant":"t","model":"model-{}"}}"#, key % 2),
        prompt: format!("Question {key}: 'żółw' \"\\"),
        completion: Arc::new(Completion::of_text("m", &format!("Answer {key}.\0"), None)),
        provider: "openai".to_owned(),
        elapsed_ms: 1_234,
        made_by: Some(Person::of(uuid::Uuid::nil(), Some("ann"))),
        tags: vec!["common".to_owned(), format!("tag'{key}")],
        generation: None,
        created_at_ms: NOW - 1_000 + u64::from(key),
        expires_at_ms: NOW + 1_000 * u64::from(key),
        matching: OnceLock::new(),
        templates: OnceLock::new(),
    }
}

fn with_vectors(entry: Entry, embedder: &str) -> Entry {
    let values: Vec<f32> = (0..DIM).map(|i| (i as f32 + f32::from(entry.key.0[0])).cos()).collect();
    let mut words = WordVectors::default();
    words.push("question", &std::array::from_fn(|i| (i as f32).sin()));
    let matching = Matching::new(embedder.to_owned(), Embedding::new(&values).unwrap(), words);
    assert!(entry.matching.set(matching).is_ok());
    entry
}

async fn an_entry_is_found_by_either_key_as_it_was_stored(database: TestDb) {
    let store = Store::new(database).await;
    store.insert([entry(1), with_vectors(entry(2), "minilm")]).await;
    let (found, by) = store.find("t", &keys(2, 77), NOW).await.unwrap();
    let made = with_vectors(entry(2), "minilm");
    assert_eq!(by, FoundBy::Exact);
    assert_eq!(format!("{:?}", (&found.scope, &found.completion)), format!("{:?}", (&made.scope, &made.completion)));
    assert_eq!((found.place, &found.tenant, &found.prompt), (made.place, &made.tenant, &made.prompt));
    assert_eq!((&found.provider, found.elapsed_ms, &found.tags), (&made.provider, made.elapsed_ms, &made.tags));
    assert_eq!(
        (found.made_by, found.created_at_ms, found.expires_at_ms),
        (made.made_by, made.created_at_ms, made.expires_at_ms)
    );
    let (ours, theirs) = (found.matching.get().unwrap(), made.matching.get().unwrap());
    assert_eq!(ours.embedder, theirs.embedder);
    assert!(ours.embedding.cosine(&theirs.embedding).get() > 0.9999);
    assert_eq!(ours.words.to_bytes(), theirs.words.to_bytes());
    let (found, by) = store.find("t", &keys(77, 101), NOW).await.unwrap();
    assert_eq!((found.key, by, found.matching.get().is_some()), (digest(1), FoundBy::Normalized, false));
    let (found, by) = store.find("t", &keys(1, 102), NOW).await.unwrap();
    assert_eq!((found.key, by), (digest(1), FoundBy::Exact), "exact before normalized");
    assert!(store.find("t", &keys(77, 78), NOW).await.is_none());
    assert!(store.find("t", &Keys { exact: digest(77), matching: None }, NOW).await.is_none());
    let mut found = store.by_ids("t", &[2, 9, 1]).await;
    found.sort_unstable_by_key(|key| key.0);
    assert_eq!(found, [digest(1), digest(2)]);
}

/// Long ones are stored in another form than short ones; of a group each in its own.
async fn a_long_answer_comes_back_beside_short_ones(database: TestDb) {
    let store = Store::new(database).await;
    let text = "Spring tides come when the Moon and the Sun pull together. ".repeat(80);
    let long = |key| Entry { completion: Arc::new(Completion::of_text("m", &text, None)), ..entry(key) };
    store.insert([entry(1), long(2), entry(3), long(4)]).await;
    let said = async |key: u8| store.find("t", &keys(key, 77), NOW).await.unwrap().0.completion.text().to_owned();
    assert_eq!((said(2).await, said(4).await), (text.clone(), text.clone()));
    assert_eq!((said(1).await, said(3).await), ("Answer 1.\0".to_owned(), "Answer 3.\0".to_owned()));
    if let Db::Sqlite(db) = &store.db {
        let bytes = "SELECT sum(length(completion) + coalesce(length(packed), 0)) FROM entries";
        let bytes: i64 = sqlx::query_scalar(bytes).fetch_one(&mut *db.read().await.unwrap()).await.unwrap();
        assert!(bytes < text.len() as i64, "{bytes}");
    }
}

async fn the_newest_of_equal_keys_stands(database: TestDb) {
    let store = Store::new(database).await;
    store.insert([entry(1)]).await;
    let again = |prompt: &str| Entry { prompt: prompt.to_owned(), place: None, ..entry(1) };
    store.insert([again("second"), entry(2), again("third")]).await;
    let (found, _) = store.find("t", &keys(1, 77), NOW).await.unwrap();
    assert_eq!((found.prompt.as_str(), found.place), ("third", None));
    // Another key with the same normalized one: the newer is found.
    store.insert([Entry { place: Some(place(102)), ..entry(3) }]).await;
    assert_eq!(store.find("t", &keys(77, 102), NOW).await.unwrap().0.key, digest(3));
    assert_eq!(query!(&store.db, figures()).unwrap().entries, 3);
}

async fn nothing_is_found_across_tenants_or_after_its_time(database: TestDb) {
    let store = Store::new(database).await;
    store.insert([entry(1), Entry { tenant: "other".to_owned(), ..entry(2) }]).await;
    assert!(store.find("other", &keys(1, 101), NOW).await.is_none());
    assert!(store.find("other", &keys(2, 77), NOW).await.is_some());
    assert!(query!(&store.db, by_key("other", digest(1))).unwrap().is_none());
    assert_eq!(store.by_ids("other", &[1, 2]).await, [digest(2)]);
    assert_eq!(store.prompts("other", 10, "").await.len(), 1);
    assert!(store.delete("other", Selection::Key(digest(1))).await.is_empty());
    assert_eq!(store.delete("other", Selection::All).await, [2]);
    assert!(store.find("t", &keys(1, 101), NOW + 999).await.is_some());
    assert!(store.find("t", &keys(1, 101), NOW + 1_000).await.is_none());
    query!(&store.db, expire(&store.known, NOW + 999)).unwrap();
    assert!(query!(&store.db, by_key("t", digest(1))).unwrap().is_some());
    query!(&store.db, expire(&store.known, NOW + 1_000)).unwrap();
    assert!(query!(&store.db, by_key("t", digest(1))).unwrap().is_none());
}

async fn entries_go_by_key_tag_model_and_age(database: TestDb) {
    let store = Store::new(database).await;
    store.insert((1..=9).map(entry)).await;
    let figures = query!(&store.db, figures()).unwrap();
    assert_eq!((figures.entries, figures.embedded), (9, 0));
    assert!(figures.bytes > 0);
    assert_eq!(store.delete("t", Selection::Key(digest(1))).await, [1]);
    assert_eq!(store.delete("t", Selection::Tag("tag'2".to_owned())).await, [2]);
    assert!(store.delete("t", Selection::Tag("tag".to_owned())).await.is_empty());
    assert_eq!(store.delete("t", Selection::Model("model-1".to_owned())).await, [3, 5, 7, 9]);
    assert_eq!(store.delete("t", Selection::OlderThan(NOW - 1_000 + 6)).await, [4]);
    assert_eq!(store.prompts("t", 1, "").await, [entry(8).prompt]);
    assert_eq!(store.prompts("t", 10, "QUESTION 6").await, [entry(6).prompt]);
    assert!(store.prompts("t", 10, "\0%").await.is_empty());
    assert_eq!(store.delete("t", Selection::Tag("common".to_owned())).await, [6, 8]);
    assert!(store.delete("t", Selection::All).await.is_empty());
}

async fn the_index_is_loaded_in_pages_in_the_order_of_keys(database: TestDb) {
    let store = Store::new(database).await;
    store.insert([with_vectors(entry(3), "minilm"), with_vectors(entry(1), "another"), entry(2), entry(4)]).await;
    let (mut after, mut rows) = (None, Vec::new());
    loop {
        let page = query!(&store.db, index_rows("minilm", after, 2, NOW + 1_500)).unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        after = Some(last.key);
        rows.extend(page);
    }
    let seen: Vec<_> = rows.iter().map(|row| (row.key.0[0], row.embedding.is_some())).collect();
    assert_eq!(seen, [(2, false), (3, true), (4, false)], "what has expired is left out");
    let made = with_vectors(entry(3), "");
    let embedding = rows[1].embedding.as_ref().unwrap();
    assert!(embedding.cosine(&made.matching.get().unwrap().embedding).get() > 0.9999);
    assert_eq!((rows[1].place, rows[1].expires_at_ms), (entry(3).place, entry(3).expires_at_ms));
}

async fn a_blocked_pair_is_remembered(database: TestDb) {
    let store = Store::new(database).await;
    for (asked, answered) in [(1, 2), (1, 2), (3, 4)] {
        query!(&store.db, block("t", digest(asked), digest(answered), NOW)).unwrap();
    }
    let mut pairs = query!(&store.db, blocked_pairs()).unwrap();
    pairs.sort_unstable_by_key(|(asked, _)| asked.0);
    assert_eq!(pairs, [(digest(1), digest(2)), (digest(3), digest(4))]);
}

async fn what_a_store_cannot_hold_leaves_the_others(database: TestDb) {
    let store = Store::new(database).await;
    store.insert([entry(1), Entry { prompt: "a\0b".to_owned(), ..entry(2) }]).await;
    assert!(store.find("t", &keys(1, 77), NOW).await.is_some());
    // It may be there or not; a prompt that was changed may not.
    assert!(store.find("t", &keys(2, 77), NOW).await.is_none_or(|(found, _)| found.prompt == "a\0b"));
}

/// An instance makes an answer, another one evicts, the first one writes: what was meant is not stored.
#[tokio::test]
async fn what_was_evicted_while_it_waited_to_be_written_is_left_out() {
    let store = Store::new(TestDb::new(Backend::PgBouncer).await).await;
    let made = |key, generation| Entry { generation, ..entry(key) };
    for (generation, key) in [(1, 2), (2, 4)] {
        let deleted = query!(&store.db, delete(&store.known, "t", Selection::Key(digest(key)))).unwrap();
        assert_eq!(deleted.generation, generation);
    }
    store.insert([made(1, Some(0)), made(2, Some(0)), made(3, None), made(4, Some(1)), made(5, Some(2))]).await;
    assert_eq!(store.prompts("t", 10, "").await.len(), 3, "all but 2 and 4");
    store.insert([made(2, Some(1)), made(4, Some(2)), made(4, None)]).await;
    assert_eq!(store.prompts("t", 10, "").await.len(), 5, "made after what would have meant them");
    query!(&store.db, delete(&store.known, "t", Selection::All)).unwrap();
    store.insert([made(1, Some(2)), Entry { tenant: "other".to_owned(), ..made(2, Some(0)) }]).await;
    assert_eq!((store.prompts("t", 10, "").await.len(), store.prompts("other", 10, "").await.len()), (0, 1));
    let Db::Postgres(db) = &store.db else { panic!("it is a server") };
    assert_eq!(postgres::generations(db).await.unwrap().into_iter().max(), Some(("t".to_owned(), 3)));
}

/// Whoever stores waits for an eviction under way, and whoever evicts sees what is being stored: also at once nothing
/// slips through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storing_and_evicting_at_once_leave_nothing_that_was_meant() {
    let store = Store::new(TestDb::new(Backend::PgBouncer).await).await;
    let mut generation = 0;
    for _ in 0..20 {
        let made = (1..=9).map(|key| Entry { generation: Some(generation), ..entry(key) });
        let (deleted, ()) = tokio::join!(
            async { query!(&store.db, delete(&store.known, "t", Selection::All)).unwrap() },
            store.insert(made)
        );
        generation = deleted.generation;
        assert!(store.prompts("t", 10, "").await.is_empty(), "made before the eviction, there after it");
    }
}

#[tokio::test]
async fn every_write_is_in_the_change_log() {
    let store = Store::new(TestDb::new(Backend::PgBouncer).await).await;
    let Db::Postgres(db) = &store.db else { panic!("it is a server") };
    let mut log = Reader::begin(db.clone()).await.unwrap();
    store.insert([with_vectors(entry(1), "minilm"), entry(2), Entry { tenant: "other".to_owned(), ..entry(3) }]).await;
    query!(&store.db, block("t", digest(1), digest(2), NOW)).unwrap();
    store.delete("t", Selection::Tag("common".to_owned())).await;
    let Page::Changes { changes, .. } = log.next().await.unwrap() else { panic!("nothing was deleted") };
    let said: Vec<_> = changes.iter().map(|read| (read.change.kind, read.change.tenant.as_deref().unwrap())).collect();
    let said_of = |kind, tenant| (kind, tenant);
    assert_eq!(
        said,
        [
            said_of(Kind::Learned, "other"),
            said_of(Kind::Learned, "t"),
            said_of(Kind::Blocked, "t"),
            said_of(Kind::Evicted, "t")
        ]
    );
    let names = |number: usize| {
        let names = told::names(&changes[number].change.digests);
        names.iter().map(|name| (name.key, name.partition.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(names(1), [(digest(1), true), (digest(2), false)], "only one of them has a vector");
    assert_eq!(names(3).len(), 2);
    let selection = changes[3].change.selection.as_deref().unwrap();
    assert!(matches!(serde_json::from_str(selection), Ok(Selection::Tag(tag)) if tag == "common"), "{selection}");
}

#[tokio::test]
async fn what_a_look_up_waits_for_goes_by_an_index() {
    let database = TestDb::new(Backend::Postgres).await;
    let Db::Postgres(db) = database.open(MigrationSet::CACHE).await else { panic!("it is a server") };
    let mut tx = db.write("t").await.unwrap();
    let rows = sqlx::query(
        "INSERT INTO entries (key, normalized, tenant, scope, prompt, completion, provider, elapsed_ms, tags, created_at, \
         expires_at) SELECT sha256(n::text::bytea), sha256(('normalized' || n)::bytea), 't', '{}', '', '', '', 0, '{}', n, \
         n + 10000 FROM generate_series(1, 5000) AS n",
    );
    assert_eq!(tx.execute(rows).await.unwrap(), 5_000);
    tx.commit().await.unwrap();
    database.analyze().await;

    let (key, now) = ([1_u8; 32], 6_000_i64);
    let find =
        plan(postgres::FIND, &mut db.read("t").await.unwrap(), |query| query.bind(key).bind(key).bind(now)).await;
    assert!(find.contains("entries_pkey") && find.contains("entries_normalized"), "{find}");
    let (low, high) = (vec![key.to_vec()], vec![key.to_vec()]);
    let by_ids =
        plan(postgres::BY_IDS, &mut db.read("t").await.unwrap(), |query| query.bind(low).bind(high).bind(now)).await;
    assert!(by_ids.contains("entries_pkey"), "{by_ids}");
    let mut tx = db.system(crate::db::Purpose::Entries).await.unwrap();
    let page =
        plan(postgres::INDEX_ROWS, &mut tx, |query| query.bind(vec![0_u8; 32]).bind("m").bind(100_i64).bind(now)).await;
    assert!(page.contains("entries_pkey"), "{page}");
    for plan in [find, by_ids, page] {
        assert!(!plan.contains("Seq Scan on entries"), "{plan}");
    }
}
