//! A prompt's text with everything removed that cannot change its meaning: the key of the `normalized` tier.
//!
//! Two prompts with the same normal form get the same answer without any further check, so a rewrite that might
//! change what is asked is never made: code, quotations, numbers, names and unknown tokens stay byte for byte, and
//! text that is not English only has its Unicode form and white space settled. What a prompt is about, and whether
//! two different prompts ask the same, is left to `verify`.
//!
//! Invisible tag characters (U+E0000…) are kept on purpose: a model reads them, so a prompt that hides instructions
//! in them must not become equal to one that has none.

mod polite;
mod sentence;
mod verbatim;

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

use self::verbatim::Span;
use super::language::{self, Language};

/// A rewrite may lay open a further one (a polite prefix behind a greeting), so passes repeat until nothing changes.
/// More than three were never needed on real prompts; the bound only keeps hostile text cheap.
const MAX_PASSES: usize = 16;

/// The normal form of `text`. Applying it twice changes nothing more; the result may be empty only if `text` has
/// nothing visible in it.
pub fn normalize(text: &str) -> String {
    let settled = if is_settled(text) { text.to_owned() } else { until_stable(text, Rules::Settle) };
    match language::detect(&settled) {
        Language::English => until_stable(&settled, Rules::English),
        Language::Other => settled,
    }
}

/// What a pass may do to prose.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// Unicode form and white space, in any language.
    Settle,
    /// These and the rewrites for English.
    English,
}

fn until_stable(text: &str, rules: Rules) -> String {
    let mut current = text.to_owned();
    for _ in 0..MAX_PASSES {
        let next = pass(&current, rules);
        if next == current {
            break;
        }
        current = next;
    }
    current
}

fn pass(text: &str, rules: Rules) -> String {
    let spans = verbatim::spans(text);
    let last = spans.len().saturating_sub(1);
    let mut out = String::with_capacity(text.len());
    for (number, span) in spans.into_iter().enumerate() {
        match span {
            Span::Verbatim(code) => out.push_str(code),
            Span::Free(prose) => {
                let mut prose = settle(prose);
                if number == 0 {
                    prose = Cow::Owned(prose.trim_start().to_owned());
                }
                if number == last {
                    prose = Cow::Owned(prose.trim_end().to_owned());
                }
                if rules == Rules::English {
                    let edges = Edges { start: number == 0, end: number == last };
                    out.push_str(&rewrite(&prose, edges));
                } else {
                    out.push_str(&prose);
                }
            }
        }
    }
    out
}

/// Which ends of the whole text a piece of prose reaches.
#[derive(Clone, Copy)]
struct Edges {
    start: bool,
    end: bool,
}

/// The rewrites for English; each is the identity where it is not sure.
fn rewrite(prose: &str, edges: Edges) -> String {
    let mut rest = prose;
    if edges.start {
        rest = polite::without_prefix(rest);
    }
    if edges.end {
        rest = polite::without_suffix(rest);
        rest = sentence::without_terminal(rest);
    }
    sentence::fold_words(rest, edges.start)
}

/// Unicode form, invisible characters and white space.
fn settle(prose: &str) -> Cow<'_, str> {
    if prose.is_ascii() {
        return if is_tidy(prose) { Cow::Borrowed(prose) } else { Cow::Owned(collapse(prose)) };
    }
    let mut composed = String::with_capacity(prose.len());
    for piece in prose.split_inclusive(is_positional) {
        let end = piece.trim_end_matches(is_positional).len();
        let (plain, positional) = piece.split_at(end);
        match is_nfkc_quick(plain.chars()) {
            IsNormalized::Yes => composed.push_str(plain),
            IsNormalized::No | IsNormalized::Maybe => composed.extend(plain.nfkc()),
        }
        composed.push_str(positional);
    }
    Cow::Owned(collapse(&without_invisible(&composed)))
}

/// Characters whose place is their meaning: compatibility forms would turn x² into x2 and 1½ into 11⁄2.
fn is_positional(c: char) -> bool {
    matches!(
        c,
        '²' | '³' | '¹' | '¼'..='¾' | '\u{2070}'..='\u{209c}' | '\u{2150}'..='\u{215f}'
            | '\u{2189}' | '\u{2460}'..='\u{249b}'
    )
}

/// Whether settling would change nothing, without making a pass.
fn is_settled(text: &str) -> bool {
    text.is_ascii() && is_tidy(text) && text.trim().len() == text.len()
}

fn is_tidy(prose: &str) -> bool {
    !prose.contains("  ") && !prose.bytes().any(|byte| byte.is_ascii_control())
}

/// Drops zero-width and direction marks. A joiner stays where a neighbour is not ASCII: in an emoji or in Persian it
/// is a letter's part.
fn without_invisible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let dropped = match c {
            '\u{ad}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => true,
            '\u{200c}' | '\u{200d}' => {
                out.chars().next_back().is_none_or(|before| before.is_ascii())
                    && chars.peek().is_none_or(char::is_ascii)
            }
            _ => false,
        };
        if !dropped {
            out.push(c);
        }
    }
    out
}

/// Runs of white space and control characters become one space, or one line break if they contain one.
fn collapse(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut gap: Option<char> = None;
    for c in text.chars() {
        if matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}' | '\u{85}') {
            gap = Some('\n');
        } else if c.is_whitespace() || c.is_control() {
            gap = gap.or(Some(' '));
        } else {
            out.extend(gap.take());
            out.push(c);
        }
    }
    out.extend(gap);
    out
}

#[cfg(test)]
mod tests;
