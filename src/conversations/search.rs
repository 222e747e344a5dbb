//! Search: a person's words as an expression of SQLite's full text search, which has a grammar of its own that no input
//! may reach; and what was found.

use std::fmt::Write;

use serde::Serialize;
use uuid::Uuid;

use super::Conversation;

/// Terms that are looked for; the rest of a longer query narrows nothing.
const MAX_TERMS: usize = 32;

/// Characters of a word that may go on: the index knows such beginnings, while one letter begins half of all words.
const MIN_PREFIX: usize = 2;

/// What is looked for: texts that hold every term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    /// One word, or several that follow each other. Letters and digits only, parted by single spaces.
    words: String,
    /// Whether the last word may go on: the one that is still being typed.
    open: bool,
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

    /// The expression for FTS5, held to the tenant's texts; `None` when nothing could be found by it. Each term is a
    /// quoted string of letters, digits and spaces, so nothing in it is an operator.
    pub(super) fn expression(&self, tenant: &str) -> Option<String> {
        if self.terms.is_empty() {
            return None;
        }
        let terms: Vec<String> = self
            .terms
            .iter()
            .map(|Term { words, open }| format!("\"{words}\"{}", if *open { "*" } else { "" }))
            .collect();
        let mut expression = "tenant : \"".to_owned();
        for byte in tenant.bytes() {
            let _ = write!(expression, "{byte:02x}");
        }
        let _ = write!(expression, "\" AND text : ({})", terms.join(" AND "));
        Some(expression)
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

/// Stands before what was looked for, in the store's snippet.
pub(super) const HIT_BEGINS: char = '\u{2}';

/// Stands behind it.
pub(super) const HIT_ENDS: char = '\u{3}';

/// The parts of a snippet with marks in it. A message that holds such marks itself is shown oddly, and no worse.
pub(super) fn snippet_parts(marked: &str) -> Vec<SnippetPart> {
    let mut parts = Vec::new();
    let mut hit = false;
    for piece in marked.split_inclusive([HIT_BEGINS, HIT_ENDS]) {
        let text = piece.trim_end_matches([HIT_BEGINS, HIT_ENDS]);
        if !text.is_empty() {
            parts.push(SnippetPart { text: text.to_owned(), hit });
        }
        hit = piece.ends_with(HIT_BEGINS);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(text: &str) -> String {
        SearchQuery::parse(text).expression("a-b").unwrap_or_default()
    }

    #[test]
    fn words_and_phrases_become_quoted_strings() {
        let tenant = "tenant : \"612d62\" AND text : ";
        assert_eq!(expression("tides moon"), format!("{tenant}(\"tides\" AND \"moon\"*)"));
        assert_eq!(expression("\"spring tide\" OR"), format!("{tenant}(\"spring tide\" AND \"OR\"*)"));
        assert_eq!(expression("NEAR(a b, 2) "), format!("{tenant}(\"NEAR\" AND \"a\" AND \"b\" AND \"2\")"));
        assert_eq!(expression("tide t"), format!("{tenant}(\"tide\" AND \"t\")"));
        assert_eq!(expression("text:x*"), format!("{tenant}(\"text\" AND \"x\")"));
        assert_eq!(expression(" \"\" -!* "), "");
        assert_eq!(SearchQuery::parse(&"word ".repeat(100)).terms.len(), MAX_TERMS);
    }

    #[test]
    fn a_snippet_is_taken_apart() {
        let part = |text: &str, hit| SnippetPart { text: text.to_owned(), hit };
        let marked = "the \u{2}Moon\u{3} pulls the \u{2}sea\u{3}";
        let parts = [part("the ", false), part("Moon", true), part(" pulls the ", false), part("sea", true)];
        assert_eq!(snippet_parts(marked), parts);
        assert_eq!(snippet_parts(""), []);
    }
}
