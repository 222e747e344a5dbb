//! Greetings, "please" and thanks around a request, in English.
//!
//! Each is dropped only where the words beside it show that it is address, not content: "Hello, Dolly", "hello world"
//! and "how do you say thank you" stay.

/// Words a request begins with; before one of them an address is only an address.
#[rustfmt::skip]
const REQUEST_STARTS: &[&str] = &[
    "what", "what's", "whats", "how", "how's", "why", "when", "where", "which", "who", "who's", "whose", "is",
    "are", "was", "were", "do", "does", "did", "can", "could", "should", "would", "explain", "describe", "list",
    "give", "show", "tell", "write", "create", "compare", "define", "find", "summarize", "summarise", "translate",
    "calculate", "convert", "generate", "suggest", "help", "provide", "recommend", "i", "i'm", "i'd", "please",
    "kindly", "pls", "plz",
];

const GREETINGS: &[&str] = &[
    "hi there",
    "hello there",
    "hey there",
    "good morning",
    "good afternoon",
    "good evening",
    "greetings",
    "hi",
    "hello",
    "hey",
];

const PLEASE: &[&str] = &["please", "kindly", "pls", "plz"];

/// Questions about ability that are always requests when a verb of telling follows.
const CAN_YOU: &[&str] = &["can you", "could you", "would you", "will you"];

const TELLING: &[&str] = &["explain", "describe", "tell me", "give me", "show me", "help me", "list", "summarize"];

/// Openings before a question word that only say "I ask".
#[rustfmt::skip]
const ASKING: &[&str] = &[
    "tell me", "i would like to know", "i'd like to know", "i want to know", "i wanted to know", "i was wondering",
    "i am wondering", "i'm wondering", "do you know", "let me know",
];

const QUESTION_WORDS: &[&str] = &["what", "what's", "how", "why", "when", "where", "which", "who", "who's", "whose"];

const THANKS: &[&str] = &[
    "thanks in advance",
    "thank you in advance",
    "thank you very much",
    "thank you",
    "many thanks",
    "thanks",
    "thx",
    "please",
    "pls",
    "plz",
];

/// A text that speaks about words may mean the polite one itself.
#[rustfmt::skip]
const ABOUT_WORDS: &[&str] = &[
    "say", "saying", "says", "said", "word", "words", "mean", "meaning", "means", "translate", "translation",
    "spell", "write", "phrase", "synonym", "synonyms", "respond", "reply", "pronounce", "song", "lyrics", "express",
    "sign", "use", "type",
];

/// `prose` without what greets or flatters at its front.
pub(super) fn without_prefix(prose: &str) -> &str {
    let mut rest = prose.trim_start();
    while let Some(shorter) = shorten(rest) {
        rest = shorter;
    }
    rest
}

fn shorten(rest: &str) -> Option<&str> {
    let begins = |after: &str, starts: &[&str]| starts.iter().any(|start| strip(after, start).is_some());
    for greeting in GREETINGS {
        if let Some(after) = strip(rest, greeting) {
            let after = after.trim_start_matches([',', '!', '.', ' ', '\n']);
            return begins(after, REQUEST_STARTS).then_some(after);
        }
    }
    for please in PLEASE {
        if let Some(after) = strip(rest, please) {
            let after = after.trim_start_matches([',', ' ']);
            let opens_name = after.starts_with(|c: char| !c.is_ascii_lowercase());
            let doubled = begins(after, PLEASE);
            let asks = !after.is_empty() && !doubled;
            return (asks && (!opens_name || begins(after, REQUEST_STARTS))).then_some(after);
        }
    }
    for can_you in CAN_YOU {
        if let Some(after) = strip(rest, can_you) {
            let after = after.trim_start();
            let asked = PLEASE.iter().find_map(|please| strip(after, please)).map(str::trim_start);
            return asked.or_else(|| begins(after, TELLING).then_some(after)).filter(|asked| !asked.is_empty());
        }
    }
    let after = ASKING.iter().find_map(|asking| strip(rest, asking))?;
    let after = after.trim_start_matches([',', ' ']);
    begins(after, QUESTION_WORDS).then_some(after)
}

/// What follows `phrase` at the front of `text` (any case of the first letter), if a word ends there.
fn strip<'a>(text: &'a str, phrase: &str) -> Option<&'a str> {
    let head = text.get(..phrase.len())?;
    let tail = &text[phrase.len()..];
    let is_whole = tail.chars().next().is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '\'' | '’' | '-' | '_'));
    (is_whole && is_same(head, phrase)).then_some(tail)
}

/// `prose` without "please" or thanks at its end.
pub(super) fn without_suffix(prose: &str) -> &str {
    let trimmed = prose.trim_end();
    let bare = trimmed.trim_end_matches(['.', '!', ' ', '?']);
    for thanks in THANKS {
        let Some(before) = strip_end(bare, thanks) else {
            continue;
        };
        let request = before.trim_end();
        let parted = request.ends_with([',', '.', '?', '!']);
        let attached = before.len() == request.len();
        let words = request.split(|c: char| !c.is_alphanumeric());
        let about_words = words.clone().any(|word| ABOUT_WORDS.contains(&word.to_ascii_lowercase().as_str()));
        let is_short = words.filter(|word| !word.is_empty()).count() < 3;
        if attached || is_short || about_words || !(parted || thanks.starts_with('p')) {
            return trimmed;
        }
        return request.trim_end_matches([',', ' ']);
    }
    trimmed
}

/// What precedes `phrase` at the end of `text` (any case of the first letter).
fn strip_end<'a>(text: &'a str, phrase: &str) -> Option<&'a str> {
    let at = text.len().checked_sub(phrase.len())?;
    let (before, end) = (text.get(..at)?, text.get(at..)?);
    is_same(end, phrase).then_some(before)
}

/// Only the first letter may differ in case: "HELLO" or "heLLo" is somebody's token.
fn is_same(text: &str, phrase: &str) -> bool {
    text.get(1..) == phrase.get(1..)
        && text.as_bytes().first().map(u8::to_ascii_lowercase) == phrase.as_bytes().first().copied()
}
