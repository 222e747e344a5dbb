//! How often tags fell on all instances, as far as this one knows: what another one kept before a tag's last fall is told by
//! it from what came after. Postgres counts; here is what the change log and our own falls said last.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::tags::{SLOTS, Tag};
use crate::changes::Change;

/// Of a tag that fell, it is not known whether for others too.
const IN_DOUBT: u64 = u64::MAX;

/// The counts.
pub(super) struct Told {
    counts: Box<[AtomicU64]>,
    /// Whether all that is stored was read; what was heard before then is not all.
    is_loaded: AtomicBool,
}

/// How often each tag that a value depends on had fallen when it was begun.
pub(super) type Counts = Box<[(Tag, u64)]>;

impl Told {
    pub fn new() -> Self {
        Self { counts: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), is_loaded: AtomicBool::new(false) }
    }

    /// Those of `tags`; `None` where one of them is not known.
    pub fn counts(&self, tags: impl Iterator<Item = Tag>) -> Option<Counts> {
        tags.map(|tag| Some((tag, self.count(tag)?))).collect()
    }

    /// Whether nothing fell since a value with these was begun.
    pub fn is_current(&self, counts: &[(Tag, u64)]) -> bool {
        counts.iter().all(|&(tag, count)| self.count(tag).is_some_and(|last| last <= count))
    }

    /// Says that a tag has fallen so often; false where that was known.
    pub fn raise(&self, tag: Tag, count: u64) -> bool {
        let later = |last| (last == IN_DOUBT || last < count).then_some(count);
        self.cell(tag).fetch_update(Ordering::AcqRel, Ordering::Acquire, later).is_ok()
    }

    /// These are stored. What was heard of later falls stays.
    pub fn load(&self, stored: &[(Tag, u64)]) {
        for cell in &self.counts {
            let _ = cell.compare_exchange(IN_DOUBT, 0, Ordering::AcqRel, Ordering::Acquire);
        }
        for &(tag, count) in stored {
            self.raise(tag, count);
        }
        self.is_loaded.store(true, Ordering::Release);
    }

    /// A tag may have fallen, and nobody can say: nothing that depends on it is exchanged until that is known.
    pub fn doubt(&self, tag: Tag) {
        self.cell(tag).store(IN_DOUBT, Ordering::Release);
    }

    /// Some may have fallen that nothing was heard of: none is known until the next load.
    pub fn doubt_all(&self) {
        self.is_loaded.store(false, Ordering::Release);
    }

    fn count(&self, tag: Tag) -> Option<u64> {
        let count = self.cell(tag).load(Ordering::Acquire);
        (count != IN_DOUBT && self.is_loaded.load(Ordering::Acquire)).then_some(count)
    }

    fn cell(&self, tag: Tag) -> &AtomicU64 {
        &self.counts[usize::from(tag.0 % SLOTS)]
    }
}

/// What others have to know of a fall.
pub(super) fn change(fallen: &[(Tag, u64)]) -> Change {
    let fallen: Vec<(u16, u64)> = fallen.iter().map(|(tag, count)| (tag.0, *count)).collect();
    Change::fallen(serde_json::json!(fallen).to_string())
}

/// The same, as it is read.
pub(super) fn fallen(change: &Change) -> Vec<(Tag, u64)> {
    let fallen = change.selection.as_deref().map(serde_json::from_str::<Vec<(u16, u64)>>);
    let fallen = fallen.and_then(Result::ok).unwrap_or_default();
    fallen.into_iter().map(|(tag, count)| (Tag(tag % SLOTS), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_known_from_the_load_on_and_never_falls_back() {
        let (told, tag) = (Told::new(), Tag(5));
        let count = || told.counts([tag].into_iter()).map(|counts| counts[0].1);
        assert!(told.raise(tag, 7));
        assert_eq!(count(), None, "not all is known");
        told.load(&[(tag, 6)]);
        assert_eq!(count(), Some(7));
        assert!(!told.raise(tag, 7) && !told.raise(tag, 6) && told.raise(tag, 8));
        assert!(
            told.is_current(&[(tag, 8)]) && !told.is_current(&[(tag, 7)]) && !told.is_current(&[(Tag(6), 0), (tag, 7)])
        );
        told.doubt_all();
        assert!(count().is_none() && !told.is_current(&[(tag, 8)]));
    }

    #[test]
    fn a_tag_in_doubt_is_known_by_the_next_word_of_it() {
        let (told, tag) = (Told::new(), Tag(5));
        told.load(&[(tag, 3)]);
        told.doubt(tag);
        assert_eq!(told.counts([tag].into_iter()), None);
        assert!(told.counts([Tag(6)].into_iter()).is_some());
        assert!(told.raise(tag, 4));
        assert!(told.is_current(&[(tag, 4)]) && !told.is_current(&[(tag, 3)]));
        told.doubt(tag);
        told.load(&[]);
        assert!(told.counts([tag].into_iter()).is_some());
    }

    #[test]
    fn what_fell_is_read_as_it_was_told() {
        let all = [(Tag(0), 1), (Tag(SLOTS - 1), u64::MAX / 2)];
        assert_eq!(fallen(&change(&all)), all);
        assert_eq!(fallen(&Change::fallen("nothing".to_owned())), []);
    }
}
