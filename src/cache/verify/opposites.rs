//! Words that pull a question into the contrary direction.
//!
//! Owns antonyms, quantities, obligation and time. Leaves negation, which is counted, to the profile.

use super::profile::{Profile, Token};
use super::question::QuestionType;
use super::words::{OPPOSITES, are_listed_opposites, have_opposite_prefixes};
use crate::cache::lexicon::Lexicon;

/// The first pair of contraries, in words.
pub fn found(query: &Profile, cached: &Profile) -> Option<String> {
    lone_opposites(query, cached)
        .or_else(|| antonyms(query, cached))
        .or_else(|| other_obligation(query, cached))
        .or_else(|| other_time(query, cached))
        .or_else(|| other_person(query, cached))
        .or_else(|| lone_relation(query, cached))
}

/// A listed word on one side only, and its opposite on the other side only.
fn lone_opposites(query: &Profile, cached: &Profile) -> Option<String> {
    let only = |word: &str, here: &Profile, there: &Profile| here.has(word) && !there.has(word);
    OPPOSITES.iter().find_map(|&(left, right)| {
        let apart = only(left, query, cached) && only(right, cached, query)
            || only(right, query, cached) && only(left, cached, query);
        apart.then(|| format!("\"{left}\" against \"{right}\""))
    })
}

/// Opposites are looked for among all words that the other side lacks, also those that found a partner.
fn antonyms(query: &Profile, cached: &Profile) -> Option<String> {
    fn lone<'a>(profile: &'a Profile, other: &Profile) -> impl Iterator<Item = &'a Token> {
        profile.tokens.iter().filter(|token| !token.bases.is_empty() && !other.has(&token.text))
    }
    let cached_lone: Vec<&Token> = lone(cached, query).collect();
    for a in lone(query, cached) {
        for &b in &cached_lone {
            // "Least expensive" is "cheapest".
            let turned = is_turned(query, a) != is_turned(cached, b);
            if !turned && are_opposite(a, b) {
                return Some(format!("\"{}\" against \"{}\"", a.text, b.text));
            }
        }
    }
    None
}

fn is_turned(profile: &Profile, token: &Token) -> bool {
    let turns = |before: &Token| matches!(before.text.as_str(), "less" | "least");
    profile.tokens.windows(2).any(|pair| turns(&pair[0]) && pair[1].text == token.text)
}

fn are_opposite(a: &Token, b: &Token) -> bool {
    let lexicon = Lexicon::embedded();
    let same = a.bases.iter().any(|base| b.bases.contains(base));
    !same
        && (have_opposite_prefixes(&a.text, &b.text)
            || a.bases.iter().any(|&x| {
                b.bases.iter().any(|&y| {
                    let (left, right) = (lexicon.text(x), lexicon.text(y));
                    lexicon.are_opposite(x, y)
                        || are_listed_opposites(left, right)
                        || have_opposite_prefixes(left, right)
                })
            }))
}

/// "Must I" and "may I" have different answers, and so have "can I" and "should I".
fn other_obligation(query: &Profile, cached: &Profile) -> Option<String> {
    let class = |profile: &Profile| {
        let has = |words: &[&str]| words.iter().any(|word| profile.has(word));
        let forced = ["have", "has", "need"].iter().any(|word| has_in_row(profile, word, "to"));
        let forced = profile.question == QuestionType::YesNo && forced;
        if forced || has(&["must", "required", "mandatory", "obligatory", "compulsory", "obliged"]) {
            Some("must")
        } else if profile.question != QuestionType::YesNo {
            None
        } else if has(&["should", "ought"]) {
            Some("should")
        } else if has(&["will"]) {
            Some("will")
        } else if has(&["can", "may", "could", "allowed", "permitted"]) {
            Some("can")
        } else {
            Some("is")
        }
    };
    let (a, b) = (class(query)?, class(cached)?);
    let near = |a: &str, b: &str| a == "is" && matches!(b, "can" | "will");
    (a != b && !near(a, b) && !near(b, a)).then(|| format!("\"{a}\" against \"{b}\""))
}

fn has_in_row(profile: &Profile, first: &str, second: &str) -> bool {
    profile.tokens.windows(2).any(|pair| pair[0].text == first && pair[1].text == second)
}

/// What was, is not what will be.
fn other_time(query: &Profile, cached: &Profile) -> Option<String> {
    let time = |profile: &Profile| {
        let has = |words: &[&str]| words.iter().any(|word| profile.has(word));
        if has(&["will"]) {
            Some("will")
        } else if has(&["was", "were", "did"]) {
            Some("was")
        } else if has(&["is", "are", "does", "do"]) {
            Some("is")
        } else {
            None
        }
    };
    // With a year in the text, the tense of the verb says nothing new.
    let is_year = |number: &String| number.len() == 4 && (number.starts_with('1') || number.starts_with("20"));
    if query.numbers.iter().any(is_year) {
        return None;
    }
    match (time(query)?, time(cached)?) {
        (a @ ("will" | "was"), b @ ("will" | "was")) if a != b => Some(format!("\"{a}\" against \"{b}\"")),
        (a @ "is", b @ "was") | (a @ "was", b @ "is") => Some(format!("\"{a}\" against \"{b}\"")),
        _ => None,
    }
}

/// Whom it is about: somebody else, or the one who asks. "I", "you", "we" and "one" all mean the latter.
fn other_person(query: &Profile, cached: &Profile) -> Option<String> {
    const GROUPS: [&[&str]; 4] = [
        &["he", "him", "himself"],
        &["she", "hers", "herself"],
        &["someone", "somebody", "others"],
        &["myself", "yourself", "ourselves", "oneself", "themselves", "themself"],
    ];
    let has = |profile: &Profile, words: &[&str]| words.iter().any(|word| profile.has(word));
    let lone = GROUPS.into_iter().find(|words| has(query, words) != has(cached, words))?;
    Some(format!("only one side has \"{}\" or the like", lone[0]))
}

/// Prepositions that narrow a question down: with and without them it is another.
fn lone_relation(query: &Profile, cached: &Profile) -> Option<String> {
    const RELATIONS: [&str; 6] = ["after", "against", "before", "during", "until", "without"];
    let lone = RELATIONS.into_iter().find(|word| query.has(word) != cached.has(word))?;
    Some(format!("only one side has \"{lone}\""))
}
