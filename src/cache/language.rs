//! Whether a text is English, without a model: by script, by function words and by letter patterns.
//!
//! The shipped embedding model and the rules for rewriting know English only, so everything else matches exactly.
//! Code alone is `Other` for the same reason. Leaves what follows from the answer to the callers.

mod evidence;

use serde::{Deserialize, Serialize};

use self::evidence::Weight;
use super::words::Words;

/// What the rules can be applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English prose or keywords.
    English,
    /// Another language, code alone, or nothing to judge by.
    Other,
}

impl Language {
    /// The word in scopes and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::English => "english",
            Self::Other => "other",
        }
    }
}

/// The language of `text`. A short keyword query counts as English only if some word or letter pattern speaks for it:
/// a foreign query taken for English might be matched wrongly, an English one taken for foreign only misses. Reads at
/// most the first 2,000 bytes.
pub fn detect(text: &str) -> Language {
    let head = &text[..text.floor_char_boundary(2_000)];
    if !is_latin(head) || is_code(head) {
        return Language::Other;
    }
    let words = Words::new(head);
    let known = prose(&words).map(evidence::of_word).fold(Weight::default(), Weight::plus);
    if known.other == 0 && known.english >= CLEAR {
        return Language::English;
    }
    let unknown = prose(&words).filter(|word| evidence::of_word(word) == Weight::default());
    let weight = unknown.map(evidence::of_letters).fold(known, Weight::plus);
    if weight.english > weight.other { Language::English } else { Language::Other }
}

/// Three function words: this much English beside no foreign word needs no look at letters.
const CLEAR: u32 = 12;

/// The words that are letters only; numbers and names of versions belong to no language.
fn prose(words: &Words) -> impl Iterator<Item = &str> {
    words.iter().filter(|word| word.chars().all(char::is_alphabetic))
}

/// Almost all letters are Latin; a Greek letter in a formula does not make a text Greek.
fn is_latin(text: &str) -> bool {
    if text.is_ascii() {
        return text.bytes().any(|byte| byte.is_ascii_alphabetic());
    }
    let letters = text.chars().filter(|c| c.is_alphabetic());
    let (mut all, mut foreign) = (0, 0);
    for letter in letters {
        all += 1;
        foreign += usize::from(letter > '\u{24f}');
    }
    all > 0 && foreign * 10 <= all
}

/// Symbols that prose seldom has make up a large part, as they do in code without a question around it.
fn is_code(text: &str) -> bool {
    const SYMBOLS: [bool; 256] = table(b"{}()[];=<>_|&$\\/*");
    let symbols = text.bytes().filter(|byte| SYMBOLS[usize::from(*byte)]).count();
    let visible = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).count();
    symbols * 8 > visible
}

const fn table(members: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut at = 0;
    while at < members.len() {
        table[members[at] as usize] = true;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests;
