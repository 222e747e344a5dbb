//! Anthropic's messages, as its documentation of version 2023-06-01 has them.

use serde_json::{Map, Value, json};

use super::{Event, Events};
use crate::provider::answer::{Answer, Choice, ToolCall};
use crate::provider::refusal::Refusal;
use crate::provider::request::{ChatRequest, Turn};

pub(super) fn read(body: &[u8]) -> Option<ChatRequest> {
    let request: Map<String, Value> = serde_json::from_slice(body).ok()?;
    // It is mandatory there.
    let max_tokens = request.get("max_tokens")?.as_u64()? as usize;
    let system = request.get("system").map(|system| Turn { role: "system".to_owned(), text: text(system) });
    let messages = request.get("messages")?.as_array()?.iter().map(turn);
    let tools = request.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Some(ChatRequest {
        model: request.get("model")?.as_str()?.to_owned(),
        turns: system.into_iter().chain(messages).collect(),
        stream: request.get("stream").is_some_and(|stream| stream == true),
        include_usage: false,
        choices: 1,
        max_tokens: Some(max_tokens),
        logprobs: false,
        tools: tools.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect(),
        parameters: Map::new(),
    })
}

/// The words of a prompt whose tokens are to be counted.
pub(in crate::provider) fn counted(body: &[u8]) -> Result<usize, String> {
    let request: Map<String, Value> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if let Some(name) = ["max_tokens", "stream", "temperature"].into_iter().find(|name| request.contains_key(*name)) {
        return Err(format!("{name}: Extra inputs are not permitted"));
    }
    let messages = request.get("messages").and_then(Value::as_array).ok_or("messages: Field required")?;
    let texts = messages.iter().map(turn).map(|turn| turn.text);
    let system = request.get("system").map(text);
    Ok(texts.chain(system).map(|text| text.split_whitespace().count()).sum())
}

/// A tool's results come in a user's turn there.
fn turn(message: &Value) -> Turn {
    let has_result =
        message["content"].as_array().is_some_and(|blocks| blocks.iter().any(|b| b["type"] == "tool_result"));
    let role = if has_result { "tool" } else { message["role"].as_str().unwrap_or_default() };
    Turn { role: role.to_owned(), text: text(&message["content"]) }
}

fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks.iter().map(|block| block["text"].as_str().unwrap_or_default()).collect(),
        _ => String::new(),
    }
}

fn stop_reason(choice: &Choice) -> &'static str {
    match choice.finish_reason {
        "length" => "max_tokens",
        "tool_calls" => "tool_use",
        "content_filter" => "refusal",
        _ => "end_turn",
    }
}

/// A tenth of the input, rounded down, is said to come from the prompt cache.
fn usage(answer: &Answer, output_tokens: usize) -> Value {
    let cached = answer.usage.prompt_tokens / 10;
    json!({
        "input_tokens": answer.usage.prompt_tokens - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": output_tokens,
    })
}

fn input(call: &ToolCall) -> Value {
    serde_json::from_str(&call.arguments).unwrap_or_default()
}

pub(super) fn whole(answer: &Answer, is_empty: bool) -> Vec<u8> {
    let choice = &answer.choices[0];
    let mut content = Vec::new();
    if !choice.reasoning.is_empty() {
        content.push(json!({"type": "thinking", "thinking": choice.reasoning.concat(), "signature": "signed"}));
    }
    if !choice.content.is_empty() {
        content.push(json!({"type": "text", "text": choice.content.concat()}));
    }
    for call in &choice.tool_calls {
        content.push(json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input(call)}));
    }
    json!({
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": if is_empty { Vec::new() } else { content },
        "stop_reason": if is_empty { None } else { Some(stop_reason(choice)) },
        "stop_sequence": null,
        "usage": usage(answer, answer.usage.completion_tokens),
    })
    .to_string()
    .into_bytes()
}

fn named(name: &'static str, mut data: Value) -> Event {
    data["type"] = name.into();
    Event { name: Some(name), ..Event::of_json(&data) }
}

fn delta(index: usize, delta: &Value) -> Event {
    named("content_block_delta", json!({"index": index, "delta": delta}))
}

fn start(index: usize, block: &Value) -> Event {
    named("content_block_start", json!({"index": index, "content_block": block}))
}

fn stop(index: usize) -> Event {
    named("content_block_stop", json!({"index": index}))
}

pub(super) fn events(answer: &Answer, is_empty: bool) -> Events {
    let choice = &answer.choices[0];
    let message = json!({
        "id": answer.id, "type": "message", "role": "assistant", "model": answer.model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage(answer, 1),
    });
    let mut opening = vec![named("message_start", json!({"message": message})), named("ping", json!({}))];
    let mut index = 0;
    if !choice.reasoning.is_empty() {
        opening.push(start(index, &json!({"type": "thinking", "thinking": "", "signature": ""})));
        let tokens = choice.reasoning.iter();
        opening.extend(tokens.map(|token| delta(index, &json!({"type": "thinking_delta", "thinking": token}))));
        opening.push(delta(index, &json!({"type": "signature_delta", "signature": "signed"})));
        opening.push(stop(index));
        index += 1;
    }
    for call in &choice.tool_calls {
        opening.push(start(index, &json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}})));
        for fragment in call.arguments.as_bytes().chunks(8) {
            let fragment = String::from_utf8_lossy(fragment);
            opening.push(delta(index, &json!({"type": "input_json_delta", "partial_json": fragment})));
        }
        opening.push(stop(index));
        index += 1;
    }
    let mut closing = Vec::new();
    if !choice.content.is_empty() && !is_empty {
        opening.push(start(index, &json!({"type": "text", "text": ""})));
        closing.push(stop(index));
    }
    let tokens: &[String] = if is_empty { &[] } else { &choice.content };
    if !is_empty {
        let end = json!({"stop_reason": stop_reason(choice), "stop_sequence": null});
        let usage = json!({"output_tokens": answer.usage.completion_tokens});
        closing.push(named("message_delta", json!({"delta": end, "usage": usage})));
    }
    let error = json!({"error": {"type": "overloaded_error", "message": "the model is overloaded"}});
    Events {
        opening,
        content: tokens.iter().map(|token| vec![delta(index, &json!({"type": "text_delta", "text": token}))]).collect(),
        closing,
        done: Some(named("message_stop", json!({}))),
        error: named("error", error),
    }
}

pub(super) fn refusal(refusal: &Refusal) -> (u16, Vec<u8>) {
    let status = if refusal.code == Some("insufficient_quota") { 402 } else { refusal.status };
    let kind = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let body = json!({"type": "error", "error": {"type": kind, "message": refusal.message}, "request_id": "req_mock"});
    (status, body.to_string().into_bytes())
}

pub(super) fn models(names: &[String]) -> Vec<u8> {
    let model = |name: &String| json!({"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"});
    let data: Vec<Value> = names.iter().map(model).collect();
    json!({"data": data, "has_more": false, "first_id": names.first(), "last_id": names.last()})
        .to_string()
        .into_bytes()
}
