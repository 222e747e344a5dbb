//! A value as it leaves the process: sealed by the key's own secret, which only those have who ask for the same, so that who
//! reads Redis reads no value, and who writes there makes none that is believed. It says how long it is good and of which
//! counts of its tags it is.
//!
//! BLAKE3, keyed: its output under a nonce covers the content, its digest over all of it tells damage.

use super::key::Key;
use super::tags::{SLOTS, Tag};
use super::told::Counts;

/// The form that values are written in.
const FORM: u8 = 1;

/// What tells two values of one key apart.
const NONCE: usize = 16;

/// The check.
const CHECK: usize = 16;

/// Before the covered content.
const HEAD: usize = 1 + NONCE + CHECK;

/// What a value says.
#[derive(Debug, PartialEq)]
pub(super) struct Opened {
    /// Milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
    pub counts: Counts,
    pub body: Vec<u8>,
}

/// A value is not what was kept under its key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value is not what was kept under its key")]
pub(super) struct Damaged;

/// Writes a value.
pub(super) fn seal(key: &Key, expires_at_ms: u64, counts: &[(Tag, u64)], body: &[u8]) -> Vec<u8> {
    let nonce = uuid::Uuid::new_v4().into_bytes();
    let mut content = Vec::with_capacity(HEAD + 9 + counts.len() * 10 + body.len());
    content.extend_from_slice(&expires_at_ms.to_le_bytes());
    content.extend_from_slice(&(counts.len() as u16).to_le_bytes());
    for (tag, count) in counts {
        content.extend_from_slice(&tag.0.to_le_bytes());
        content.extend_from_slice(&count.to_le_bytes());
    }
    content.extend_from_slice(body);
    cover(key, nonce, &mut content);
    [&[FORM], nonce.as_slice(), &check(key, nonce, &content), &content].concat()
}

/// Reads it; `None` where it is of another form.
pub(super) fn open(key: &Key, value: &[u8]) -> Result<Option<Opened>, Damaged> {
    let (head, content) = value.split_at_checked(HEAD).ok_or(Damaged)?;
    if head[0] != FORM {
        return Ok(None);
    }
    let nonce: [u8; NONCE] = head[1..=NONCE].try_into().map_err(|_| Damaged)?;
    if head[1 + NONCE..] != check(key, nonce, content) {
        return Err(Damaged);
    }
    let mut content = content.to_vec();
    cover(key, nonce, &mut content);
    read(&content).ok_or(Damaged).map(Some)
}

fn read(content: &[u8]) -> Option<Opened> {
    let (expires_at_ms, rest) = content.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (counts, body) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)) * 10)?;
    let count = |bytes: &[u8; 10]| {
        let (tag, count) = bytes.split_first_chunk()?;
        Some((Tag(u16::from_le_bytes(*tag) % SLOTS), u64::from_le_bytes(count.try_into().ok()?)))
    };
    let counts = counts.as_chunks().0.iter().map(count).collect::<Option<_>>()?;
    Some(Opened { expires_at_ms: u64::from_le_bytes(*expires_at_ms), counts, body: body.to_vec() })
}

/// Covers the content, or uncovers it.
fn cover(key: &Key, nonce: [u8; NONCE], content: &mut [u8]) {
    let mut stream = vec![0; content.len()];
    blake3::Hasher::new_keyed(&key.seal).update(b"cover").update(&nonce).finalize_xof().fill(&mut stream);
    for (byte, mask) in content.iter_mut().zip(stream) {
        *byte ^= mask;
    }
}

fn check(key: &Key, nonce: [u8; NONCE], content: &[u8]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new_keyed(&key.seal);
    let digest = hasher.update(b"check").update(&[FORM]).update(&nonce).update(content).finalize();
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memo::Scope;

    fn key(name: &str) -> Key {
        Key::of("test", 1, Scope::Public, name)
    }

    #[test]
    fn who_does_not_know_the_key_reads_and_makes_nothing() {
        let value = seal(&key("a"), 7, &[(Tag(3), 4)], b"a secret of some length");
        assert!(!value.windows(6).any(|part| part == b"secret"));
        assert_ne!(value, seal(&key("a"), 7, &[(Tag(3), 4)], b"a secret of some length"), "no two are alike");
        assert_eq!(open(&key("b"), &value), Err(Damaged));
        let same_name = Key { seal: [1; 32], ..key("a") };
        assert_eq!(open(&same_name, &value), Err(Damaged));
    }

    proptest! {
        #[test]
        fn a_value_is_read_as_it_was_written(
            at in any::<u64>(),
            tags in prop::collection::vec((0..SLOTS, any::<u64>()), 0..5),
            body in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let counts: Counts = tags.into_iter().map(|(tag, count)| (Tag(tag), count)).collect();
            let value = seal(&key("a"), at, &counts, &body);
            prop_assert_eq!(open(&key("a"), &value), Ok(Some(Opened { expires_at_ms: at, counts, body })));
        }

        /// Whatever Redis gives back: no other value than the one that was kept.
        #[test]
        fn a_damaged_value_is_none(at in any::<prop::sample::Index>(), flip in 1_u8.., cut in any::<prop::sample::Index>()) {
            let value = seal(&key("a"), 7, &[(Tag(3), 4)], b"body");
            let mut flipped = value.clone();
            flipped[at.index(value.len())] ^= flip;
            for damaged in [&flipped[..], &value[..cut.index(value.len())]] {
                prop_assert!(!matches!(open(&key("a"), damaged), Ok(Some(_))));
            }
        }

        #[test]
        fn any_bytes_are_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!matches!(open(&key("a"), &bytes), Ok(Some(_))));
        }
    }
}
