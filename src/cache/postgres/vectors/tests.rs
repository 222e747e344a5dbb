//! The store's nearest against a plain comparison of all, in partitions of very different sizes; and what is never among
//! them.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::super::super::entry::Matching;
use super::super::super::key::Place;
use super::super::super::known::KnownKeys;
use super::super::super::stored::Selection;
use super::*;
use crate::db::tests::{Backend, TestDb, plan};
use crate::embedding::{DIM, WordVectors};
use crate::message::Completion;

const NOW: u64 = 1_700_000_000_000;
const K: usize = 8;

/// Sizes of partitions: almost nothing, one that is compared as a whole, one whose last 600 are in the index.
const SIZES: [(u8, usize); 3] = [(1, 3), (2, 400), (3, 2_600)];

/// A small generator of our own, so that a failing seed replays anywhere.
struct Random(u64);

impl Random {
    /// Roughly normal, of length 1 in all.
    fn normal(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = mixed ^ (mixed >> 27);
        let uniform = |bits: u64| (bits & 0xffff) as f32 / 65_536.0 - 0.5;
        let sum = uniform(bits) + uniform(bits >> 16) + uniform(bits >> 32) + uniform(bits >> 48);
        sum / (DIM as f32 / 3.0).sqrt()
    }

    /// Beside `centre`: the less noise, the nearer.
    fn near(&mut self, centre: &[f32; DIM], noise: f32) -> Embedding {
        Embedding::new(&centre.map(|value| value + noise * self.normal())).unwrap()
    }
}

/// Wordings of questions, twenty of each, in order of their making.
fn wordings(seed: u64, count: usize) -> Vec<Embedding> {
    let mut random = Random(seed);
    let mut question = random.near(&[0.0; DIM], 1.0);
    let mut wording = |number: usize| {
        if number.is_multiple_of(20) {
            question = random.near(&[0.0; DIM], 1.0);
        }
        random.near(question.values(), 0.5)
    };
    (0..count).map(&mut wording).collect()
}

fn key(partition: u8, number: usize) -> Digest {
    Digest::of("test", &[&[partition], &number.to_be_bytes()])
}

fn entry(partition: u8, number: usize, embedding: &Embedding) -> Entry {
    let matching = Matching::new("m".to_owned(), embedding.clone(), WordVectors::default());
    Entry {
        key: key(partition, number),
        place: Some(Place { normalized: key(partition, number), partition: Digest([partition; 32]) }),
        tenant: "t".to_owned(),
        scope: "{}".to_owned(),
        prompt: number.to_string(),
        completion: Arc::new(Completion::of_text("m", "An answer.", None)),
        provider: "openai".to_owned(),
        elapsed_ms: 1,
        made_by: None,
        tags: Vec::new(),
        generation: None,
        created_at_ms: NOW,
        expires_at_ms: NOW + 1_000,
        matching: OnceLock::from(matching),
        templates: OnceLock::new(),
    }
}

async fn insert(db: &PostgresDb, entries: Vec<Entry>) {
    let mut entries = entries.into_iter().map(Arc::new).peekable();
    while entries.peek().is_some() {
        let group = entries.by_ref().take(500).collect();
        super::super::insert(db, &Arc::new(KnownKeys::default()), group).await.unwrap();
    }
}

async fn found(db: &PostgresDb, tenant: &str, partition: u8, embedding: &Embedding, now_ms: u64) -> Vec<Neighbour> {
    let search = db.vectors().expect("the server of the tests has pgvector");
    nearest(db, search, tenant, Digest([partition; 32]), embedding, K, now_ms).await.unwrap()
}

/// Of the nearest by plain comparison, the share that the store finds; all of 40 queries beside stored wordings.
async fn recall(db: &PostgresDb, partition: u8, stored: &[Embedding]) -> f64 {
    let mut random = Random(99);
    let (mut right, mut wanted) = (0, 0);
    for number in 0..40 {
        let beside = &stored[number * stored.len() / 40];
        let query = random.near(beside.values(), 0.48);
        let similarity = |one: &Embedding| one.cosine(&query).get();
        let mut best: Vec<f32> = stored.iter().map(similarity).collect();
        best.sort_by(|one, other| other.total_cmp(one));
        best.truncate(K);
        // Half precision may take one for its equal.
        let least = best[best.len() - 1] - 1e-3;
        let of_key: BTreeMap<_, _> =
            stored.iter().enumerate().map(|(at, one)| (entry_id(key(partition, at)), one)).collect();
        let found = found(db, "t", partition, &query, NOW).await;
        assert!(found.is_sorted_by(|one, other| one.similarity >= other.similarity));
        for neighbour in &found {
            let exact = similarity(of_key[&neighbour.id]);
            assert!((exact - neighbour.similarity).abs() < 2e-3, "{exact} {neighbour:?}");
            right += usize::from(exact >= least);
        }
        wanted += best.len();
    }
    right as f64 / wanted as f64
}

#[tokio::test]
async fn the_nearest_are_those_of_a_plain_comparison_in_large_and_small_partitions() {
    let mut database = TestDb::new(Backend::Postgres).await;
    let db = database.server().connect().await;
    let stored = SIZES.map(|(partition, size)| (partition, wordings(u64::from(partition), size)));
    for (partition, wordings) in &stored {
        let entries = wordings.iter().enumerate().map(|(number, one)| entry(*partition, number, one));
        insert(&db, entries.collect()).await;
    }
    database.analyze().await;
    for (partition, wordings) in &stored {
        let recall = recall(&db, *partition, wordings).await;
        assert!(recall >= 0.99, "partition {partition}: {recall}");
    }
    let indexed = sqlx::query("SELECT count(*) FROM entry_vectors WHERE is_indexed");
    assert_eq!(db.read("t").await.unwrap().one(indexed).await.unwrap().get::<i64, _>(0), 600);
    plans(&db, &stored[2].1[0]).await;

    database.server().config.vector_index = VectorIndex::IvfFlat;
    let db = database.server().connect().await;
    for (partition, wordings) in &stored {
        let recall = recall(&db, *partition, wordings).await;
        assert!(recall >= 0.9, "partition {partition} by lists: {recall}");
    }
}

/// A small partition is read by its own index, a large one by that of the vectors.
async fn plans(db: &PostgresDb, query: &Embedding) {
    let values = query.values().to_vec();
    let mut tx = db.read("t").await.unwrap();
    set(&mut tx, db.vectors().unwrap()).await.unwrap();
    let wanted = [
        (SIZE, 2_u8, "entry_vectors_partition"),
        (EXACT, 2, "entry_vectors_partition"),
        (FIRST, 2, "entry_vectors_partition"),
        (NEAREST, 3, "entry_vectors_hnsw"),
    ];
    for (statement, partition, index) in wanted {
        let values = values.clone();
        let plan = plan(statement, &mut tx, |query| {
            let query = query.bind([partition; 32]);
            if statement == SIZE {
                query.bind(EXACT_ROWS + 1)
            } else {
                query.bind(values).bind(NOW as i64).bind(K as i64)
            }
        })
        .await;
        assert!(plan.contains(index) && !plan.contains("Seq Scan on entry_vectors"), "{index}: {plan}");
    }
}

#[tokio::test]
async fn only_what_is_there_for_this_tenant_now_is_found() {
    let mut database = TestDb::new(Backend::PgBouncer).await;
    let db = database.server().connect().await;
    let wordings = wordings(7, 3);
    let text_only = Entry { matching: OnceLock::new(), ..entry(1, 9, &wordings[0]) };
    let theirs = Entry { tenant: "u".to_owned(), ..entry(1, 8, &wordings[0]) };
    let mut entries: Vec<Entry> = wordings.iter().enumerate().map(|(number, one)| entry(1, number, one)).collect();
    entries.extend([text_only, theirs, entry(2, 0, &wordings[0])]);
    insert(&db, entries).await;
    let ids = |found: Vec<Neighbour>| {
        let mut ids: Vec<_> = found.iter().map(|neighbour| neighbour.id).collect();
        ids.sort_unstable();
        ids
    };
    let mut ours: Vec<_> = (0..3).map(|number| entry_id(key(1, number))).collect();
    ours.sort_unstable();
    assert_eq!(ids(found(&db, "t", 1, &wordings[0], NOW).await), ours);
    assert_eq!(ids(found(&db, "u", 1, &wordings[0], NOW).await), [entry_id(key(1, 8))]);
    assert!(found(&db, "t", 1, &wordings[0], NOW + 1_000).await.is_empty(), "its time is over");
    for (tenant, partition, holds_some) in [("t", 1, true), ("t", 3, false), ("u", 2, false), ("u", 1, true)] {
        assert_eq!(holds(&db, tenant, Digest([partition; 32])).await.unwrap(), holds_some, "{tenant} {partition}");
    }

    // An entry made anew is found by its new vector, one that is gone is not found.
    insert(&db, vec![entry(1, 0, &Random(1).near(&[0.0; DIM], 1.0))]).await;
    let nearest = found(&db, "t", 1, &wordings[0], NOW).await;
    assert_ne!(nearest[0].id, entry_id(key(1, 0)));
    let known = Arc::new(KnownKeys::default());
    super::super::delete(&db, &known, "t", Selection::All).await.unwrap();
    assert!(!holds(&db, "t", Digest([1; 32])).await.unwrap());
    assert!(holds(&db, "u", Digest([1; 32])).await.unwrap(), "another's are another's");
}
