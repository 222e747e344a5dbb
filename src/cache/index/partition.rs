//! One partition: its blocks, the directory that finds an id's row, and the two-step look-up.
//!
//! Readers take the list of blocks and then one block's read lock at a time. Writers are serialised by the
//! directory's mutex, which no reader takes. Rows never move from one block to another, so a reader that walks the
//! blocks sees every entry that stays exactly once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use ndarray::{Array2, ArrayView1, s};

use super::block::{BLOCK_ROWS, Block, Row};
use super::signs;
use super::{DIMENSIONS, EntryId, Neighbour, Vector, lock, read, write};

/// Up to this many rows every one is compared exactly; the sign bits would save nothing.
const EXACT_ROWS: usize = 256;

/// Rows compared in one matrix product; 48 KiB of single precision stay in the nearest cache.
const RERANK_ROWS: usize = 32;

#[derive(Default)]
pub(super) struct Partition {
    blocks: RwLock<Blocks>,
    directory: Mutex<Directory>,
    len: AtomicUsize,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inserted {
    Added,
    Replaced,
    /// The partition has been closed.
    Closed,
}

/// Replaced as a whole when a block is added, so that a reader keeps the list it started with.
type Blocks = Arc<[Arc<RwLock<Block>>]>;

#[derive(Default)]
struct Directory {
    places: HashMap<EntryId, Place>,
    /// Blocks that have room.
    open: Vec<u32>,
    /// Set when the index has let go of this partition: a row written now would be lost.
    closed: bool,
}

#[derive(Clone, Copy)]
struct Place {
    block: u32,
    row: u32,
}

/// A row worth an exact comparison.
#[derive(Clone, Copy)]
struct Candidate {
    id: EntryId,
    place: Place,
    distance: u16,
}

impl Partition {
    /// Adds or replaces an entry.
    pub(super) fn insert(&self, id: EntryId, vector: &Vector, expires_at_ms: u64) -> Inserted {
        let row = Row::new(id, vector, expires_at_ms);
        let mut directory = lock(&self.directory);
        if directory.closed {
            return Inserted::Closed;
        }
        if let Some(place) = directory.places.get(&id) {
            write(&self.block(place.block)).replace(place.row as usize, &row);
            return Inserted::Replaced;
        }
        let block = directory.open.last().copied().unwrap_or_else(|| self.add_block(&mut directory));
        let number = write(&self.block(block)).push(&row);
        if number + 1 == BLOCK_ROWS {
            directory.open.pop();
        }
        directory.places.insert(id, Place { block, row: number as u32 });
        self.len.store(directory.places.len(), Ordering::Release);
        Inserted::Added
    }

    pub(super) fn remove(&self, id: EntryId) -> bool {
        self.remove_from(&mut lock(&self.directory), id)
    }

    pub(super) fn has(&self, id: EntryId) -> bool {
        lock(&self.directory).places.contains_key(&id)
    }

    /// Drops what has expired at `now_ms`, one block at a time so that writers get their turn.
    pub(super) fn expire(&self, now_ms: u64) -> usize {
        let mut dropped = 0;
        for block in self.blocks().iter() {
            if read(block).expired(now_ms).is_none() {
                continue;
            }
            let mut directory = lock(&self.directory);
            loop {
                let expired = read(block).expired(now_ms);
                let Some(id) = expired else { break };
                dropped += usize::from(self.remove_from(&mut directory, id));
            }
        }
        dropped
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuses all further rows if there are none now; says whether it did.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut directory = lock(&self.directory);
        directory.closed = directory.places.is_empty();
        directory.closed
    }

    pub(super) fn nearest(&self, query: &Vector, k: usize, now_ms: u64) -> Vec<Neighbour> {
        let blocks = self.blocks();
        let candidates = if self.len() <= EXACT_ROWS.max(candidate_count(k)) {
            every_row(&blocks, now_ms)
        } else {
            closest_rows(&blocks, query, candidate_count(k), now_ms)
        };
        let mut found = compare(&blocks, &candidates, query);
        found.sort_unstable_by(|a, b| b.similarity.total_cmp(&a.similarity).then(a.id.cmp(&b.id)));
        found.truncate(k);
        found
    }

    pub(super) fn bytes(&self) -> usize {
        let blocks = self.blocks();
        let rows: usize = blocks.iter().map(|block| size_of::<RwLock<Block>>() + read(block).bytes()).sum();
        // One control byte per slot, as the standard library's table has it.
        let places = lock(&self.directory).places.capacity() * (size_of::<(EntryId, Place)>() + 1);
        size_of::<Self>() + blocks.len() * size_of::<usize>() + rows + places
    }

    fn blocks(&self) -> Blocks {
        Arc::clone(&read(&self.blocks))
    }

    fn block(&self, number: u32) -> Arc<RwLock<Block>> {
        Arc::clone(&read(&self.blocks)[number as usize])
    }

    /// Only writers add blocks and the caller holds their mutex, so the list cannot change between the two locks.
    fn add_block(&self, directory: &mut Directory) -> u32 {
        let old = self.blocks();
        let new: Blocks = old.iter().cloned().chain([Arc::default()]).collect();
        *write(&self.blocks) = new;
        directory.open.push(old.len() as u32);
        old.len() as u32
    }

    fn remove_from(&self, directory: &mut Directory, id: EntryId) -> bool {
        let Some(place) = directory.places.remove(&id) else {
            return false;
        };
        let block = self.block(place.block);
        let mut rows = write(&block);
        if rows.len() == BLOCK_ROWS {
            directory.open.push(place.block);
        }
        let moved = rows.remove(place.row as usize);
        drop(rows);
        if let Some(moved) = moved {
            directory.places.insert(moved, place);
        }
        self.len.store(directory.places.len(), Ordering::Release);
        true
    }
}

/// How many of the closest rows by sign bits are compared exactly. At cosine 0.9 a pair differs in 55 of 384 bits
/// with a standard deviation of 7, at 0.8 in 79 with 8: the best row is practically never behind 64 others
/// (`benches/index.rs` measures it). Each further neighbour asked for brings its own crowd.
fn candidate_count(k: usize) -> usize {
    48 + 16 * k
}

fn every_row(blocks: &Blocks, now_ms: u64) -> Vec<Candidate> {
    let mut rows = Vec::new();
    for (block, rows_of_block) in blocks.iter().enumerate() {
        rows.extend(read(rows_of_block).live(now_ms).map(|(row, id)| Candidate {
            id,
            place: Place { block: block as u32, row: row as u32 },
            distance: 0,
        }));
    }
    rows
}

fn closest_rows(blocks: &Blocks, query: &Vector, count: usize, now_ms: u64) -> Vec<Candidate> {
    let query = signs::signs(query);
    let mut limit = u64::MAX;
    let mut closest = Vec::with_capacity(4 * count + BLOCK_ROWS);
    let mut close = Vec::with_capacity(BLOCK_ROWS);
    for (block, rows) in blocks.iter().enumerate() {
        let rows = read(rows);
        rows.scan(&query, limit, now_ms, &mut close);
        closest.extend(close.iter().map(|found| Candidate {
            id: rows.id(usize::from(found.row)),
            place: Place { block: block as u32, row: u32::from(found.row) },
            distance: found.distance,
        }));
        drop(rows);
        if closest.len() >= 2 * count {
            limit = shrink(&mut closest, count);
        }
    }
    if closest.len() > count {
        shrink(&mut closest, count);
    }
    closest
}

/// Keeps the `count` closest rows and returns the distance that a further row has to undercut.
fn shrink(closest: &mut Vec<Candidate>, count: usize) -> u64 {
    let (_, last, _) = closest.select_nth_unstable_by_key(count - 1, |candidate| candidate.distance);
    let limit = u64::from(last.distance);
    closest.truncate(count);
    limit
}

/// The exact cosine of every candidate that is still there, in the candidates' order.
fn compare(blocks: &Blocks, candidates: &[Candidate], query: &Vector) -> Vec<Neighbour> {
    let query = ArrayView1::from(query);
    let mut vectors = Array2::<f32>::zeros((RERANK_ROWS, DIMENSIONS));
    let mut ids = Vec::with_capacity(RERANK_ROWS);
    let mut found = Vec::with_capacity(candidates.len());
    for chunk in candidates.chunks(RERANK_ROWS) {
        ids.clear();
        for candidate in chunk {
            let block = read(&blocks[candidate.place.block as usize]);
            let mut row = vectors.row_mut(ids.len());
            let target = row.as_slice_mut().expect("invariant: rows of a fresh row-major array are contiguous");
            if block.copy_vector(candidate.id, candidate.place.row as usize, target) {
                ids.push(candidate.id);
            }
        }
        let similarities = vectors.slice(s![..ids.len(), ..]).dot(&query);
        found.extend(
            ids.iter()
                .zip(similarities)
                .map(|(&id, similarity)| Neighbour { id, similarity: similarity.clamp(-1.0, 1.0) }),
        );
    }
    found
}
