//! Sentence and word vectors: the types that everything about similarity is made of, and the seam to an encoder.
//!
//! Owns [`Embedding`], [`WordVectors`] and the [`Embedder`] trait. Leaves the model to [`minilm`], its tokens to
//! [`wordpiece`], caching and waiting to [`service`], and what a similarity means to `cache::verify`.

pub mod minilm;
mod remote;
pub mod service;
pub mod vectors;
pub mod wordpiece;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use self::minilm::{MiniLm, ModelTimes};
pub use self::remote::Remote;
pub use self::service::{EmbeddingCounts, EmbeddingService, EmbeddingSettings};
pub use self::vectors::WordVectors;

/// Length of every vector.
pub const DIM: usize = 384;

/// The meaning of one text: a vector of [`DIM`] values and length 1. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding(Arc<[f32; DIM]>);

/// Why values are no embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVector {
    /// Not the expected number of values or bytes.
    #[error("{found} instead of {expected} in a vector")]
    Length {
        /// What came.
        found: usize,
        /// What was needed.
        expected: usize,
    },
    /// A value is infinite or not a number, or all are zero: there is no direction.
    #[error("a vector without a direction")]
    Direction,
}

impl Embedding {
    /// Scales `values` to length 1.
    ///
    /// # Errors
    /// [`InvalidVector::Length`] unless there are [`DIM`] values, [`InvalidVector::Direction`] if they have none.
    pub fn new(values: &[f32]) -> Result<Self, InvalidVector> {
        let mut unit: [f32; DIM] =
            values.try_into().map_err(|_| InvalidVector::Length { found: values.len(), expected: DIM })?;
        let length = unit.iter().map(|value| value * value).sum::<f32>().sqrt();
        if !length.is_normal() {
            return Err(InvalidVector::Direction);
        }
        for value in &mut unit {
            *value /= length;
        }
        Ok(Self(Arc::new(unit)))
    }

    /// The values, of unit length.
    pub fn values(&self) -> &[f32; DIM] {
        &self.0
    }

    /// How alike two texts are.
    pub fn cosine(&self, other: &Self) -> Similarity {
        Similarity::clamped(dot(self.values(), other.values()))
    }

    /// The values as little-endian f32, 4 × [`DIM`] bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidVector> {
        let (values, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(InvalidVector::Length { found: bytes.len(), expected: 4 * DIM });
        }
        let values: Vec<f32> = values.iter().map(|&value| f32::from_le_bytes(value)).collect();
        Self::new(&values)
    }
}

/// Inner product. Eight sums side by side let the compiler use vector registers.
pub fn dot(a: &[f32; DIM], b: &[f32; DIM]) -> f32 {
    let mut sums = [0.0_f32; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}

/// Cosine of two vectors, -1 to 1; larger is closer.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Similarity(f32);

impl Similarity {
    /// The same direction.
    pub const MAX: Self = Self(1.0);

    /// Accepts -1 to 1; `None` for anything else.
    pub fn new(cosine: f32) -> Option<Self> {
        (-1.0..=1.0).contains(&cosine).then_some(Self(cosine))
    }

    /// Brings rounding errors back into the range; not a number counts as 0.
    pub fn clamped(cosine: f32) -> Self {
        if cosine.is_nan() { Self(0.0) } else { Self(cosine.clamp(-1.0, 1.0)) }
    }

    /// The larger of the two: of two thresholds, the one that lets less pass.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        if other.0 > self.0 { other } else { self }
    }

    /// The cosine.
    pub const fn get(self) -> f32 {
        self.0
    }

    /// For constants that are written out in the source.
    pub(crate) const fn constant(cosine: f32) -> Self {
        assert!(cosine >= -1.0 && cosine <= 1.0, "a cosine lies between -1 and 1");
        Self(cosine)
    }
}

impl fmt::Display for Similarity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.4}", self.0)
    }
}

/// All that an encoder says about one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// The meaning of the whole text.
    pub embedding: Embedding,
    /// The meaning of each word in its context; empty where the encoder gives none.
    pub words: WordVectors,
    /// The text was longer than the encoder reads: two such texts may differ unseen.
    pub truncated: bool,
    /// Tokens that were read.
    pub tokens: u32,
}

/// Names the exact weights: vectors of different embedders must never be compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EmbedderId(String);

impl EmbedderId {
    /// Model name and a digest of its weights, as in `minilm-l6-v2-int8@0123456789ab`.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The name as stored with each vector.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EmbedderId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why there is no embedding.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The queue is full, or the text would have waited too long: go on without.
    #[error("the embedder is busy")]
    Busy,
    /// The embedder has stopped, or its model could not be loaded.
    #[error("the embedder has stopped")]
    Stopped,
    /// The encoder failed on these texts.
    #[error("the encoder failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The answer of [`Embedder::embed`], one [`Embedded`] per text in the same order.
pub type EmbedFuture<'a> = Pin<Box<dyn Future<Output = Result<Vec<Embedded>, EmbedError>> + Send + 'a>>;

/// Turns texts into vectors.
pub trait Embedder: Send + Sync {
    /// Which weights the vectors come from.
    fn id(&self) -> &EmbedderId;

    /// Embeds `texts`. They may wait in the embedder's own queue for at most `patience` (`None`: as long as it
    /// takes); the time of the computation does not count. Dropping the future withdraws what has not begun.
    fn embed(&self, texts: Vec<String>, patience: Option<Duration>) -> EmbedFuture<'_>;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-10.0_f32..10.0, DIM)
    }

    proptest! {
        #[test]
        fn cosine_is_symmetric_bounded_and_scale_free(a in vector(), b in vector(), scale in 0.1_f32..50.0) {
            let scaled: Vec<f32> = a.iter().map(|value| value * scale).collect();
            let (a, b, scaled) =
                (Embedding::new(&a).unwrap(), Embedding::new(&b).unwrap(), Embedding::new(&scaled).unwrap());
            prop_assert_eq!(a.cosine(&b), b.cosine(&a));
            prop_assert!(a.cosine(&b).get().abs() <= 1.0);
            prop_assert!((a.cosine(&b).get() - scaled.cosine(&b).get()).abs() < 1e-5);
            prop_assert!(a.cosine(&a).get() > 0.99999);
        }

        #[test]
        fn bytes_round_trip(values in vector()) {
            let embedding = Embedding::new(&values).unwrap();
            let again = Embedding::from_bytes(&embedding.to_bytes()).unwrap();
            prop_assert!(embedding.cosine(&again).get() > 0.999_999);
        }
    }

    #[test]
    fn a_vector_without_direction_is_refused() {
        assert_eq!(Embedding::new(&[0.0; DIM]), Err(InvalidVector::Direction));
        assert_eq!(Embedding::new(&[f32::NAN; DIM]), Err(InvalidVector::Direction));
        assert_eq!(Embedding::new(&[1.0; 3]), Err(InvalidVector::Length { found: 3, expected: DIM }));
        assert!(Embedding::from_bytes(&[0; 7]).is_err());
    }
}
