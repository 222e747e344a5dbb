//! What an instance that asks a provider tells those that read along, as it stands in Redis.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Ending;
use crate::message::{Completion, Delta, FinishReason, Usage};
use crate::upstream::Failure;

/// One thing said. Another version's words are not understood: whoever meets one asks the provider itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// Who answers: a provider, and its name for the model.
    By(String, String),
    /// A piece.
    Piece(Piece),
    /// The end; with the answer, where its pieces were not said.
    End { whole: Option<Whole>, stored: bool },
    /// The end of another kind.
    Failed(Failure),
}

/// A [`Delta`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Piece {
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<Box<Map<String, Value>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<FinishReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    usage_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<Box<RawValue>>,
}

/// A whole answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Whole {
    /// The provider's own JSON.
    Raw(Box<RawValue>),
    /// As we know it.
    Completion(Box<Completion>),
}

impl Piece {
    /// `None` for a piece that is the whole answer.
    pub(super) fn of(delta: &Delta) -> Option<Self> {
        if delta.whole.is_some() {
            return None;
        }
        let delta = delta.clone();
        let Delta { text, reasoning, more, finish_reason, usage, usage_only, raw, whole: _ } = delta;
        let raw = raw.and_then(|raw| serde_json::from_slice(&raw).ok());
        Some(Self { text, reasoning, more, finish_reason, usage, usage_only, raw })
    }

    pub(super) fn into_delta(self) -> Delta {
        let Self { text, reasoning, more, finish_reason, usage, usage_only, raw } = self;
        let raw = raw.map(|raw| Bytes::from(String::from(Box::<str>::from(raw))));
        Delta { text, reasoning, more, finish_reason, usage, usage_only, raw, whole: None }
    }
}

impl Word {
    /// The end of a flight of which `said` pieces were said.
    pub(super) fn end(ending: &Ending, said: bool) -> Self {
        match ending {
            Ending::Complete { completion, raw, stored } => {
                let whole = (!said).then(|| Whole::of(completion, raw.as_ref()));
                Self::End { whole, stored: *stored }
            }
            Ending::Failed(failure) => Self::Failed(failure.clone()),
        }
    }
}

impl Whole {
    fn of(completion: &Arc<Completion>, raw: Option<&Bytes>) -> Self {
        let raw = raw.and_then(|raw| serde_json::from_slice(raw).ok());
        raw.map_or_else(|| Self::Completion(Box::new((**completion).clone())), Self::Raw)
    }

    /// `None` where it cannot be read.
    pub(super) fn read(self) -> Option<(Box<Completion>, Option<Bytes>)> {
        match self {
            Self::Completion(completion) => Some((completion, None)),
            Self::Raw(raw) => {
                let raw = Bytes::from(String::from(Box::<str>::from(raw)));
                Some((Box::new(Completion::from_openai(&raw).ok()?), Some(raw)))
            }
        }
    }
}
