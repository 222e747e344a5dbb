//! A request of Anthropic's in the canonical form. What OpenAI has no word for and some provider takes is kept beside it:
//! `thinking`, `thinking_blocks` with their signatures, `cache_control`, `is_error`. What could only be lost is refused by
//! name.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::json;
use serde_json::value::RawValue;

use super::block::{Content, Part};
use crate::api::node::Node;
use crate::api::whole::Whole;
use crate::message::{InvalidRequest, Outgoing};

/// Members that are read here, or are ours.
const READ: &[&str] = &[
    "cache",
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "output_config",
    "service_tier",
    "stop_sequences",
    "stream",
    "system",
    "tool_choice",
    "tools",
];

/// What the canonical form takes for something else, or what would come back in blocks that nobody here reads.
const REFUSED: &[(&str, &str)] = &[
    ("audio", "answers are text"),
    ("container", "tools that run at the provider are not passed on"),
    ("function_call", "say `tool_choice`"),
    ("functions", "say `tools`"),
    ("logprobs", "an answer here has no place for them"),
    ("max_completion_tokens", "say `max_tokens`"),
    ("mcp_servers", "tools that run at the provider are not passed on"),
    ("modalities", "answers are text"),
    ("n", "an answer here is one"),
    ("parallel_tool_calls", "say `tool_choice.disable_parallel_tool_use`"),
    ("reasoning_effort", "say `output_config.effort`"),
    ("response_format", "say `output_config.format`"),
    ("stop", "say `stop_sequences`"),
    ("stream_options", "a stream here always counts its tokens"),
    ("top_logprobs", "an answer here has no place for them"),
    ("user", "say `metadata.user_id`"),
];

/// The canonical request.
pub(in crate::api) fn canonical(root: &Node<'_>, default_model: &str) -> Result<Bytes, InvalidRequest> {
    let mut out = Outgoing::default();
    let model: Option<Cow<'_, str>> = root.read("model", "a string")?;
    out.put("model", model.as_deref().unwrap_or(default_model));
    out.put("messages", messages(root)?);
    out.put_some("max_tokens", root.read::<Whole<u64>>("max_tokens", "a whole number")?);
    let stop: Vec<Cow<'_, str>> = root.read("stop_sequences", "an array of strings")?.unwrap_or_default();
    out.put_some("stop", (!stop.is_empty()).then_some(stop));
    tools(root, &mut out)?;
    output_config(root, &mut out)?;
    if let Some(metadata) = root.child("metadata")? {
        metadata.only(&["user_id"])?;
        out.put_some("user", metadata.checked::<Cow<'_, str>>("user_id", "a string")?);
    }
    match root.read::<Cow<'_, str>>("service_tier", "a string")?.as_deref() {
        None => {}
        Some("standard_only") => out.put("service_tier", "default"),
        Some(tier) => out.put("service_tier", tier),
    }
    if root.read::<bool>("stream", "a boolean")? == Some(true) {
        out.put("stream", true);
        out.put("stream_options", json!({"include_usage": true}));
    }
    root.checked::<f64>("temperature", "a number")?;
    root.checked::<f64>("top_p", "a number")?;
    root.checked::<Whole<u64>>("top_k", "a whole number")?;
    for (name, raw) in root.members().filter(|(name, _)| !READ.contains(name)) {
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            return Err(root.lacks(name, why));
        }
        out.put(name, raw);
    }
    Ok(out.bytes())
}

fn messages(root: &Node<'_>) -> Result<Vec<Outgoing>, InvalidRequest> {
    let mut said = Vec::new();
    let system = Content::read(root, "system", Part::text)?;
    if let Some(system) = system.filter(|system| !system.is_empty()) {
        said.push(message("system", system));
    }
    let turns = root.children("messages")?;
    if turns.is_empty() {
        return Err(root.missing("messages", r#"[{"role": "user", "content": "..."}]"#));
    }
    for turn in turns {
        turn.only(&["role", "content"])?;
        let role: Cow<'_, str> = turn.need("role", "`user` or `assistant`")?;
        match role.as_ref() {
            "user" => user(&turn, &mut said)?,
            "assistant" => said.push(assistant(&turn)?),
            "system" => said.push(message("system", Content::need(&turn, "content", Part::text)?)),
            _ => {
                let raw = turn.get("role").expect("invariant: it was read");
                return Err(turn.unlike("role", raw, "`user`, `assistant` or `system`"));
            }
        }
    }
    Ok(said)
}

fn message(role: &str, content: Content<'_>) -> Outgoing {
    let mut out = Outgoing::default();
    out.put("role", role);
    out.put("content", content);
    out
}

/// A user's turn: results of tools are messages of their own, in their place among the rest.
fn user(turn: &Node<'_>, said: &mut Vec<Outgoing>) -> Result<(), InvalidRequest> {
    let Some(blocks) = blocks(turn)? else {
        said.push(message("user", Content::need(turn, "content", Part::user)?));
        return Ok(());
    };
    let (mut parts, mut answered) = (Vec::new(), HashSet::new());
    let before = said.len();
    for block in &blocks {
        if kind(block)? != "tool_result" {
            parts.push(Part::user(block)?);
            continue;
        }
        if !parts.is_empty() {
            said.push(message("user", Content::Parts(std::mem::take(&mut parts))));
        }
        said.push(tool_result(block, &mut answered)?);
    }
    if !parts.is_empty() || said.len() == before {
        said.push(message("user", Content::Parts(parts)));
    }
    Ok(())
}

fn tool_result(block: &Node<'_>, answered: &mut HashSet<String>) -> Result<Outgoing, InvalidRequest> {
    block.only(&["type", "tool_use_id", "content", "is_error", "cache_control"])?;
    let id = block.unique("tool_use_id", "the id of the call that it answers", answered)?;
    let content = Content::read(block, "content", Part::user)?.unwrap_or(Content::Parts(Vec::new()));
    let mut out = Outgoing::default();
    out.put("role", "tool");
    out.put("tool_call_id", id);
    out.put("content", content);
    if block.read::<bool>("is_error", "a boolean")? == Some(true) {
        out.put("is_error", true);
    }
    out.put_some("cache_control", block.get("cache_control"));
    Ok(out)
}

fn assistant(turn: &Node<'_>) -> Result<Outgoing, InvalidRequest> {
    let Some(blocks) = blocks(turn)? else {
        return Ok(message("assistant", Content::need(turn, "content", Part::text)?));
    };
    let (mut parts, mut reasoning, mut called) = (Vec::new(), String::new(), HashSet::new());
    let (mut signed, mut calls, mut order) = (Vec::<&RawValue>::new(), Vec::new(), Vec::new());
    for block in &blocks {
        let (signed_before, said) = (signed.len(), kind(block)?);
        match said.as_ref() {
            "thinking" => {
                reasoning.push_str(&block.need::<Cow<'_, str>>("thinking", "a string")?);
                let signature: Option<Cow<'_, str>> = block.read("signature", "a string")?;
                signed.extend(signature.filter(|signature| !signature.is_empty()).map(|_| block.raw()));
            }
            "redacted_thinking" => signed.push(block.raw()),
            "tool_use" => calls.push(call(block, &mut called)?),
            _ => parts.push(Part::text(block)?),
        }
        // Nobody is sent an empty text, nor reasoning that is not signed.
        match said.as_ref() {
            "tool_use" => order.push(Place::ToolUse),
            "text" if block.get("text").is_some_and(|text| text.get() != "\"\"") => order.push(Place::Text),
            _ if signed.len() > signed_before => order.push(Place::Thinking),
            _ => {}
        }
    }
    let mut out = Outgoing::default();
    out.put("role", "assistant");
    if parts.is_empty() && !calls.is_empty() {
        out.put("content", ());
    } else {
        out.put("content", Content::Parts(parts));
    }
    out.put_some("reasoning_content", (!reasoning.is_empty()).then_some(reasoning));
    out.put_some("thinking_blocks", (!signed.is_empty()).then_some(signed));
    out.put_some("tool_calls", (!calls.is_empty()).then_some(calls));
    out.put_some("block_order", (!order.is_sorted()).then_some(order));
    Ok(out)
}

/// Where a block of the assistant's stands among those that the canonical form keeps apart: in this order, unless the
/// message says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    Thinking,
    Text,
    ToolUse,
}

fn call(block: &Node<'_>, called: &mut HashSet<String>) -> Result<Outgoing, InvalidRequest> {
    block.only(&["type", "id", "name", "input", "cache_control", "caller"])?;
    if let Some(caller) = block.child("caller")?
        && caller.read::<Cow<'_, str>>("type", "a string")?.as_deref() != Some("direct")
    {
        return Err(block.lacks("caller", "only the model itself calls tools here"));
    }
    let input: &RawValue = block.need("input", "an object")?;
    if !input.get().starts_with('{') {
        return Err(block.unlike("input", input, "an object"));
    }
    let mut function = Outgoing::default();
    function.put("name", block.need::<Cow<'_, str>>("name", "a string")?);
    function.put("arguments", input.get());
    let mut out = Outgoing::default();
    out.put("id", block.unique("id", "a string", called)?);
    out.put("type", "function");
    out.put("function", function);
    out.put_some("cache_control", block.get("cache_control"));
    Ok(out)
}

/// The blocks of a turn; `None` where its content is a text, or nothing that can be read here.
fn blocks<'a>(turn: &Node<'a>) -> Result<Option<Vec<Node<'a>>>, InvalidRequest> {
    match turn.get("content") {
        Some(raw) if raw.get().starts_with('[') => turn.children("content").map(Some),
        _ => Ok(None),
    }
}

fn kind<'a>(block: &Node<'a>) -> Result<Cow<'a, str>, InvalidRequest> {
    block.need("type", "the kind of the content block")
}

fn tools(root: &Node<'_>, out: &mut Outgoing) -> Result<(), InvalidRequest> {
    let tools = root.children("tools")?.iter().map(tool).collect::<Result<Vec<_>, _>>()?;
    out.put_some("tools", (!tools.is_empty()).then_some(tools));
    let Some(choice) = root.child("tool_choice")? else { return Ok(()) };
    choice.only(&["type", "name", "disable_parallel_tool_use"])?;
    match choice.need::<Cow<'_, str>>("type", "`auto`, `any`, `tool` or `none`")?.as_ref() {
        "auto" => out.put("tool_choice", "auto"),
        "any" => out.put("tool_choice", "required"),
        "none" => out.put("tool_choice", "none"),
        "tool" => {
            let name: Cow<'_, str> = choice.need("name", "the name of a tool")?;
            out.put("tool_choice", json!({"type": "function", "function": {"name": name}}));
        }
        _ => {
            let raw = choice.get("type").expect("invariant: it was read");
            return Err(choice.unlike("type", raw, "`auto`, `any`, `tool` or `none`"));
        }
    }
    if choice.read::<bool>("disable_parallel_tool_use", "a boolean")? == Some(true) {
        out.put("parallel_tool_calls", false);
    }
    Ok(())
}

fn tool(tool: &Node<'_>) -> Result<Outgoing, InvalidRequest> {
    let kind: Option<Cow<'_, str>> = tool.read("type", "a string")?;
    if let Some(kind) = kind.filter(|kind| kind != "custom") {
        let why = format!("`{kind}` is a tool that Anthropic defines; those that you define have no type, or `custom`");
        return Err(tool.lacks("type", &why));
    }
    for (name, idle) in [("defer_loading", "false"), ("allowed_callers", r#"["direct"]"#)] {
        if tool.get(name).is_some_and(|raw| raw.get() != idle) {
            return Err(tool.lacks(name, "it would be lost on the way"));
        }
    }
    // How eagerly input is streamed does not change it.
    tool.only(&[
        "type",
        "name",
        "description",
        "input_schema",
        "strict",
        "cache_control",
        "defer_loading",
        "allowed_callers",
        "eager_input_streaming",
    ])?;
    let mut function = Outgoing::default();
    function.put("name", tool.need::<Cow<'_, str>>("name", "a string")?);
    function.put_some("description", tool.checked::<Cow<'_, str>>("description", "a string")?);
    tool.child("input_schema")?;
    function.put_some("parameters", tool.get("input_schema"));
    function.put_some("strict", tool.checked::<bool>("strict", "a boolean")?);
    let mut out = Outgoing::default();
    out.put("type", "function");
    out.put("function", function);
    out.put_some("cache_control", tool.get("cache_control"));
    Ok(out)
}

/// `effort` and `format` have names of their own in the canonical form; the rest stays.
fn output_config(root: &Node<'_>, out: &mut Outgoing) -> Result<(), InvalidRequest> {
    let Some(config) = root.child("output_config")? else { return Ok(()) };
    out.put_some("reasoning_effort", config.checked::<Cow<'_, str>>("effort", "a string")?);
    if let Some(format) = config.child("format")? {
        format.only(&["type", "schema"])?;
        let kind: Cow<'_, str> = format.need("type", "`json_schema`")?;
        if kind != "json_schema" {
            return Err(format.lacks("type", "an answer is text, or JSON of a schema"));
        }
        format.need::<IgnoredAny>("schema", "a JSON schema")?;
        let mut schema = Outgoing::default();
        schema.put("name", "answer");
        schema.put("strict", true);
        schema.put_some("schema", format.get("schema"));
        let mut wanted = Outgoing::default();
        wanted.put("type", "json_schema");
        wanted.put("json_schema", schema);
        out.put("response_format", wanted);
    }
    let mut rest = Outgoing::default();
    for (name, raw) in config.members().filter(|(name, _)| !matches!(*name, "effort" | "format")) {
        rest.put(name, raw);
    }
    if !rest.is_empty() {
        out.put("output_config", rest);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
