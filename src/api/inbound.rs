//! Dialects that requests come in. Each becomes the one canonical request, so that all share the cache, the flights and
//! the limits.

use axum::http::HeaderMap;
use bytes::Bytes;

use super::node::Node;
use super::{anthropic, ollama, responses};
use crate::message::{ChatRequest, Dialect, InvalidRequest, JsonObject};

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inbound {
    /// OpenAI's chat completions: the canonical form itself.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Ollama's chat.
    Ollama,
    /// OpenAI's responses.
    Responses,
}

impl Inbound {
    /// The canonical request that `body`, whose outermost object is `object`, asks for.
    pub fn request(
        self,
        body: &Bytes,
        object: JsonObject<'_>,
        default_model: &str,
    ) -> Result<ChatRequest, InvalidRequest> {
        let canonical = match self {
            Self::OpenAi => return ChatRequest::of_object(body, &object, Some(default_model)),
            Self::Anthropic => anthropic::request::canonical(&Node::root(object), default_model)?,
            Self::Responses => responses::request::canonical(&Node::root(object), default_model)?,
            Self::Ollama => ollama::request::canonical(&Node::root(object), default_model)?,
        };
        let dialect = match self {
            Self::OpenAi | Self::Responses => Dialect::OpenAi,
            Self::Anthropic => Dialect::Anthropic,
            Self::Ollama => Dialect::Ollama,
        };
        Ok(ChatRequest { dialect, ..ChatRequest::parse(canonical)? })
    }

    /// What the client says in headers to a provider of its own dialect.
    pub fn beside(self, headers: &HeaderMap) -> Result<Vec<(&'static str, String)>, InvalidRequest> {
        if self == Self::Anthropic { anthropic::beside::read(headers) } else { Ok(Vec::new()) }
    }
}
