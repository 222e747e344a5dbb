//! A canonical request in Gemini's words.

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::message::{Dialect, Role};
use crate::providers::canonical::{
    Addressee, CalledNames, Canonical, Message, Outgoing, Part as CanonicalPart, PartContent, Picture, ResponseFormat,
    Tool, ToolCall, ToolChoice,
};
use crate::providers::{Call, ReplyMode, hints};
use crate::upstream::Failure;

/// What stands under `generationConfig` there by another name.
const SAMPLING: &[(&str, &str)] = &[
    ("temperature", "temperature"),
    ("top_p", "topP"),
    ("top_k", "topK"),
    ("seed", "seed"),
    ("presence_penalty", "presencePenalty"),
    ("frequency_penalty", "frequencyPenalty"),
];

/// The body of a request to `:generateContent`.
pub(super) fn body(provider: &str, call: &Call) -> Result<Bytes, Failure> {
    let to = Addressee { provider, dialect: "Gemini" };
    let fitted = hints::fitted(&call.request, Dialect::Gemini, to)?;
    let mut canonical = Canonical::of(&fitted, to)?;
    let mut out = Outgoing::default();
    let (system, spoken): (Vec<_>, Vec<_>) =
        std::mem::take(&mut canonical.messages).into_iter().partition(|message| message.role == Role::System);
    let system = system.iter().flat_map(|message| &message.parts).map(|given| part(to, given));
    let system: Vec<Part<'_>> = system.collect::<Result<_, _>>()?;
    if !system.is_empty() {
        out.put("systemInstruction", Content { role: None, parts: system });
    }
    out.put("contents", contents(to, &spoken)?);
    tools(&mut canonical, &mut out)?;
    let config = generation(&mut canonical, call)?;
    if !config.is_empty() {
        out.put("generationConfig", config);
    }
    for (name, raw) in canonical.rest()? {
        out.put(&name, raw);
    }
    Ok(out.bytes())
}

fn generation(canonical: &mut Canonical<'_>, call: &Call) -> Result<Outgoing, Failure> {
    let to = canonical.to;
    let mut config = Outgoing::default();
    config.put_some("maxOutputTokens", canonical.take_max_tokens()?);
    let stop = canonical.take_stop()?;
    config.put_some("stopSequences", (!stop.is_empty()).then_some(stop));
    for (name, theirs) in SAMPLING {
        config.put_some(theirs, canonical.take_raw(name));
    }
    match canonical.take::<u64>("n", "a whole number")? {
        None | Some(1) => {}
        Some(_) if call.mode != ReplyMode::Whole => return Err(to.lacks("n", "several answers only without `stream`")),
        Some(count) => config.put("candidateCount", count),
    }
    match canonical.take_response_format()? {
        ResponseFormat::Text => {}
        ResponseFormat::Json => config.put("responseMimeType", "application/json"),
        ResponseFormat::Schema(schema) => {
            config.put("responseMimeType", "application/json");
            // `responseSchema` takes a part of OpenAPI's schemas alone; this takes JSON's, as OpenAI does.
            config.put("responseJsonSchema", schema);
        }
    }
    if let Some(effort) = canonical.take::<String>("reasoning_effort", "a string")? {
        // The budgets are those of Google's own OpenAI-compatible endpoint.
        let budget = match effort.as_str() {
            "none" => 0,
            "minimal" | "low" => 1_024,
            "medium" => 8_192,
            "high" => 24_576,
            _ => return Err(to.cannot_read("reasoning_effort", "`none`, `minimal`, `low`, `medium` or `high`")),
        };
        config.put("thinkingConfig", json!({"thinkingBudget": budget, "includeThoughts": budget > 0}));
    }
    config.put_all(to, "generationConfig", canonical.take_raw("generationConfig"))?;
    Ok(config)
}

fn tools(canonical: &mut Canonical<'_>, out: &mut Outgoing) -> Result<(), Failure> {
    let tools = canonical.take_tools()?;
    let choice = canonical.take_tool_choice()?;
    if tools.is_empty() {
        return Ok(());
    }
    let mut declarations = Outgoing::default();
    declarations.put("functionDeclarations", tools.iter().map(declared).collect::<Vec<_>>());
    out.put("tools", [declarations]);
    let config = match choice {
        ToolChoice::Auto => return Ok(()),
        ToolChoice::None => json!({"mode": "NONE"}),
        ToolChoice::Required => json!({"mode": "ANY"}),
        ToolChoice::Function(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
    };
    out.put("toolConfig", json!({"functionCallingConfig": config}));
    Ok(())
}

fn declared(tool: &Tool<'_>) -> Outgoing {
    let mut out = Outgoing::default();
    out.put("name", &tool.name);
    out.put_some("description", tool.description.as_ref());
    out.put_some("parametersJsonSchema", tool.parameters);
    out
}

/// A turn; messages of one side after another are one.
#[derive(Serialize)]
struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    parts: Vec<Part<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(flatten)]
    data: Payload<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Payload<'a> {
    Text(&'a str),
    InlineData {
        mime_type: &'a str,
        data: &'a str,
    },
    FileData {
        #[serde(skip_serializing_if = "Option::is_none")]
        mime_type: Option<&'static str>,
        file_uri: &'a str,
    },
    FunctionCall {
        id: &'a str,
        name: &'a str,
        args: &'a RawValue,
    },
    FunctionResponse {
        id: &'a str,
        name: &'a str,
        response: Box<RawValue>,
    },
}

fn contents<'a>(to: Addressee<'_>, messages: &'a [Message<'a>]) -> Result<Vec<Content<'a>>, Failure> {
    let (mut contents, mut called_names) = (Vec::<Content<'a>>::new(), CalledNames::default());
    for message in messages {
        let role = Some(if message.role == Role::Assistant { "model" } else { "user" });
        let parts = if message.role == Role::Tool {
            vec![result(to, &called_names, message)?]
        } else {
            // An empty text beside calls says nothing.
            let is_said = |given: &&CanonicalPart<'_>| {
                message.calls.is_empty() || !matches!(&given.content, PartContent::Text(text) if text.is_empty())
            };
            let said = message.parts.iter().filter(is_said).map(|given| part(to, given));
            said.chain(message.calls.iter().map(|call| Ok(called(call)))).collect::<Result<_, _>>()?
        };
        match contents.last_mut() {
            Some(last) if last.role == role => last.parts.extend(parts),
            _ => contents.push(Content { role, parts }),
        }
        called_names.learn(message);
    }
    Ok(contents)
}

fn plain(data: Payload<'_>) -> Part<'_> {
    Part { data, thought_signature: None }
}

fn part<'a>(to: Addressee<'_>, given: &'a CanonicalPart<'a>) -> Result<Part<'a>, Failure> {
    Ok(plain(match &given.content {
        PartContent::Text(text) => Payload::Text(text),
        PartContent::Image(Picture::Data(mime_type, data))
        | PartContent::File(mime_type, data, _)
        | PartContent::Audio(mime_type, data) => Payload::InlineData { mime_type, data },
        PartContent::Image(Picture::Url(url)) => {
            let mime_type = image_type(url);
            if mime_type.is_none() {
                return Err(to.lacks(&given.place, "to be told an image's type, and this address ends with none"));
            }
            Payload::FileData { mime_type, file_uri: url }
        }
    }))
}

/// The type of an image by the end of its address.
fn image_type(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let types = [
        (".png", "image/png"),
        (".jpg", "image/jpeg"),
        (".jpeg", "image/jpeg"),
        (".webp", "image/webp"),
        (".gif", "image/gif"),
        (".heic", "image/heic"),
    ];
    types.into_iter().find(|(end, _)| path.ends_with(end)).map(|(_, kind)| kind)
}

fn called<'a>(call: &'a ToolCall<'a>) -> Part<'a> {
    let extra = call.extra_content.and_then(|raw| serde_json::from_str::<serde_json::Value>(raw.get()).ok());
    let signature = extra.as_ref().and_then(|extra| extra.pointer("/google/thought_signature")?.as_str());
    Part {
        data: Payload::FunctionCall { id: &call.id, name: &call.name, args: &call.arguments },
        thought_signature: signature.map(str::to_owned),
    }
}

/// A tool's result: an object as it is, any other text under a name.
fn result<'a>(to: Addressee<'_>, called: &CalledNames<'a>, message: &'a Message<'a>) -> Result<Part<'a>, Failure> {
    if let Some(part) = message.parts.iter().find(|part| !matches!(part.content, PartContent::Text(_))) {
        return Err(to.lacks(&part.place, "nothing but text in a tool's result"));
    }
    let id = message.call_id.as_deref().unwrap_or_default();
    let field = format!("{}.tool_call_id", message.place);
    let name = called.of(id).ok_or_else(|| to.cannot_read(&field, "the id of a call before it"))?;
    let text = message.text();
    let object = text.trim_start().starts_with('{').then(|| RawValue::from_string(text.clone()).ok()).flatten();
    let response = object.unwrap_or_else(|| {
        serde_json::value::to_raw_value(&json!({"result": text})).expect("invariant: a text is always JSON")
    });
    Ok(plain(Payload::FunctionResponse { id, name, response }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message::ChatRequest;

    fn sent(body: &'static str, mode: ReplyMode) -> Result<Bytes, Failure> {
        let request = Arc::new(ChatRequest::parse(Bytes::from(body)).unwrap());
        super::body(
            "gemini",
            &Call { request, model: "gemini".to_owned(), mode, served: crate::message::Served::default() },
        )
    }

    #[test]
    fn a_conversation_with_tools_images_and_signatures_keeps_all_of_it() {
        let sent = sent(
            r#"{"model":"gemini/gemini","max_tokens":100,"temperature":0.5,"top_p":0.9,"seed":7,"stop":["END"],"n":2,
                "safetySettings":[{"category":"X"}],"generationConfig":{"seed":8,"mediaResolution":"LOW"},
                "messages":[
                {"role":"system","content":"Be brief."},
                {"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"image_url","image_url":{"url":"https://example.com/x.JPG?y=1"}},{"type":"input_audio","input_audio":{"data":"BBBB","format":"wav"}}]},
                {"role":"assistant","content":"","tool_calls":[{"id":"t1","type":"function","function":{"name":"look","arguments":"{\"z\":1,\"a\":2}"},"extra_content":{"google":{"thought_signature":"s1"}}},{"id":"t2","type":"function","function":{"name":"now","arguments":"{}"}}]},
                {"role":"tool","tool_call_id":"t2","content":"{\"y\":1,\"b\":2}"},
                {"role":"tool","tool_call_id":"t1","content":"red"},
                {"role":"user","content":"So?"}],
                "tools":[{"type":"function","function":{"name":"look","description":"Looks.","parameters":{"type":"object","properties":{"z":{},"a":{}}}}},{"type":"function","function":{"name":"now"}}],
                "tool_choice":{"type":"function","function":{"name":"look"}},"reasoning_effort":"low",
                "response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","properties":{"y":{},"b":{}}}}}}"#,
            ReplyMode::Whole,
        );
        insta::assert_snapshot!(String::from_utf8(sent.unwrap().to_vec()).unwrap());
    }

    #[test]
    fn what_gemini_lacks_names_the_field() {
        for (body, param) in [
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"n":2}"#, "n"),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}],"logprobs":true}"#, "logprobs"),
            (
                r#"{"model":"m","messages":[{"role":"user","content":"x"}],"parallel_tool_calls":false}"#,
                "parallel_tool_calls",
            ),
            (
                r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y"}}]}]}"#,
                "messages[0].content[0]",
            ),
        ] {
            let failure = sent(body, ReplyMode::Stream).unwrap_err();
            assert_eq!((failure.kind.as_str(), failure.param.as_deref()), ("unsupported", Some(param)), "{body}");
        }
        let orphan = r#"{"model":"m","messages":[{"role":"tool","tool_call_id":"nobody","content":"x"}]}"#;
        assert_eq!(sent(orphan, ReplyMode::Whole).unwrap_err().kind.as_str(), "malformed");
    }
}
