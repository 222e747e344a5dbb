//! One message of the canonical request: its parts, its reasoning, its tool calls.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Addressee;
use crate::message::Role;
use crate::upstream::Failure;

/// One message.
#[derive(Debug)]
pub(in crate::providers) struct Message<'a> {
    /// Its place, for error messages: `messages[2]`.
    pub place: String,
    pub role: Role,
    pub parts: Vec<Part<'a>>,
    /// The assistant's reasoning, as text.
    pub reasoning: Option<String>,
    /// The assistant's reasoning as Anthropic signed it.
    pub thinking_blocks: Vec<&'a RawValue>,
    /// The order of an assistant's blocks of Anthropic's, where it is another than reasoning, texts, calls.
    pub block_order: Vec<BlockKind>,
    /// What the assistant wants called.
    pub calls: Vec<ToolCall<'a>>,
    /// The call that a tool's message answers.
    pub call_id: Option<String>,
    /// Whether the tool failed, as Anthropic has it.
    pub is_error: bool,
}

/// What an assistant's block of Anthropic's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::providers) enum BlockKind {
    Thinking,
    Text,
    ToolUse,
}

/// A part of a message's content.
#[derive(Debug)]
pub(in crate::providers) struct Part<'a> {
    /// Its place: `messages[2].content[0]`.
    pub place: String,
    pub content: PartContent,
    /// Anthropic's mark, passed on.
    pub cache_control: Option<&'a RawValue>,
}

/// What a part holds.
#[derive(Debug)]
pub(in crate::providers) enum PartContent {
    Text(String),
    Image(Picture),
    /// A document as `(media type, base64)`, and its name.
    File(String, String, Option<String>),
    /// Sound as `(media type, base64)`.
    Audio(String, String),
}

/// Where an image is.
#[derive(Debug)]
pub(in crate::providers) enum Picture {
    /// In the request, as `(media type, base64)`.
    Data(String, String),
    /// Elsewhere.
    Url(String),
}

/// A function that the assistant wants called.
#[derive(Debug)]
pub(in crate::providers) struct ToolCall<'a> {
    pub id: String,
    pub name: String,
    /// A JSON object.
    pub arguments: Box<RawValue>,
    /// What the provider wants back with the call: Gemini's signature of the thought behind it.
    pub extra_content: Option<&'a RawValue>,
    /// Anthropic's mark, passed on.
    pub cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawMessage<'a> {
    role: String,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    #[serde(borrow, default)]
    thinking_blocks: Option<Vec<&'a RawValue>>,
    #[serde(default)]
    block_order: Option<Vec<BlockKind>>,
    #[serde(borrow)]
    tool_calls: Option<Vec<&'a RawValue>>,
    tool_call_id: Option<String>,
    is_error: Option<bool>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_control: Option<&'a RawValue>,
}

impl<'a> Message<'a> {
    pub(super) fn read(to: Addressee<'_>, index: usize, raw: &'a RawValue) -> Result<Self, Failure> {
        let place = format!("messages[{index}]");
        let message: RawMessage<'a> = to.parse(&place, raw, "a message of OpenAI's form")?;
        let role = match message.role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            _ => return Err(to.lacks(&format!("{place}.role"), "no such role; a tool's result has the role `tool`")),
        };
        if message.function_call.is_some() {
            return Err(to.lacks(&format!("{place}.function_call"), "tool calls instead: send `tool_calls`"));
        }
        if role == Role::Tool && message.tool_call_id.is_none() {
            return Err(to.cannot_read(&format!("{place}.tool_call_id"), "the id of the call that it answers"));
        }
        let mut parts = content(to, &place, message.content)?;
        let refusal = message.refusal.filter(|refusal| !refusal.is_empty());
        parts.extend(refusal.map(|text| Part {
            place: place.clone(),
            content: PartContent::Text(text),
            cache_control: None,
        }));
        if let (Some(mark), Some(last)) = (message.cache_control, parts.last_mut()) {
            last.cache_control.get_or_insert(mark);
        }
        let calls = message.tool_calls.unwrap_or_default().into_iter().enumerate();
        let calls = calls.map(|(index, raw)| call(to, &format!("{place}.tool_calls[{index}]"), raw));
        Ok(Self {
            role,
            parts,
            reasoning: message.reasoning_content.or(message.reasoning),
            thinking_blocks: message.thinking_blocks.unwrap_or_default(),
            block_order: message.block_order.unwrap_or_default(),
            calls: calls.collect::<Result<_, _>>()?,
            call_id: message.tool_call_id,
            is_error: message.is_error.unwrap_or(false),
            place,
        })
    }

    /// The texts, one after another.
    pub fn text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| match &part.content {
            PartContent::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }
}

/// The functions that calls were for, by the calls' ids: those of the messages learnt so far, so that each tool's result finds
/// its own without a walk through all that was said.
#[derive(Debug, Default)]
pub(in crate::providers) struct CalledNames<'a>(HashMap<&'a str, &'a str>);

impl<'a> CalledNames<'a> {
    /// The calls of the next message. An id that is used again means its newest call from here on.
    pub fn learn(&mut self, message: &'a Message<'_>) {
        self.0.extend(message.calls.iter().rev().map(|call| (call.id.as_str(), call.name.as_str())));
    }

    /// The name of the function that the call `id` was for.
    pub fn of(&self, id: &str) -> Option<&'a str> {
        self.0.get(id).copied()
    }
}

fn content<'a>(to: Addressee<'_>, place: &str, raw: Option<&'a RawValue>) -> Result<Vec<Part<'a>>, Failure> {
    let Some(raw) = raw else { return Ok(Vec::new()) };
    let place = format!("{place}.content");
    if raw.get().starts_with('"') {
        let text = to.parse(&place, raw, "a text")?;
        return Ok(vec![Part { place, content: PartContent::Text(text), cache_control: None }]);
    }
    let parts: Vec<&RawValue> = to.parse(&place, raw, "a string or an array of parts")?;
    parts.into_iter().enumerate().map(|(index, raw)| part(to, format!("{place}[{index}]"), raw)).collect()
}

#[derive(Deserialize)]
struct RawPart<'a> {
    r#type: String,
    text: Option<String>,
    refusal: Option<String>,
    image_url: Option<ImageUrl>,
    input_audio: Option<InputAudio>,
    file: Option<File>,
    #[serde(borrow)]
    cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ImageUrl {
    url: String,
}

#[derive(Deserialize)]
struct InputAudio {
    data: String,
    format: String,
}

#[derive(Deserialize)]
struct File {
    file_data: Option<String>,
    filename: Option<String>,
}

fn part<'a>(to: Addressee<'_>, place: String, raw: &'a RawValue) -> Result<Part<'a>, Failure> {
    let part: RawPart<'a> = to.parse(&place, raw, "a content part of OpenAI's form")?;
    let missing = |name: &str| to.cannot_read(&format!("{place}.{name}"), "present");
    let content = match part.r#type.as_str() {
        "text" => PartContent::Text(part.text.ok_or_else(|| missing("text"))?),
        "refusal" => PartContent::Text(part.refusal.ok_or_else(|| missing("refusal"))?),
        "image_url" => {
            let url = part.image_url.ok_or_else(|| missing("image_url"))?.url;
            PartContent::Image(match data_url(&url) {
                Some((media_type, data)) => Picture::Data(media_type, data),
                None if url.starts_with("http://") || url.starts_with("https://") => Picture::Url(url),
                None => {
                    let field = format!("{place}.image_url.url");
                    return Err(to.cannot_read(&field, "an http address or `data:image/...;base64,...`"));
                }
            })
        }
        "input_audio" => {
            let audio = part.input_audio.ok_or_else(|| missing("input_audio"))?;
            PartContent::Audio(format!("audio/{}", audio.format), audio.data)
        }
        "file" => {
            let (data, name) = part.file.map_or((None, None), |file| (file.file_data, file.filename));
            let data =
                data.ok_or_else(|| to.lacks(&format!("{place}.file"), "no files but those sent as `file_data`"))?;
            let field = format!("{place}.file.file_data");
            let (media_type, data) =
                data_url(&data).ok_or_else(|| to.cannot_read(&field, "`data:application/pdf;base64,...`"))?;
            PartContent::File(media_type, data, name)
        }
        other => return Err(to.lacks(&place, &format!("no content part of the type `{other}`"))),
    };
    Ok(Part { place, content, cache_control: part.cache_control })
}

/// Media type and base64 of a data URL (RFC 2397).
fn data_url(url: &str) -> Option<(String, String)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let media_type = head.strip_suffix(";base64")?.split(';').next()?;
    media_type.contains('/').then(|| (media_type.to_owned(), data.to_owned()))
}

fn call<'a>(to: Addressee<'_>, place: &str, raw: &'a RawValue) -> Result<ToolCall<'a>, Failure> {
    #[derive(Deserialize)]
    struct RawCall<'a> {
        id: String,
        function: Option<Function>,
        #[serde(borrow)]
        extra_content: Option<&'a RawValue>,
        #[serde(borrow)]
        cache_control: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Function {
        name: String,
        #[serde(default)]
        arguments: String,
    }
    let call: RawCall<'a> = to.parse(place, raw, "a tool call with an id")?;
    let Some(function) = call.function else { return Err(to.lacks(place, "no tool calls but those of functions")) };
    let text = if function.arguments.trim().is_empty() { "{}".to_owned() } else { function.arguments };
    let arguments = RawValue::from_string(text).ok().filter(|raw| raw.get().trim_start().starts_with('{'));
    let arguments =
        arguments.ok_or_else(|| to.cannot_read(&format!("{place}.function.arguments"), "the text of a JSON object"))?;
    let (extra_content, cache_control) = (call.extra_content, call.cache_control);
    Ok(ToolCall { id: call.id, name: function.name, arguments, extra_content, cache_control })
}
