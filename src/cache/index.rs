//! The in-process vector index: the `k` nearest entries by cosine, inside one partition.
//!
//! A partition is a flat store. Each entry has 48 bytes of sign bits and its vector in half precision. A look-up
//! counts the differing sign bits of every entry (Charikar, "Similarity estimation techniques from rounding
//! algorithms", 2002), keeps the closest few and compares those exactly. There is no graph and no training, so an
//! insert, a removal and an expiry cost a copied row each, and nothing is ever rebuilt.
//!
//! Locks are small: finding a partition takes one shard's read lock, and a scan takes the read lock of one block of
//! 512 rows at a time. A writer therefore holds up readers for the time of one row's copy, and never the readers of
//! another partition.
//!
//! Left to others: which partition a request may see (`scope`), whether a neighbour is good enough (`verify`), and
//! the entries themselves.

mod block;
mod partition;
mod signs;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use self::partition::{Inserted, Partition};

/// The length of every vector: that of the embedding model the product ships.
pub const DIMENSIONS: usize = 384;

/// A vector of unit norm, shape `(384,)`.
pub type Vector = [f32; DIMENSIONS];

/// Names the set of entries that a look-up may see; nothing is ever found across two of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub [u8; 32]);

/// Names one entry inside its partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u128);

/// An entry that a look-up found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// The entry.
    pub id: EntryId,
    /// Its cosine with the query, -1..=1, larger is closer; exact to about 1e-4 (half precision).
    pub similarity: f32,
}

/// All partitions. Every method takes `&self`; share it by `Arc`.
pub struct Index {
    shards: Box<[Shard]>,
    /// Entries in all of them.
    len: AtomicUsize,
    /// How many there may be.
    limit: usize,
    /// Whether an entry was refused for that.
    has_refused: AtomicBool,
}

type Shard = RwLock<HashMap<PartitionId, Arc<Partition>>>;

const SHARDS: usize = 64;

impl Index {
    /// An index without entries.
    pub fn new() -> Self {
        Self::bounded(usize::MAX)
    }

    /// The same, of at most `limit` entries (by a few, where several come at once): further ones are refused.
    pub fn bounded(limit: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Self { shards, len: AtomicUsize::new(0), limit, has_refused: AtomicBool::new(false) }
    }

    /// Adds an entry, or replaces the entry of that id. `vector` has unit norm; the entry is no longer found from
    /// `expires_at_ms` on (milliseconds of the caller's clock, the one that look-ups and `expire` are given).
    pub fn insert(&self, partition: PartitionId, id: EntryId, vector: &Vector, expires_at_ms: u64) {
        if self.len() >= self.limit {
            self.has_refused.store(true, Ordering::Release);
            return;
        }
        // A partition that was freed between our finding it and our writing refuses the row; the next round makes
        // a new one.
        loop {
            match self.find_or_create(partition).insert(id, vector, expires_at_ms) {
                Inserted::Added => {
                    self.len.fetch_add(1, Ordering::AcqRel);
                    return;
                }
                Inserted::Replaced => return,
                Inserted::Closed => {}
            }
        }
    }

    /// Whether an entry was ever refused for want of room: what is not found here may be elsewhere.
    pub fn has_refused(&self) -> bool {
        self.has_refused.load(Ordering::Acquire)
    }

    /// Removes an entry and says whether it was there.
    pub fn remove(&self, partition: PartitionId, id: EntryId) -> bool {
        let Some(found) = self.find(partition) else {
            return false;
        };
        let removed = found.remove(id);
        if removed {
            self.len.fetch_sub(1, Ordering::AcqRel);
        }
        if found.is_empty() {
            self.free_if_empty(partition);
        }
        removed
    }

    /// The entries nearest to `query` (unit norm), at most `k`, in descending similarity (equals by id), without
    /// those that have expired at `now_ms`.
    pub fn nearest(&self, partition: PartitionId, query: &Vector, k: usize, now_ms: u64) -> Vec<Neighbour> {
        match self.find(partition) {
            Some(found) if k > 0 => found.nearest(query, k, now_ms),
            _ => Vec::new(),
        }
    }

    /// Looks for the entries nearest to `query` in the partition that holds most, as any look-up does, and says how many it
    /// holds; `None` where there is none. For measuring: what was found is nobody's to see.
    pub fn look_through_largest(&self, query: &Vector, k: usize, now_ms: u64) -> Option<usize> {
        let (_, largest) = self.partitions().into_iter().max_by_key(|(_, partition)| partition.len())?;
        std::hint::black_box(largest.nearest(query, k, now_ms));
        Some(largest.len())
    }

    /// Whether the partition has any entry, expired ones included. Costs one hash look-up, so that a caller can
    /// spare the embedding where there is nothing to find.
    pub fn holds(&self, partition: PartitionId) -> bool {
        read(self.shard(partition)).contains_key(&partition)
    }

    /// Whether the entry is there.
    pub fn has(&self, partition: PartitionId, id: EntryId) -> bool {
        self.find(partition).is_some_and(|found| found.has(id))
    }

    /// Drops every entry that has expired at `now_ms`, frees the partitions left empty, and says how many entries went.
    pub fn expire(&self, now_ms: u64) -> usize {
        let mut dropped = 0;
        for (id, partition) in self.partitions() {
            dropped += partition.expire(now_ms);
            if partition.is_empty() {
                self.free_if_empty(id);
            }
        }
        self.len.fetch_sub(dropped, Ordering::AcqRel);
        dropped
    }

    /// The number of entries in all partitions, expired ones included until `expire` drops them.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Whether there is no entry at all.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| read(shard).is_empty())
    }

    /// The memory that the index has allocated, in bytes; hash tables are estimated from their capacity.
    pub fn bytes(&self) -> usize {
        let name = size_of::<(PartitionId, Arc<Partition>)>();
        let names: usize = self.shards.iter().map(|shard| read(shard).capacity() * name).sum();
        let rows: usize = self.partitions().iter().map(|(_, partition)| partition.bytes()).sum();
        names + rows
    }

    fn shard(&self, partition: PartitionId) -> &Shard {
        // Partition names are digests, so any of their bytes spreads evenly.
        &self.shards[usize::from(partition.0[0]) % SHARDS]
    }

    fn find(&self, partition: PartitionId) -> Option<Arc<Partition>> {
        read(self.shard(partition)).get(&partition).cloned()
    }

    fn find_or_create(&self, partition: PartitionId) -> Arc<Partition> {
        if let Some(found) = self.find(partition) {
            return found;
        }
        Arc::clone(write(self.shard(partition)).entry(partition).or_default())
    }

    fn free_if_empty(&self, partition: PartitionId) {
        let mut shard = write(self.shard(partition));
        if shard.get(&partition).is_some_and(|found| found.close_if_empty()) {
            shard.remove(&partition);
        }
    }

    /// A copy of the names, so that a long walk holds no shard's lock.
    fn partitions(&self) -> Vec<(PartitionId, Arc<Partition>)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(read(shard).iter().map(|(id, partition)| (*id, Arc::clone(partition))));
        }
        all
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The low half: in a time-ordered UUID that is the random part, which tells entries apart.
        write!(f, "{:08x}", self.0 & 0xffff_ffff)
    }
}

// Nothing under these locks panics; should it ever, the index stays usable: a row is at worst missed.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
