//! `WordPiece` tokens of the uncased BERT vocabulary, as all-MiniLM-L6-v2 was trained with.
//!
//! Owns the way from text to token ids, and which ids belong to which word. Leaves running the model to
//! [`super::minilm`]. The steps are those of BERT's reference tokenizer (Devlin et al. 2018): clean, space out CJK,
//! strip accents, lower-case, split at white space and punctuation, then greedy longest match. Special tokens that
//! are written out in the text (`[SEP]`) are ordinary punctuation and letters here, so that no prompt can forge one.

use std::collections::HashMap;
use std::ops::Range;

use unicode_normalization::char::decompose_canonical;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

/// Longest sequence that the model was trained on, `[CLS]` and `[SEP]` included.
pub const MAX_TOKENS: usize = 256;

/// A longer word is one `[UNK]`, as in the reference.
const MAX_WORD_CHARS: usize = 100;

const UNKNOWN: i32 = 100;
const START: i32 = 101;
const END: i32 = 102;

/// Token ids of one text, and its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// `[CLS]`, the pieces, `[SEP]`: between 2 and [`MAX_TOKENS`] ids.
    pub ids: Vec<i32>,
    /// The words in the order of the text, punctuation left out.
    pub words: Vec<Word>,
    /// The text had more tokens than fit.
    pub truncated: bool,
}

/// One word of the text and where its pieces stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Lower-cased, without accents.
    pub text: String,
    /// Positions in [`Encoding::ids`], never empty.
    pub pieces: Range<usize>,
}

/// The vocabulary, ready for look-ups. Built once: 30,522 entries.
#[derive(Debug)]
pub struct WordPiece {
    starts: HashMap<&'static str, i32>,
    continuations: HashMap<&'static str, i32>,
}

impl WordPiece {
    /// Reads a vocabulary with one piece a line, in the order of their ids.
    pub fn new(vocabulary: &'static str) -> Self {
        let mut starts = HashMap::with_capacity(32_768);
        let mut continuations = HashMap::with_capacity(8_192);
        for (piece, id) in vocabulary.lines().zip(0..) {
            match piece.strip_prefix("##") {
                Some(rest) if !rest.is_empty() => continuations.insert(rest, id),
                _ => starts.insert(piece, id),
            };
        }
        Self { starts, continuations }
    }

    /// Turns `text` into ids, cut at [`MAX_TOKENS`]. A word that is cut keeps the pieces that fit.
    pub fn encode(&self, text: &str) -> Encoding {
        let mut encoding = Encoding { ids: vec![START], words: Vec::new(), truncated: false };
        for_each_word(text, |word| {
            let first = encoding.ids.len();
            self.push_pieces(word, &mut encoding.ids);
            let last = encoding.ids.len().min(MAX_TOKENS - 1);
            if encoding.ids.len() > last {
                encoding.ids.truncate(last);
                encoding.truncated = true;
            }
            if first < last && word.contains(char::is_alphanumeric) {
                encoding.words.push(Word { text: word.to_owned(), pieces: first..last });
            }
            !encoding.truncated
        });
        encoding.ids.push(END);
        encoding
    }

    /// Greedy longest match; a word with a part that is not in the vocabulary becomes one `[UNK]`.
    fn push_pieces(&self, word: &str, ids: &mut Vec<i32>) {
        let first = ids.len();
        if word.chars().count() > MAX_WORD_CHARS {
            ids.push(UNKNOWN);
            return;
        }
        let mut rest = word;
        let mut pieces = &self.starts;
        while !rest.is_empty() {
            let Some((id, length)) = longest_prefix(pieces, rest) else {
                ids.truncate(first);
                ids.push(UNKNOWN);
                return;
            };
            ids.push(id);
            rest = &rest[length..];
            pieces = &self.continuations;
        }
    }
}

fn longest_prefix(pieces: &HashMap<&'static str, i32>, word: &str) -> Option<(i32, usize)> {
    let ends = word.char_indices().map(|(start, c)| start + c.len_utf8()).rev();
    ends.into_iter().find_map(|end| pieces.get(&word[..end]).map(|&id| (id, end)))
}

/// Calls `visit` with each word or punctuation mark, normalised, until it answers `false`.
fn for_each_word(text: &str, mut visit: impl FnMut(&str) -> bool) {
    let mut word = String::new();
    for c in text.chars() {
        let alone = is_cjk(c);
        if is_space(c) || alone {
            if !word.is_empty() && !visit(&word) {
                return;
            }
            word.clear();
        }
        if is_space(c) || is_dropped(c) {
            continue;
        }
        let mut wanted = true;
        for_each_normalised(c, |c| {
            if !is_punctuation(c) {
                word.push(c);
                return;
            }
            wanted = wanted && (word.is_empty() || visit(&word)) && visit(c.encode_utf8(&mut [0; 4]));
            word.clear();
        });
        if alone && !word.is_empty() {
            wanted = wanted && visit(&word);
            word.clear();
        }
        if !wanted {
            return;
        }
    }
    if !word.is_empty() {
        visit(&word);
    }
}

/// Decomposes, drops combining accents and lower-cases one character.
fn for_each_normalised(c: char, mut push: impl FnMut(char)) {
    if c.is_ascii() {
        push(c.to_ascii_lowercase());
        return;
    }
    decompose_canonical(c, |part| {
        if part.general_category() != GeneralCategory::NonspacingMark {
            part.to_lowercase().for_each(&mut push);
        }
    });
}

/// The control characters that Unicode counts as white space, but for tab and line ends, are dropped instead.
fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r') || (c.is_whitespace() && !c.is_control())
}

/// Control, format, private and replacement characters carry no text.
fn is_dropped(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    // A character younger than our tables is text, not a control.
    let unassigned = c.general_category() == GeneralCategory::Unassigned;
    c == char::REPLACEMENT_CHARACTER || (!unassigned && c.general_category_group() == GeneralCategoryGroup::Other)
}

fn is_punctuation(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_punctuation();
    }
    c.general_category_group() == GeneralCategoryGroup::Punctuation
}

/// The ideograph blocks that the reference surrounds with spaces; kana and hangul are not among them.
fn is_cjk(c: char) -> bool {
    matches!(u32::from(c),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x2_0000..=0x2_A6DF | 0x2_A700..=0x2_B73F | 0x2_B740..=0x2_B81F
        | 0x2_B920..=0x2_CEAF | 0xF900..=0xFAFF | 0x2_F800..=0x2_FA1F)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::embedding::minilm::VOCABULARY;

    #[test]
    fn ids_equal_the_reference_tokenizer() {
        let tokenizer = WordPiece::new(VOCABULARY);
        let fixture = include_str!("../../tests/fixtures/wordpiece.jsonl");
        let mut texts = 0;
        for line in fixture.lines() {
            let (text, ids): (String, Vec<i32>) = serde_json::from_str(line).unwrap();
            assert_eq!(tokenizer.encode(&text).ids, ids, "{text:?}");
            texts += 1;
        }
        assert!(texts >= 200, "{texts}");
    }

    #[test]
    fn words_know_their_pieces() {
        let encoding = WordPiece::new(VOCABULARY).encode("Déjà-vu unbelievability!");
        let words: Vec<_> = encoding.words.iter().map(|word| (word.text.as_str(), word.pieces.clone())).collect();
        assert_eq!(words, [("deja", 1..3), ("vu", 4..5), ("unbelievability", 5..10)]);
        assert_eq!(encoding.ids.len(), 12);
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let tokenizer = WordPiece::new(VOCABULARY);
        let cut = tokenizer.encode(&"hello ".repeat(300));
        assert!(cut.truncated);
        assert_eq!((cut.ids.len(), cut.ids[255]), (MAX_TOKENS, END));
        assert_eq!(cut.words.len(), 254);
        let fits = tokenizer.encode(&"hello ".repeat(254));
        assert!(!fits.truncated);
        assert_eq!(fits.ids, cut.ids);
    }

    #[test]
    fn special_tokens_cannot_be_forged() {
        let encoding = WordPiece::new(VOCABULARY).encode("a [SEP] b [CLS]");
        assert_eq!(encoding.ids.iter().filter(|&&id| id == START || id == END).count(), 2);
    }

    proptest! {
        #[test]
        fn any_text_gives_a_valid_encoding(text in "\\PC*|(?s).{0,400}") {
            let tokenizer = WordPiece::new(VOCABULARY);
            let encoding = tokenizer.encode(&text);
            prop_assert!((2..=MAX_TOKENS).contains(&encoding.ids.len()));
            prop_assert!(encoding.ids.iter().all(|id| (0..30_522).contains(id)));
            let mut end = 1;
            for word in encoding.words {
                prop_assert!(word.pieces.start >= end && word.pieces.end > word.pieces.start);
                end = word.pieces.end;
            }
            prop_assert!(end < encoding.ids.len());
        }
    }
}
