//! What the cache tells other instances of its writes, in the rows of the change log: names of entries, and what an
//! eviction meant.

use super::entry::Entry;
use super::key::{Place, entry_id};
use super::scope::Digest;
use super::stored::Selection;
use super::{index::EntryId, index::PartitionId};
use crate::changes::{Change, Kind};

/// Names in one row: 64 KiB.
const NAMES: usize = 1_024;

/// An entry as told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    /// Its exact key.
    pub key: Digest,
    /// Where the index has it.
    pub partition: Option<Digest>,
}

impl Name {
    /// A stored entry's: in the index are those that have a vector.
    pub(super) fn of(entry: &Entry) -> Self {
        let place = entry.place.filter(|_| entry.matching.get().is_some());
        Self { key: entry.key, partition: place.map(|place| place.partition) }
    }

    /// An evicted entry's.
    pub(super) fn evicted(key: Digest, place: Option<Place>) -> Self {
        Self { key, partition: place.map(|place| place.partition) }
    }

    /// Its place in the index.
    pub(super) fn in_index(self) -> Option<(PartitionId, EntryId)> {
        Some((PartitionId(self.partition?.0), entry_id(self.key)))
    }

    fn read(bytes: [u8; 64]) -> Self {
        let (key, partition) = bytes.split_at(32);
        let digest = |bytes: &[u8]| Digest(bytes.try_into().unwrap_or_default());
        Self { key: digest(key), partition: Some(digest(partition)).filter(|partition| partition.0 != [0; 32]) }
    }
}

/// The names in a row.
pub(super) fn names(digests: &[u8]) -> Vec<Name> {
    digests.as_chunks().0.iter().map(|bytes| Name::read(*bytes)).collect()
}

fn bytes(names: &[Name]) -> Vec<u8> {
    names
        .iter()
        .flat_map(|name| [name.key.0, name.partition.map_or([0; 32], |partition| partition.0)])
        .flatten()
        .collect()
}

/// That these entries were stored, as the names of a change.
pub(super) fn learned<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<u8> {
    bytes(&entries.map(Name::of).collect::<Vec<_>>())
}

/// What was meant was evicted, and with it these; the selection stands in the first row.
pub(super) fn evicted(
    tenant: &str,
    generation: u64,
    selection: &Selection,
    gone: &[(Digest, Option<Place>)],
) -> Vec<Change> {
    let names: Vec<_> = gone.iter().map(|(key, place)| Name::evicted(*key, *place)).collect();
    let row = |names| Change { generation: Some(generation), ..Change::of(Kind::Evicted, tenant, bytes(names)) };
    let mut rows: Vec<_> = names.chunks(NAMES).map(row).collect();
    if rows.is_empty() {
        rows.push(row(&[]));
    }
    rows[0].selection = serde_json::to_string(selection).ok();
    rows
}

/// These two questions never match again.
pub(super) fn blocked(tenant: &str, asked: Digest, answered: Digest) -> Change {
    Change::of(Kind::Blocked, tenant, [asked.0, answered.0].concat())
}

/// The pairs in a row.
pub(super) fn pairs(digests: &[u8]) -> impl Iterator<Item = (Digest, Digest)> {
    let digest = |bytes: &[u8]| Digest(bytes.try_into().unwrap_or_default());
    digests.as_chunks::<64>().0.iter().map(move |pair| (digest(&pair[..32]), digest(&pair[32..])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(partition: u8) -> Place {
        Place { normalized: Digest([1; 32]), partition: Digest([partition; 32]) }
    }

    proptest! {
        #[test]
        fn names_are_read_as_they_were_written(partitions in prop::collection::vec(prop::option::of(1_u8..), 0..3_000)) {
            let gone: Vec<_> = partitions
                .iter()
                .enumerate()
                .map(|(key, partition)| (Digest([key as u8; 32]), partition.map(place)))
                .collect();
            let rows = evicted("t", 7, &Selection::Tag("a\"b".to_owned()), &gone);
            prop_assert!(rows.iter().all(|row| row.digests.len() <= 64 * NAMES && row.generation == Some(7)));
            prop_assert_eq!(rows.iter().filter(|row| row.selection.is_some()).count(), 1);
            let read: Vec<_> = rows.iter().flat_map(|row| names(&row.digests)).collect();
            let wrote: Vec<_> = gone.iter().map(|(key, place)| Name::evicted(*key, *place)).collect();
            prop_assert_eq!(read, wrote);
        }
    }

    #[test]
    fn a_pair_keeps_its_order() {
        let row = blocked("t", Digest([1; 32]), Digest([2; 32]));
        assert_eq!(pairs(&row.digests).collect::<Vec<_>>(), [(Digest([1; 32]), Digest([2; 32]))]);
    }
}
