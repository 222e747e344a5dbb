//! A prompt as lower-case words, for rules that look for phrases.
//!
//! Leaves what the phrases mean to `context`, `freshness` and `language`.

use memchr::memchr_iter;

/// The words of a text: lower case, without punctuation, an apostrophe's tail as a word of its own
/// (`what's` is `what 's`).
#[derive(Debug)]
pub(super) struct Words {
    /// All words with one space before, between and after.
    padded: String,
    starts: Vec<Start>,
    beginnings: Beginnings,
}

/// Where a word begins. The first eight bytes from there lie beside it: one comparison of numbers tells most phrases
/// apart.
#[derive(Clone, Copy, Debug)]
struct Start {
    at: usize,
    head: u64,
}

/// Which beginnings the words have, as a set of 1,024 bits that may say yes too often. Rules ask for more than a thousand
/// phrases, nearly all of which are told apart here.
#[derive(Debug, Default)]
struct Beginnings([u64; 16]);

impl Beginnings {
    /// The bit of a word that `text` begins with, by the first four bytes of it.
    fn place(text: &[u8]) -> (usize, u64) {
        let mut first = match text.first_chunk() {
            Some(four) => u32::from_le_bytes(*four),
            None => text.iter().rev().fold(0, |first, byte| first << 8 | u32::from(*byte)),
        };
        // The bytes from the first space on belong to the next word: its lowest mark is the only sure one, and enough.
        let not_space = first ^ 0x2020_2020;
        let marks = not_space.wrapping_sub(0x0101_0101) & !not_space & 0x8080_8080;
        if marks != 0 {
            first &= (1 << (marks.trailing_zeros() - 7)) - 1;
        }
        let bit = first.wrapping_mul(0x9e37_79b1) >> 22;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn add(&mut self, text: &[u8]) {
        let (place, bit) = Self::place(text);
        self.0[place] |= bit;
    }

    fn may_hold(&self, text: &[u8]) -> bool {
        let (place, bit) = Self::place(text);
        self.0[place] & bit != 0
    }
}

impl Words {
    pub(super) fn new(text: &str) -> Self {
        let padded = pad(text);
        let bytes = padded.as_bytes();
        let mut starts = Vec::with_capacity(text.len() / 4);
        let mut beginnings = Beginnings::default();
        let spaces = memchr_iter(b' ', bytes);
        for at in spaces.map(|space| space + 1).filter(|at| *at < bytes.len()) {
            starts.push(Start { at, head: head(&bytes[at..]).0 });
            beginnings.add(&bytes[at..]);
        }
        Self { padded, starts, beginnings }
    }

    /// Whether the words of `phrase` (lower case, single spaces) follow one another anywhere.
    pub(super) fn has(&self, phrase: &str) -> bool {
        self.find(phrase).is_some()
    }

    pub(super) fn has_any(&self, phrases: &[&str]) -> bool {
        phrases.iter().any(|phrase| self.has(phrase))
    }

    /// The first of `phrases` that occurs.
    pub(super) fn first_of(&self, phrases: &[&'static str]) -> Option<&'static str> {
        phrases.iter().copied().find(|phrase| self.has(phrase))
    }

    pub(super) fn starts_with(&self, phrase: &str) -> bool {
        self.is_at(1, phrase)
    }

    pub(super) fn starts_with_any(&self, phrases: &[&str]) -> bool {
        phrases.iter().any(|phrase| self.starts_with(phrase))
    }

    pub(super) fn ends_with(&self, phrase: &str) -> bool {
        let text = self.padded.trim_end();
        text.strip_suffix(phrase).is_some_and(|before| before.ends_with(' '))
    }

    /// The word after the first occurrence of `phrase`; empty if the text ends there, `None` if it does not occur.
    pub(super) fn after(&self, phrase: &str) -> Option<&str> {
        let start = self.find(phrase)? + 1 + phrase.len();
        self.padded[start..].split_whitespace().next().or(Some(""))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.padded.split_ascii_whitespace()
    }

    /// Byte offset of the space before the phrase.
    fn find(&self, phrase: &str) -> Option<usize> {
        if !self.beginnings.may_hold(phrase.as_bytes()) {
            return None;
        }
        let (asked, mask) = head(phrase.as_bytes());
        let start = self.starts.iter().find(|word| word.head & mask == asked && self.is_at(word.at, phrase))?;
        Some(start.at - 1)
    }

    fn is_at(&self, at: usize, phrase: &str) -> bool {
        let rest = self.padded.as_bytes()[at..].strip_prefix(phrase.as_bytes());
        rest.is_some_and(|rest| rest.first() == Some(&b' '))
    }
}

/// The first eight bytes as a number, and a mask of those that exist.
fn head(bytes: &[u8]) -> (u64, u64) {
    let length = bytes.len().min(8);
    let mut first = [0; 8];
    first[..length].copy_from_slice(&bytes[..length]);
    let mask = u64::MAX.checked_shr(64 - 8 * length as u32).unwrap_or(0);
    (u64::from_le_bytes(first), mask)
}

fn pad(text: &str) -> String {
    let mut padded = String::with_capacity(text.len() + 8);
    padded.push(' ');
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let in_word = padded.as_bytes().last() != Some(&b' ');
        if c.is_ascii_alphanumeric() {
            padded.push(c.to_ascii_lowercase());
        } else if c.is_alphanumeric() || c == '+' || c == '#' {
            padded.extend(c.to_lowercase());
        } else if matches!(c, '\'' | '\u{2019}') && in_word && chars.peek().is_some_and(|next| next.is_alphabetic()) {
            padded.push_str(" '");
        } else if in_word {
            padded.push(' ');
        }
    }
    if !padded.ends_with(' ') {
        padded.push(' ');
    }
    padded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_run_of_words_is_found(
            words in prop::collection::vec("[a-c']{1,3}|[a-z]{7,9}|é", 1..8),
            cut in 0..8_usize,
            length in 1..4_usize,
        ) {
            let found = Words::new(&words.join(", "));
            let all: Vec<&str> = found.iter().collect();
            let from = cut.min(all.len());
            let phrase = all[from..(from + length).min(all.len())].join(" ");
            prop_assert!(phrase.is_empty() || found.has(&phrase));
            prop_assert!(!found.has("zzzzzzzzzzzz"));
        }
    }

    #[test]
    fn phrases_match_whole_words_only() {
        let words = Words::new("What\u{2019}s the weather-forecast, \u{201c}now\u{201d}? C++!");
        assert_eq!(words.iter().collect::<Vec<_>>(), ["what", "'s", "the", "weather", "forecast", "now", "c++"]);
        assert!(words.has("weather forecast"));
        assert!(!words.has("fore"));
        assert!(words.starts_with("what 's"));
        assert!(words.ends_with("now c++"));
        assert!(!words.ends_with("ow c++"));
        assert_eq!(words.after("now"), Some("c++"));
        assert_eq!(words.after("c++"), Some(""));
        assert_eq!(words.after("missing"), None);
        assert!(!Words::new("").has("a"));
    }
}
