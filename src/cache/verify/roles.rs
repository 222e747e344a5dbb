//! Who does what to whom: the same words in other places of the sentence.
//!
//! Owns the comparison of places. A word's place is its preposition if it has one, else its order. Leaves words that
//! only one side has to [`super::substitution`].

use super::align::Alignment;
use super::profile::{Class, Profile, Token};
use super::words::holds;
use crate::cache::lexicon::{Lexicon, Parts};

/// Prepositions that give the word behind them a role of its own; sorted. "And", "or", "versus" and "between" give
/// both sides the same role.
const MARKERS: &[&str] = &[
    "about", "after", "against", "as", "at", "before", "by", "for", "from", "in", "into", "of", "on", "onto", "over",
    "per", "than", "through", "to", "toward", "towards", "under", "via", "with", "without",
];

/// Words that join equals.
const JOINTS: &[&str] = &["and", "or", "versus", "vs"];

/// Looks for two words that have changed places; names them.
pub fn swapped(query: &Profile, cached: &Profile, alignment: &Alignment) -> Option<(String, String)> {
    let same_bag = same_bag(query, cached);
    let rotated = same_bag && is_rotation(query, cached);
    let places: Vec<_> = alignment.pairs.iter().map(|&(a, b, _)| (a, b, marker(query, a), marker(cached, b))).collect();
    for (index, &(a, b, query_marker, cached_marker)) in places.iter().enumerate() {
        for &(a2, b2, query_marker2, cached_marker2) in &places[index + 1..] {
            let exchanged =
                query_marker == cached_marker2 && query_marker2 == cached_marker && query_marker != query_marker2;
            let inverted = (a < a2) != (b < b2);
            let things = [a, a2].iter().all(|&position| is_thing(&query.tokens[position]));
            let unmarked = [query_marker, query_marker2, cached_marker, cached_marker2].iter().all(Option::is_none);
            let acts = unmarked && things && is_linked(query, a, a2) && is_linked(cached, b, b2);
            let traded = inverted
                && things
                && query_marker.is_some() != query_marker2.is_some()
                && query_marker.is_some() == cached_marker2.is_some()
                && query_marker2.is_some() == cached_marker.is_some()
                && !is_passive(query)
                && !is_passive(cached);
            let joined = are_joined(query, a, a2) && are_joined(cached, b, b2);
            if !joined && (exchanged || traded || inverted && (acts || same_bag && !rotated)) {
                return Some((query.tokens[a].text.clone(), query.tokens[a2].text.clone()));
            }
        }
    }
    None
}

/// The preposition that a word depends on. An adjective or another noun may stand between them.
fn marker(profile: &Profile, position: usize) -> Option<&str> {
    let mut skipped = false;
    for token in profile.tokens[..position].iter().rev().take(4) {
        let text = token.text.as_str();
        if holds(MARKERS, text) {
            // Behind a skipped word, "to" belongs to a verb.
            return (!skipped || text != "to").then_some(text);
        }
        match token.class {
            Class::Content | Class::Name if !skipped => skipped = true,
            Class::Function if matches!(text, "a" | "an" | "the" | "my" | "your" | "his" | "her" | "our" | "their") => {
            }
            Class::Number | Class::Filler => {}
            _ => return None,
        }
    }
    None
}

/// Adjectives and adverbs move freely about their noun.
fn is_thing(token: &Token) -> bool {
    let lexicon = Lexicon::embedded();
    let bends = |parts: Parts| parts.meets(Parts::ADJECTIVE) || parts.meets(Parts::ADVERB);
    !token.bases.iter().any(|&base| bends(lexicon.parts(base)))
}

/// "By" makes the word behind it the actor.
fn is_passive(profile: &Profile) -> bool {
    profile.has("by")
}

/// Something that could relate two nouns stands between the words: a verb or an auxiliary.
fn is_linked(profile: &Profile, a: usize, b: usize) -> bool {
    profile.tokens[a.min(b) + 1..a.max(b)].iter().any(|token| match token.class {
        Class::Content | Class::Filler => true,
        Class::Function => !matches!(token.text.as_str(), "a" | "an" | "the" | "'s" | "and" | "or" | "of"),
        _ => false,
    })
}

/// Whether a joint stands beside the word, or it belongs to the two things of a comparison.
pub fn is_joined(profile: &Profile, position: usize) -> bool {
    let joint = |token: Option<&Token>| token.is_some_and(|token| holds(JOINTS, &token.text));
    let start = position.saturating_sub(2);
    profile.tokens[start..position].iter().any(|token| joint(Some(token)))
        || joint(profile.tokens.get(position + 1))
        || profile.tokens[start..position].iter().any(|token| token.text == "between")
}

/// "Cats and dogs": only a joint, and perhaps an article, stands between.
fn are_joined(profile: &Profile, a: usize, b: usize) -> bool {
    let between = &profile.tokens[a.min(b) + 1..a.max(b)];
    between.len() <= 3 && between.iter().any(|token| holds(JOINTS, &token.text))
}

fn same_bag(query: &Profile, cached: &Profile) -> bool {
    let sorted = |profile: &Profile| {
        let mut words: Vec<String> = profile.tokens.iter().map(|token| token.text.clone()).collect();
        words.sort_unstable();
        words
    };
    query.tokens.len() == cached.tokens.len() && sorted(query) == sorted(cached)
}

/// A phrase has moved from the end to the beginning: "In Rust, how do I ..."
fn is_rotation(query: &Profile, cached: &Profile) -> bool {
    let length = query.tokens.len();
    (1..length).any(|shift| {
        let moved = (0..length).all(|i| query.tokens[i].text == cached.tokens[(i + shift) % length].text);
        let begins_with_marker =
            |profile: &Profile| profile.tokens.first().is_some_and(|first| holds(MARKERS, &first.text));
        moved && (begins_with_marker(query) || begins_with_marker(cached))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_swapped(a: &str, b: &str) -> bool {
        let (a, b) = (Profile::new(a), Profile::new(b));
        swapped(&a, &b, &Alignment::new(&a, &b)).is_some()
    }

    #[test]
    fn changed_places_are_seen() {
        assert!(is_swapped("trains from Lyon to Turin", "trains from Turin to Lyon"));
        assert!(is_swapped("turn miles into furlongs", "turn furlongs into miles"));
        assert!(is_swapped("why do wolves hunt bears", "why do bears hunt wolves"));
        assert!(is_swapped("is gold heavier than lead", "is lead heavier than gold"));
    }

    #[test]
    fn free_order_is_no_swap() {
        assert!(!is_swapped("in Rust how do I parse a date", "how do I parse a date in Rust"));
        assert!(!is_swapped("do lions and tigers swim", "do tigers and lions swim"));
        assert!(!is_swapped("the mayor of London", "London's mayor"));
    }

    #[test]
    fn markers_are_sorted() {
        assert!(MARKERS.is_sorted());
    }
}
