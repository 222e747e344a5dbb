//! What a hostile client sends in each dialect: every member of a rich request, at whatever depth, replaced by what it
//! is not, left out, said with characters that JSON cannot hold, or many times over. Each is answered, or refused in the
//! dialect's form with a sentence, and never is it our fault.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Reply, Server};

/// A dialect's path, and a request that uses whatever it has.
fn rich() -> [(&'static str, Value); 4] {
    let schema = json!({"type": "object", "properties": {"z": {"type": "string"}}});
    let anthropic = json!({"model": "mock", "max_tokens": 50, "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "x"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                {"type": "document", "title": "d", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "I look."}, {"type": "tool_use", "id": "a", "name": "look", "input": {"z": "y"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "is_error": true, "content": [{"type": "text", "text": "dark"}]}]}],
        "tools": [{"name": "look", "description": "Looks.", "input_schema": schema, "strict": true}],
        "tool_choice": {"type": "tool", "name": "look", "disable_parallel_tool_use": true}, "thinking": {"type": "enabled", "budget_tokens": 5},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": schema}}, "metadata": {"user_id": "u"},
        "stop_sequences": ["END"], "temperature": 0.5, "top_p": 0.5, "top_k": 5, "service_tier": "auto", "stream": false,
        "cache": {"mode": "off"}});
    let ollama = json!({"model": "mock", "stream": false, "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "x", "images": ["iVBORw0KGgo="]},
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [{"id": "a", "function": {"name": "look", "arguments": {"z": 1}}}]},
            {"role": "tool", "tool_name": "look", "content": "dark"}],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": schema}}], "format": schema, "think": "low", "keep_alive": "5m",
        "options": {"num_predict": 50, "temperature": 0.5, "top_k": 3, "seed": 7, "stop": ["END"], "num_ctx": 4096, "repeat_penalty": 1.0},
        "cache": {"mode": "off"}});
    let responses = json!({"model": "mock", "instructions": "Be brief.", "max_output_tokens": 50, "stream": false, "store": true,
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"},
                {"type": "input_file", "filename": "d.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}]},
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "s"}], "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look.", "annotations": []}]},
            {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "dark"}],
        "tools": [{"type": "function", "name": "look", "parameters": schema, "strict": true}], "tool_choice": {"type": "function", "name": "look"},
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": schema}}, "reasoning": {"effort": "low"},
        "include": ["reasoning.encrypted_content"], "truncation": "disabled", "background": false, "cache": {"mode": "off"}});
    let count = anthropic.clone();
    [
        ("/v1/messages", anthropic),
        ("/v1/messages/count_tokens", count),
        ("/api/chat", ollama),
        ("/v1/responses", responses),
    ]
}

/// Answered, or refused: with a sentence, in the dialect's form, and as the client's own fault.
fn assert_no_fault_of_ours(path: &str, what: &str, reply: &Reply) {
    let status = reply.status.as_u16();
    if status == 200 {
        return;
    }
    assert!(matches!(status, 400 | 404 | 413), "{path}: {what}: {reply:?}");
    let json = reply.json();
    let sentence = match path {
        "/v1/responses" => {
            assert!(json["error"]["code"].is_string(), "{path}: {what}: {json}");
            &json["error"]["message"]
        }
        "/api/chat" => &json["error"],
        _ => {
            assert_eq!(json["type"], "error", "{path}: {what}: {json}");
            &json["error"]["message"]
        }
    };
    let length = sentence.as_str().map(str::len).unwrap_or_default();
    assert!((1..1_000).contains(&length), "{path}: {what}: {json}");
}

/// Every place inside a value, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in inner {
        let place = format!("{at}/{name}");
        places(value, &place, found);
        found.push(place);
    }
}

#[tokio::test]
async fn no_member_of_another_type_is_our_fault() {
    let server = Server::start().await;
    let wrong = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5e300),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}\u{feff}\u{202e}"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({"type": "text", "text": "x"}),
    ];
    for (path, good) in rich() {
        let reply = server.http().post(path, &good).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        let mut found = Vec::new();
        places(&good, "", &mut found);
        for place in found {
            for value in &wrong {
                let mut body = good.clone();
                *body.pointer_mut(&place).unwrap() = value.clone();
                let reply = server.http().post(path, &body).await;
                assert_no_fault_of_ours(path, &format!("{place} = {value}"), &reply);
            }
        }
    }
    server.stop().await;
}

/// Texts that JSON cannot hold, numbers that nothing can, and depth without end, in the place of each text and number.
#[tokio::test]
async fn no_token_that_json_cannot_hold_is_our_fault() {
    let server = Server::start().await;
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    for (path, good) in rich() {
        let mut found = Vec::new();
        places(&good, "", &mut found);
        for place in found.iter().filter(|place| good.pointer(place).is_some_and(|value| !value.is_object())) {
            let mut body = good.clone();
            *body.pointer_mut(place).unwrap() = json!("PLACE");
            for token in [
                r#""\ud800""#,
                r#""\udc00\ud800""#,
                "1e999",
                "-0",
                "123456789012345678901234567890",
                "01",
                "NaN",
                &deep,
            ] {
                let text = body.to_string().replace("\"PLACE\"", token);
                let reply = server.http().send(Method::POST, path, text).await;
                let shown = &token[..token.len().min(20)];
                assert_no_fault_of_ours(path, &format!("{place} = {shown}"), &reply);
                let is_json = serde_json::from_str::<serde::de::IgnoredAny>(token).is_ok();
                assert!(is_json || reply.status == 400, "{path}: {place} = {shown}: {reply:?}");
            }
        }
    }
    server.stop().await;
}

/// Very many of anything take no more than their bytes: the answer is the provider's, or a refusal.
#[tokio::test]
async fn very_many_of_anything_are_not_our_fault() {
    let server = Server::start().await;
    let many = |item: &str, count: usize| vec![item; count].join(",");
    let calls: Vec<String> =
        (0..5_000).map(|id| format!(r#"{{"type":"tool_use","id":"{id}","name":"f","input":{{}}}}"#)).collect();
    let members: Vec<String> = (0..20_000).map(|name| format!(r#""m{name}":1"#)).collect();
    let bodies = [
        (
            "/v1/messages",
            format!(r#"{{"model":"mock","messages":[{}]}}"#, many(r#"{"role":"user","content":"x"}"#, 10_000)),
        ),
        (
            "/v1/messages",
            format!(
                r#"{{"model":"mock","messages":[{{"role":"user","content":[{}]}}]}}"#,
                many(r#"{"type":"text","text":""}"#, 10_000)
            ),
        ),
        (
            "/v1/messages",
            format!(r#"{{"model":"mock","messages":[{{"role":"assistant","content":[{}]}}]}}"#, calls.join(",")),
        ),
        (
            "/v1/messages",
            format!(r#"{{"model":"mock","messages":[{{"role":"user","content":"x"}}],{}}}"#, members.join(",")),
        ),
        (
            "/v1/responses",
            format!(r#"{{"model":"mock","input":[{}]}}"#, many(r#"{"role":"user","content":"x"}"#, 10_000)),
        ),
        (
            "/api/chat",
            format!(
                r#"{{"model":"mock","stream":false,"messages":[{}]}}"#,
                many(r#"{"role":"user","content":"x"}"#, 10_000)
            ),
        ),
        (
            "/api/chat",
            format!(
                r#"{{"model":"mock","stream":false,"messages":[{{"role":"user","images":[{}]}}]}}"#,
                many(r#""/9j/""#, 10_000)
            ),
        ),
    ];
    for (path, body) in bodies {
        let reply = server.http().send(Method::POST, path, body).await;
        assert_no_fault_of_ours(path, "many", &reply);
    }
    server.stop().await;
}
