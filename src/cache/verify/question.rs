//! What kind of answer a prompt asks for.
//!
//! Owns the types and which of them agree. "What", "how" and "which" are one type: people swap them freely and the
//! other words show the difference.

use super::profile::{Class, Token};

/// The kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuestionType {
    /// What, how, which, or a request.
    Open,
    /// A person.
    Who,
    /// A person who is acted on.
    Whom,
    /// A time.
    When,
    /// A place.
    Where,
    /// A reason.
    Why,
    /// An amount or price.
    HowMuch,
    /// A duration.
    HowLong,
    /// A distance.
    HowFar,
    /// A frequency.
    HowOften,
    /// An age.
    HowOld,
    /// A size.
    HowBig,
    /// What something is like.
    Experience,
    /// Yes or no.
    YesNo,
}

const AUXILIARIES: &[&str] = &[
    "am", "are", "can", "could", "did", "do", "does", "had", "has", "have", "is", "may", "might", "must", "shall",
    "should", "was", "were", "will", "would",
];

/// Beginnings that only introduce the real question.
const OPENINGS: &[&[&str]] = &[
    &["can", "you", "explain"],
    &["can", "you", "tell", "me"],
    &["can", "you", "please", "tell", "me"],
    &["could", "you", "tell", "me"],
    &["could", "you", "explain"],
    &["can", "you", "describe"],
    &["can", "you", "give", "me"],
    &["can", "you", "give"],
    &["can", "you", "show", "me"],
    &["can", "you", "help", "me"],
    &["could", "you", "give", "me"],
    &["could", "you", "help", "me"],
    &["can", "someone", "explain"],
    &["can", "anyone", "explain"],
    &["can", "someone", "tell", "me"],
    &["can", "anyone", "tell", "me"],
    &["do", "you", "know"],
    &["does", "anyone", "know"],
    &["do", "you", "have", "any"],
    &["i", "want", "to", "know"],
    &["i", "would", "like", "to", "know"],
    &["i", "wonder"],
    &["please", "explain"],
    &["please", "tell", "me"],
    &["tell", "me"],
    &["explain"],
    &["please"],
];

/// A noun near the question word that names the kind of answer: "in what year" is "when".
const CUES: &[(&str, QuestionType)] = &[
    ("reason", QuestionType::Why),
    ("reasons", QuestionType::Why),
    ("cause", QuestionType::Why),
    ("causes", QuestionType::Why),
    ("year", QuestionType::When),
    ("date", QuestionType::When),
    ("day", QuestionType::When),
    ("month", QuestionType::When),
    ("time", QuestionType::When),
    ("place", QuestionType::Where),
    ("places", QuestionType::Where),
    ("location", QuestionType::Where),
    ("city", QuestionType::Where),
    ("country", QuestionType::Where),
    ("number", QuestionType::HowMuch),
    ("amount", QuestionType::HowMuch),
    ("price", QuestionType::HowMuch),
    ("cost", QuestionType::HowMuch),
    ("population", QuestionType::HowMuch),
    ("salary", QuestionType::HowMuch),
    ("percentage", QuestionType::HowMuch),
    ("percent", QuestionType::HowMuch),
    ("calories", QuestionType::HowMuch),
    ("temperature", QuestionType::HowBig),
    ("weight", QuestionType::HowBig),
    ("height", QuestionType::HowBig),
    ("size", QuestionType::HowBig),
    ("depth", QuestionType::HowBig),
    ("age", QuestionType::HowOld),
    ("distance", QuestionType::HowFar),
    ("time", QuestionType::HowLong),
    ("duration", QuestionType::HowLong),
    ("length", QuestionType::HowLong),
    ("author", QuestionType::Who),
    ("person", QuestionType::Who),
    ("inventor", QuestionType::Who),
    ("founder", QuestionType::Who),
    ("creator", QuestionType::Who),
    ("name", QuestionType::Who),
];

impl QuestionType {
    /// Finds the type from the first words.
    pub fn of(tokens: &[Token]) -> Self {
        let tokens = skip_openings(tokens);
        let words: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
        if words.first().is_some_and(|word| AUXILIARIES.contains(word)) {
            return if is_there_a_way(&words) { Self::Open } else { Self::YesNo };
        }
        if is_about_experience(&words) {
            return Self::Experience;
        }
        let Some(position) = words.iter().position(|word| is_question_word(word)) else {
            return Self::Open;
        };
        let next = words.get(position + 1).copied().unwrap_or("");
        match words[position] {
            "who" | "whom" if matches!(next, "did" | "do" | "does") && words.get(position + 2) != Some(&"you") => {
                Self::Whom
            }
            "who" | "whom" | "whose" => Self::Who,
            "what" if matches!(next, "makes" | "made" | "causes" | "caused") => Self::Why,
            "when" if position < 3 => Self::When,
            "where" if position < 4 => Self::Where,
            "why" => Self::Why,
            "how" => of_how(next),
            _ => Self::Open,
        }
    }

    /// Whether a noun says no more than that the question is of this kind.
    pub fn is_named_by(self, word: &str) -> bool {
        CUES.iter().any(|&(cue, kind)| kind == self && cue == word)
    }

    /// Whether one answer can serve both: equal types, or a cue word that makes an open question specific.
    pub fn agrees(self, tokens: &[Token], other: Self, other_tokens: &[Token]) -> bool {
        let by = |tokens: &[Token]| tokens.iter().any(|token| token.text == "by");
        let passive = matches!((self, other), (Self::Whom, Self::Who)) && by(other_tokens)
            || matches!((self, other), (Self::Who, Self::Whom)) && by(tokens);
        self == other
            || passive
            || (other == Self::Open && has_cue(other_tokens, self))
            || (self == Self::Open && has_cue(tokens, other))
    }
}

fn of_how(next: &str) -> QuestionType {
    match next {
        "many" | "much" => QuestionType::HowMuch,
        "long" => QuestionType::HowLong,
        "far" => QuestionType::HowFar,
        "often" | "frequently" => QuestionType::HowOften,
        "old" => QuestionType::HowOld,
        "tall" | "big" | "large" | "deep" | "high" | "heavy" | "wide" | "fast" | "hot" | "cold" => QuestionType::HowBig,
        "come" => QuestionType::Why,
        _ => QuestionType::Open,
    }
}

fn is_question_word(word: &str) -> bool {
    matches!(word, "what" | "which" | "how" | "who" | "whom" | "whose" | "when" | "where" | "why")
}

/// "What is it like to", "how does it feel to".
fn is_about_experience(words: &[&str]) -> bool {
    let begins_with = |pattern: &[&str]| words.starts_with(pattern);
    words.windows(2).any(|pair| matches!(pair, ["it" | "feel" | "feels", "like"]))
        || begins_with(&["how", "is", "it", "to"])
        || begins_with(&["how", "does", "it", "feel"])
}

/// The preposition or verb at the very end carries the question: "what is it for", "what does it do".
pub fn ending(tokens: &[Token]) -> Option<&str> {
    let last = tokens.last()?.text.as_str();
    ["about", "do", "for", "from", "like", "of", "to", "with"].into_iter().find(|ending| *ending == last)
}

/// Whether one prompt is "what eats it" and the other "what does it eat".
pub fn asks_for_actor(actor: &[Token], acted_on: &[Token]) -> bool {
    let ([what, verb, ..], [other_what, auxiliary, rest @ ..]) = (actor, acted_on) else {
        return false;
    };
    let same_verb = || rest.iter().any(|token| token.bases.iter().any(|base| verb.bases.contains(base)));
    what.text == "what"
        && other_what.text == "what"
        && matches!(auxiliary.text.as_str(), "do" | "does" | "did")
        && same_verb()
}

/// Whether the prompt asks what something is, and no more.
pub fn asks_what_it_is(tokens: &[Token]) -> bool {
    let mut words = tokens.iter().map(|token| token.text.as_str());
    words.next() == Some("what") && matches!(words.next(), Some("is" | "are" | "'s"))
}

/// An adjective that names the kind of a "how" question: "far" asks for a distance.
pub fn is_degree(word: &str) -> bool {
    of_how(word) != QuestionType::Open
}

/// "Is there a way to" asks how, not whether.
fn is_there_a_way(words: &[&str]) -> bool {
    let ways = ["way", "ways", "method", "trick", "tips", "tip"];
    matches!(words, ["is" | "are", "there", ..]) && words.iter().take(6).any(|word| ways.contains(word))
}

fn has_cue(tokens: &[Token], wanted: QuestionType) -> bool {
    CUES.iter().any(|&(cue, kind)| kind == wanted && tokens.iter().any(|token| token.text == cue))
}

fn skip_openings(tokens: &[Token]) -> &[Token] {
    let begins = |opening: &[&str]| {
        tokens.len() > opening.len() && tokens.iter().zip(opening).all(|(token, word)| token.text == **word)
    };
    let longest = OPENINGS.iter().filter(|opening| begins(opening)).map(|opening| opening.len()).max().unwrap_or(0);
    let rest = &tokens[longest..];
    let frame = |token: &&Token| token.class == Class::Filler && !is_question_word(&token.text);
    if longest > 0 && rest.first().as_ref().is_some_and(frame) { &rest[1..] } else { rest }
}
