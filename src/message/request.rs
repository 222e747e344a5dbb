//! The canonical chat request: an OpenAI-shaped JSON object whose bytes travel with it, and the few facts that
//! routing, conversations and the cache read from it.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::dialect::Dialect;
use super::json_object::{JsonFault, JsonObject};
use super::plain_turn::plain_turns;

/// A request that cannot be answered as it stands; `param` names the field at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidRequest {
    /// What is wrong, with the value, and what would be accepted.
    pub message: String,
    /// The field, in OpenAI's notation (`messages[0].role`).
    pub param: Option<String>,
}

impl InvalidRequest {
    /// A fault of the field `param`.
    pub fn of(param: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), param: Some(param.to_owned()) }
    }
}

impl From<JsonFault> for InvalidRequest {
    fn from(fault: JsonFault) -> Self {
        Self { message: fault.to_string(), param: None }
    }
}

/// Who speaks in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions of the operator (`system`, `developer`).
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool's result (`tool`, `function`).
    Tool,
}

impl Role {
    /// By the word in the store, which has no tools.
    pub fn stored(word: &str) -> Self {
        match word {
            "system" => Self::System,
            "user" => Self::User,
            _ => Self::Assistant,
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "system" | "developer" => Some(Self::System),
            "user" => Some(Self::User),
            "assistant" => Some(Self::Assistant),
            "tool" | "function" => Some(Self::Tool),
            _ => None,
        }
    }

    /// The word used on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One message of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// The text; text parts are joined by line breaks.
    pub text: String,
    /// False when the turn holds more than text: images, audio, files, tool calls or results.
    pub text_only: bool,
}

/// A chat request, validated. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// The model's public name, as asked.
    pub model: String,
    /// The OpenAI-shaped JSON object, as it arrived or as built from a conversation.
    pub body: Bytes,
    /// Whether the caller asked for a stream.
    pub stream: bool,
    /// Whether the caller asked for the usage chunk of a stream.
    pub include_usage: bool,
    /// The caller's own name for its user, if given: it narrows visibility, it grants nothing.
    pub user: Option<String>,
    /// The messages in order; never empty.
    pub turns: Vec<Turn>,
    /// Which of them stands for what was said before the others, where the server has left that out: an instruction by its
    /// form, and a part of the conversation by what it says.
    pub summary: Option<usize>,
    /// Whether the body names its model and holds nothing that is meant for us alone, so that a provider may have it
    /// as it is.
    pub is_untouched: bool,
    /// What the client spoke.
    pub dialect: Dialect,
    /// What it said beside the body to a provider of that dialect: names and values of headers.
    pub beside: Vec<(&'static str, String)>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

impl ChatRequest {
    /// Reads a request from the bytes of an OpenAI-shaped JSON object.
    ///
    /// # Errors
    /// [`InvalidRequest`] when the bytes are no such object, a field that is interpreted has the wrong type, or a
    /// name occurs twice at a level that is interpreted.
    #[expect(clippy::needless_pass_by_value, reason = "the request keeps the bytes")]
    pub fn parse(body: Bytes) -> Result<Self, InvalidRequest> {
        Self::of_object(&body, &JsonObject::parse(&body)?, None)
    }

    /// As [`ChatRequest::parse`], for a caller that has read the outermost object of `body` already; `default_model`
    /// answers requests that name none.
    ///
    /// # Errors
    /// As [`ChatRequest::parse`].
    pub fn of_object(
        body: &Bytes,
        object: &JsonObject<'_>,
        default_model: Option<&str>,
    ) -> Result<Self, InvalidRequest> {
        let named = typed::<Cow<'_, str>>(object, "model", "a string")?;
        let is_untouched = named.is_some() && object.members().all(|(name, _)| name != "cache");
        let model = match (named, default_model) {
            (Some(model), _) if !model.is_empty() => model.into_owned(),
            (None, Some(model)) => model.to_owned(),
            _ => return Err(InvalidRequest::of("model", "you must name a model: GET /v1/models lists them")),
        };
        let stream = typed::<bool>(object, "stream", "a boolean")?.unwrap_or(false);
        let options = typed::<StreamOptions>(object, "stream_options", "an object")?;
        let user = typed::<Cow<'_, str>>(object, "user", "a string")?.map(Cow::into_owned);
        let turns = turns(object)?;
        let include_usage = options.is_some_and(|options| options.include_usage);
        let (body, summary, dialect, beside) = (body.clone(), None, Dialect::OpenAi, Vec::new());
        Ok(Self { model, body, stream, include_usage, user, turns, summary, is_untouched, dialect, beside })
    }

    /// Builds a request from turns of plain text, and further members of the JSON object (`temperature` and so on).
    ///
    /// # Errors
    /// [`InvalidRequest`] when a member of `params` has a type that the request cannot have.
    pub fn build(
        model: &str,
        turns: &[(Role, &str)],
        params: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Self, InvalidRequest> {
        let messages: Vec<_> =
            turns.iter().map(|(role, text)| serde_json::json!({"role": role.as_str(), "content": text})).collect();
        let mut object = params.clone();
        object.insert("model".to_owned(), model.into());
        object.insert("messages".to_owned(), messages.into());
        Self::parse(Bytes::from(serde_json::Value::Object(object).to_string()))
    }

    /// The text of the turn that stands for what was said before the others.
    pub fn summary(&self) -> Option<&str> {
        self.summary.and_then(|at| self.turns.get(at)).map(|turn| turn.text.as_str())
    }

    /// The last turn when it is a person's and plain text: what matching by meaning looks at.
    pub fn prompt(&self) -> Option<&str> {
        let last = self.turns.last()?;
        (last.role == Role::User && last.text_only && !last.text.trim().is_empty()).then_some(last.text.as_str())
    }
}

/// The member `name` as a `T`, with an error that names the field, what it held and what it takes.
fn typed<'a, T: Deserialize<'a>>(
    object: &JsonObject<'a>,
    name: &str,
    expected: &str,
) -> Result<Option<T>, InvalidRequest> {
    let Some(raw) = object.get(name) else { return Ok(None) };
    match serde_json::from_str(raw.get()) {
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(InvalidRequest::of(name, format!("`{name}` must be {expected}, not {}", excerpt(raw)))),
    }
}

fn turns(object: &JsonObject<'_>) -> Result<Vec<Turn>, InvalidRequest> {
    if let Some(turns) = object.get("messages").and_then(plain_turns) {
        return Ok(turns);
    }
    let Some(messages) = typed::<Vec<&RawValue>>(object, "messages", "an array of messages")? else {
        return Err(InvalidRequest::of(
            "messages",
            "`messages` is required: [{\"role\": \"user\", \"content\": \"...\"}]",
        ));
    };
    if messages.is_empty() {
        return Err(InvalidRequest::of("messages", "`messages` must hold at least one message"));
    }
    messages.into_iter().enumerate().map(|(index, message)| turn(index, message)).collect()
}

fn turn(index: usize, message: &RawValue) -> Result<Turn, InvalidRequest> {
    let place = format!("messages[{index}]");
    let object =
        JsonObject::of(message).map_err(|fault| InvalidRequest::of(&place, format!("`{place}` is {fault}")))?;
    let role_name = object.get("role").and_then(|raw| serde_json::from_str::<Cow<'_, str>>(raw.get()).ok());
    let Some(role) = role_name.as_deref().and_then(Role::parse) else {
        let held = object.get("role").map_or_else(|| "absent".to_owned(), excerpt);
        let message =
            format!("`{place}.role` must be system, developer, user, assistant, tool or function; it is {held}");
        return Err(InvalidRequest::of(&format!("{place}.role"), message));
    };
    let (text, only_text) = content(&place, object.get("content"))?;
    let bare = object.members().all(|(name, value)| matches!(name, "role" | "content") || value.get() == "null");
    if role == Role::User && object.get("content").is_none() {
        return Err(InvalidRequest::of(
            &format!("{place}.content"),
            format!("`{place}.content` is required for a user's message"),
        ));
    }
    Ok(Turn { role, text, text_only: only_text && bare && role != Role::Tool })
}

/// The text of a message's content, and whether it was nothing but text.
fn content(place: &str, raw: Option<&RawValue>) -> Result<(String, bool), InvalidRequest> {
    let Some(raw) = raw else { return Ok((String::new(), true)) };
    let param = format!("{place}.content");
    let fault = |held: &RawValue| {
        InvalidRequest::of(
            &param,
            format!("`{param}` must be a string or an array of content parts, not {}", excerpt(held)),
        )
    };
    if raw.get().starts_with('"') {
        return serde_json::from_str(raw.get()).map(|text| (text, true)).map_err(|_| fault(raw));
    }
    let parts: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| fault(raw))?;
    let mut texts = Vec::new();
    let mut only_text = true;
    for part in parts {
        let object = JsonObject::of(part)
            .map_err(|error| InvalidRequest::of(&param, format!("a part of `{param}` is {error}")))?;
        let kind: Option<Cow<'_, str>> = object.get("type").and_then(|kind| serde_json::from_str(kind.get()).ok());
        match (kind.as_deref(), object.get("text")) {
            (Some("text"), Some(text)) => {
                texts.push(serde_json::from_str::<String>(text.get()).map_err(|_| fault(part))?);
            }
            (None, _) => return Err(fault(part)),
            _ => only_text = false,
        }
    }
    Ok((texts.join("\n"), only_text))
}

/// The first characters of a value, for an error message.
fn excerpt(raw: &RawValue) -> String {
    let text = raw.get();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(body: &str) -> String {
        ChatRequest::parse(Bytes::copy_from_slice(body.as_bytes())).unwrap_err().to_string()
    }

    #[test]
    fn reads_the_facts_and_keeps_the_bytes() {
        let body = r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"hi"}]}],"stream":true,"stream_options":{"include_usage":true},"x":1}"#;
        let request = ChatRequest::parse(Bytes::from(body)).unwrap();
        assert!(request.stream && request.include_usage);
        assert_eq!(request.prompt(), Some("hi"));
        assert_eq!(request.body, body);
    }

    #[test]
    fn faults_name_the_field_and_the_value() {
        insta::assert_snapshot!(
            [
                fault(""),
                fault("[]"),
                fault(r#"{"messages":[{"role":"user","content":"x"}]}"#),
                fault(r#"{"model":7,"messages":[]}"#),
                fault(r#"{"model":"m"}"#),
                fault(r#"{"model":"m","messages":[]}"#),
                fault(r#"{"model":"m","messages":[{"role":"robot","content":"x"}]}"#),
                fault(r#"{"model":"m","messages":[{"role":"user","content":7}]}"#),
                fault(r#"{"model":"m","messages":[{"role":"user"}]}"#),
                fault(r#"{"model":"m","messages":[{"role":"user","role":"system","content":"x"}]}"#),
                fault(r#"{"model":"m","model":"n","messages":[{"role":"user","content":"x"}]}"#),
                fault(r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":"yes"}"#),
            ]
            .join("\n")
        );
    }

    #[test]
    fn images_and_tool_results_are_not_plain_text() {
        let image = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"what is it"},{"type":"image_url","image_url":{"url":"x"}}]}]}"#;
        assert_eq!(ChatRequest::parse(Bytes::from(image)).unwrap().prompt(), None);
        let tool = r#"{"model":"m","messages":[{"role":"tool","tool_call_id":"1","content":"42"}]}"#;
        assert!(!ChatRequest::parse(Bytes::from(tool)).unwrap().turns[0].text_only);
    }

    proptest! {
        #[test]
        fn never_panics_on_arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = ChatRequest::parse(Bytes::from(bytes));
        }

        #[test]
        fn never_panics_on_damaged_requests(cut in 0usize..120, byte in any::<u8>()) {
            let mut body = br#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"stream":true}"#.to_vec();
            let place = cut % body.len();
            body[place] = byte;
            let _ = ChatRequest::parse(Bytes::from(body));
        }
    }
}
