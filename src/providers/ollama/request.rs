//! A canonical request in Ollama's words.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::message::{Dialect, Role};
use crate::providers::canonical::{
    Addressee, CalledNames, Canonical, Message, Outgoing, PartContent, Picture, ResponseFormat, Tool, ToolChoice,
};
use crate::providers::{Call, ReplyMode, hints};
use crate::upstream::Failure;

/// What stands under `options` there by the same name.
const OPTIONS: &[&str] = &["temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty"];

/// The body of a request to `/api/chat`.
pub(super) fn body(provider: &str, call: &Call) -> Result<Bytes, Failure> {
    let to = Addressee { provider, dialect: "Ollama" };
    let fitted = hints::fitted(&call.request, Dialect::Ollama, to)?;
    let mut canonical = Canonical::of(&fitted, to)?;
    let mut out = Outgoing::default();
    out.put("model", &call.model);
    let mut called = CalledNames::default();
    let messages = canonical.messages.iter().map(|message| {
        let said = said(to, &called, message);
        called.learn(message);
        said
    });
    out.put("messages", messages.collect::<Result<Vec<_>, _>>()?);
    out.put("stream", call.mode != ReplyMode::Whole);
    let tools = canonical.take_tools()?;
    match canonical.take_tool_choice()? {
        ToolChoice::Auto if !tools.is_empty() => out.put("tools", tools.iter().map(declared).collect::<Vec<_>>()),
        // Without tools none is called.
        ToolChoice::Auto | ToolChoice::None => {}
        ToolChoice::Required | ToolChoice::Function(_) => {
            return Err(to.lacks("tool_choice", "no way to force a call: send `auto` or `none`"));
        }
    }
    match canonical.take_response_format()? {
        ResponseFormat::Text => {}
        ResponseFormat::Json => out.put("format", "json"),
        ResponseFormat::Schema(schema) => out.put("format", schema),
    }
    match canonical.take::<String>("reasoning_effort", "a string")?.as_deref() {
        None => {}
        Some("none") => out.put("think", false),
        Some("minimal") => out.put("think", "low"),
        Some(effort) => out.put("think", effort),
    }
    let mut options = Outgoing::default();
    options.put_some("num_predict", canonical.take_max_tokens()?);
    let stop = canonical.take_stop()?;
    options.put_some("stop", (!stop.is_empty()).then_some(stop));
    for name in OPTIONS {
        options.put_some(name, canonical.take_raw(name));
    }
    options.put_all(to, "options", canonical.take_raw("options"))?;
    if !options.is_empty() {
        out.put("options", options);
    }
    for (name, raw) in canonical.rest()? {
        out.put(&name, raw);
    }
    Ok(out.bytes())
}

fn declared(tool: &Tool<'_>) -> Outgoing {
    let (mut out, mut function) = (Outgoing::default(), Outgoing::default());
    function.put("name", &tool.name);
    function.put_some("description", tool.description.as_ref());
    match tool.parameters {
        Some(schema) => function.put("parameters", schema),
        None => function.put("parameters", serde_json::json!({"type": "object", "properties": {}})),
    }
    out.put("type", "function");
    out.put("function", function);
    out
}

#[derive(Serialize)]
struct Said<'a> {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Called<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Called<'a> {
    id: &'a str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a RawValue,
}

/// A message; `called` are the calls before it, among which a tool's result finds its own.
fn said<'a>(to: Addressee<'_>, called: &CalledNames<'a>, message: &'a Message<'a>) -> Result<Said<'a>, Failure> {
    let mut images = Vec::new();
    for part in &message.parts {
        match &part.content {
            PartContent::Text(_) => {}
            PartContent::Image(Picture::Data(_, data)) => images.push(data.as_str()),
            PartContent::Image(Picture::Url(_)) => {
                return Err(
                    to.lacks(&part.place, "no images but those in the request: send `data:image/...;base64,...`")
                );
            }
            PartContent::File(..) => return Err(to.lacks(&part.place, "no files in messages")),
            PartContent::Audio(..) => return Err(to.lacks(&part.place, "no sound in messages")),
        }
    }
    let calls = message
        .calls
        .iter()
        .map(|call| Called { id: &call.id, function: Function { name: &call.name, arguments: &call.arguments } });
    let tool_call_id = message.call_id.as_deref().filter(|_| message.role == Role::Tool);
    Ok(Said {
        role: message.role.as_str(),
        content: message.text(),
        images,
        thinking: message.reasoning.as_deref(),
        tool_calls: calls.collect(),
        tool_name: tool_call_id.and_then(|id| called.of(id)),
        tool_call_id,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message::ChatRequest;

    fn sent(body: &'static str) -> Result<Bytes, Failure> {
        let request = Arc::new(ChatRequest::parse(Bytes::from(body)).unwrap());
        super::body(
            "ollama",
            &Call {
                request,
                model: "llama".to_owned(),
                mode: ReplyMode::Stream,
                served: crate::message::Served::default(),
            },
        )
    }

    #[test]
    fn a_conversation_with_tools_and_images_keeps_all_of_it() {
        let sent = sent(
            r#"{"model":"ollama/llama","max_tokens":100,"temperature":0.5,"seed":7,"stop":["END"],"options":{"num_ctx":4096,"seed":8},"keep_alive":"5m",
                "messages":[
                {"role":"developer","content":"Be brief."},
                {"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]},
                {"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[{"id":"t1","type":"function","function":{"name":"look","arguments":"{\"z\":1,\"a\":2}"}}]},
                {"role":"tool","tool_call_id":"t1","content":"red"}],
                "tools":[{"type":"function","function":{"name":"look","parameters":{"type":"object","properties":{"z":{},"a":{}}}}}],
                "reasoning_effort":"high","response_format":{"type":"json_object"}}"#,
        );
        insta::assert_snapshot!(String::from_utf8(sent.unwrap().to_vec()).unwrap());
    }

    #[test]
    fn what_ollama_lacks_names_the_field() {
        for (body, param) in [
            (
                r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]}]}"#,
                "messages[0].content[0]",
            ),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tool_choice":"required"}"#, "tool_choice"),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"n":2}"#, "n"),
            (
                r#"{"model":"m","messages":[{"role":"user","content":"x"}],"parallel_tool_calls":false}"#,
                "parallel_tool_calls",
            ),
        ] {
            let failure = sent(body).unwrap_err();
            assert_eq!((failure.kind.as_str(), failure.param.as_deref()), ("unsupported", Some(param)), "{body}");
        }
    }
}
