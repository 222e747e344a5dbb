//! Ollama's `/api/chat`: lines of JSON, counts in the last one.

use serde_json::{Map, Value, json};

use super::{Event, Events};
use crate::provider::answer::{Answer, Choice};
use crate::provider::refusal::Refusal;
use crate::provider::request::{ChatRequest, Turn};

pub(super) fn read(body: &[u8]) -> Option<ChatRequest> {
    let request: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let turn = |message: &Value| Turn {
        role: message["role"].as_str().unwrap_or_default().to_owned(),
        text: message["content"].as_str().unwrap_or_default().to_owned(),
    };
    let tools = request.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let most = request.get("options").and_then(|options| options["num_predict"].as_u64());
    Some(ChatRequest {
        model: request.get("model")?.as_str()?.to_owned(),
        turns: request.get("messages")?.as_array()?.iter().map(turn).collect(),
        // It streams unless told otherwise.
        stream: request.get("stream").is_none_or(|stream| stream == true),
        include_usage: false,
        choices: 1,
        max_tokens: most.map(|most| most as usize),
        logprobs: false,
        tools: tools.iter().filter_map(|tool| tool["function"]["name"].as_str().map(str::to_owned)).collect(),
        parameters: Map::new(),
    })
}

/// It has no word for a filter.
fn done_reason(choice: &Choice) -> &'static str {
    if choice.finish_reason == "length" { "length" } else { "stop" }
}

fn line(answer: &Answer, message: &Value) -> Value {
    json!({"model": answer.model, "created_at": "2025-01-01T00:00:00Z", "message": message, "done": false})
}

/// It gives calls no ids.
fn calls(choice: &Choice) -> Option<Value> {
    let call = |call: &crate::provider::answer::ToolCall| {
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
        json!({"function": {"name": call.name, "arguments": arguments}})
    };
    (!choice.tool_calls.is_empty()).then(|| choice.tool_calls.iter().map(call).collect())
}

fn finish(answer: &Answer, mut line: Value) -> Value {
    line["done"] = true.into();
    line["done_reason"] = done_reason(&answer.choices[0]).into();
    line["prompt_eval_count"] = answer.usage.prompt_tokens.into();
    line["eval_count"] = answer.usage.completion_tokens.into();
    line["total_duration"] = 1_000_000.into();
    line
}

pub(super) fn whole(answer: &Answer, is_empty: bool) -> Vec<u8> {
    let choice = &answer.choices[0];
    if is_empty {
        return json!({"model": answer.model, "done": false}).to_string().into_bytes();
    }
    let mut message = json!({"role": "assistant", "content": choice.content.concat()});
    if !choice.reasoning.is_empty() {
        message["thinking"] = choice.reasoning.concat().into();
    }
    if let Some(calls) = calls(choice) {
        message["tool_calls"] = calls;
    }
    finish(answer, line(answer, &message)).to_string().into_bytes()
}

pub(super) fn events(answer: &Answer, is_empty: bool) -> Events {
    let choice = &answer.choices[0];
    let said = |message: Value| Event::of_json(&line(answer, &message));
    let thought = choice.reasoning.iter().map(|token| json!({"role": "assistant", "content": "", "thinking": token}));
    let called = calls(choice).map(|calls| json!({"role": "assistant", "content": "", "tool_calls": calls}));
    let tokens: &[String] = if is_empty { &[] } else { &choice.content };
    let end = line(answer, &json!({"role": "assistant", "content": ""}));
    Events {
        opening: thought.chain(called).map(said).collect(),
        content: tokens.iter().map(|token| vec![said(json!({"role": "assistant", "content": token}))]).collect(),
        closing: Vec::new(),
        done: (!is_empty).then(|| Event::of_json(&finish(answer, end))),
        error: Event::of_json(&json!({"error": "the model is overloaded"})),
    }
}

pub(super) fn refusal(refusal: &Refusal) -> (u16, Vec<u8>) {
    let status = if refusal.code == Some("insufficient_quota") { 402 } else { refusal.status };
    (status, json!({"error": refusal.message}).to_string().into_bytes())
}

pub(super) fn models(names: &[String]) -> Vec<u8> {
    let models: Vec<Value> = names.iter().map(|name| json!({"name": name, "model": name, "size": 1})).collect();
    json!({"models": models}).to_string().into_bytes()
}
