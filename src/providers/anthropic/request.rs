//! A canonical request in Anthropic's words.

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::message::{Dialect, JsonObject, Role};
use crate::providers::canonical::{
    Addressee, BlockKind, Canonical, Message, Outgoing, Part, PartContent, Picture, ResponseFormat, Tool, ToolCall,
    ToolChoice,
};
use crate::providers::{Call, ReplyMode, hints};
use crate::upstream::{Failure, FailureKind};

/// Anthropic wants a limit with each request; this one stands in where the caller names none.
const DEFAULT_MAX_TOKENS: u64 = 8_192;

/// The body of a request to `/v1/messages`.
pub(super) fn body(provider: &str, call: &Call) -> Result<Bytes, Failure> {
    let to = Addressee { provider, dialect: "Anthropic" };
    let fitted = hints::fitted(&call.request, Dialect::Anthropic, to)?;
    let mut canonical = Canonical::of(&fitted, to)?;
    let mut out = Outgoing::default();
    out.put("model", &call.model);
    out.put("max_tokens", canonical.take_max_tokens()?.unwrap_or(DEFAULT_MAX_TOKENS));
    let (system, spoken): (Vec<_>, Vec<_>) =
        std::mem::take(&mut canonical.messages).into_iter().partition(|message| message.role == Role::System);
    let system = system.iter().flat_map(|message| &message.parts).map(|part| block(to, part));
    let system: Vec<Block<'_>> = system.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    out.put_some("system", (!system.is_empty()).then_some(system));
    out.put("messages", turns(to, &spoken)?);
    tools(&mut canonical, &mut out)?;
    let stop = canonical.take_stop()?;
    out.put_some("stop_sequences", (!stop.is_empty()).then_some(stop));
    for name in ["temperature", "top_p"] {
        out.put_some(name, canonical.take_raw(name));
    }
    effort(&mut canonical, &mut out)?;
    if let Some(tier) = canonical.take::<String>("service_tier", "a string")? {
        match tier.as_str() {
            "auto" => out.put("service_tier", "auto"),
            "default" | "standard_only" => out.put("service_tier", "standard_only"),
            _ => return Err(to.lacks("service_tier", "the tiers `auto` and `default`")),
        }
    }
    if let Some(user) = &call.request.user {
        out.put("metadata", json!({"user_id": user}));
    }
    if call.mode != ReplyMode::Whole {
        out.put("stream", true);
    }
    for (name, raw) in canonical.rest()? {
        out.put(&name, raw);
    }
    Ok(out.bytes())
}

/// What a request to `/v1/messages/count_tokens` holds: what a model reads, not how it answers.
const COUNTED: &[&str] = &[
    "cache_control",
    "context_management",
    "messages",
    "model",
    "output_config",
    "speed",
    "system",
    "thinking",
    "tool_choice",
    "tools",
];

/// The body of a request to `/v1/messages/count_tokens`.
pub(super) fn counted(provider: &str, call: &Call) -> Result<Bytes, Failure> {
    let whole = body(provider, call)?;
    let object = JsonObject::parse(&whole).map_err(|fault| Failure::new(FailureKind::Malformed, fault.to_string()))?;
    let mut out = Outgoing::default();
    object.members().filter(|(name, _)| COUNTED.contains(name)).for_each(|(name, raw)| out.put(name, raw));
    Ok(out.bytes())
}

/// `response_format` and `reasoning_effort` share an object there.
fn effort(canonical: &mut Canonical<'_>, out: &mut Outgoing) -> Result<(), Failure> {
    let to = canonical.to;
    let mut config = Outgoing::default();
    match canonical.take_response_format()? {
        ResponseFormat::Text => {}
        ResponseFormat::Json => {
            return Err(to.lacks("response_format.type", "JSON answers by a schema only: send `json_schema`"));
        }
        ResponseFormat::Schema(schema) => {
            let mut format = Outgoing::default();
            format.put("type", "json_schema");
            format.put("schema", schema);
            config.put("format", format);
        }
    }
    match canonical.take::<String>("reasoning_effort", "a string")?.as_deref() {
        None => {}
        Some("none") => out.put("thinking", json!({"type": "disabled"})),
        Some("minimal") => config.put("effort", "low"),
        Some(effort) => config.put("effort", effort),
    }
    config.put_all(to, "output_config", canonical.take_raw("output_config"))?;
    if !config.is_empty() {
        out.put("output_config", config);
    }
    Ok(())
}

fn tools(canonical: &mut Canonical<'_>, out: &mut Outgoing) -> Result<(), Failure> {
    let tools = canonical.take_tools()?;
    let mut choice = Outgoing::default();
    match canonical.take_tool_choice()? {
        ToolChoice::Auto => {}
        ToolChoice::None => choice.put("type", "none"),
        ToolChoice::Required => choice.put("type", "any"),
        ToolChoice::Function(name) => {
            choice.put("type", "tool");
            choice.put("name", name);
        }
    }
    if canonical.take::<bool>("parallel_tool_calls", "a boolean")? == Some(false) {
        choice.put("disable_parallel_tool_use", true);
        // After what stands there: only a call that is chosen freely has no type yet.
        choice.put("type", "auto");
    }
    if tools.is_empty() {
        return Ok(());
    }
    out.put("tools", tools.iter().map(declared).collect::<Vec<_>>());
    if !choice.is_empty() {
        out.put("tool_choice", choice);
    }
    Ok(())
}

fn declared(tool: &Tool<'_>) -> Outgoing {
    let mut out = Outgoing::default();
    out.put("name", &tool.name);
    out.put_some("description", tool.description.as_ref());
    match tool.parameters {
        Some(schema) => out.put("input_schema", schema),
        None => out.put("input_schema", json!({"type": "object", "properties": {}})),
    }
    out.put_some("strict", tool.strict);
    out.put_some("cache_control", tool.cache_control);
    out
}

/// A turn; messages of one side after another are one.
#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Typed<'a> {
    Text {
        text: &'a str,
    },
    Image {
        source: Source<'a>,
    },
    Document {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: &'a RawValue,
    },
    ToolResult {
        tool_use_id: &'a str,
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        is_error: Option<bool>,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Block<'a> {
    /// Signed reasoning, as it came.
    Own(&'a RawValue),
    Typed {
        #[serde(flatten)]
        typed: Typed<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<&'a RawValue>,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
}

fn turns<'a>(to: Addressee<'_>, messages: &'a [Message<'a>]) -> Result<Vec<Turn<'a>>, Failure> {
    let mut turns: Vec<Turn<'a>> = Vec::new();
    for message in messages {
        let content = message.parts.iter().map(|part| block(to, part)).filter_map(Result::transpose);
        let mut content: Vec<Block<'a>> = content.collect::<Result<_, _>>()?;
        let role = if message.role == Role::Assistant { "assistant" } else { "user" };
        match message.role {
            Role::Tool => {
                let tool_use_id = message.call_id.as_deref().unwrap_or_default();
                let is_error = message.is_error.then_some(true);
                content = vec![plain(Typed::ToolResult { tool_use_id, content, is_error })];
            }
            Role::Assistant => {
                content = in_order(message, content);
            }
            _ => {}
        }
        match turns.last_mut() {
            Some(last) if last.role == role => last.content.extend(content),
            _ => turns.push(Turn { role, content }),
        }
    }
    Ok(turns)
}

/// An assistant's blocks: in the order that its message names, else reasoning, texts, calls.
fn in_order<'a>(message: &'a Message<'a>, texts: Vec<Block<'a>>) -> Vec<Block<'a>> {
    let mut signed = message.thinking_blocks.iter().copied().map(Block::Own);
    let mut texts = texts.into_iter();
    let mut calls = message.calls.iter().map(called);
    let next = |kind: &BlockKind| match kind {
        BlockKind::Thinking => signed.next(),
        BlockKind::Text => texts.next(),
        BlockKind::ToolUse => calls.next(),
    };
    let mut blocks: Vec<Block<'a>> = message.block_order.iter().filter_map(next).collect();
    // What the order does not speak of.
    blocks.extend(signed.chain(texts).chain(calls));
    blocks
}

fn plain(typed: Typed<'_>) -> Block<'_> {
    Block::Typed { typed, cache_control: None }
}

fn called<'a>(call: &'a ToolCall<'a>) -> Block<'a> {
    let typed = Typed::ToolUse { id: &call.id, name: &call.name, input: &call.arguments };
    Block::Typed { typed, cache_control: call.cache_control }
}

/// A part as a block; an empty text is none, since Anthropic refuses it.
fn block<'a>(to: Addressee<'_>, part: &'a Part<'a>) -> Result<Option<Block<'a>>, Failure> {
    let typed = match &part.content {
        PartContent::Text(text) if text.is_empty() => return Ok(None),
        PartContent::Text(text) => Typed::Text { text },
        PartContent::Image(Picture::Data(media_type, data)) => {
            Typed::Image { source: Source::Base64 { media_type, data } }
        }
        PartContent::Image(Picture::Url(url)) => Typed::Image { source: Source::Url { url } },
        PartContent::File(media_type, data, name) => {
            Typed::Document { source: Source::Base64 { media_type, data }, title: name.as_deref() }
        }
        PartContent::Audio(..) => return Err(to.lacks(&part.place, "no sound in messages")),
    };
    Ok(Some(Block::Typed { typed, cache_control: part.cache_control }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message::ChatRequest;

    fn sent(body: &'static str) -> String {
        let request = Arc::new(ChatRequest::parse(Bytes::from(body)).unwrap());
        let call = Call {
            request,
            model: "claude".to_owned(),
            mode: ReplyMode::Stream,
            served: crate::message::Served::default(),
        };
        body_text(&call)
    }

    fn body_text(call: &Call) -> String {
        String::from_utf8(super::body("anthropic", call).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_conversation_with_tools_images_and_signed_reasoning_keeps_all_of_it() {
        insta::assert_snapshot!(sent(
            r#"{"model":"anthropic/claude","max_completion_tokens":100,"temperature":0.5,"stop":"END","user":"u1","top_k":5,"thinking":{"type":"enabled","budget_tokens":50},
                "messages":[
                {"role":"system","content":[{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}]},
                {"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"image_url","image_url":{"url":"https://example.com/x.png"}}]},
                {"role":"assistant","content":"","reasoning_content":"hm","thinking_blocks":[{"type":"thinking","thinking":"hm","signature":"s1"}],"tool_calls":[{"id":"t1","type":"function","function":{"name":"look","arguments":"{\"z\":1,\"a\":2}"}},{"id":"t2","type":"function","function":{"name":"look","arguments":""}}]},
                {"role":"tool","tool_call_id":"t1","content":"red"},
                {"role":"tool","tool_call_id":"t2","content":"blue","is_error":true},
                {"role":"user","content":"So?"}],
                "tools":[{"type":"function","function":{"name":"look","description":"Looks.","parameters":{"type":"object","properties":{"z":{},"a":{}}},"strict":true}}],
                "tool_choice":"required","parallel_tool_calls":false,"reasoning_effort":"minimal",
                "response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","properties":{"y":{},"b":{}}}}}}"#
        ));
    }

    #[test]
    fn a_limit_stands_in_where_none_is_named() {
        let text = sent(r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#);
        assert!(text.starts_with(r#"{"model":"claude","max_tokens":8192,"messages":"#), "{text}");
    }

    #[test]
    fn what_anthropic_lacks_names_the_field() {
        let refused = |members: &str| {
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{members}}}"#);
            let request = Arc::new(ChatRequest::parse(Bytes::from(body)).unwrap());
            let call = Call {
                request,
                model: "claude".to_owned(),
                mode: ReplyMode::Whole,
                served: crate::message::Served::default(),
            };
            let failure = super::body("anthropic", &call).unwrap_err();
            (failure.kind.as_str(), failure.param.unwrap())
        };
        for (members, param) in [
            (r#""n":2"#, "n"),
            (r#""seed":1"#, "seed"),
            (r#""logprobs":true"#, "logprobs"),
            (r#""presence_penalty":0.5"#, "presence_penalty"),
            (r#""response_format":{"type":"json_object"}"#, "response_format.type"),
            (r#""service_tier":"flex""#, "service_tier"),
        ] {
            assert_eq!(refused(members), ("unsupported", param.to_owned()), "{members}");
        }
    }
}
