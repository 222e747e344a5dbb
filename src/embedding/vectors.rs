//! A vector for each word of a text, small enough to be stored beside every cached answer.
//!
//! Owns the int8 form and its bytes. Leaves making the vectors to [`super::minilm`] and comparing texts by them to
//! `cache::verify`.

use super::{DIM, InvalidVector};

/// Bytes of a stored word besides its text: its length and its vector.
const FIXED_BYTES: usize = 1 + DIM;

/// The words of a text with a vector each: the mean of the encoder's last hidden state over the word's pieces, of
/// unit length, rounded to int8. About 5 KB for a dozen words.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WordVectors {
    words: Vec<Box<str>>,
    /// `(words, DIM)`, row-major; each row is scaled so that its largest value is ±127, which keeps the direction.
    values: Vec<i8>,
}

impl WordVectors {
    /// Adds a word. Its text is cut to 255 bytes, which no word of a language needs.
    pub fn push(&mut self, word: &str, vector: &[f32; DIM]) {
        let largest = vector.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
        self.values.extend(vector.iter().map(|value| (value / largest * 127.0).round() as i8));
        self.words.push(word[..word.floor_char_boundary(255)].into());
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there is nothing to compare.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The lower-cased words in the order of the text.
    pub fn words(&self) -> impl ExactSizeIterator<Item = &str> {
        self.words.iter().map(AsRef::as_ref)
    }

    /// Position of the `nth` (from 0) occurrence of a lower-cased word.
    pub fn position(&self, word: &str, nth: usize) -> Option<usize> {
        self.words.iter().enumerate().filter(|(_, other)| ***other == *word).map(|(position, _)| position).nth(nth)
    }

    /// Cosine of word `index` and word `other_index` of `other`, -1 to 1; 0 if there is no such word.
    pub fn cosine(&self, index: usize, other: &Self, other_index: usize) -> f32 {
        let (Some(a), Some(b)) = (self.row(index), other.row(other_index)) else {
            return 0.0;
        };
        let (mut ab, mut aa, mut bb) = (0_i32, 0_i32, 0_i32);
        for (&a, &b) in a.iter().zip(b) {
            let (a, b) = (i32::from(a), i32::from(b));
            ab += a * b;
            aa += a * a;
            bb += b * b;
        }
        ab as f32 / (aa as f32 * bb as f32).sqrt().max(1.0)
    }

    fn row(&self, index: usize) -> Option<&[i8]> {
        self.values.get(index * DIM..(index + 1) * DIM)
    }

    /// For the store: per word the length of its text (one byte), the text, [`DIM`] bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let text: usize = self.words.iter().map(|word| word.len()).sum();
        let mut bytes = Vec::with_capacity(text + self.len() * FIXED_BYTES);
        for (word, row) in self.words.iter().zip(self.values.chunks_exact(DIM)) {
            bytes.push(word.len() as u8);
            bytes.extend_from_slice(word.as_bytes());
            bytes.extend(row.iter().map(|value| value.cast_unsigned()));
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`InvalidVector::Length`] if the bytes end inside a word or a text is not UTF-8.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, InvalidVector> {
        let mut vectors = Self::default();
        while let Some((&length, rest)) = bytes.split_first() {
            let length = usize::from(length);
            let damaged = InvalidVector::Length { found: rest.len(), expected: length + DIM };
            let (text, rest) = rest.split_at_checked(length).ok_or(damaged)?;
            let (row, rest) = rest.split_at_checked(DIM).ok_or(damaged)?;
            vectors.words.push(str::from_utf8(text).map_err(|_| damaged)?.into());
            vectors.values.extend(row.iter().map(|value| value.cast_signed()));
            bytes = rest;
        }
        Ok(vectors)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> WordVectors {
        let mut vectors = WordVectors::default();
        for (word, step) in [("how", 1.0), ("café", -2.0), ("how", 7.0)] {
            vectors.push(word, &std::array::from_fn(|i| (i as f32 * step).sin()));
        }
        vectors
    }

    #[test]
    fn int8_keeps_the_cosine() {
        let vectors = sample();
        let exact = |a: f32, b: f32| {
            let terms = (0..DIM).map(|i| ((i as f32 * a).sin(), (i as f32 * b).sin()));
            let (ab, aa, bb) = terms.fold((0.0, 0.0, 0.0), |(ab, aa, bb), (a, b)| (ab + a * b, aa + a * a, bb + b * b));
            ab / f32::sqrt(aa * bb)
        };
        assert!((vectors.cosine(0, &vectors, 1) - exact(1.0, -2.0)).abs() < 0.01);
        assert!((vectors.cosine(2, &vectors, 2) - 1.0).abs() < 1e-3);
        assert!(vectors.cosine(3, &vectors, 0).abs() < f32::EPSILON);
    }

    #[test]
    fn bytes_round_trip_and_words_are_found() {
        let vectors = sample();
        assert_eq!(WordVectors::from_bytes(&vectors.to_bytes()), Ok(vectors.clone()));
        assert_eq!(vectors.position("how", 1), Some(2));
        assert_eq!(vectors.position("how", 2), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            if let Ok(vectors) = WordVectors::from_bytes(&bytes) {
                prop_assert_eq!(vectors.to_bytes(), bytes);
            }
        }
    }
}
