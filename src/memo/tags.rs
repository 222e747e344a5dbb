//! What values depend on, and how they fall with it. A tag is a number below 16,384, so that what must be remembered of all
//! tags that ever fell is bounded: where two share a number, values fall that need not, and none stays that must fall.

use std::sync::atomic::{AtomicU64, Ordering};

use super::key::{CacheKey, Key, KeyWriter, Scope};
use super::space::Space;

/// How many there are.
pub(super) const SLOTS: u16 = 1 << 14;

/// Something that values depend on: a table, a thing, whatever a writer can name. It falls in its scope alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(pub(super) u16);

impl Tag {
    /// What `name` names, of `scope`.
    pub fn of(scope: Scope<'_>, name: &str) -> Self {
        Self::among_many(&Key::of("ish tag", 1, scope, name).name)
    }

    /// That of all values of a cache.
    pub(super) fn of_space(space: Space) -> Self {
        Self(space as u16)
    }

    /// That of one key alone.
    pub(super) fn of_key(key: &Key) -> Self {
        Self::among_many(&key.name)
    }

    fn among_many(digest: &[u8; 32]) -> Self {
        let [.., low, high] = *digest;
        let first = Space::ALL.len() as u16;
        Self(first + u16::from_le_bytes([low, high]) % (SLOTS - first))
    }
}

impl CacheKey for Tag {
    fn feed(&self, writer: &mut KeyWriter) {
        self.0.feed(writer);
    }
}

/// How often each tag fell here.
pub(super) struct Falls {
    of: Box<[AtomicU64]>,
}

impl Falls {
    pub fn new() -> Self {
        Self { of: (0..SLOTS).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Now, for what depends on `tags`; asked before what is kept is looked for or made.
    pub fn moment(&self, tags: impl Iterator<Item = Tag>) -> Moment {
        Moment(tags.map(|tag| (tag, self.count(tag))).collect())
    }

    /// Whether nothing of it has fallen since.
    pub fn is_current(&self, moment: &Moment) -> bool {
        moment.0.iter().all(|&(tag, count)| self.count(tag) == count)
    }

    /// Whatever depends on it and was begun before now is not served after.
    pub fn fall(&self, tag: Tag) {
        self.of[usize::from(tag.0)].fetch_add(1, Ordering::AcqRel);
    }

    fn count(&self, tag: Tag) -> u64 {
        self.of[usize::from(tag.0)].load(Ordering::Acquire)
    }
}

/// When a value was begun, by what had fallen of that which it depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment(Box<[(Tag, u64)]>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_begun_before_a_fall_is_current_no_longer() {
        let (falls, one, other) = (Falls::new(), Tag(7), Tag(8));
        let (of_one, of_both) = (falls.moment([one].into_iter()), falls.moment([one, other].into_iter()));
        falls.fall(other);
        assert!(falls.is_current(&of_one) && !falls.is_current(&of_both));
        assert!(falls.is_current(&falls.moment([one, other].into_iter())));
    }

    #[test]
    fn a_tag_is_its_scopes_own() {
        assert_eq!(Tag::of(Scope::Tenant("t"), "orders"), Tag::of(Scope::Tenant("t"), "orders"));
        assert_ne!(Tag::of(Scope::Tenant("t"), "orders"), Tag::of(Scope::Tenant("u"), "orders"));
        assert_ne!(Tag::of(Scope::Tenant("t"), "orders"), Tag::of(Scope::Tenant("t"), "users"));
    }

    proptest! {
        #[test]
        fn no_tag_of_a_name_is_a_whole_caches(name in "[a-z]{0,8}") {
            let tag = Tag::of(Scope::Public, &name);
            prop_assert!(tag.0 < SLOTS && Space::ALL.iter().all(|space| Tag::of_space(*space) != tag));
        }
    }
}
