//! L2: answers in the Redis that instances share, by exact key, and by normalized key through the exact one. What is read
//! there is believed only if it is whole, was written under this very key, and is not of an earlier generation than the tenant is in:
//! Redis may lose what it has, and bring back what it had.

use std::sync::{Arc, OnceLock};

use ::redis::{Cmd, cmd, pipe};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::entry::Entry;
use super::key::{Keys, Place};
use super::memory::FoundBy;
use super::scope::Digest;
use super::touched::Person;
use crate::redis::{Redis, RedisError};

/// The form that values are written in.
const FORM: u8 = 1;

/// Before a value's content: its form, the generation, and half a digest over all of it.
const HEAD: usize = 1 + 8 + 16;

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SharedError {
    /// Redis gave no answer.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// Something else than was written under this key.
    #[error("a value is not what was written under its key")]
    Damaged,
}

/// The tier.
#[derive(Clone)]
pub(super) struct Shared {
    redis: Redis,
}

impl Shared {
    pub(super) fn new(redis: Redis) -> Self {
        Self { redis }
    }

    /// The fresh entry of the exact key, else of the normalized one, of the tenant's present generation.
    pub(super) async fn find(
        &self,
        tenant: &str,
        keys: &Keys,
        generation: u64,
        now_ms: u64,
    ) -> Result<Option<(Arc<Entry>, FoundBy)>, SharedError> {
        let normalized = keys.place().map(|place| place.normalized);
        let mut command = cmd("MGET");
        command.arg(self.entry_name(keys.exact));
        if let Some(normalized) = normalized {
            command.arg(self.alias_name(normalized));
        }
        let values: Vec<Option<Vec<u8>>> = self.redis.query("cache_find", &command).await?;
        let mut values = values.into_iter();
        let fits = |entry: &Entry| entry.tenant == tenant && entry.is_fresh(now_ms);
        let exact = values.next().flatten();
        if let Some(entry) = exact.map(|value| read_entry(keys.exact, generation, &value)).transpose()?.flatten()
            && fits(&entry)
        {
            return Ok(Some((Arc::new(entry), FoundBy::Exact)));
        }
        let (Some(normalized), Some(alias)) = (normalized, values.next().flatten()) else { return Ok(None) };
        let Some(key) = read_alias(normalized, generation, &alias)? else { return Ok(None) };
        let get = Cmd::get(self.entry_name(key));
        let value: Option<Vec<u8>> = self.redis.query("cache_find", &get).await?;
        let entry = value.map(|value| read_entry(key, generation, &value)).transpose()?.flatten();
        let is_meant = |entry: &Entry| fits(entry) && entry.place.is_some_and(|place| place.normalized == normalized);
        Ok(entry.filter(is_meant).map(|entry| (Arc::new(entry), FoundBy::Normalized)))
    }

    /// Puts entries in, each for as long as it is fresh, as of its tenant's generation when it was known to be valid.
    pub(super) async fn insert(&self, entries: &[(Arc<Entry>, u64)], now_ms: u64) -> Result<(), RedisError> {
        let mut commands = pipe();
        let mut put = |name: String, value: Vec<u8>, left_ms: u64| {
            commands.cmd("SET").arg(name).arg(value).arg("PX").arg(left_ms).ignore();
        };
        for (entry, generation) in entries {
            let left_ms = entry.expires_at_ms.saturating_sub(now_ms);
            let Some(value) = write_entry(entry, *generation).filter(|_| left_ms > 0) else { continue };
            put(self.entry_name(entry.key), value, left_ms);
            if let Some(place) = entry.place {
                put(self.alias_name(place.normalized), write(place.normalized, *generation, &entry.key.0), left_ms);
            }
        }
        if commands.is_empty() {
            return Ok(());
        }
        self.redis.pipeline("cache_insert", &commands).await
    }

    fn entry_name(&self, key: Digest) -> String {
        self.redis.key(format_args!("entry:{key}"))
    }

    fn alias_name(&self, normalized: Digest) -> String {
        self.redis.key(format_args!("alias:{normalized}"))
    }
}

/// An entry's content. Vectors stay in the store: matching by meaning reads there.
#[derive(Serialize, Deserialize)]
struct Content {
    normalized: Option<Digest>,
    partition: Option<Digest>,
    tenant: String,
    scope: String,
    prompt: String,
    completion: Box<RawValue>,
    provider: String,
    elapsed_ms: u64,
    made_by: Option<[u8; 16]>,
    tags: Vec<String>,
    created_at_ms: u64,
    expires_at_ms: u64,
}

/// `None` for an answer that cannot be written.
fn write_entry(entry: &Entry, generation: u64) -> Option<Vec<u8>> {
    let content = Content {
        normalized: entry.place.map(|place| place.normalized),
        partition: entry.place.map(|place| place.partition),
        tenant: entry.tenant.clone(),
        scope: entry.scope.clone(),
        prompt: entry.prompt.clone(),
        completion: to_raw_value(entry.completion.as_ref()).ok()?,
        provider: entry.provider.clone(),
        elapsed_ms: entry.elapsed_ms,
        made_by: entry.made_by.map(Person::bytes),
        tags: entry.tags.clone(),
        created_at_ms: entry.created_at_ms,
        expires_at_ms: entry.expires_at_ms,
    };
    Some(write(entry.key, generation, &serde_json::to_vec(&content).ok()?))
}

/// `None` where it is of an earlier generation.
fn read_entry(key: Digest, generation: u64, value: &[u8]) -> Result<Option<Entry>, SharedError> {
    let Some((generation, content)) = read(key, generation, value)? else { return Ok(None) };
    let content: Content = serde_json::from_slice(content).map_err(|_| SharedError::Damaged)?;
    let completion = serde_json::from_str(content.completion.get()).map_err(|_| SharedError::Damaged)?;
    let place = content.normalized.zip(content.partition);
    Ok(Some(Entry {
        key,
        place: place.map(|(normalized, partition)| Place { normalized, partition }),
        tenant: content.tenant,
        scope: content.scope,
        prompt: content.prompt,
        completion: Arc::new(completion),
        provider: content.provider,
        elapsed_ms: content.elapsed_ms,
        made_by: content.made_by.and_then(|bytes| Person::from_bytes(&bytes)),
        tags: content.tags,
        generation: Some(generation),
        created_at_ms: content.created_at_ms,
        expires_at_ms: content.expires_at_ms,
        matching: OnceLock::new(),
        templates: OnceLock::new(),
    }))
}

fn read_alias(normalized: Digest, generation: u64, value: &[u8]) -> Result<Option<Digest>, SharedError> {
    let Some((_, content)) = read(normalized, generation, value)? else { return Ok(None) };
    content.try_into().map(|key| Some(Digest(key))).map_err(|_| SharedError::Damaged)
}

/// A value under `key`.
fn write(key: Digest, generation: u64, content: &[u8]) -> Vec<u8> {
    let generation = generation.to_le_bytes();
    [&[FORM], generation.as_slice(), &check(key, generation, content), content].concat()
}

/// The generation and the content of a value under `key`; `None` where it is of another form or an earlier generation.
fn read(key: Digest, generation: u64, value: &[u8]) -> Result<Option<(u64, &[u8])>, SharedError> {
    let (head, content) = value.split_at_checked(HEAD).ok_or(SharedError::Damaged)?;
    let (form, of, checked) = (head[0], &head[1..9], &head[9..]);
    if form != FORM {
        return Ok(None);
    }
    let of = of.first_chunk().copied().unwrap_or_default();
    if checked != check(key, of, content) {
        return Err(SharedError::Damaged);
    }
    let of = u64::from_le_bytes(of);
    Ok((of >= generation).then_some((of, content)))
}

fn check(key: Digest, generation: [u8; 8], content: &[u8]) -> [u8; 16] {
    let digest = Digest::of("ish shared v1", &[&[FORM], &key.0, &generation, content]);
    digest.0.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Completion;

    fn entry() -> Entry {
        Entry {
            key: Digest([1; 32]),
            place: Some(Place { normalized: Digest([2; 32]), partition: Digest([3; 32]) }),
            tenant: "t".to_owned(),
            scope: r#"{"model":"m"}"#.to_owned(),
            prompt: "Why \"żółw\"?".to_owned(),
            completion: Arc::new(Completion::of_text("m", "Because.\0", None)),
            provider: "p".to_owned(),
            elapsed_ms: 7,
            made_by: Some(Person::of(uuid::Uuid::nil(), Some("ann"))),
            tags: vec!["a".to_owned()],
            generation: None,
            created_at_ms: 10,
            expires_at_ms: 1_000,
            matching: OnceLock::new(),
            templates: OnceLock::new(),
        }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let entry = entry();
        let read = read_entry(entry.key, 5, &write_entry(&entry, 5).unwrap()).unwrap().unwrap();
        assert_eq!((read.key, read.place, read.made_by), (entry.key, entry.place, entry.made_by));
        let texts = |entry: &Entry| {
            [&entry.tenant, &entry.scope, &entry.prompt, &entry.provider, &entry.tags[0]].map(String::clone)
        };
        assert_eq!(texts(&read), texts(&entry));
        assert_eq!(read.completion.text(), "Because.\0");
        assert_eq!((read.elapsed_ms, read.created_at_ms, read.expires_at_ms), (7, 10, 1_000));
    }

    #[test]
    fn a_value_of_an_earlier_generation_is_none() {
        let value = write_entry(&entry(), 5).unwrap();
        for (generation, is_there) in [(4, true), (5, true), (6, false)] {
            assert_eq!(read_entry(entry().key, generation, &value).unwrap().is_some(), is_there, "{generation}");
        }
    }

    #[test]
    fn a_value_under_another_key_is_damaged() {
        let value = write_entry(&entry(), 5).unwrap();
        assert!(matches!(read_entry(Digest([9; 32]), 5, &value), Err(SharedError::Damaged)));
        let alias = write(Digest([2; 32]), 5, &[1; 32]);
        assert!(matches!(read_alias(Digest([2; 32]), 5, &alias), Ok(Some(key)) if key == entry().key));
        assert!(matches!(read_entry(Digest([2; 32]), 5, &alias), Err(SharedError::Damaged)), "no entry");
    }

    proptest! {
        /// Whatever Redis gives back: no other answer than the one that was written.
        #[test]
        fn a_damaged_value_is_a_miss(at in any::<prop::sample::Index>(), flip in 1_u8.., cut in any::<prop::sample::Index>()) {
            let value = write_entry(&entry(), 5).unwrap();
            let mut flipped = value.clone();
            flipped[at.index(value.len())] ^= flip;
            for damaged in [&flipped[..], &value[..cut.index(value.len())]] {
                prop_assert!(!matches!(read_entry(entry().key, 5, damaged), Ok(Some(_))));
                prop_assert!(!matches!(read_alias(entry().key, 5, damaged), Ok(Some(_))));
            }
        }

        #[test]
        fn any_bytes_are_a_miss(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!matches!(read_entry(entry().key, 0, &bytes), Ok(Some(_))));
        }
    }
}
