//! A request of Ollama's in the canonical form. Its options have OpenAI's names where OpenAI has the concept; the others
//! travel in `options`, where Ollama finds them again.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use serde_json::json;
use serde_json::value::RawValue;

use super::pending::Pending;
use crate::api::node::Node;
use crate::api::whole::Whole;
use crate::message::{InvalidRequest, Outgoing};

/// Members that are read here, or are ours.
const READ: &[&str] = &["cache", "format", "messages", "model", "options", "stream", "think", "tools"];

/// Options that OpenAI has, by their names there.
const OPTIONS: &[(&str, &str)] = &[
    ("frequency_penalty", "frequency_penalty"),
    ("min_p", "min_p"),
    ("presence_penalty", "presence_penalty"),
    ("seed", "seed"),
    ("temperature", "temperature"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
];

/// What the canonical form takes for something else, or what an answer here has no place for.
const REFUSED: &[(&str, &str)] = &[
    ("function_call", "say `tools`"),
    ("functions", "say `tools`"),
    ("logprobs", "an answer here has no place for them"),
    ("max_completion_tokens", "say `options.num_predict`"),
    ("max_tokens", "say `options.num_predict`"),
    ("n", "an answer here is one"),
    ("response_format", "say `format`"),
    ("stop", "say `options.stop`"),
    ("stream_options", "a stream here always counts its tokens"),
    ("top_logprobs", "an answer here has no place for them"),
];

/// The canonical request.
pub(in crate::api) fn canonical(root: &Node<'_>, default_model: &str) -> Result<Bytes, InvalidRequest> {
    let mut out = Outgoing::default();
    let model: Option<Cow<'_, str>> = root.read("model", "a string")?;
    out.put("model", model.as_deref().unwrap_or(default_model));
    out.put("messages", messages(root)?);
    tools(root, &mut out)?;
    options(root, &mut out)?;
    format(root, &mut out)?;
    think(root, &mut out)?;
    // It streams unless told otherwise.
    if root.read::<bool>("stream", "a boolean")? != Some(false) {
        out.put("stream", true);
        out.put("stream_options", json!({"include_usage": true}));
    }
    for (name, raw) in root.members().filter(|(name, _)| !READ.contains(name)) {
        match REFUSED.iter().find(|(refused, _)| *refused == name) {
            Some(_) if matches!(raw.get(), "false" | "0" | "[]") => {}
            Some((_, why)) => return Err(root.lacks(name, why)),
            None => out.put(name, raw),
        }
    }
    Ok(out.bytes())
}

fn messages(root: &Node<'_>) -> Result<Vec<Outgoing>, InvalidRequest> {
    let turns = root.children("messages")?;
    if turns.is_empty() {
        return Err(root.missing("messages", r#"[{"role": "user", "content": "..."}]"#));
    }
    let mut pending = Pending::default();
    turns.iter().enumerate().map(|(place, turn)| message(place, turn, &mut pending)).collect()
}

fn message(place: usize, turn: &Node<'_>, pending: &mut Pending) -> Result<Outgoing, InvalidRequest> {
    turn.only(&["role", "content", "images", "thinking", "tool_calls", "tool_name", "tool_call_id"])?;
    let role: Cow<'_, str> = turn.need("role", "`system`, `user`, `assistant` or `tool`")?;
    if !matches!(role.as_ref(), "system" | "user" | "assistant" | "tool") {
        let raw = turn.get("role").expect("invariant: it was read");
        return Err(turn.unlike("role", raw, "`system`, `user`, `assistant` or `tool`"));
    }
    let mut out = Outgoing::default();
    out.put("role", &role);
    if role == "tool" {
        out.put("tool_call_id", answered(turn, pending)?);
    }
    let calls = turn.children("tool_calls")?;
    content(turn, !calls.is_empty(), &mut out)?;
    out.put_some("reasoning_content", turn.checked::<Cow<'_, str>>("thinking", "a string")?);
    let mut called = HashSet::new();
    let calls = calls.iter().enumerate().map(|(index, node)| {
        // An id that says nothing is none.
        if node.get("id").is_some_and(|id| id.get() != "\"\"") {
            node.unique("id", "a string", &mut called)?;
        }
        call(&format!("call_{place}_{index}"), node, pending)
    });
    let calls = calls.collect::<Result<Vec<_>, _>>()?;
    out.put_some("tool_calls", (!calls.is_empty()).then_some(calls));
    Ok(out)
}

/// Text alone is a string, pictures come after it.
fn content(turn: &Node<'_>, has_calls: bool, out: &mut Outgoing) -> Result<(), InvalidRequest> {
    let text = turn.checked::<Cow<'_, str>>("content", "a string")?;
    let images: Vec<Cow<'_, str>> = turn.read("images", "an array of base64 strings")?.unwrap_or_default();
    if images.is_empty() {
        match text {
            Some(text) if !(has_calls && text.get() == "\"\"") => out.put("content", text),
            _ if has_calls => out.put("content", ()),
            _ => out.put("content", ""),
        }
        return Ok(());
    }
    let mut parts = Vec::new();
    if let Some(text) = text.filter(|text| text.get() != "\"\"") {
        let mut part = Outgoing::default();
        part.put("type", "text");
        part.put("text", text);
        parts.push(part);
    }
    for (index, image) in images.iter().enumerate() {
        let Some(kind) = picture_type(image) else {
            let name = format!("images[{index}]");
            return Err(turn.lacks(&name, "it is neither PNG, JPEG, GIF nor WebP in base64"));
        };
        let mut part = Outgoing::default();
        part.put("type", "image_url");
        part.put("image_url", json!({"url": format!("data:{kind};base64,{image}")}));
        parts.push(part);
    }
    out.put("content", parts);
    Ok(())
}

/// The type of a picture by its first bytes, which base64 keeps apart.
fn picture_type(base64: &str) -> Option<&'static str> {
    let known = [("iVBORw0KGg", "image/png"), ("/9j/", "image/jpeg"), ("R0lGOD", "image/gif"), ("UklGR", "image/webp")];
    known.iter().find(|(start, _)| base64.starts_with(start)).map(|(_, kind)| *kind)
}

/// The call that a tool's message answers: by its id, else the first that waits under the tool's name, else the first.
fn answered(turn: &Node<'_>, pending: &mut Pending) -> Result<String, InvalidRequest> {
    let id: Option<Cow<'_, str>> = turn.read("tool_call_id", "a string")?;
    let name: Option<Cow<'_, str>> = turn.read("tool_name", "a string")?;
    if let Some(id) = id {
        pending.answer(&id);
        return Ok(id.into_owned());
    }
    let first = pending.answer_first(name.as_deref());
    first.ok_or_else(|| turn.lacks("tool_name", "no call of that tool waits for a result"))
}

fn call(id: &str, node: &Node<'_>, pending: &mut Pending) -> Result<Outgoing, InvalidRequest> {
    node.only(&["id", "type", "function"])?;
    let function = node.child("function")?.ok_or_else(|| node.missing("function", "a name and arguments"))?;
    function.only(&["name", "arguments", "index", "description"])?;
    let given: Option<Cow<'_, str>> = node.read("id", "a string")?;
    let id = given.filter(|id| !id.is_empty()).map_or_else(|| id.to_owned(), Cow::into_owned);
    let name: Cow<'_, str> = function.need("name", "a string")?;
    let arguments: &RawValue = function.need("arguments", "an object")?;
    if !arguments.get().starts_with('{') {
        return Err(function.unlike("arguments", arguments, "an object"));
    }
    let mut called = Outgoing::default();
    called.put("name", &name);
    called.put("arguments", arguments.get());
    let mut out = Outgoing::default();
    out.put("id", &id);
    out.put("type", "function");
    out.put("function", called);
    pending.push(id, name.into_owned());
    Ok(out)
}

/// Tools have OpenAI's form there.
fn tools(root: &Node<'_>, out: &mut Outgoing) -> Result<(), InvalidRequest> {
    let tools = root.children("tools")?;
    for tool in &tools {
        let function = tool.child("function")?.ok_or_else(|| tool.missing("function", "a function with a name"))?;
        function.need::<Cow<'_, str>>("name", "a string")?;
    }
    out.put_some("tools", (!tools.is_empty()).then(|| root.get("tools")).flatten());
    Ok(())
}

fn options(root: &Node<'_>, out: &mut Outgoing) -> Result<(), InvalidRequest> {
    let Some(options) = root.child("options")? else { return Ok(()) };
    let mut rest = Outgoing::default();
    for (name, raw) in options.members() {
        if let Some((_, known)) = OPTIONS.iter().find(|(option, _)| *option == name) {
            options.read::<f64>(name, "a number")?;
            out.put(known, raw);
        } else if name == "stop" {
            stop(&options, out)?;
        } else if name == "num_predict" {
            // Less than none is no limit.
            let most = options.read::<Whole<i64>>(name, "a whole number")?.filter(|most| most.0 >= 0);
            out.put_some("max_tokens", most);
        } else {
            rest.put(name, raw);
        }
    }
    if !rest.is_empty() {
        out.put("options", rest);
    }
    Ok(())
}

fn stop(options: &Node<'_>, out: &mut Outgoing) -> Result<(), InvalidRequest> {
    let raw = options.get("stop").filter(|raw| raw.get() != "[]");
    if raw.is_some_and(|raw| raw.get().starts_with('"')) {
        out.put_some("stop", options.checked::<Cow<'_, str>>("stop", "a string or an array of strings")?);
    } else if raw.is_some() {
        out.put_some("stop", options.checked::<Vec<Cow<'_, str>>>("stop", "a string or an array of strings")?);
    }
    Ok(())
}

fn format(root: &Node<'_>, out: &mut Outgoing) -> Result<(), InvalidRequest> {
    match root.get("format") {
        None => {}
        Some(raw) if raw.get() == "\"\"" => {}
        Some(raw) if raw.get() == "\"json\"" => out.put("response_format", json!({"type": "json_object"})),
        Some(schema) if schema.get().starts_with('{') => {
            let mut named = Outgoing::default();
            named.put("name", "answer");
            named.put("schema", schema);
            let mut wanted = Outgoing::default();
            wanted.put("type", "json_schema");
            wanted.put("json_schema", named);
            out.put("response_format", wanted);
        }
        Some(raw) => return Err(root.unlike("format", raw, "`json` or a JSON schema")),
    }
    Ok(())
}

/// `true` is what a model that can think does anyway.
fn think(root: &Node<'_>, out: &mut Outgoing) -> Result<(), InvalidRequest> {
    match root.get("think") {
        None => {}
        Some(raw) if raw.get() == "true" => {}
        Some(raw) if raw.get() == "false" => out.put("reasoning_effort", "none"),
        Some(_) => {
            let effort = root.checked::<Cow<'_, str>>("think", "a boolean, `low`, `medium` or `high`")?;
            out.put_some("reasoning_effort", effort);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::JsonObject;

    fn made(body: &str) -> Result<String, InvalidRequest> {
        let object = JsonObject::parse(body.as_bytes()).map_err(InvalidRequest::from)?;
        canonical(&Node::root(object), "standard").map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn a_conversation_with_tools_and_images_keeps_all_of_it() {
        insta::assert_snapshot!(
            made(
                r#"{"model":"llama","messages":[{"role":"system","content":"Be brief."},
                {"role":"user","content":"What is it?","images":["iVBORw0KGgo=","/9j/4AAQ"]},
                {"role":"assistant","content":"","thinking":"hm","tool_calls":[{"function":{"name":"look","arguments":{"z":1,"a":2}}},{"function":{"name":"count","arguments":{}}}]},
                {"role":"tool","tool_name":"count","content":"seven"},{"role":"tool","content":"red"}],
                "tools":[{"type":"function","function":{"name":"look","parameters":{"type":"object","properties":{"z":{},"a":{}}}}}],
                "options":{"num_predict":100,"temperature":0.5,"seed":7,"stop":["END"],"num_ctx":4096,"repeat_penalty":1.1},
                "format":{"type":"object","properties":{"y":{},"b":{}}},"think":"high","keep_alive":"5m"}"#
            )
            .unwrap()
            .replace(",\"", ",\n\"")
        );
    }

    #[test]
    fn a_plain_question_is_what_it_is_in_openais_dialect() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":false,"options":{"num_predict":9},"think":true}"#;
        assert_eq!(made(body).unwrap(), r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":9}"#);
        let endless = made(r#"{"messages":[{"role":"user","content":"hi"}],"options":{"num_predict":-1}}"#).unwrap();
        assert!(!endless.contains("max_tokens") && endless.contains(r#""stream":true"#), "{endless}");
    }

    #[test]
    fn what_has_no_place_is_refused_by_name() {
        let with = |members: &str| format!(r#"{{"messages":[{{"role":"user","content":"x"}}],{members}}}"#);
        let turn = |turn: &str| format!(r#"{{"messages":[{turn}]}}"#);
        for (body, param) in [
            (r#"{"messages":[]}"#.to_owned(), "messages"),
            (r#"{"messages":"x"}"#.to_owned(), "messages"),
            (turn(r#"{"role":"robot"}"#), "messages[0].role"),
            (turn(r#"{"role":"user","content":7}"#), "messages[0].content"),
            (turn(r#"{"role":"user","images":["????"]}"#), "messages[0].images[0]"),
            (turn(r#"{"role":"tool","tool_name":"f","content":"x"}"#), "messages[0].tool_name"),
            (
                turn(r#"{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}"#),
                "messages[0].tool_calls[0].function.arguments",
            ),
            (
                turn(
                    r#"{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":{}}},{"id":"a","function":{"name":"f","arguments":{}}}]}"#,
                ),
                "messages[0].tool_calls[1].id",
            ),
            (with(r#""options":{"temperature":"hot"}"#), "options.temperature"),
            (with(r#""options":{"stop":7}"#), "options.stop"),
            (with(r#""options":7"#), "options"),
            (with(r#""format":"xml""#), "format"),
            (with(r#""think":7"#), "think"),
            (with(r#""logprobs":true"#), "logprobs"),
            (with(r#""tools":[{}]"#), "tools[0].function"),
        ] {
            let fault = made(&body).unwrap_err();
            assert_eq!(fault.param.as_deref(), Some(param), "{body}: {fault}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_on_arbitrary_json(value in crate::api::node::any_json()) {
            let _ = made(&value.to_string());
            let turn = json!([{"role": "assistant", "content": value, "images": value, "tool_calls": value}, {"role": "tool", "tool_name": value}]);
            let _ = made(&json!({"messages": turn}).to_string());
            let _ = made(&json!({"messages": value, "options": value}).to_string());
            let _ = made(&json!({"messages": [{"role": "user", "content": "x"}], "options": value, "tools": value, "format": value, "think": value}).to_string());
        }
    }
}
