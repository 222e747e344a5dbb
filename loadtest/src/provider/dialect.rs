//! Whose form a request and its answer have. Each dialect reads a request into a [`ChatRequest`] and writes an [`Answer`]
//! whole and as events; what goes wrong on purpose is the same for all and stands in [`super::script`].

mod anthropic;
mod gemini;
mod ollama;
mod openai;

pub(super) use self::anthropic::counted;

use bytes::Bytes;
use http::HeaderMap;

use super::answer::Answer;
use super::refusal::Refusal;
use super::request::ChatRequest;

/// The dialects that this provider speaks, told apart by path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `POST /v1/chat/completions`.
    OpenAi,
    /// `POST /v1/messages`.
    Anthropic,
    /// `POST /api/chat`: lines of JSON.
    Ollama,
    /// `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent?alt=sse`.
    Gemini,
}

/// One event of a stream, before it is framed.
#[derive(Debug)]
pub(super) struct Event {
    /// The `event:` field that goes before the data, where the dialect has one.
    pub(super) name: Option<&'static str>,
    pub(super) data: Vec<u8>,
}

/// The events of a stream, in order.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) opening: Vec<Event>,
    /// By content token, and for each token by choice.
    pub(super) content: Vec<Vec<Event>>,
    pub(super) closing: Vec<Event>,
    /// What says that nothing follows.
    pub(super) done: Option<Event>,
    /// An error in the middle.
    pub(super) error: Event,
}

impl Dialect {
    /// The dialect of a chat request's path.
    pub(super) fn of_chat(path: &str) -> Option<Self> {
        match path {
            "/v1/chat/completions" | "/chat/completions" => Some(Self::OpenAi),
            "/v1/messages" | "/messages" => Some(Self::Anthropic),
            "/api/chat" => Some(Self::Ollama),
            _ => gemini::target(path).map(|_| Self::Gemini),
        }
    }

    /// The dialect of a path that lists models; Anthropic's is OpenAI's path with a header.
    pub(super) fn of_models(path: &str, headers: &HeaderMap) -> Option<Self> {
        match path {
            "/v1/models" | "/models" if headers.contains_key("anthropic-version") => Some(Self::Anthropic),
            "/v1/models" | "/models" => Some(Self::OpenAi),
            "/api/tags" => Some(Self::Ollama),
            "/v1beta/models" => Some(Self::Gemini),
            _ => None,
        }
    }

    /// Reads a request; `None` if it is none.
    pub(super) fn read(self, path: &str, body: &Bytes) -> Option<ChatRequest> {
        match self {
            Self::OpenAi => ChatRequest::parse(body),
            Self::Anthropic => anthropic::read(body),
            Self::Ollama => ollama::read(body),
            Self::Gemini => gemini::read(path, body),
        }
    }

    /// The answer as one JSON body; `is_empty` leaves its content out.
    pub(super) fn whole(self, answer: &Answer, is_empty: bool) -> Vec<u8> {
        match self {
            Self::OpenAi => openai::completion(answer, if is_empty { &[] } else { &answer.choices }),
            Self::Anthropic => anthropic::whole(answer, is_empty),
            Self::Ollama => ollama::whole(answer, is_empty),
            Self::Gemini => gemini::whole(answer, is_empty),
        }
    }

    /// The answer as events; `is_empty` leaves its content and its end out.
    pub(super) fn events(self, answer: &Answer, include_usage: bool, is_empty: bool) -> Events {
        match self {
            Self::OpenAi => openai::events(answer, include_usage, is_empty),
            Self::Anthropic => anthropic::events(answer, is_empty),
            Self::Ollama => ollama::events(answer, is_empty),
            Self::Gemini => gemini::events(answer, is_empty),
        }
    }

    /// Status and body of a refusal.
    pub(super) fn refusal(self, refusal: &Refusal) -> (u16, Vec<u8>) {
        match self {
            Self::OpenAi => (refusal.status, refusal.body()),
            Self::Anthropic => anthropic::refusal(refusal),
            Self::Ollama => ollama::refusal(refusal),
            Self::Gemini => gemini::refusal(refusal),
        }
    }

    /// The list of models.
    pub(super) fn models(self, names: &[String]) -> Vec<u8> {
        match self {
            Self::OpenAi => openai::models(names),
            Self::Anthropic => anthropic::models(names),
            Self::Ollama => ollama::models(names),
            Self::Gemini => gemini::models(names),
        }
    }

    /// The content type of a stream.
    pub(super) fn stream_type(self) -> &'static str {
        if self == Self::Ollama { "application/x-ndjson" } else { "text/event-stream" }
    }

    /// What stands before a content token on the wire.
    pub(super) fn text_marker(self) -> &'static [u8] {
        match self {
            Self::OpenAi | Self::Ollama => b"\"content\":\"",
            Self::Anthropic | Self::Gemini => b"\"text\":\"",
        }
    }
}

impl Event {
    fn unnamed(data: Vec<u8>) -> Self {
        Self { name: None, data }
    }

    fn of_json(data: &serde_json::Value) -> Self {
        Self::unnamed(data.to_string().into_bytes())
    }
}
