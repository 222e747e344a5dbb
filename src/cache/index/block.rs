//! A block: up to 512 rows of one partition, the unit that a lock covers.
//!
//! Leaves to `partition` which block a row belongs in and how ids are found again.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::signs::{self, Close, LANES, SignGroup, Signs};
use super::{DIMENSIONS, EntryId, Vector};

/// Rows per block. Its sign bits (24 KiB) are scanned in about a microsecond, which bounds what a writer waits for
/// a reader and a reader for a writer.
pub(super) const BLOCK_ROWS: usize = 512;

/// What a block keeps of a vector; made before any lock is taken.
pub(super) struct Row {
    pub(super) id: EntryId,
    pub(super) expires_at_ms: u64,
    signs: Signs,
    vector: [f16; DIMENSIONS],
}

impl Row {
    pub(super) fn new(id: EntryId, vector: &Vector, expires_at_ms: u64) -> Self {
        let mut halves = [f16::ZERO; DIMENSIONS];
        halves.convert_from_f32_slice(vector);
        Self { id, expires_at_ms, signs: signs::signs(vector), vector: halves }
    }
}

/// Rows in columns; row `i` of every column is the same entry. Columns double as they grow, so a small partition
/// costs little and no growth copies more than half a block.
#[derive(Default)]
pub(super) struct Block {
    ids: Vec<EntryId>,
    expires_at_ms: Vec<u64>,
    signs: Vec<SignGroup>,
    vectors: Vec<[f16; DIMENSIONS]>,
}

impl Block {
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Appends a row and returns its number. The caller has seen that the block is not full.
    pub(super) fn push(&mut self, row: &Row) -> usize {
        let number = self.len();
        if number.is_multiple_of(LANES) {
            self.signs.push(signs::EMPTY_GROUP);
        }
        self.ids.push(row.id);
        self.expires_at_ms.push(row.expires_at_ms);
        self.vectors.push(row.vector);
        self.set_signs(number, &row.signs);
        number
    }

    pub(super) fn replace(&mut self, number: usize, row: &Row) {
        self.ids[number] = row.id;
        self.expires_at_ms[number] = row.expires_at_ms;
        self.vectors[number] = row.vector;
        self.set_signs(number, &row.signs);
    }

    /// Removes a row by moving the last one into its place; returns the id of the row that moved, if one did.
    /// A block that becomes empty gives its memory back.
    pub(super) fn remove(&mut self, number: usize) -> Option<EntryId> {
        let last = self.len() - 1;
        if last == 0 {
            *self = Self::default();
            return None;
        }
        let signs = self.signs_of(last);
        self.set_signs(number, &signs);
        self.ids.swap_remove(number);
        self.expires_at_ms.swap_remove(number);
        self.vectors.swap_remove(number);
        self.signs.truncate(last.div_ceil(LANES));
        (number != last).then(|| self.ids[number])
    }

    /// The first row that has expired at `now_ms`.
    pub(super) fn expired(&self, now_ms: u64) -> Option<EntryId> {
        self.rows().find(|row| !self.is_live(*row, now_ms)).map(|row| self.ids[row])
    }

    /// The rows that have not expired at `now_ms`.
    pub(super) fn live(&self, now_ms: u64) -> impl Iterator<Item = (usize, EntryId)> {
        self.rows().filter(move |row| self.is_live(*row, now_ms)).map(|row| (row, self.ids[row]))
    }

    /// Puts the live rows that differ from `query` in fewer than `limit` sign bits into `close`, with their ids
    /// left to `id`; whatever `close` held is dropped.
    pub(super) fn scan(&self, query: &Signs, limit: u64, now_ms: u64, close: &mut Vec<Close>) {
        close.clear();
        signs::scan(&self.signs, query, limit, close);
        // The last group may have lanes beyond the last row.
        close.retain(|found| usize::from(found.row) < self.len() && self.is_live(usize::from(found.row), now_ms));
    }

    pub(super) fn id(&self, number: usize) -> EntryId {
        self.ids[number]
    }

    /// Writes an entry's vector into `target` in single precision and says whether it is (still) here. `expected`
    /// is where it was last seen; a removal may have moved it since.
    pub(super) fn copy_vector(&self, id: EntryId, expected: usize, target: &mut [f32]) -> bool {
        let here = self.ids.get(expected) == Some(&id);
        let row = if here { Some(expected) } else { self.ids.iter().position(|other| *other == id) };
        let Some(row) = row else { return false };
        self.vectors[row].convert_to_f32_slice(target);
        true
    }

    pub(super) fn bytes(&self) -> usize {
        self.ids.capacity() * size_of::<EntryId>()
            + self.expires_at_ms.capacity() * size_of::<u64>()
            + self.signs.capacity() * size_of::<SignGroup>()
            + self.vectors.capacity() * size_of::<[f16; DIMENSIONS]>()
    }

    fn rows(&self) -> std::ops::Range<usize> {
        0..self.len()
    }

    fn is_live(&self, number: usize, now_ms: u64) -> bool {
        now_ms < self.expires_at_ms[number]
    }

    fn signs_of(&self, number: usize) -> Signs {
        let group = &self.signs[number / LANES];
        std::array::from_fn(|word| group[word][number % LANES])
    }

    fn set_signs(&mut self, number: usize, signs: &Signs) {
        let group = &mut self.signs[number / LANES];
        for (words, bits) in group.iter_mut().zip(signs) {
            words[number % LANES] = *bits;
        }
    }
}
