//! What a reply does, and the directives that ask for it inside a prompt.
//!
//! A directive group is `[[key=value key=value]]` anywhere in the last user message, its first
//! letter right after the brackets; several groups add up. Durations are written `250ms` or `2s`.
//!
//! | directive | effect |
//! |---|---|
//! | `tokens=N` | content tokens of the answer (default 20) |
//! | `first=D` | time from the headers to the first event |
//! | `each=D` | time between content tokens |
//! | `hold=N` | pause after N content tokens until `RunningProvider::release` or `POST /_release` |
//! | `reasoning=N` | N tokens of `reasoning_content` before the content |
//! | `tool_calls=N` | answer with N tool calls, if the request brought tools and ends with the user's turn |
//! | `uncounted` | a stream without its count, though it was asked for |
//! | `vary` | put the request's number into the answer, so that a repeat reads differently |
//! | `strict` | refuse what the dialect does not define, with a 400 that names it |
//! | `wire=Q,Q` | how the SSE bytes are written: `crlf`, `comments`, `bytewise`, `batched`, `nospace` |
//! | `fault=F` | one of the faults below; `after=N` is the content token before which it strikes (default 0) |
//!
//! Faults: `close`, `reset`, `no_reply`, `hang after=N`, `cut after=N`, `early_end after=N`,
//! `error_event after=N`, `invalid_utf8 after=N`, `huge bytes=N`, `slow_loris every=D`, `rate_limit retry_after=SECONDS`,
//! `quota`, `quota_type`, `credit`, any status from 400 to 599, `garbage`, `content_type`, `no_done`, `length`,
//! `content_filter`, `ignore_stream`, `empty_choices`.

use std::time::Duration;

/// Everything a reply does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Content tokens of the answer.
    pub tokens: usize,
    /// Time from the headers to the first event; a JSON reply waits before its headers.
    pub first_token: Duration,
    /// Time between two content tokens; a JSON reply adds them up before its headers.
    pub per_token: Duration,
    /// Pause after this many content tokens until released.
    pub hold_after: Option<usize>,
    /// Tokens of `reasoning_content` before the content.
    pub reasoning_tokens: usize,
    /// Tool calls instead of content, where the request brought tools.
    pub tool_calls: usize,
    /// Whether a stream comes without its count.
    pub uncounted: bool,
    /// Whether the answer carries the request's number.
    pub vary: bool,
    /// Whether members that the dialect does not define are refused.
    pub strict: bool,
    /// How the SSE bytes are written.
    pub wire: Vec<Quirk>,
    /// What goes wrong, if anything.
    pub fault: Option<Fault>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            tokens: 20,
            first_token: Duration::ZERO,
            per_token: Duration::ZERO,
            hold_after: None,
            reasoning_tokens: 0,
            tool_calls: 0,
            uncounted: false,
            vary: false,
            strict: false,
            wire: Vec::new(),
            fault: None,
        }
    }
}

/// Lawful but awkward ways to write SSE; they combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// Lines end with CR LF.
    Crlf,
    /// A comment line before every event.
    Comments,
    /// Every byte is a TCP write of its own.
    Bytewise,
    /// As many events as are ready share one write.
    Batched,
    /// No space after `data:`.
    NoSpace,
}

/// Ways for a reply to go wrong. `after` counts content tokens already sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed before any byte of the reply.
    Close,
    /// The connection is reset (RST) before any byte of the reply.
    Reset,
    /// Nothing is ever sent, not even headers.
    NoReply,
    /// The stream stops and the connection stays open.
    Hang {
        /// Content tokens sent before.
        after: usize,
    },
    /// The connection is closed in the middle of the body, in the middle of an event.
    Cut {
        /// Content tokens sent before.
        after: usize,
    },
    /// The body ends properly as HTTP sees it, but the answer is not finished.
    EarlyEnd {
        /// Content tokens sent before.
        after: usize,
    },
    /// A `data: {"error":...}` event, then the end, without `[DONE]`. A JSON reply is a 500.
    ErrorEvent {
        /// Content tokens sent before.
        after: usize,
    },
    /// One content token holds a byte that is no UTF-8; the rest follows as usual.
    InvalidUtf8 {
        /// Content tokens sent before.
        after: usize,
    },
    /// The first content token is this long.
    Huge {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The body is written one byte at a time.
    SlowLoris {
        /// Time between two bytes.
        every: Duration,
    },
    /// 429 `rate_limit_exceeded` with a `retry-after` header.
    RateLimit {
        /// The header's value in seconds.
        retry_after_seconds: u64,
    },
    /// 429 `insufficient_quota`: the spend limit is reached, a retry is useless.
    InsufficientQuota,
    /// The same as older and compatible providers say it: in `type` alone, with no `code`.
    QuotaByType,
    /// 400, and that the credit balance is too low: the same as Anthropic says it.
    LowCredit,
    /// This status (400..=599) with an error body.
    Status(u16),
    /// 200 with the right content type and a body that is neither JSON nor SSE.
    Garbage,
    /// 200 with a proper body under `text/html`.
    WrongContentType,
    /// The stream ends after `finish_reason` without `[DONE]`.
    MissingDone,
    /// The answer ends with `finish_reason: "length"`.
    Length,
    /// The answer ends with `finish_reason: "content_filter"`.
    ContentFilter,
    /// A JSON reply although a stream was asked for.
    IgnoreStream,
    /// `choices` is empty throughout.
    EmptyChoices,
}

/// A directive that this provider does not know, or a value that it cannot read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad directive {directive:?}: {reason}")]
pub struct BadDirective {
    /// The offending word.
    pub directive: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Behaviour {
    /// The default with this fault.
    pub fn with_fault(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }

    /// Whether the bytes are to be written in this way.
    pub fn has(&self, quirk: Quirk) -> bool {
        self.wire.contains(&quirk)
    }

    /// Applies every directive group found in `text`.
    ///
    /// # Errors
    /// [`BadDirective`] for the first word that is unknown or malformed.
    pub fn apply(&mut self, text: &str) -> Result<(), BadDirective> {
        let mut rest = text;
        while let Some((_, after_open)) = rest.split_once("[[") {
            let Some((group, after_close)) = after_open.split_once("]]") else {
                break;
            };
            // A nested list such as [[1, 2], [3]] is ordinary text.
            if group.starts_with(|first: char| first.is_ascii_lowercase()) {
                self.apply_group(group)?;
            }
            rest = after_close;
        }
        Ok(())
    }

    fn apply_group(&mut self, group: &str) -> Result<(), BadDirective> {
        let mut details = Details::default();
        let mut fault = None;
        for word in group.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "fault" => fault = Some(value),
                "after" => details.after = number(word, value)?,
                "bytes" => details.bytes = number(word, value)?,
                "every" => details.every = duration(word, value)?,
                "retry_after" => details.retry_after_seconds = number(word, value)?,
                _ => self.apply_shape(word, key, value)?,
            }
        }
        if let Some(name) = fault {
            self.fault = Some(details.fault(name)?);
        }
        Ok(())
    }

    fn apply_shape(&mut self, word: &str, key: &str, value: &str) -> Result<(), BadDirective> {
        match key {
            "tokens" => self.tokens = number(word, value)?,
            "first" => self.first_token = duration(word, value)?,
            "each" => self.per_token = duration(word, value)?,
            "hold" => self.hold_after = Some(number(word, value)?),
            "reasoning" => self.reasoning_tokens = number(word, value)?,
            "tool_calls" => self.tool_calls = number(word, value)?,
            "strict" => self.strict = true,
            "uncounted" => self.uncounted = true,
            "vary" => self.vary = true,
            "wire" => self.wire = value.split(',').map(quirk).collect::<Result<_, _>>()?,
            _ => return Err(bad(word, "unknown key")),
        }
        Ok(())
    }
}

/// The words that only mean something beside a `fault`.
struct Details {
    after: usize,
    bytes: usize,
    every: Duration,
    retry_after_seconds: u64,
}

impl Default for Details {
    fn default() -> Self {
        Self { after: 0, bytes: 8 << 20, every: Duration::from_secs(1), retry_after_seconds: 1 }
    }
}

impl Details {
    fn fault(&self, name: &str) -> Result<Fault, BadDirective> {
        let after = self.after;
        Ok(match name {
            "close" => Fault::Close,
            "reset" => Fault::Reset,
            "no_reply" => Fault::NoReply,
            "hang" => Fault::Hang { after },
            "cut" => Fault::Cut { after },
            "early_end" => Fault::EarlyEnd { after },
            "error_event" => Fault::ErrorEvent { after },
            "invalid_utf8" => Fault::InvalidUtf8 { after },
            "huge" => Fault::Huge { bytes: self.bytes },
            "slow_loris" => Fault::SlowLoris { every: self.every },
            "rate_limit" => Fault::RateLimit { retry_after_seconds: self.retry_after_seconds },
            "quota" => Fault::InsufficientQuota,
            "quota_type" => Fault::QuotaByType,
            "credit" => Fault::LowCredit,
            "garbage" => Fault::Garbage,
            "content_type" => Fault::WrongContentType,
            "no_done" => Fault::MissingDone,
            "length" => Fault::Length,
            "content_filter" => Fault::ContentFilter,
            "ignore_stream" => Fault::IgnoreStream,
            "empty_choices" => Fault::EmptyChoices,
            code => Fault::Status(error_status(code)?),
        })
    }
}

fn error_status(code: &str) -> Result<u16, BadDirective> {
    let status = code.parse().ok().filter(|status| (400..600).contains(status));
    status.ok_or_else(|| bad(code, "no fault of this name, and no status from 400 to 599"))
}

fn quirk(name: &str) -> Result<Quirk, BadDirective> {
    match name {
        "crlf" => Ok(Quirk::Crlf),
        "comments" => Ok(Quirk::Comments),
        "bytewise" => Ok(Quirk::Bytewise),
        "batched" => Ok(Quirk::Batched),
        "nospace" => Ok(Quirk::NoSpace),
        _ => Err(bad(name, "no wire quirk of this name")),
    }
}

fn number<N: std::str::FromStr>(word: &str, value: &str) -> Result<N, BadDirective> {
    value.parse().map_err(|_| bad(word, "not a number"))
}

fn duration(word: &str, value: &str) -> Result<Duration, BadDirective> {
    if let Some(millis) = value.strip_suffix("ms") {
        return Ok(Duration::from_millis(number(word, millis)?));
    }
    let Some(seconds) = value.strip_suffix('s') else {
        return Err(bad(word, "a duration is written 250ms or 2s"));
    };
    Ok(Duration::from_secs(number(word, seconds)?))
}

fn bad(directive: &str, reason: &'static str) -> BadDirective {
    BadDirective { directive: directive.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Behaviour, BadDirective> {
        let mut behaviour = Behaviour::default();
        behaviour.apply(text).map(|()| behaviour)
    }

    #[test]
    fn plain_text_changes_nothing() {
        assert_eq!(parsed("what is a[[0]? and [[1, 2], [3]]"), Ok(Behaviour::default()));
    }

    #[test]
    fn groups_add_up() {
        let behaviour = parsed("hello [[tokens=5 each=10ms]] there [[fault=cut after=3]]").expect("valid");
        assert_eq!(behaviour.tokens, 5);
        assert_eq!(behaviour.per_token, Duration::from_millis(10));
        assert_eq!(behaviour.fault, Some(Fault::Cut { after: 3 }));
    }

    #[test]
    fn every_documented_fault_is_known() {
        let names = [
            "close",
            "reset",
            "no_reply",
            "hang",
            "cut",
            "early_end",
            "error_event",
            "invalid_utf8",
            "huge",
            "slow_loris",
            "rate_limit",
            "quota",
            "quota_type",
            "credit",
            "500",
            "502",
            "503",
            "529",
            "garbage",
            "content_type",
            "no_done",
            "length",
            "content_filter",
            "ignore_stream",
            "empty_choices",
        ];
        for name in names {
            assert!(parsed(&format!("[[fault={name}]]")).is_ok(), "{name}");
        }
    }

    #[test]
    fn misspelt_directives_are_errors() {
        for text in ["[[fault=ct]]", "[[token=5]]", "[[first=5]]", "[[wire=lf]]", "[[tokens=many]]", "[[fault=200]]"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
