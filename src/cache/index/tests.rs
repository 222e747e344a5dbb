//! The index against a plain list of vectors, under any order of operations.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NEVER: u64 = u64::MAX;

/// A small generator of our own, so that a failing seed replays anywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Roughly normal: a sum of uniforms.
    fn normal(&mut self) -> f32 {
        let uniform = |bits: u64| (bits & 0xffff) as f32 / 65536.0 - 0.5;
        let bits = self.next();
        uniform(bits) + uniform(bits >> 16) + uniform(bits >> 32) + uniform(bits >> 48)
    }

    fn near(&mut self, centre: &Vector, noise: f32) -> Vector {
        let length: f32 = 384.0_f32.sqrt() / 3.0_f32.sqrt();
        unit(&std::array::from_fn(|i| centre[i] + noise * self.normal() / length))
    }
}

fn unit(vector: &Vector) -> Vector {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.map(|x| x / norm)
}

fn vector(seed: u64) -> Vector {
    Random(seed).near(&[0.0; DIMENSIONS], 1.0)
}

fn cosine(a: &Vector, b: &Vector) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn partition(n: u8) -> PartitionId {
    PartitionId([n; 32])
}

fn brute_force(model: &BTreeMap<EntryId, (Vector, u64)>, query: &Vector, k: usize, now_ms: u64) -> Vec<Neighbour> {
    let mut all: Vec<Neighbour> = model
        .iter()
        .filter(|(_, (_, expires_at_ms))| now_ms < *expires_at_ms)
        .map(|(&id, (vector, _))| Neighbour { id, similarity: cosine(vector, query) })
        .collect();
    all.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    all.truncate(k);
    all
}

fn assert_equal(found: &[Neighbour], expected: &[Neighbour]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        // Half precision may swap two that are equal to four digits, never more.
        assert!((found.similarity - expected.similarity).abs() < 1e-3, "{found:?} for {expected:?}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert { partition: u8, id: u8, seed: u64, expires_at_ms: u64 },
    Remove { partition: u8, id: u8 },
    Expire { now_ms: u64 },
    Ask { partition: u8, seed: u64, k: usize, now_ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let time = 0..100_u64;
    prop_oneof![
        4 => (0..3_u8, 0..40_u8, 0..500_u64, prop_oneof![time.clone(), Just(NEVER)])
            .prop_map(|(partition, id, seed, expires_at_ms)| Step::Insert { partition, id, seed, expires_at_ms }),
        2 => (0..3_u8, 0..40_u8).prop_map(|(partition, id)| Step::Remove { partition, id }),
        1 => time.clone().prop_map(|now_ms| Step::Expire { now_ms }),
        2 => (0..3_u8, 0..500_u64, 0..12_usize, time)
            .prop_map(|(partition, seed, k, now_ms)| Step::Ask { partition, seed, k, now_ms }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_order_of_operations_equals_a_plain_list(steps in prop::collection::vec(step(), 1..120)) {
        let index = Index::new();
        let mut model: [BTreeMap<EntryId, (Vector, u64)>; 3] = Default::default();
        for step in steps {
            match step {
                Step::Insert { partition: p, id, seed, expires_at_ms } => {
                    let id = EntryId(u128::from(id));
                    index.insert(partition(p), id, &vector(seed), expires_at_ms);
                    model[usize::from(p)].insert(id, (vector(seed), expires_at_ms));
                }
                Step::Remove { partition: p, id } => {
                    let id = EntryId(u128::from(id));
                    let was_there = model[usize::from(p)].remove(&id).is_some();
                    prop_assert_eq!(index.remove(partition(p), id), was_there);
                }
                Step::Expire { now_ms } => {
                    let before: usize = model.iter().map(BTreeMap::len).sum();
                    for entries in &mut model {
                        entries.retain(|_, (_, expires_at_ms)| now_ms < *expires_at_ms);
                    }
                    let after: usize = model.iter().map(BTreeMap::len).sum();
                    prop_assert_eq!(index.expire(now_ms), before - after);
                }
                Step::Ask { partition: p, seed, k, now_ms } => {
                    let found = index.nearest(partition(p), &vector(seed), k, now_ms);
                    assert_equal(&found, &brute_force(&model[usize::from(p)], &vector(seed), k, now_ms));
                }
            }
            prop_assert_eq!(index.len(), model.iter().map(BTreeMap::len).sum::<usize>());
            for (p, entries) in (0..).zip(&model) {
                prop_assert_eq!(index.holds(partition(p)), !entries.is_empty());
            }
        }
    }
}

/// Topics, questions in a topic, wordings of a question: the neighbours of a query crowd, as real ones do.
fn crowd(count: usize, random: &mut Random) -> Vec<Vector> {
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let topic = random.near(&[0.0; DIMENSIONS], 1.0);
        for _ in 0..10 {
            let question = random.near(&topic, 0.9);
            for _ in 0..6 {
                all.push(random.near(&question, 0.5));
            }
        }
    }
    all.truncate(count);
    all
}

#[test]
fn large_partitions_find_what_brute_force_finds() {
    let mut random = Random(7);
    let vectors = crowd(6_000, &mut random);
    let index = Index::new();
    let mut model = BTreeMap::new();
    for (id, vector) in (0..).map(EntryId).zip(&vectors) {
        index.insert(partition(1), id, vector, NEVER);
        model.insert(id, (*vector, NEVER));
    }
    for n in 0..100 {
        let query = random.near(&vectors[n * 59], 0.45);
        let expected = brute_force(&model, &query, 8, 0);
        assert!(expected[0].similarity > 0.8, "the test's data must look like paraphrases");
        assert_equal(&index.nearest(partition(1), &query, 8, 0), &expected);
    }
}

#[test]
fn large_partitions_stay_right_through_removals_and_replacements() {
    let mut random = Random(11);
    let vectors = crowd(3_000, &mut random);
    let index = Index::new();
    let mut model = BTreeMap::new();
    for (id, vector) in (0..).map(EntryId).zip(&vectors) {
        let expires_at_ms = if id.0 % 5 == 0 { 10 } else { NEVER };
        index.insert(partition(1), id, vector, expires_at_ms);
        model.insert(id, (*vector, expires_at_ms));
    }
    for id in (0..3_000).step_by(3).map(EntryId) {
        assert!(index.remove(partition(1), id));
        model.remove(&id);
    }
    for id in (1..3_000).step_by(7).map(EntryId) {
        let vector = random.near(&vectors[id.0 as usize], 0.3);
        index.insert(partition(1), id, &vector, NEVER);
        model.insert(id, (vector, NEVER));
    }
    let ask = |index: &Index, model: &BTreeMap<_, _>, random: &mut Random, now_ms| {
        for n in 0..50 {
            let query = random.near(&vectors[n * 60], 0.4);
            let found = index.nearest(partition(1), &query, 4, now_ms);
            assert_equal(&found, &brute_force(model, &query, 4, now_ms));
        }
    };
    ask(&index, &model, &mut random, 0);
    ask(&index, &model, &mut random, 10);
    let before = model.len();
    model.retain(|_, (_, expires_at_ms)| *expires_at_ms > 10);
    assert_eq!(index.expire(10), before - model.len());
    ask(&index, &model, &mut random, 10);
}

#[test]
fn partitions_never_mix() {
    let index = Index::new();
    for p in 0..50 {
        index.insert(partition(p), EntryId(u128::from(p)), &vector(1), NEVER);
    }
    for p in 0..50 {
        let found = index.nearest(partition(p), &vector(1), 100, 0);
        assert_eq!(found.iter().map(|n| n.id).collect::<Vec<_>>(), [EntryId(u128::from(p))]);
    }
    assert!(index.nearest(partition(51), &vector(1), 100, 0).is_empty());
}

#[test]
fn empty_partitions_are_freed() {
    let index = Index::new();
    let empty = index.bytes();
    for n in 0..2_000 {
        index.insert(partition(9), EntryId(n), &vector(n as u64), 5);
    }
    assert!(index.bytes() > 2_000 * (48 + 768));
    assert_eq!(index.expire(4), 0);
    assert_eq!(index.expire(5), 2_000);
    assert!(!index.holds(partition(9)));
    assert!(index.is_empty());
    // The shard's own table keeps a few slots.
    assert!(index.bytes() < empty + 1_000);
}

#[test]
fn readers_and_writers_share_a_partition() {
    let index = Index::new();
    for n in 0..1_500 {
        index.insert(partition(1), EntryId(n), &vector(n as u64), NEVER);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..1_500_u128 {
                index.remove(partition(1), EntryId(1_500 + n));
                index.insert(partition(1), EntryId(1_500 + n), &vector(n as u64 + 9_000), NEVER);
                index.remove(partition(1), EntryId(1_500 + n / 2));
            }
        });
        for thread in 0..2_u64 {
            let index = &index;
            scope.spawn(move || {
                for n in (thread..1_500).step_by(5) {
                    let found = index.nearest(partition(1), &vector(n), 1, 0);
                    assert_eq!(found[0].id, EntryId(u128::from(n)), "an entry that stays is always found");
                }
            });
        }
    });
}

#[test]
fn ids_print_as_short_hex() {
    assert_eq!(format!("{:?}", PartitionId([0xab; 32])), "abababab");
    assert_eq!(format!("{:?}", EntryId(0x1234_5678_9abc_def0)), "9abcdef0");
}
