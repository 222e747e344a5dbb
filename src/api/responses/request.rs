//! A request to the Responses API in the canonical form, and what its answer says again.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::json;
use serde_json::value::RawValue;

use super::item;
use crate::api::node::Node;
use crate::api::whole::Whole;
use crate::message::{InvalidRequest, JsonObject, Outgoing};

/// Members that are read here, are ours, or do not change an answer.
const READ: &[&str] = &[
    "background",
    "cache",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "model",
    "reasoning",
    "stream",
    "stream_options",
    "text",
    "tool_choice",
    "tools",
    "truncation",
];

/// What needs an answer that was kept, or what the canonical form takes for something else.
const REFUSED: &[(&str, &str)] = &[
    ("context_management", "nothing is kept between requests"),
    ("conversation", "nothing is kept between requests: send all that was said in `input`"),
    ("functions", "say `tools`"),
    ("function_call", "say `tool_choice`"),
    ("logprobs", "an answer here has no place for them"),
    ("max_completion_tokens", "say `max_output_tokens`"),
    ("max_tokens", "say `max_output_tokens`"),
    ("messages", "say `input`"),
    ("moderation", "nobody here moderates"),
    ("n", "an answer here is one"),
    ("previous_response_id", "nothing is kept between requests: send all that was said in `input`"),
    ("prompt", "no prompt is kept here: send its text"),
    ("reasoning_effort", "say `reasoning.effort`"),
    ("response_format", "say `text.format`"),
    ("top_logprobs", "an answer here has no place for them"),
    ("verbosity", "say `text.verbosity`"),
];

/// What an answer says again, with what is said where the request does not.
const SAID_AGAIN: &[(&str, &str)] = &[
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("reasoning", "{}"),
    ("temperature", "1.0"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_p", "1.0"),
    ("truncation", "\"disabled\""),
    ("user", "null"),
];

/// The members of the request that its answer says again.
pub(super) fn echo(body: &[u8]) -> Outgoing {
    let object = JsonObject::parse(body).ok();
    let mut out = Outgoing::default();
    for (name, absent) in SAID_AGAIN {
        match object.as_ref().and_then(|object| object.get(name)) {
            Some(given) => out.put(name, given),
            None => out.put_some(name, RawValue::from_string((*absent).to_owned()).ok()),
        }
    }
    out
}

/// The canonical request.
pub(in crate::api) fn canonical(root: &Node<'_>, default_model: &str) -> Result<Bytes, InvalidRequest> {
    let mut out = Outgoing::default();
    let model: Option<Cow<'_, str>> = root.read("model", "a string")?;
    out.put("model", model.as_deref().unwrap_or(default_model));
    out.put("messages", item::messages(root)?);
    out.put_some("max_completion_tokens", root.read::<Whole<u64>>("max_output_tokens", "a whole number")?);
    root.read::<bool>("store", "a boolean")?;
    stateless(root)?;
    tools(root, &mut out)?;
    text(root, &mut out)?;
    if let Some(reasoning) = root.child("reasoning")? {
        // A summary of it is no part of the answer.
        reasoning.only(&["effort", "summary", "generate_summary"])?;
        out.put_some("reasoning_effort", reasoning.checked::<Cow<'_, str>>("effort", "a string")?);
    }
    if root.read::<bool>("stream", "a boolean")? == Some(true) {
        out.put("stream", true);
        out.put("stream_options", json!({"include_usage": true}));
    }
    for (name, raw) in root.members().filter(|(name, _)| !READ.contains(name)) {
        match REFUSED.iter().find(|(refused, _)| *refused == name) {
            Some(_) if matches!(raw.get(), "0" | "false" | "[]") => {}
            Some((_, why)) => return Err(root.lacks(name, why)),
            None => out.put(name, raw),
        }
    }
    Ok(out.bytes())
}

/// Refuses what would need somebody who keeps something, or extras that nobody makes.
fn stateless(root: &Node<'_>) -> Result<(), InvalidRequest> {
    if root.read::<bool>("background", "a boolean")? == Some(true) {
        return Err(root.lacks("background", "answers are not kept for later"));
    }
    if root.read::<Cow<'_, str>>("truncation", "`disabled`")?.is_some_and(|truncation| truncation != "disabled") {
        return Err(root.lacks("truncation", "nobody here leaves out what was said: send `disabled`"));
    }
    // Reasoning comes in the clear, or not at all.
    let wanted: Vec<Cow<'_, str>> = root.read("include", "an array of strings")?.unwrap_or_default();
    match wanted.iter().find(|extra| *extra != "reasoning.encrypted_content") {
        Some(extra) => Err(root.lacks("include", &format!("`{extra}` is not made here"))),
        None => Ok(()),
    }
}

fn tools(root: &Node<'_>, out: &mut Outgoing) -> Result<(), InvalidRequest> {
    let tools = root.children("tools")?.iter().map(tool).collect::<Result<Vec<_>, _>>()?;
    out.put_some("tools", (!tools.is_empty()).then_some(tools));
    let Some(raw) = root.get("tool_choice") else { return Ok(()) };
    if raw.get().starts_with('"') {
        out.put("tool_choice", raw);
        return Ok(());
    }
    let choice = root.child("tool_choice")?.ok_or_else(|| root.missing("tool_choice", "a choice"))?;
    let kind: Cow<'_, str> = choice.need("type", "`function`")?;
    if kind != "function" {
        return Err(choice.lacks("type", "only functions are called here"));
    }
    let name: Cow<'_, str> = choice.need("name", "the name of a function")?;
    out.put("tool_choice", json!({"type": "function", "function": {"name": name}}));
    Ok(())
}

fn tool(tool: &Node<'_>) -> Result<Outgoing, InvalidRequest> {
    let kind: Cow<'_, str> = tool.need("type", "`function`")?;
    if kind != "function" {
        return Err(tool.lacks("type", &format!("`{kind}` runs at OpenAI; only functions are called here")));
    }
    tool.only(&["type", "name", "description", "parameters", "strict"])?;
    let mut function = Outgoing::default();
    function.put("name", tool.need::<Cow<'_, str>>("name", "a string")?);
    function.put_some("description", tool.checked::<Cow<'_, str>>("description", "a string")?);
    tool.child("parameters")?;
    function.put_some("parameters", tool.get("parameters"));
    function.put_some("strict", tool.checked::<bool>("strict", "a boolean")?);
    let mut out = Outgoing::default();
    out.put("type", "function");
    out.put("function", function);
    Ok(out)
}

fn text(root: &Node<'_>, out: &mut Outgoing) -> Result<(), InvalidRequest> {
    let Some(text) = root.child("text")? else { return Ok(()) };
    text.only(&["format", "verbosity"])?;
    out.put_some("verbosity", text.checked::<Cow<'_, str>>("verbosity", "a string")?);
    let Some(format) = text.child("format")? else { return Ok(()) };
    match format.need::<Cow<'_, str>>("type", "`text`, `json_object` or `json_schema`")?.as_ref() {
        "text" => {}
        "json_object" => out.put("response_format", json!({"type": "json_object"})),
        "json_schema" => {
            format.only(&["type", "name", "description", "schema", "strict"])?;
            format.need::<IgnoredAny>("schema", "a JSON schema")?;
            let mut schema = Outgoing::default();
            for name in ["name", "description", "strict", "schema"] {
                schema.put_some(name, format.get(name));
            }
            let mut wanted = Outgoing::default();
            wanted.put("type", "json_schema");
            wanted.put("json_schema", schema);
            out.put("response_format", wanted);
        }
        _ => return Err(format.lacks("type", "an answer is text, JSON, or JSON of a schema")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(body: &str) -> Result<String, InvalidRequest> {
        let object = JsonObject::parse(body.as_bytes()).map_err(InvalidRequest::from)?;
        canonical(&Node::root(object), "standard").map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn a_conversation_with_tools_and_images_keeps_all_of_it() {
        insta::assert_snapshot!(
            made(
                r#"{"model":"gpt","instructions":"Be brief.","max_output_tokens":100,"temperature":0.5,"stream":true,"store":true,
                "reasoning":{"effort":"low","summary":"auto"},"include":["reasoning.encrypted_content"],"truncation":"disabled",
                "text":{"verbosity":"low","format":{"type":"json_schema","name":"n","strict":true,"schema":{"properties":{"z":{},"a":{}}}}},
                "input":[{"role":"user","content":[{"type":"input_text","text":"What is it?"},{"type":"input_image","image_url":"data:image/png;base64,AAAA","detail":"low"},
                    {"type":"input_file","filename":"d.pdf","file_data":"data:application/pdf;base64,BBBB"}]},
                {"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},
                {"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"I look.","annotations":[]}]},
                {"type":"function_call","id":"fc_1","call_id":"c1","name":"look","arguments":"{\"z\":1}","status":"completed"},
                {"type":"function_call","call_id":"c2","name":"look","arguments":"{}"},
                {"type":"function_call_output","call_id":"c1","output":"red"},
                {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"blue"}]}],
                "tools":[{"type":"function","name":"look","description":"Looks.","parameters":{"type":"object","properties":{"z":{},"a":{}}},"strict":true}],
                "tool_choice":{"type":"function","name":"look"},"parallel_tool_calls":false,"metadata":{"k":"v"}}"#
            )
            .unwrap()
            .replace(",\"", ",\n\"")
        );
    }

    #[test]
    fn a_plain_question_is_what_it_is_in_the_older_dialect() {
        let wanted = r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"hi"}]}"#;
        for body in [
            r#"{"model":"m","instructions":"s","input":"hi"}"#,
            r#"{"model":"m","instructions":"s","input":[{"role":"user","content":"hi"}],"background":false,"truncation":"disabled"}"#,
            r#"{"model":"m","input":[{"role":"system","content":"s"},{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}]}"#,
        ] {
            assert_eq!(made(body).unwrap(), wanted);
        }
    }

    #[test]
    fn what_has_no_place_is_refused_by_name() {
        let with = |members: &str| format!(r#"{{"input":"x",{members}}}"#);
        let item = |item: &str| format!(r#"{{"input":[{item}]}}"#);
        for (body, param) in [
            (r#"{"model":"m"}"#.to_owned(), "input"),
            (r#"{"input":[]}"#.to_owned(), "input"),
            (r#"{"input":7}"#.to_owned(), "input"),
            (item(r#"{"role":"robot","content":"x"}"#), "input[0].role"),
            (item(r#"{"role":"user","content":7}"#), "input[0].content"),
            (item(r#"{"role":"user"}"#), "input[0].content"),
            (item(r#"{"type":"item_reference","id":"x"}"#), "input[0].type"),
            (
                item(
                    r#"{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call","call_id":"c","name":"g","arguments":"{}"}"#,
                ),
                "input[1].call_id",
            ),
            (
                item(
                    r#"{"type":"function_call_output","call_id":"c","output":"x"},{"type":"function_call_output","call_id":"c","output":"y"}"#,
                ),
                "input[1].call_id",
            ),
            (
                item(r#"{"role":"user","content":[{"type":"input_image","file_id":"f"}]}"#),
                "input[0].content[0].file_id",
            ),
            (item(r#"{"type":"function_call","call_id":"c","name":"f","arguments":{}}"#), "input[0].arguments"),
            (item(r#"{"type":"reasoning","summary":[],"encrypted_content":"x"}"#), "input[0].encrypted_content"),
            (with(r#""previous_response_id":"resp_1""#), "previous_response_id"),
            (with(r#""conversation":"conv_1""#), "conversation"),
            (with(r#""background":true"#), "background"),
            (with(r#""store":"""#), "store"),
            (with(r#""truncation":"auto""#), "truncation"),
            (with(r#""include":["file_search_call.results"]"#), "include"),
            (with(r#""tools":[{"type":"web_search"}]"#), "tools[0].type"),
            (with(r#""tool_choice":{"type":"web_search"}"#), "tool_choice.type"),
            (with(r#""text":{"format":{"type":"xml"}}"#), "text.format.type"),
            (with(r#""messages":[{"role":"user","content":"x"}]"#), "messages"),
            (with(r#""max_output_tokens":"many""#), "max_output_tokens"),
            (with(r#""stream":"yes""#), "stream"),
        ] {
            let fault = made(&body).unwrap_err();
            assert_eq!(fault.param.as_deref(), Some(param), "{body}: {fault}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_on_arbitrary_json(value in crate::api::node::any_json()) {
            let _ = made(&value.to_string());
            let _ = echo(value.to_string().as_bytes());
            let _ = made(&json!({"input": value, "tools": value, "tool_choice": value, "text": value, "reasoning": value}).to_string());
            for kind in ["message", "function_call", "function_call_output", "reasoning"] {
                let mut item = value.clone();
                if let Some(members) = item.as_object_mut() {
                    members.insert("type".to_owned(), kind.into());
                }
                let _ = made(&json!({"input": [item, {"role": "user", "content": [value]}]}).to_string());
            }
        }
    }
}
