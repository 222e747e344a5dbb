//! Why a request is not taken, and when to come back.

use std::time::Duration;

use crate::db::DbError;
use crate::keys::Money;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Requests.
    Requests,
    /// Tokens.
    Tokens,
}

impl Measure {
    /// The word in error bodies and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
        }
    }
}

/// Why a request is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A key's rate.
    #[error("rate limit reached on {} per minute: limit {limit}, requested {requested}; try again in {} ms", measure.as_str(), wait.as_millis())]
    Rate {
        /// What there was too much of.
        measure: Measure,
        /// How many there may be in a minute.
        limit: u32,
        /// How many were asked for.
        requested: u64,
        /// When to come back.
        wait: Duration,
    },
    /// The client address's rate.
    #[error("rate limit reached on {} per minute of this address; try again in {} ms", measure.as_str(), wait.as_millis())]
    Address {
        /// What there was too much of.
        measure: Measure,
        /// When to come back.
        wait: Duration,
    },
    /// More tokens than the key, or its holder's address, may ever use at once.
    #[error("the request is too large: it has about {requested} tokens, and {burst} may be used at once")]
    TooLarge {
        /// How many were asked for, estimated.
        requested: u64,
        /// How many there may be at once.
        burst: u32,
    },
    /// The key's budget.
    #[error("the key's budget is used up: ${:.6} of it are left or not reserved, and this needs ${:.6}; a smaller max_tokens needs less", left.usd(), needed.usd())]
    Budget {
        /// What would have had to be reserved.
        needed: Money,
        /// What is left.
        left: Money,
    },
    /// A model whose price is not known, under a budget.
    #[error(
        "the key has a budget, and the model `{model}` has no price: [prices.{model:?}] in the configuration gives it one"
    )]
    NoPrice {
        /// The model.
        model: String,
    },
    /// The server has as much to do as it may, and no room for who waits.
    #[error("the server is overloaded; try again in {} ms", wait.as_millis())]
    Overloaded {
        /// When to come back.
        wait: Duration,
    },
    /// The books cannot be written.
    #[error(transparent)]
    Store(#[from] DbError),
}

impl Refusal {
    /// The stable word in error bodies and frames.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rate { .. } | Self::Address { .. } | Self::TooLarge { .. } => "rate_limit_exceeded",
            Self::Budget { .. } => "insufficient_quota",
            Self::NoPrice { .. } => "model_without_price",
            Self::Overloaded { .. } => "overloaded",
            Self::Store(_) => "store_unavailable",
        }
    }

    /// The word in metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Rate { measure, .. } => measure.as_str(),
            Self::Address { .. } => "address",
            Self::TooLarge { .. } => "too_large",
            Self::Budget { .. } => "budget",
            Self::NoPrice { .. } => "no_price",
            Self::Overloaded { .. } => "overloaded",
            Self::Store(_) => "store",
        }
    }

    /// When to come back, where that helps.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rate { wait, .. } | Self::Address { wait, .. } | Self::Overloaded { wait } => Some(*wait),
            Self::Store(_) => Some(Duration::from_secs(1)),
            Self::TooLarge { .. } | Self::Budget { .. } | Self::NoPrice { .. } => None,
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.retry_after().is_some()
    }
}
