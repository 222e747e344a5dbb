//! Prompts about the one who asks, and prompts that carry personal data or secrets.

use super::super::words::Words;
use super::{is_about_programs, is_how_to, is_order};

/// The cue that makes the answer one person's, if there is one.
pub(super) fn reason(text: &str, words: &Words) -> Option<&'static str> {
    data(text)
        .or_else(|| words.first_of(ALWAYS))
        .or_else(|| command(words))
        .or_else(|| identity(words))
        .or_else(|| introduction(text, words))
        .or_else(|| own_thing(words))
}

/// Cues that only make sense for one asker.
#[rustfmt::skip]
const ALWAYS: &[&str] = &[
    "my name is", "what is my name", "what 's my name", "do you remember me", "remember me", "remember that i",
    "remember my", "do you know me", "what do you know about me", "know about me", "about myself",
    "where do i live", "where do i work", "how old am i", "when is my", "when 's my", "my password is", "my ssn",
    "my social security number is", "my address is", "my phone number is", "my email is", "my number is",
    "my birthday is", "i live in", "i live at", "i work at", "i was born in", "i was born on", "i weigh",
    "i was diagnosed", "i have been diagnosed", "i 've been diagnosed", "do i have any", "what did i say",
    "what did i ask", "what did i tell", "when did i", "where did i", "am i eligible", "am i allowed",
    "what should i wear", "my doctor", "my diagnosis", "my test results", "my blood pressure is", "my salary is",
    "my wife 's", "i make $", "my horoscope", "what is my", "what 's my", "what are my", "where is my",
    "where 's my", "where are my", "what was my", "has my", "is my order", "is my account", "is my flight",
    "is my package", "is my appointment", "when will my", "when does my", "how much do i owe",
    "how much money do i have", "do i owe", "am i late", "did my", "was my", "to my calendar", "on my calendar",
    "in my calendar", "in my inbox", "in my account", "my meetings", "my to do list", "my shopping list",
    "my grocery list",
   
];

/// Orders to act on somebody's things.
const COMMANDS: &[&str] = &[
    "track my",
    "cancel my",
    "check my",
    "show me my",
    "show my",
    "send my",
    "read my",
    "list my",
    "find my",
    "call my",
    "text my",
    "email my",
    "message my",
    "book me",
    "order me",
    "wake me",
    "set an alarm",
    "set a timer",
    "set a reminder",
    "remind me",
    "add to my",
    "transfer money",
    "pay my",
    "book a",
    "remind us",
];

/// Things that one person has and another does not.
#[rustfmt::skip]
const OWN_THINGS: &[&str] = &[
    "my order", "my orders", "my package", "my parcel", "my account", "my balance", "my appointment", "my booking",
    "my reservation", "my invoice", "my bill", "my refund", "my payment", "my transaction", "my application",
    "my calendar", "my inbox", "my meeting", "my delivery", "my shipment", "my credit score", "my subscription",
    "my flight", "my ticket", "my tickets", "my transfer", "my card", "my loan", "my claim", "my policy",
    "my salary", "my paycheck", "my tax return", "my prescription", "my resume", "my cv", "my essay", "my case",
    "my contract", "my manager", "my portfolio", "my schedule", "my statement", "my purchase", "my pin",
    "my warranty", "my profile",
];

/// Three words alone; with more it is the philosophers' question.
fn identity(words: &Words) -> Option<&'static str> {
    (words.has("who am i") && words.iter().count() <= 4).then_some("who am i")
}

fn command(words: &Words) -> Option<&'static str> {
    COMMANDS.iter().copied().find(|command| is_order(words, command))
}

/// A thing of the asker's own, except in a question that is the same for everyone who has such a thing.
fn own_thing(words: &Words) -> Option<&'static str> {
    let generic = is_how_to(words)
        || is_about_programs(words)
        || words.starts_with_any(&[
            "why",
            "what happens if",
            "what happens when",
            "what does it mean",
            "what if",
            "should i",
            "where can i",
            "when should i",
            "which",
            "where do i",
            "what can i",
            "how",
            "do i need",
            "what to do",
            "is it",
            "who can",
            "i want to",
            "i need to know how",
        ]);
    words.first_of(OWN_THINGS).filter(|_| !generic)
}

/// A text that begins by saying who is speaking.
fn introduction(text: &str, words: &Words) -> Option<&'static str> {
    let opens = words.starts_with_any(&[
        "am i",
        "did i",
        "have i",
        "i am",
        "i 'm",
        "im a",
        "as a diabetic",
        "i have a meeting",
    ]);
    let general = words.starts_with_any(&[
        "i am looking for",
        "i 'm looking for",
        "i am trying to",
        "i 'm trying to",
        "i am getting",
        "i 'm getting",
        "i am using",
        "i 'm using",
        "i am learning",
        "i 'm learning",
        "i am wondering",
        "i 'm wondering",
        "i am legend",
        "i am the walrus",
        "i am curious",
        "i 'm curious",
        "i am new to",
        "i 'm new to",
    ]);
    let age = text.contains("year old") && words.has_any(&["i am", "i 'm", "i 'm a"]);
    let years = words.has_any(&["years old"]) && words.has_any(&["i am", "i 'm"]);
    ((opens && !general) || age || years).then_some("i am")
}

/// Addresses, numbers and keys that belong to somebody.
fn data(text: &str) -> Option<&'static str> {
    let tokens =
        || text.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '"' | '\'' | '`' | '(' | ')' | '<' | '>'));
    if tokens().any(is_email) {
        return Some("e-mail address");
    }
    if text.contains("-----BEGIN") || tokens().any(is_secret) {
        return Some("secret");
    }
    number_runs(text).find_map(|run| kind_of_number(&run))
}

fn is_email(token: &str) -> bool {
    let token = token.trim_matches(|c: char| !c.is_alphanumeric());
    let Some((name, host)) = token.split_once('@') else {
        return false;
    };
    let generic = host.starts_with("example.") || matches!(name, "user" | "git");
    !name.is_empty() && !generic && host.split_once('.').is_some_and(|(a, b)| !a.is_empty() && b.len() >= 2)
}

/// Known prefixes of keys, and long tokens that look drawn at random.
fn is_secret(token: &str) -> bool {
    const PREFIXES: &[&str] = &[
        "sk-",
        "sk_live_",
        "sk_test_",
        "pk_live_",
        "ghp_",
        "gho_",
        "github_pat_",
        "glpat-",
        "xoxb-",
        "xoxp-",
        "AKIA",
        "ASIA",
        "AIza",
        "eyJhbGci",
        "hf_",
        "ya29.",
    ];
    let token = token.rsplit(['=', ':']).next().unwrap_or(token);
    if token.len() >= 16 && PREFIXES.iter().any(|prefix| token.starts_with(prefix)) {
        return true;
    }
    let count = |class: fn(&u8) -> bool| token.bytes().filter(class).count();
    let plain = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'/'));
    plain
        && token.len() >= 32
        && count(u8::is_ascii_digit) >= 6
        && count(u8::is_ascii_uppercase) >= 6
        && count(u8::is_ascii_lowercase) >= 6
}

/// Digits and the marks between them.
struct NumberRun<'t> {
    text: &'t str,
    /// A letter stands right before or after: part of a hash or a code rather than a number of its own.
    touches_letter: bool,
}

/// Runs of digits joined by spaces, dashes, dots or brackets, with their marks.
fn number_runs(text: &str) -> impl Iterator<Item = NumberRun<'_>> {
    let is_mark = |c: char| matches!(c, ' ' | '-' | '.' | '(' | ')' | '+');
    let runs = text.split(move |c: char| !c.is_ascii_digit() && !is_mark(c));
    let trimmed = runs.map(|run| run.trim_matches(|c: char| !c.is_ascii_digit() && c != '+'));
    trimmed.filter(|run| run.len() >= 9).map(|run| {
        let start = run.as_ptr().addr() - text.as_ptr().addr();
        let (before, after) = (&text[..start], &text[start + run.len()..]);
        let touches_letter = before.ends_with(char::is_alphabetic) || after.starts_with(char::is_alphabetic);
        NumberRun { text: run, touches_letter }
    })
}

fn kind_of_number(run: &NumberRun<'_>) -> Option<&'static str> {
    let NumberRun { text: run, touches_letter } = run;
    let digits: Vec<u32> = run.chars().filter_map(|c| c.to_digit(10)).collect();
    let groups: Vec<usize> = run.split(|c: char| !c.is_ascii_digit()).map(str::len).filter(|len| *len > 0).collect();
    let is_card_shape = matches!(groups.as_slice(), [13 | 15 | 16 | 19] | [4, 4, 4, 4] | [4, 6, 5] | [4, 4, 4, 4, 3]);
    let is_part = *touches_letter && groups.len() == 1;
    if is_card_shape && !is_part && !run.contains('+') && is_luhn(&digits) {
        return Some("card number");
    }
    if groups == [3, 2, 4] && run.contains('-') {
        return Some("social security number");
    }
    let parted = run.contains(['-', ' ', '(']) && matches!(groups.as_slice(), [3, 3, 4] | [1 | 2, 3, 3, 4] | [2, 5, 5]);
    let international = run.starts_with('+') && (9..=15).contains(&digits.len()) && !run.contains('.');
    (parted || international).then_some("phone number")
}

/// The check digit of payment cards (ISO/IEC 7812).
fn is_luhn(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| if place % 2 == 1 { digit * 2 / 10 + digit * 2 % 10 } else { *digit })
        .sum();
    sum.is_multiple_of(10)
}
