//! Search: what a person's words look for, and what was found. Each database's own grammar of searches is made of letters and
//! digits in quotation marks, so that no input reaches it.

use serde::Serialize;
use uuid::Uuid;

use super::Conversation;

/// Terms that are looked for; the rest of a longer query narrows nothing.
const MAX_TERMS: usize = 32;

/// Characters of a word that may go on: the index knows such beginnings, while one letter begins half of all words.
const MIN_PREFIX: usize = 2;

/// Words of a snippet.
pub(super) const SNIPPET_WORDS: usize = 20;

/// What is looked for: texts that hold every term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    pub(super) terms: Vec<Term>,
}

/// One of the things looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    /// One word, or several that follow each other. Letters and digits only, parted by single spaces.
    pub(super) words: String,
    /// Whether the last word may go on: the one that is still being typed.
    pub(super) open: bool,
}

impl SearchQuery {
    /// Reads any text: words, and phrases in quotation marks. Everything but letters and digits parts words.
    pub fn parse(text: &str) -> Self {
        let mut terms = Vec::new();
        for (position, part) in text.split('"').enumerate() {
            let words: Vec<&str> = part.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
            let is_phrase = position % 2 == 1;
            if is_phrase && !words.is_empty() {
                terms.push(Term { words: words.join(" "), open: false });
            } else {
                terms.extend(words.into_iter().map(|word| Term { words: word.to_owned(), open: false }));
            }
        }
        terms.truncate(MAX_TERMS);
        let is_typed = text.chars().next_back().is_some_and(char::is_alphanumeric);
        if let Some(last) = terms.last_mut().filter(|last| is_typed && last.words.chars().count() >= MIN_PREFIX) {
            last.open = true;
        }
        Self { terms }
    }
}

/// A conversation that was found, with its best text.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// The conversation.
    #[serde(flatten)]
    pub conversation: Conversation,
    /// Where.
    pub r#match: Match,
}

/// The text of a conversation that matches best.
#[derive(Debug, Clone, Serialize)]
pub struct Match {
    /// The message; `None`: the title.
    pub message: Option<Uuid>,
    /// Whose message it is.
    pub role: Option<String>,
    /// How many of the conversation's texts match.
    pub texts: i64,
    /// The part of the text around what matches.
    pub snippet: Vec<SnippetPart>,
}

/// A part of a snippet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnippetPart {
    /// The text, as it stands in the message.
    pub text: String,
    /// Whether it is what was looked for.
    pub hit: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, bool)> {
        SearchQuery::parse(text).terms.into_iter().map(|term| (term.words, term.open)).collect()
    }

    #[test]
    fn words_and_phrases_are_told_apart() {
        let term = |words: &str, open| (words.to_owned(), open);
        assert_eq!(parsed("tides moon"), [term("tides", false), term("moon", true)]);
        assert_eq!(parsed("\"spring  tide!\" OR "), [term("spring tide", false), term("OR", false)]);
        assert_eq!(parsed("tide t"), [term("tide", false), term("t", false)], "one letter does not go on");
        assert_eq!(parsed("text:x*"), [term("text", false), term("x", false)]);
        assert_eq!(parsed(" \"\" -!* "), []);
        assert_eq!(SearchQuery::parse(&"word ".repeat(100)).terms.len(), MAX_TERMS);
    }
}
