//! The search index's two kinds of text: the words of a text (`tsvector`) and what is looked for (`tsquery`). Both are written
//! out here, of letters and digits in quotation marks: Postgres's own reader of texts depends on the server's locale, and knows
//! addresses, versions and hyphens as words of their own.

use std::fmt::Write;

use crate::conversations::snippet::{Sought, SoughtTerm};
use crate::conversations::words::words;

/// The words of a text with their places, for `ish_words`.
pub(in crate::conversations) fn words_literal(text: &str) -> String {
    let mut literal = String::new();
    for (word, place) in words(text).zip(1..) {
        let _ = write!(literal, "'{}':{place} ", word.folded);
    }
    literal
}

/// What is looked for; `None` when nothing could be found by it.
pub(super) fn query_literal(sought: &Sought) -> Option<String> {
    let terms: Vec<String> = sought.terms().iter().map(term_literal).collect();
    (!terms.is_empty()).then(|| terms.join(" & "))
}

fn term_literal(term: &SoughtTerm) -> String {
    let words: Vec<String> = term.words.iter().map(|word| format!("'{word}'")).collect();
    format!("({}{})", words.join(" <-> "), if term.open { ":*" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversations::SearchQuery;

    fn expression(text: &str) -> String {
        query_literal(&Sought::new(&SearchQuery::parse(text))).unwrap_or_default()
    }

    #[test]
    fn words_and_phrases_become_quoted_words() {
        assert_eq!(expression("Tides Übung"), "('tides') & ('ubung':*)");
        assert_eq!(expression("\"Spring tide\" OR"), "('spring' <-> 'tide') & ('or':*)");
        assert_eq!(expression("a'b | !c:* & \\"), "('a') & ('b') & ('c')");
        assert_eq!(expression(" \"\" -!* \u{345}"), "");
        assert_eq!(words_literal("It's the sea, the SEA"), "'it':1 's':2 'the':3 'sea':4 'the':5 'sea':6 ");
    }
}
