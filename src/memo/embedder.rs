//! An embedder that first asks whether another instance has embedded a text: a question to Redis takes a tenth of a
//! millisecond, the local model many times that. What is kept there is found by the weights' name and the text, and sealed
//! by them: who does not have the text has nothing of it.

use std::sync::Arc;
use std::time::Duration;

use super::key::{Key, Scope};
use super::tags::Tag;
use super::{Memo, Space};
use crate::embedding::{DIM, EmbedError, EmbedFuture, Embedded, Embedder, EmbedderId, Embedding, WordVectors};

/// The longest that a look-up, whose embedder is to begin within milliseconds, waits for Redis.
const PATIENCE: Duration = Duration::from_millis(5);

/// Bytes of a sentence's vector.
const VECTOR: usize = 4 * DIM;

/// The embedder, in front of the one that computes.
pub struct SharedEmbedder {
    memo: Memo,
    embedder: Arc<dyn Embedder>,
    ttl: Duration,
}

impl SharedEmbedder {
    /// Vectors are kept for `ttl`.
    pub fn new(memo: Memo, embedder: Arc<dyn Embedder>, ttl: Duration) -> Self {
        Self { memo, embedder, ttl }
    }

    fn key(&self, text: &str) -> Key {
        // A text means the same whoever says it.
        Key::of("embedding", 1, Scope::Public, &(self.id().as_str(), text)).within(Space::Embeddings)
    }

    async fn found(&self, keys: &[Key], patience: Option<Duration>) -> Vec<Option<Embedded>> {
        let finding = self.memo.left_under(keys);
        let found = match patience {
            Some(_) => tokio::time::timeout(PATIENCE, finding).await.unwrap_or_default(),
            None => finding.await,
        };
        let mut found = found.into_iter().map(|bytes| read(&bytes?)).collect::<Vec<_>>();
        found.resize(keys.len(), None);
        found
    }
}

impl Embedder for SharedEmbedder {
    fn id(&self) -> &EmbedderId {
        self.embedder.id()
    }

    fn embed(&self, texts: Vec<String>, patience: Option<Duration>) -> EmbedFuture<'_> {
        Box::pin(async move {
            let keys: Vec<Key> = texts.iter().map(|text| self.key(text)).collect();
            let counts = self.memo.counts([Tag::of_space(Space::Embeddings)].into_iter());
            let mut found = self.found(&keys, patience).await;
            let unknown: Vec<usize> = (0..texts.len()).filter(|&at| found[at].is_none()).collect();
            if !unknown.is_empty() {
                let missing = unknown.iter().map(|&at| texts[at].clone()).collect();
                let made = self.embedder.embed(missing, patience).await?;
                for (at, embedded) in unknown.into_iter().zip(made) {
                    self.memo.leave(&keys[at], self.ttl, counts.as_ref(), &write(&embedded));
                    found[at] = Some(embedded);
                }
            }
            // An embedder that answers with too few vectors has broken off in the middle.
            found.into_iter().map(|embedded| embedded.ok_or(EmbedError::Stopped)).collect()
        })
    }
}

/// Tokens with the sign of a text that was too long, the text's vector, those of its words.
fn write(embedded: &Embedded) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5 + VECTOR);
    bytes.push(u8::from(embedded.truncated));
    bytes.extend_from_slice(&embedded.tokens.to_le_bytes());
    bytes.extend_from_slice(&embedded.embedding.to_bytes());
    bytes.extend_from_slice(&embedded.words.to_bytes());
    bytes
}

fn read(bytes: &[u8]) -> Option<Embedded> {
    let (truncated, rest) = bytes.split_first()?;
    let (tokens, rest) = rest.split_first_chunk()?;
    let (vector, words) = rest.split_at_checked(VECTOR)?;
    Some(Embedded {
        embedding: Embedding::from_bytes(vector).ok()?,
        words: WordVectors::from_bytes(words).ok()?,
        truncated: *truncated != 0,
        tokens: u32::from_le_bytes(*tokens),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedding_is_read_as_it_was_written() {
        let mut words = WordVectors::default();
        words.push("café", &std::array::from_fn(|i| (i as f32).sin()));
        let embedding = Embedding::new(&std::array::from_fn::<_, DIM, _>(|i| (i as f32).cos())).unwrap();
        let embedded = Embedded { embedding, words, truncated: true, tokens: 70_000 };
        let again = read(&write(&embedded)).unwrap();
        assert!(again.embedding.cosine(&embedded.embedding).get() > 0.999_999);
        assert_eq!((again.words, again.truncated, again.tokens), (embedded.words.clone(), true, 70_000));
        let bytes = write(&embedded);
        assert!((0..5 + VECTOR).all(|end| read(&bytes[..end]).is_none()));
    }
}
