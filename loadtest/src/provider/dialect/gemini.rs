//! Gemini's `generateContent`: the model stands in the path, the wish for a stream too.

use serde_json::{Map, Value, json};

use super::{Event, Events};
use crate::provider::answer::{Answer, Choice};
use crate::provider::refusal::Refusal;
use crate::provider::request::{ChatRequest, Turn};

/// The model and the verb of a path.
pub(super) fn target(path: &str) -> Option<(&str, &str)> {
    let target = path.strip_prefix("/v1beta/models/")?.rsplit_once(':')?;
    matches!(target.1, "generateContent" | "streamGenerateContent").then_some(target)
}

pub(super) fn read(path: &str, body: &[u8]) -> Option<ChatRequest> {
    let (model, verb) = target(path)?;
    let request: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let system = request.get("systemInstruction");
    let system = system.map(|system| Turn { role: "system".to_owned(), text: text(&system["parts"]) });
    let contents = request.get("contents")?.as_array()?.iter().map(turn);
    let tools = request.get("tools").and_then(|tools| tools[0]["functionDeclarations"].as_array());
    let most = request.get("generationConfig").and_then(|config| config["maxOutputTokens"].as_u64());
    Some(ChatRequest {
        model: model.to_owned(),
        turns: system.into_iter().chain(contents).collect(),
        stream: verb == "streamGenerateContent",
        include_usage: false,
        choices: 1,
        max_tokens: most.map(|most| most as usize),
        logprobs: false,
        tools: tools.into_iter().flatten().filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect(),
        parameters: Map::new(),
    })
}

/// A function's results come in a user's turn there, and a model's turn is called so.
fn turn(content: &Value) -> Turn {
    let has_result =
        content["parts"].as_array().is_some_and(|parts| parts.iter().any(|p| p["functionResponse"].is_object()));
    let role = match content["role"].as_str() {
        _ if has_result => "tool",
        Some("model") => "assistant",
        _ => "user",
    };
    Turn { role: role.to_owned(), text: text(&content["parts"]) }
}

fn text(parts: &Value) -> String {
    parts.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect()
}

fn finish_reason(choice: &Choice) -> &'static str {
    match choice.finish_reason {
        "length" => "MAX_TOKENS",
        "content_filter" => "SAFETY",
        _ => "STOP",
    }
}

fn usage(answer: &Answer) -> Value {
    let thoughts = answer.choices[0].reasoning.len();
    json!({
        "promptTokenCount": answer.usage.prompt_tokens,
        "candidatesTokenCount": answer.usage.completion_tokens - thoughts,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": answer.usage.prompt_tokens + answer.usage.completion_tokens,
    })
}

fn reply(answer: &Answer, parts: &[Value], finish_reason: Option<&str>) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    if let Some(reason) = finish_reason {
        candidate["finishReason"] = reason.into();
    }
    json!({
        "candidates": [candidate],
        "usageMetadata": usage(answer),
        "modelVersion": answer.model,
        "responseId": answer.id,
    })
}

fn thought(text: &str) -> Value {
    json!({"text": text, "thought": true})
}

/// It gives calls no ids, and signs the first one.
fn calls(choice: &Choice) -> Vec<Value> {
    let mut calls: Vec<Value> = Vec::new();
    for call in &choice.tool_calls {
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
        let mut part = json!({"functionCall": {"name": call.name, "args": arguments}});
        if calls.is_empty() {
            part["thoughtSignature"] = "c2lnbmVk".into();
        }
        calls.push(part);
    }
    calls
}

pub(super) fn whole(answer: &Answer, is_empty: bool) -> Vec<u8> {
    let choice = &answer.choices[0];
    if is_empty {
        return json!({"candidates": [], "modelVersion": answer.model}).to_string().into_bytes();
    }
    let mut parts = Vec::new();
    if !choice.reasoning.is_empty() {
        parts.push(thought(&choice.reasoning.concat()));
    }
    if !choice.content.is_empty() {
        parts.push(json!({"text": choice.content.concat()}));
    }
    parts.extend(calls(choice));
    reply(answer, &parts, Some(finish_reason(choice))).to_string().into_bytes()
}

pub(super) fn events(answer: &Answer, is_empty: bool) -> Events {
    let choice = &answer.choices[0];
    let said = |parts: &[Value]| Event::of_json(&reply(answer, parts, None));
    let thoughts = choice.reasoning.iter().map(|token| said(&[thought(token)]));
    let called = calls(choice);
    let called = (!called.is_empty()).then(|| said(&called));
    let tokens: &[String] = if is_empty { &[] } else { &choice.content };
    let end = reply(answer, &[json!({"text": ""})], Some(finish_reason(choice)));
    let error = json!({"error": {"code": 503, "message": "the model is overloaded", "status": "UNAVAILABLE"}});
    Events {
        opening: thoughts.chain(called).collect(),
        content: tokens.iter().map(|token| vec![said(&[json!({"text": token})])]).collect(),
        closing: (!is_empty).then(|| Event::of_json(&end)).into_iter().collect(),
        done: None,
        error: Event::of_json(&error),
    }
}

pub(super) fn refusal(refusal: &Refusal) -> (u16, Vec<u8>) {
    let is_unpaid = refusal.code == Some("insufficient_quota");
    let code = if is_unpaid { 403 } else { refusal.status };
    let status = match code {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 | 529 => "UNAVAILABLE",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    };
    let unpaid = json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "BILLING_DISABLED"});
    let wait = |seconds: u64| json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s")});
    let details: Vec<Value> = is_unpaid.then_some(unpaid).into_iter().chain(refusal.retry_after.map(wait)).collect();
    let error = json!({"code": code, "message": refusal.message, "status": status, "details": details});
    (code, json!({"error": error}).to_string().into_bytes())
}

pub(super) fn models(names: &[String]) -> Vec<u8> {
    let model =
        |name: &String, method: &str| json!({"name": format!("models/{name}"), "supportedGenerationMethods": [method]});
    let models = names.iter().map(|name| model(name, "generateContent"));
    let models: Vec<Value> = models.chain([model(&"embedder".to_owned(), "embedContent")]).collect();
    json!({"models": models}).to_string().into_bytes()
}
