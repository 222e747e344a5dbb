//! What can go wrong between a request to a provider and its reply, by what a caller does about it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deadline {
    /// No connection in time.
    Connect,
    /// No first byte of a stream in time.
    FirstToken,
    /// A stream fell silent.
    Idle,
    /// A whole answer did not come while another target could be asked.
    Whole,
    /// The whole call took too long.
    Total,
}

/// What went wrong, as far as a caller acts differently on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// No connection.
    Connect,
    /// A deadline passed.
    Timeout(Deadline),
    /// 429: slow down.
    RateLimited,
    /// 402, or another 4xx that says so: no money left; asking again does not help.
    SpendLimit,
    /// 408, 409 or 425: the same request may be taken a moment later.
    NotNow,
    /// Another 4xx: the request is at fault.
    Rejected,
    /// 503 or 529: overloaded.
    Overloaded,
    /// Another 5xx.
    Server,
    /// A reply that is not what was asked for: wrong type, bad JSON, bad UTF-8, an enormous frame.
    Garbage,
    /// The connection ended in the middle of the reply.
    Cut,
    /// An error event inside a stream that had begun well.
    Reported,
    /// No target can be asked now: each has failed too often. Nothing was sent.
    Unavailable,
    /// Every connection to the providers stayed in use. Nothing was sent.
    Full,
    /// The request asks for what the provider has no word for; it was not sent.
    Unsupported,
    /// The request cannot be put into the provider's words as it stands; it was not sent.
    Malformed,
    /// The caller's own budget is used up: the answer was ended by us.
    Budget,
    /// This server stops: the answer was ended by us.
    Stopped,
}

impl FailureKind {
    /// The word in metrics and in error bodies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout(Deadline::Connect) => "timeout_connect",
            Self::Timeout(Deadline::FirstToken) => "timeout_first_token",
            Self::Timeout(Deadline::Idle) => "timeout_idle",
            Self::Timeout(Deadline::Whole) => "timeout_whole",
            Self::Timeout(Deadline::Total) => "timeout_total",
            Self::RateLimited => "rate_limited",
            Self::SpendLimit => "spend_limit",
            Self::NotNow => "not_now",
            Self::Rejected => "rejected",
            Self::Overloaded => "overloaded",
            Self::Server => "server_error",
            Self::Garbage => "garbage",
            Self::Cut => "cut",
            Self::Reported => "reported",
            Self::Unavailable => "unavailable",
            Self::Full => "full",
            Self::Unsupported => "unsupported",
            Self::Malformed => "malformed",
            Self::Budget => "budget",
            Self::Stopped => "stopped",
        }
    }
}

impl FailureKind {
    /// The stable word in error bodies and frames.
    pub fn code(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limit_exceeded",
            Self::SpendLimit => "insufficient_quota",
            Self::NotNow | Self::Rejected => "upstream_rejected",
            Self::Overloaded => "upstream_overloaded",
            Self::Timeout(_) => "upstream_timeout",
            Self::Connect => "upstream_unreachable",
            Self::Unavailable => "upstream_unavailable",
            Self::Full => "overloaded",
            Self::Unsupported => "unsupported_parameter",
            Self::Malformed => "invalid_request_error",
            Self::Budget => "budget_exceeded",
            Self::Stopped => "interrupted",
            Self::Server | Self::Garbage | Self::Cut | Self::Reported => "upstream_error",
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        !matches!(self, Self::SpendLimit | Self::Rejected | Self::Unsupported | Self::Malformed | Self::Budget)
    }
}

/// A call to a provider that failed.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// What happened, without addresses and keys.
    pub message: String,
    /// The provider's status, where it answered with one.
    pub status: Option<u16>,
    /// How long the provider asks to wait.
    pub retry_after: Option<Duration>,
    /// The provider's own error object, where it sent one in OpenAI's form.
    pub error: Option<serde_json::Value>,
    /// The field at fault, in OpenAI's notation, of a request that was not sent.
    pub param: Option<String>,
}

impl Failure {
    /// A failure without a reply.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), status: None, retry_after: None, error: None, param: None }
    }
}

/// The failure of a deadline that passed.
pub fn timed_out(deadline: Deadline) -> Failure {
    let what = match deadline {
        Deadline::Connect => "the provider could not be reached in time",
        Deadline::FirstToken => "the provider's first token did not come in time",
        Deadline::Idle => "the provider fell silent in the middle of its answer",
        Deadline::Whole => "the provider's whole answer did not come in time",
        Deadline::Total => "the provider's answer took too long",
    };
    Failure::new(FailureKind::Timeout(deadline), what)
}
