//! Look-up and insert of the vector index at 1 k to 1 M entries, with recall@1 against brute force in f32.
//!
//! The data imitates questions people ask: topics, questions of a topic (cosine 0.5 with one another), wordings of a
//! question (0.8), and queries that are a further wording at cosine 0.9 of a stored one. Everything is made from
//! seeds, row by row, so that the vectors of a million entries need not be kept beside the index.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ish::cache::index::{DIMENSIONS, EntryId, Index, PartitionId, Vector};
use ndarray::{Array2, ArrayView1, Axis, s};

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const QUERIES: usize = 1_000;
const WORDINGS: usize = 20;
const QUESTIONS: usize = 50;
const PARTITION: PartitionId = PartitionId([7; 32]);

fn index(criterion: &mut Criterion) {
    let index = Index::new();
    let mut rows = Rows::default();
    let mut filled = 0;
    for size in SIZES {
        let queries = queries(size);
        let mut reference = Reference::new(&queries);
        while filled < size {
            let vector = rows.next_row();
            index.insert(PARTITION, EntryId(filled as u128), &vector, u64::MAX);
            filled += 1;
        }
        Rows::default().take(size).for_each(|vector| reference.see(&vector));
        let best = reference.finish();
        let found: Vec<_> = queries.iter().map(|query| index.nearest(PARTITION, query, 1, 0)[0]).collect();
        // Another row of the very same similarity is as right.
        let right = found.iter().zip(&best).filter(|(found, best)| found.similarity >= **best - 1e-4).count();
        let mean = best.iter().sum::<f32>() / QUERIES as f32;
        println!(
            "{size} entries: recall@1 {right}/{QUERIES}, mean top-1 cosine {mean:.3}, {} MB",
            index.bytes() / 1_000_000
        );
        let mut next = queries.iter().cycle();
        criterion.bench_function(&format!("nearest 1 of {size}"), |bencher| {
            bencher.iter(|| index.nearest(PARTITION, black_box(next.next().expect("endless")), 1, 0));
        });
        criterion.bench_function(&format!("nearest 8 of {size}"), |bencher| {
            bencher.iter(|| index.nearest(PARTITION, black_box(next.next().expect("endless")), 8, 0));
        });
        let row = rows.current();
        criterion.bench_function(&format!("insert and remove beside {size}"), |bencher| {
            bencher.iter(|| {
                index.insert(PARTITION, EntryId(u128::MAX), black_box(&row), u64::MAX);
                index.remove(PARTITION, EntryId(u128::MAX))
            });
        });
    }
}

/// Queries near rows that lie evenly over the first `size`.
fn queries(size: usize) -> Vec<Vector> {
    let mut random = Random(99);
    let step = size / QUERIES;
    Rows::default()
        .take(size)
        .enumerate()
        .filter(|(number, _)| number % step == step / 2)
        .take(QUERIES)
        .map(|(_, row)| random.near(&row, 0.48))
        .collect()
}

/// The stored vectors, always the same ones in the same order.
struct Rows {
    random: Random,
    number: usize,
    topic: Vector,
    question: Vector,
    row: Vector,
}

impl Default for Rows {
    fn default() -> Self {
        let zero = [0.0; DIMENSIONS];
        Self { random: Random(1), number: 0, topic: zero, question: zero, row: zero }
    }
}

impl Rows {
    fn next_row(&mut self) -> Vector {
        if self.number.is_multiple_of(WORDINGS * QUESTIONS) {
            self.topic = self.random.near(&[0.0; DIMENSIONS], 1.0);
        }
        if self.number.is_multiple_of(WORDINGS) {
            self.question = self.random.near(&self.topic, 1.0);
        }
        self.row = self.random.near(&self.question, 0.5);
        self.number += 1;
        self.row
    }

    fn current(&self) -> Vector {
        self.row
    }
}

impl Iterator for Rows {
    type Item = Vector;

    fn next(&mut self) -> Option<Vector> {
        Some(self.next_row())
    }
}

/// Brute force in f32: the best similarity of each query, rows handed over one by one and compared in chunks.
struct Reference {
    queries: Array2<f32>,
    chunk: Array2<f32>,
    held: usize,
    best: Vec<f32>,
}

impl Reference {
    fn new(queries: &[Vector]) -> Self {
        let mut columns = Array2::zeros((DIMENSIONS, queries.len()));
        for (mut column, query) in columns.axis_iter_mut(Axis(1)).zip(queries) {
            column.assign(&ArrayView1::from(query));
        }
        let best = vec![-1.0; queries.len()];
        Self { queries: columns, chunk: Array2::zeros((2_048, DIMENSIONS)), held: 0, best }
    }

    fn see(&mut self, row: &Vector) {
        self.chunk.row_mut(self.held).assign(&ArrayView1::from(row));
        self.held += 1;
        if self.held == self.chunk.nrows() {
            self.compare();
        }
    }

    fn compare(&mut self) {
        let similarities = self.chunk.slice(s![..self.held, ..]).dot(&self.queries);
        for (best, column) in self.best.iter_mut().zip(similarities.axis_iter(Axis(1))) {
            *best = column.fold(*best, |a, b| a.max(*b));
        }
        self.held = 0;
    }

    fn finish(mut self) -> Vec<f32> {
        self.compare();
        self.best
    }
}

/// `SplitMix64`, and a nearly normal sum of four uniforms.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A unit vector at cosine 1 / sqrt(1 + noise²) of `centre` (a unit vector, or zero for no centre).
    fn near(&mut self, centre: &Vector, noise: f32) -> Vector {
        let scale = noise / (DIMENSIONS as f32 / 3.0).sqrt();
        let mut vector: Vector = std::array::from_fn(|i| {
            let bits = self.next();
            let sum: u64 = (0..4).map(|n| (bits >> (16 * n)) & 0xffff).sum();
            centre[i] + scale * (sum as f32 / 65_536.0 - 2.0)
        });
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        for x in &mut vector {
            *x /= norm;
        }
        vector
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = index
}
criterion_main!(benches);
