//! The words of a text, as a search compares them where the database has no reader of its own that is the same everywhere: the
//! rules of FTS5's `unicode61` with diacritics removed. Letters and digits make words, and case and accents are forgiven.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;

/// Bytes of a text that are searched.
pub(super) const MAX_TEXT: usize = 128 * 1024;

/// Words of a text that are searched: as many as a `tsvector` numbers.
const MAX_WORDS: usize = 16_383;

/// Bytes of a word that are compared.
const MAX_WORD: usize = 1_000;

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// As it is compared: letters and digits only.
    pub(super) folded: String,
    /// Where it stands.
    pub(super) at: Range<usize>,
}

/// The words of a text, in their order; of a very long text the first.
pub(super) fn words(text: &str) -> impl Iterator<Item = Word> {
    let text = &text[..text.floor_char_boundary(MAX_TEXT)];
    let pieces = text.split(|c: char| !c.is_alphanumeric() && !is_accent(c));
    let word = |piece: &str| {
        let start = piece.as_ptr().addr() - text.as_ptr().addr();
        Word { folded: fold(piece), at: start..start + piece.len() }
    };
    pieces.filter(|piece| !piece.is_empty()).map(word).filter(|word| !word.folded.is_empty()).take(MAX_WORDS)
}

/// A word as it is compared.
fn fold(word: &str) -> String {
    let mut folded = if word.is_ascii() {
        word.to_ascii_lowercase()
    } else {
        // Letter by letter: a final sigma is a sigma.
        let lower = word.chars().flat_map(char::to_lowercase).map(|c| if c == 'ς' { 'σ' } else { c });
        let bare = lower.nfd().filter(|&c| !is_accent(c)).collect::<String>();
        bare.nfc().filter(|c| c.is_alphanumeric()).collect()
    };
    folded.truncate(folded.floor_char_boundary(MAX_WORD));
    folded
}

/// Whether it stands above or below a letter of our alphabets.
fn is_accent(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folded(text: &str) -> Vec<String> {
        words(text).map(|word| word.folded).collect()
    }

    #[test]
    fn letters_and_digits_make_words() {
        assert_eq!(folded("It's 3.5 km, snake_case http://a.b/c-d"), words_of("it s 3 5 km snake case http a b c d"));
        assert_eq!(folded("ÜBUNG u\u{308}bung Straße ŁÓDŹ"), words_of("ubung ubung straße łodz"));
        assert_eq!(folded("漢字 がか ΟΔΟΣ οδός مرحبا"), words_of("漢字 がか οδοσ οδοσ مرحبا"));
        assert_eq!(folded(" \0\u{2}!\u{301}\u{345} "), [] as [&str; 0]);
        let long = "é".repeat(3_000);
        assert_eq!(folded(&long), ["e".repeat(1_000)]);
        assert_eq!(folded(&"a ".repeat(40_000)).len(), MAX_WORDS);
    }

    fn words_of(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    proptest! {
        #[test]
        fn a_word_stands_where_it_says_and_folds_to_itself(text in any::<String>()) {
            for word in words(&text) {
                prop_assert_eq!(fold(&text[word.at.clone()]), word.folded.clone());
                prop_assert!(word.folded.chars().all(char::is_alphanumeric));
                prop_assert_eq!(fold(&word.folded), word.folded);
            }
        }
    }
}
