//! Whether the last turn of a conversation can be understood without the turns before it.
//!
//! Conservative by design: a turn wrongly called dependent costs a hit, a turn wrongly called standalone may be
//! answered from another conversation. So any sign of a reference to what was said before decides against. What a
//! dependent turn is matched under instead (a digest of the history window) is left to `key`.

use super::normalize::normalize;
use super::words::Words;
use crate::message::{Role, Turn};

/// Whether `last_turn` names everything it talks about: no unresolved pronoun, no ellipsis, no opening that continues
/// a thought, no definite reference without its antecedent, and at least four content words.
pub fn is_standalone(last_turn: &str) -> bool {
    let words = Words::new(last_turn);
    is_whole(last_turn, &words) && !words.has_any(POSITIONS) && !has_open_definite(last_turn)
}

/// Whether `last_turn` stands alone in a conversation that it opened and in which nothing else was asked. What it calls
/// "the last commit" was meant in general the first time, when there was nothing to point at, and nobody said anything
/// since that changes it. A pronoun, an ellipsis or a wish for more ("another", "else") still leans on the answer.
pub fn is_standalone_repeat(last_turn: &str, earlier: &[&Turn]) -> bool {
    let is_opened_by_a_person = earlier.first().is_some_and(|opening| opening.role == Role::User);
    if !is_opened_by_a_person || !is_whole(last_turn, &Words::new(last_turn)) {
        return false;
    }
    let asked = normalize(last_turn);
    earlier.iter().filter(|turn| turn.role != Role::Assistant).all(|turn| normalize(&turn.text) == asked)
}

/// No pronoun, no ellipsis, no opening that continues a thought, and enough said.
fn is_whole(turn: &str, words: &Words) -> bool {
    content_words(words) >= MIN_CONTENT_WORDS
        && !turn.trim_end().ends_with(['…', ':', ','])
        && !turn.trim_end().ends_with("..")
        && !words.starts_with_any(OPENINGS)
        && !words.has_any(REFERENCES)
}

const MIN_CONTENT_WORDS: usize = 4;

/// Openings that continue an earlier turn.
#[rustfmt::skip]
const OPENINGS: &[&str] = &[
    "and", "or", "but", "so", "also", "then", "plus", "because", "what about", "how about", "why not", "what if",
    "what else", "who else", "where else", "how else", "which", "yes", "no", "yeah", "yep", "nope", "ok", "okay",
    "sure", "right", "continue", "go on", "go ahead", "keep going", "carry on", "proceed", "more", "again",
    "another", "try again", "redo", "in detail", "elaborate", "expand", "shorter", "longer", "simpler", "simplify",
    "rewrite", "rephrase", "reword", "fix", "correct", "improve", "change", "instead", "make", "add", "remove",
    "replace", "use", "now", "next", "not", "only", "explain further", "explain more", "tell me more", "give more",
    "say more", "thanks", "thank you", "i mean", "i meant", "actually", "except", "with", "without", "for example",
    "like", "any other", "any more", "any others", "are there any", "is there any", "were there any", "how come",
    "really", "wait", "hmm", "sorry", "same", "otherwise", "however", "still", "if so", "if not", "in that case",
    "the first", "the second", "the third", "the last", "the other", "the one", "ones", "its", "their", "his",
    "her", "describe more", "summarize the above", "translate to", "translate into", "in english",
];

/// Words and phrases that point at something said before, wherever they stand.
#[rustfmt::skip]
const REFERENCES: &[&str] = &[
    "it", "its", "itself", "they", "them", "their", "theirs", "themselves", "he", "him", "his", "himself", "she",
    "her", "hers", "herself", "this", "that", "these", "those", "there", "here", "one", "ones", "former", "latter",
    "same", "above", "previous", "previously", "earlier", "before", "below", "following", "such", "another",
    "other", "others", "else", "both", "either", "neither", "each", "respectively", "aforementioned", "mentioned",
    "said", "again", "instead", "too", "as well", "so far", "last question", "last answer", "last message",
    "my question", "my last", "your answer", "your response", "your last", "your example", "your code",
    "your suggestion", "you said", "you mean", "you meant", "you mentioned", "you wrote", "you gave",
    "you suggested", "did you", "we discussed", "we talked", "i said", "i asked", "i mentioned", "more about",
    "more on", "more detail", "more details", "in detail", "more examples", "more example", "any more", "further",
    "also", "first two", "last two", "similar",
    "different from", "alternative", "alternatives", "additional", "rest", "remaining", "compare to", "compared to",
    "versus being", "vice versa", "the opposite", "similarly", "then", "afterwards", "after", "main", "key",
    "specific", "certain", "related", "nearby", "two", "three", "types are",
];

/// Positions in a row of things: in one that was given before, or in one that everybody knows.
const POSITIONS: &[&str] = &["the first", "the second", "the third", "the last"];

/// Words that say nothing about a topic by themselves.
#[rustfmt::skip]
const FUNCTION_WORDS: &[&str] = &[
    "a", "an", "the", "of", "in", "on", "at", "to", "for", "from", "by", "with", "about", "into", "over", "under",
    "between", "and", "or", "but", "if", "so", "as", "than", "because", "while", "not", "no", "yes", "is", "are",
    "was", "were", "be", "been", "being", "am", "do", "does", "did", "done", "have", "has", "had", "can", "could",
    "will", "would", "shall", "should", "may", "might", "must", "i", "me", "my", "mine", "we", "us", "our", "you",
    "your", "it", "he", "she", "they", "what", "which", "who", "whom", "whose", "when", "where", "why", "how",
    "there", "here", "this", "that", "these", "those", "some", "any", "many", "much", "more", "most", "very",
    "just", "also", "too", "please", "tell", "give", "show", "explain", "describe", "get", "got", "thing", "things",
    "way", "ways", "kind", "like", "want", "need", "know", "mean", "'s", "'m", "'t", "'re", "'ve", "'ll", "'d",
    "don", "doesn", "didn", "isn", "aren", "up", "out", "make", "made", "use", "used", "example", "examples",
    "detail", "details",
];

fn content_words(words: &Words) -> usize {
    words.iter().filter(|word| !FUNCTION_WORDS.contains(word)).count()
}

/// After one of these a definite noun is complete: "the capital of France", "the war between two states".
const COMPLETIONS: [&str; 14] = [
    "of", "in", "for", "between", "from", "behind", "on", "among", "against", "within", "inside", "called", "named",
    "to",
];

/// Things everyone means the same by, with no antecedent.
#[rustfmt::skip]
const UNIQUE: [&str; 30] = [
    "world", "internet", "sun", "moon", "earth", "sky", "universe", "brain", "body", "heart", "human", "future",
    "past", "web", "government", "ocean", "sea", "stock", "us", "uk", "united", "usa", "eu", "un", "population",
    "environment", "economy", "solar", "periodic", "atmosphere",
];

/// Whether some "the …" is left without what makes it definite: a name, a number, a complement or a unique thing.
fn has_open_definite(text: &str) -> bool {
    let tokens: Vec<&str> = text.split_whitespace().collect();
    tokens.iter().enumerate().any(|(at, token)| token.eq_ignore_ascii_case("the") && !is_complete(&tokens[at + 1..]))
}

/// Looks at the four words after "the"; a clause that ends first leaves the noun open.
fn is_complete(following: &[&str]) -> bool {
    for (distance, token) in following.iter().take(4).enumerate() {
        let word = token.trim_matches(|c: char| !c.is_alphanumeric());
        let named = word.chars().any(|c| c.is_uppercase() || c.is_ascii_digit());
        let lower = word.to_lowercase();
        if named || UNIQUE.contains(&lower.as_str()) {
            return true;
        }
        if distance > 0 && COMPLETIONS.contains(&lower.as_str()) {
            return following.len() > distance + 1;
        }
        if token.ends_with([',', '.', '?', '!', ';', ':']) {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests;
