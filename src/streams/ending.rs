//! How an answer ends, in the words that listeners get: said by who made it, or read from the store later.

use serde_json::Value;

use crate::chat::ChatError;
use crate::conversations::{MessageState, StoredMessage};
use crate::message::Usage;

/// What failed, in the words of an `error` frame.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ErrorFacts {
    /// The stable word.
    pub code: String,
    /// A sentence.
    pub message: String,
    /// Whether asking again may help.
    pub retryable: bool,
    /// Whether text was shown already.
    pub partial: bool,
    /// How long to wait first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// How an answer ended.
#[derive(Debug, Clone)]
pub enum Terminal {
    /// All was said.
    Done {
        /// Why the model stopped.
        finish_reason: Option<String>,
        /// Tokens; zero for a hit.
        usage: Option<Usage>,
        /// The cache's part.
        cache: Value,
        /// The model asked.
        model: String,
        /// From the question to the end.
        elapsed_ms: u64,
        /// BLAKE3 of the text, in hexadecimal.
        text_blake3: String,
    },
    /// Its reader stopped it.
    Cancelled {
        /// BLAKE3 of the text so far.
        text_blake3: String,
    },
    /// It failed.
    Error(ErrorFacts),
}

/// The end of an answer that a restart cut.
pub fn interrupted(partial: bool) -> ErrorFacts {
    ErrorFacts {
        code: "interrupted".to_owned(),
        message: "the server stopped in the middle of this answer".to_owned(),
        retryable: true,
        partial,
        retry_after_ms: None,
    }
}

/// The end of an answer whose end could not be stored.
pub(super) fn store_failed(partial: bool) -> ErrorFacts {
    ErrorFacts {
        code: "store_failed".to_owned(),
        message: "the answer could not be stored".to_owned(),
        retryable: true,
        partial,
        retry_after_ms: None,
    }
}

/// What failed, before anything was shown.
pub(super) fn facts(error: &ChatError) -> ErrorFacts {
    let (message, retryable, retry_after) = match error {
        ChatError::Upstream(failure) => (failure.to_string(), failure.kind.is_retryable(), failure.retry_after),
        ChatError::Refused(refusal) => (refusal.to_string(), refusal.is_retryable(), refusal.retry_after()),
        _ => (error.to_string(), false, None),
    };
    ErrorFacts {
        code: error.code().to_owned(),
        message,
        retryable,
        partial: false,
        retry_after_ms: retry_after.and_then(|wait| u64::try_from(wait.as_millis()).ok()),
    }
}

/// The recorded end of an answer that has left memory, from its stored message.
pub fn stored_terminal(message: &StoredMessage) -> Option<Terminal> {
    let text_blake3 = blake3::hash(message.content.as_bytes()).to_hex().to_string();
    let partial = !message.content.is_empty();
    Some(match message.state {
        MessageState::Streaming => return None,
        MessageState::Complete => Terminal::Done {
            finish_reason: message.finish_reason.clone(),
            usage: message.usage,
            cache: message.cache.clone().unwrap_or(Value::Null),
            model: message.model.clone().unwrap_or_default(),
            elapsed_ms: message.elapsed_ms.unwrap_or_default(),
            text_blake3,
        },
        MessageState::Cancelled => Terminal::Cancelled { text_blake3 },
        MessageState::Interrupted => Terminal::Error(interrupted(partial)),
        MessageState::Failed => {
            let said = |name: &str| message.error.as_ref().and_then(|error| error.get(name));
            let text = |name: &str| said(name).and_then(Value::as_str).map(str::to_owned);
            Terminal::Error(ErrorFacts {
                code: text("code").unwrap_or_else(|| "upstream_error".to_owned()),
                message: text("message").unwrap_or_default(),
                retryable: said("retryable").and_then(Value::as_bool).unwrap_or(false),
                partial,
                retry_after_ms: None,
            })
        }
    })
}
