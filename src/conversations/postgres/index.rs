//! The search index's two kinds of text: the words of a text (`tsvector`) and what is looked for (`tsquery`). Both are written
//! out here, of letters and digits in quotation marks: Postgres's own reader of texts depends on the server's locale, and knows
//! addresses, versions and hyphens as words of their own.

use std::fmt::Write;

use crate::conversations::search::Term;
use crate::conversations::words::words;

/// The words of a text with their places, for `ish_words`.
pub(in crate::conversations) fn words_literal(text: &str) -> String {
    let mut literal = String::new();
    for (word, place) in words(text).zip(1..) {
        let _ = write!(literal, "'{}':{place} ", word.folded);
    }
    literal
}

/// What is looked for, as words are compared.
pub(super) struct Sought(Vec<SoughtTerm>);

/// Words that follow each other.
pub(super) struct SoughtTerm {
    words: Vec<String>,
    /// Whether the last may go on.
    open: bool,
}

impl Sought {
    /// `None` when nothing could be found by it.
    pub(super) fn new(terms: &[Term]) -> Option<Self> {
        let folded = |term: &Term| {
            let words: Vec<String> = words(&term.words).map(|word| word.folded).collect();
            SoughtTerm { words, open: term.open }
        };
        let terms: Vec<SoughtTerm> = terms.iter().map(folded).filter(|term| !term.words.is_empty()).collect();
        (!terms.is_empty()).then_some(Self(terms))
    }

    /// As a `tsquery`.
    pub(super) fn expression(&self) -> String {
        let terms: Vec<String> = self.0.iter().map(SoughtTerm::expression).collect();
        terms.join(" & ")
    }

    pub(super) fn terms(&self) -> &[SoughtTerm] {
        &self.0
    }
}

impl SoughtTerm {
    fn expression(&self) -> String {
        let words: Vec<String> = self.words.iter().map(|word| format!("'{word}'")).collect();
        format!("({}{})", words.join(" <-> "), if self.open { ":*" } else { "" })
    }

    /// How many words it takes up.
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether these words begin with it.
    pub(super) fn begins<'a>(&self, folded: impl ExactSizeIterator<Item = &'a str>) -> bool {
        let last = self.words.len() - 1;
        let fits = |(place, (word, sought)): (usize, (&str, &String))| {
            word == sought || self.open && place == last && word.starts_with(sought.as_str())
        };
        folded.len() > last && folded.zip(&self.words).enumerate().all(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversations::SearchQuery;

    fn expression(text: &str) -> String {
        Sought::new(&SearchQuery::parse(text).terms).map(|sought| sought.expression()).unwrap_or_default()
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
