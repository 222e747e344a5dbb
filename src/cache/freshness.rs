//! Whether an answer to a prompt may be kept, and for how long.
//!
//! Judged from the words of the prompt alone, before any look-up: answers about the present moment, about one person,
//! or meant to differ each time are never kept. Two mistakes have a price: a kept answer that is wrong tomorrow, and a
//! timeless prompt refused; where both are likely the first weighs more. What an answer itself says about its date is
//! judged afterwards by `answer_is_dated`. Who may see a personal answer is left to `scope`.

mod pace;
mod personal;
mod prices;
mod random;
mod volatile;

use std::fmt;
use std::time::Duration;

use super::words::Words;

/// How long the answer to a prompt stays right. `reason` names the evidence, for headers and logs; it never holds
/// text of the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Nothing says that the answer will change.
    Timeless,
    /// Changes within months: office holders, populations, records. Kept for a day at most.
    Slow,
    /// Changes within days: new releases, what is planned. Kept for an hour at most.
    Fast,
    /// About this moment or place; never kept.
    Volatile {
        /// The cue that was found.
        reason: &'static str,
    },
    /// About the one who asks, or holding personal data or secrets; never shared.
    Personal {
        /// The cue that was found.
        reason: &'static str,
    },
    /// Meant to be different each time; never kept.
    Random {
        /// The cue that was found.
        reason: &'static str,
    },
}

impl fmt::Display for Freshness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeless => formatter.write_str("timeless"),
            Self::Slow => formatter.write_str("slow"),
            Self::Fast => formatter.write_str("fast"),
            Self::Volatile { reason } => write!(formatter, "volatile: {reason}"),
            Self::Personal { reason } => write!(formatter, "personal: {reason}"),
            Self::Random { reason } => write!(formatter, "random: {reason}"),
        }
    }
}

impl Freshness {
    /// Whether an answer of this class may be stored for others at all.
    pub fn may_be_kept(self) -> bool {
        matches!(self, Self::Timeless | Self::Slow | Self::Fast)
    }
}

/// The class of a prompt (English; another language is only searched for personal data).
pub fn classify(text: &str) -> Freshness {
    let words = Words::new(text);
    if let Some(reason) = personal::reason(text, &words) {
        return Freshness::Personal { reason };
    }
    if let Some(reason) = volatile::reason(text, &words) {
        return Freshness::Volatile { reason };
    }
    if let Some(reason) = random::reason(&words) {
        return Freshness::Random { reason };
    }
    pace::pace(&words)
}

/// Whether an answer says that it holds for a certain date only: "as of", a knowledge cut-off, or a year from 2023
/// to 2039.
/// Such an answer belongs to a short class whatever its prompt.
pub fn answer_is_dated(answer: &str) -> bool {
    let words = Words::new(answer);
    words.has_any(DATED) || words.iter().any(is_recent_year)
}

#[rustfmt::skip]
const DATED: &[&str] = &[
    "as of", "last update", "last updated", "knowledge cutoff", "knowledge cut off", "training data", "my training",
    "currently", "at the time of writing", "at the moment", "up to date", "real time information", "real time data",
    "most recent", "the latest", "at present", "to date", "recently", "right now", "today", "this year",
    "last year", "so far",
];

const FIRST_RECENT_YEAR: u32 = 2023;
/// Beyond this a number is rather a power of two or a price.
const LAST_PLAUSIBLE_YEAR: u32 = 2039;

fn is_recent_year(word: &str) -> bool {
    word.len() == 4 && word.parse().is_ok_and(|year: u32| (FIRST_RECENT_YEAR..=LAST_PLAUSIBLE_YEAR).contains(&year))
}

const SLOW_TTL: Duration = Duration::from_hours(24);

/// How long to keep an answer from the moment it was made: `configured` at most, `short` for what ages quickly, for what
/// is personal, and for an answer that says its own date. It is absolute: a hit never prolongs it. `jitter`, 0..=1,
/// takes up to a tenth of it away so that entries of one hour do not expire together: 1 leaves all of it.
pub fn ttl(class: Freshness, answer: &str, configured: Duration, short: Duration, jitter: f64) -> Duration {
    let base = match class {
        Freshness::Timeless if answer_is_dated(answer) => configured.min(short),
        Freshness::Timeless => configured,
        Freshness::Slow => configured.min(SLOW_TTL),
        Freshness::Fast | Freshness::Volatile { .. } | Freshness::Personal { .. } | Freshness::Random { .. } => {
            configured.min(short)
        }
    };
    base.mul_f64(0.9 + 0.1 * jitter.clamp(0.0, 1.0))
}

/// A question about how things are done or what they are, whoever asks and whenever.
fn is_how_to(words: &Words) -> bool {
    words.starts_with_any(&[
        "how do",
        "how to",
        "how can",
        "how should",
        "how would",
        "how could",
        "how does",
        "what is the best way to",
        "what is a good way to",
        "what 's the best way to",
        "is there a way to",
        "is it possible to",
        "explain how to",
        "show me how to",
        "can i",
        "what are the steps to",
        "steps to",
        "is it safe to",
        "can you explain how",
        "what are some ways",
        "what are the ways",
        "what is the way",
        "which is the best way",
        "what is the easiest way",
        "what are the best ways",
        "what should i do",
    ])
}

/// Whether the text orders `action`: begins with it, or asks for it politely.
fn is_order(words: &Words, action: &str) -> bool {
    const POLITE: &[&str] = &[
        "please",
        "kindly",
        "can you",
        "could you",
        "would you",
        "will you",
        "help me",
        "hi",
        "hello",
        "hey",
        "now",
        "i want you to",
        "i need you to",
        "i 'd like you to",
    ];
    words.starts_with(action) || (words.starts_with_any(POLITE) && words.has(action))
}

/// Words that make a prompt one about programs: "the current directory" is no news there.
#[rustfmt::skip]
const PROGRAMMING: &[&str] = &[
    "python", "javascript", "js", "java", "rust", "sql", "excel", "bash", "linux", "git", "html", "css", "react",
    "php", "ruby", "golang", "typescript", "node", "pandas", "numpy", "django", "flask", "mysql", "postgres",
    "postgresql", "function", "code", "script", "api", "regex", "datetime", "query", "variable", "command",
    "kotlin", "swift", "docker", "kubernetes", "matlab", "jquery", "angular", "android", "powershell", "shell", "c",
    "c++", "c#", "terminal", "ubuntu", "vim", "emacs", "vscode", "makefile", "sqlite", "mongodb", "laravel",
    "wordpress", "numpy", "scala", "perl", "unix", "npm", "program", "vba", "google sheets",
];

fn is_about_programs(words: &Words) -> bool {
    words.has_any(PROGRAMMING)
}

#[cfg(test)]
mod tests;
