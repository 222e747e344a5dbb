//! The part of a text around what was looked for. Postgres's `ts_headline` would read the text by rules of its own, not those of
//! the index (`words.rs`), and find other words in it.

use std::ops::Range;

use super::index::Sought;
use crate::conversations::search::{SNIPPET_WORDS, SnippetPart};
use crate::conversations::words::{Word, words};

/// Where a term stands: words from and to.
struct Hit {
    term: usize,
    words: Range<usize>,
}

/// The words that hold most of the terms, with what stands between them; the terms marked.
pub(super) fn snippet(text: &str, sought: &Sought) -> Vec<SnippetPart> {
    let words: Vec<Word> = words(text).collect();
    let hits = hits(&words, sought);
    let shown = window(words.len(), &hits);
    let begin = if shown.start == 0 { 0 } else { words[shown.start].at.start };
    let end = if shown.end == words.len() { text.len() } else { words[shown.end - 1].at.end };
    let mut parts = Parts::default();
    parts.push(if begin > 0 { "…" } else { "" }, false);
    let mut said = begin;
    for hit in hits.iter().filter(|hit| hit.words.start >= shown.start && hit.words.end <= shown.end) {
        let (from, to) = (words[hit.words.start].at.start.max(said), words[hit.words.end - 1].at.end.max(said));
        parts.push(&text[said..from], false);
        parts.push(&text[from..to], true);
        said = to;
    }
    parts.push(&text[said..end], false);
    parts.push(if end < text.len() { "…" } else { "" }, false);
    parts.0
}

/// Where the terms stand, in the order of the text.
fn hits(words: &[Word], sought: &Sought) -> Vec<Hit> {
    let mut hits = Vec::new();
    for start in 0..words.len() {
        for (term, sought) in sought.terms().iter().enumerate() {
            if sought.begins(words[start..].iter().map(|word| word.folded.as_str())) {
                hits.push(Hit { term, words: start..start + sought.len() });
            }
        }
    }
    hits
}

/// The words to show: those around the first place where most different terms stand together, with the terms in its middle.
fn window(count: usize, hits: &[Hit]) -> Range<usize> {
    let (mut most, mut place) = (0, 0..0);
    for (position, first) in hits.iter().enumerate() {
        let (terms, together) = together(&hits[position..], first.words.start);
        if terms > most {
            (most, place) = (terms, together);
        }
    }
    let spare = SNIPPET_WORDS.saturating_sub(place.len());
    let start = place.start.saturating_sub(spare / 2).min(count.saturating_sub(SNIPPET_WORDS));
    start..count.min(start + SNIPPET_WORDS)
}

/// How many different terms a snippet from `start` on can show, and where they stand.
fn together(hits: &[Hit], start: usize) -> (usize, Range<usize>) {
    let (mut terms, mut end) = (Vec::new(), start);
    for hit in hits.iter().take_while(|hit| hit.words.start < start + SNIPPET_WORDS) {
        if hit.words.end <= start + SNIPPET_WORDS && !terms.contains(&hit.term) {
            terms.push(hit.term);
            end = end.max(hit.words.end);
        }
    }
    (terms.len(), start..end)
}

/// Parts, those of one kind joined.
#[derive(Default)]
struct Parts(Vec<SnippetPart>);

impl Parts {
    fn push(&mut self, text: &str, hit: bool) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(last) if last.hit == hit => last.text.push_str(text),
            _ => self.0.push(SnippetPart { text: text.to_owned(), hit }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conversations::SearchQuery;

    fn marked(text: &str, words: &str) -> String {
        let sought = Sought::new(&SearchQuery::parse(words).terms).unwrap();
        let parts = snippet(text, &sought).into_iter();
        parts.map(|SnippetPart { text, hit }| if hit { format!("[{text}]") } else { text }).collect()
    }

    #[test]
    fn what_was_looked_for_is_marked_where_it_stands() {
        assert_eq!(marked("The Moon and the Sun pull. ", "moon \"sun pull\" "), "The [Moon] and the [Sun pull]. ");
        assert_eq!(marked("»Übung« hilft", "ubu"), "»[Übung]« hilft");
        assert_eq!(marked("a b a b a", "\"a b a\" "), "[a b a b a]", "what overlaps is marked as one");
        assert_eq!(marked("nothing of it", "zebra"), "nothing of it");
    }

    #[test]
    fn the_place_that_holds_most_is_shown() {
        let text =
            format!("tides. {}the moon and {} moon tides here {}", "x ".repeat(40), "y ".repeat(40), "z ".repeat(40));
        let shown = marked(&text, "tides moon ");
        assert!(
            shown.starts_with("…y y y") && shown.contains("[moon] [tides] here z z") && shown.ends_with("z…"),
            "{shown}"
        );
        assert_eq!(shown.split_whitespace().count(), SNIPPET_WORDS);
    }

    proptest! {
        #[test]
        fn any_text_gives_a_part_of_itself(text in any::<String>(), words in "[a-z0-9é\" ]{0,12}") {
            let Some(sought) = Sought::new(&SearchQuery::parse(&words).terms) else { return Ok(()) };
            let whole: String = snippet(&text, &sought).into_iter().map(|part| part.text).collect();
            prop_assert!(text.contains(whole.trim_start_matches('…').trim_end_matches('…')));
        }
    }
}
