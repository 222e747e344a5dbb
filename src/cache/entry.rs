//! A cached answer with what is needed to match it, to replay it and to say where it came from.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::key::Place;
use super::scope::Digest;
use super::touched::Person;
use super::verify::Profile;
use crate::embedding::{Embedding, WordVectors};
use crate::message::Completion;

/// What the verifier compares.
#[derive(Debug)]
pub struct Matching {
    /// Whose vectors these are.
    pub embedder: String,
    /// The prompt's vector.
    pub embedding: Embedding,
    /// Its words' vectors; empty where the embedder gives none.
    pub words: WordVectors,
    profile: OnceLock<Profile>,
}

impl Matching {
    /// From the embedder's output.
    pub fn new(embedder: String, embedding: Embedding, words: WordVectors) -> Self {
        Self { embedder, embedding, words, profile: OnceLock::new() }
    }
}

/// A cached answer.
#[derive(Debug)]
pub struct Entry {
    /// The exact key.
    pub key: Digest,
    /// The further keys of a plain-text question.
    pub place: Option<Place>,
    /// Whose.
    pub tenant: String,
    /// The scope as JSON, for people.
    pub scope: String,
    /// The last turn's text.
    pub prompt: String,
    /// The answer.
    pub completion: Arc<Completion>,
    /// Who gave it.
    pub provider: String,
    /// How long that took.
    pub elapsed_ms: u64,
    /// Who asked for it; `None` in an entry made by an earlier version.
    pub made_by: Option<Person>,
    /// The caller's tags.
    pub tags: Vec<String>,
    /// The tenant's generation when it was made here, where that was known; never stored with it.
    pub generation: Option<u64>,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// Absolute; never moved by a hit.
    pub expires_at_ms: u64,
    /// Filled once the prompt is embedded.
    pub matching: OnceLock<Matching>,
    /// Reply bytes without their changing parts, made at the first replay; owned by the dialect that made them.
    pub templates: OnceLock<ReplyTemplates>,
}

/// What stays the same in every replay in OpenAI's dialect.
#[derive(Debug)]
pub struct ReplyTemplates {
    /// A whole reply after `id` and `created`: from the model's name to the end of `usage`.
    pub json: Bytes,
    /// The `choices` member of each chunk of a stream.
    pub chunks: Vec<String>,
    /// The `usage` that the answer had when it was made, as JSON.
    pub saved_usage: String,
}

impl Entry {
    /// Whether it may still be served at `now_ms`.
    pub fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms < self.expires_at_ms
    }

    /// Whole seconds since it was made.
    pub fn age_s(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.created_at_ms) / 1000
    }

    /// Whole seconds that it may still be served.
    pub fn ttl_s(&self, now_ms: u64) -> u64 {
        self.expires_at_ms.saturating_sub(now_ms) / 1000
    }

    /// What the verifier reads in the prompt; read once.
    pub fn profile(&self) -> Option<&Profile> {
        let matching = self.matching.get()?;
        Some(matching.profile.get_or_init(|| Profile::new(&self.prompt)))
    }

    /// Its share of L1's bytes: the answer, vectors, and the two templates that the first replays add.
    pub fn weight(&self) -> u32 {
        let answer = self.completion.heap_bytes();
        let vectors =
            self.matching.get().map_or(1_536, |matching| 1_536 + matching.words.len() * (crate::embedding::DIM + 32));
        let bytes = 768 + self.prompt.len() * 2 + self.scope.len() + answer * 3 + vectors;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}
