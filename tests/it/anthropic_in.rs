//! Anthropic's dialect at our door: plain and streamed, tools, images, reasoning; every error in its own form; one cache
//! with OpenAI's dialect; a call that ends with its caller.

use http::Method;
use ish::config::{Config, ProviderKind};
use loadtest::provider::answer::{answer_to, answer_to_conversation};
use loadtest::provider::{Behaviour, Fault, Route};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Dialect, Reply, Server, asking};

const PATH: &str = "/v1/messages";

const DIALECT: Dialect = Dialect {
    path: PATH,
    wish,
    streaming,
    telling: "text_delta",
    text: |reply| text(&message(reply)),
    said: |reply| {
        let message = message(reply);
        json!([message["content"], message["stop_reason"], message["usage"]])
    },
    assert_refused: |reply, status, code, what| {
        // A provider's overload has a status of its own.
        let status = if (status, code) == (503, "overloaded") { 529 } else { status };
        let json = reply.json();
        assert_eq!((reply.status.as_u16(), &json["error"]["type"]), (status, &json!(kind(status))), "{what}: {json}");
        assert_eq!(json["request_id"], reply.header("request-id"), "{what}");
    },
    assert_broken: |reply, what| {
        let events = reply.named_events();
        let (name, data) = events.last().unwrap();
        assert_eq!((name.as_str(), &data["type"]), ("error", &json!("error")), "{what}: {data}");
        assert!(data["error"]["type"].as_str().unwrap().ends_with("_error"), "{what}: {data}");
    },
};

fn wish(prompt: &str) -> Value {
    json!({"model": "mock", "max_tokens": 100, "messages": [{"role": "user", "content": prompt}]})
}

fn streaming(mut body: Value) -> Value {
    body["stream"] = true.into();
    body
}

/// A server whose provider speaks Anthropic's dialect too.
async fn through() -> Server {
    Server::start_with(|config: &mut Config| {
        let provider = &mut config.providers[0];
        provider.kind = ProviderKind::Anthropic;
        provider.base_url.set_path("");
    })
    .await
}

/// What a client reads from a reply, of whichever kind: the message, added up by the rules of the dialect.
fn message(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    if !reply.header("content-type").starts_with("text/event-stream") {
        return reply.json();
    }
    let events = reply.named_events();
    let mut message = events[0].1["message"].clone();
    let (mut open, mut input) = (None, String::new());
    for (name, data) in &events {
        assert_eq!(data["type"], *name, "the name and the type agree");
        let block = usize::try_from(data["index"].as_u64().unwrap_or_default()).unwrap();
        match name.as_str() {
            "message_start" | "message_stop" | "ping" => {}
            "content_block_start" => {
                let content = message["content"].as_array_mut().unwrap();
                assert_eq!((open, block), (None, content.len()), "one block after another");
                content.push(data["content_block"].clone());
                (open, input) = (Some(block), String::new());
            }
            "content_block_delta" => {
                assert_eq!(open, Some(block));
                let (delta, block) = (&data["delta"], &mut message["content"][block]);
                let grow = |known: &mut Value, more: &Value| {
                    *known = format!("{}{}", known.as_str().unwrap(), more.as_str().unwrap()).into();
                };
                match delta["type"].as_str().unwrap() {
                    "text_delta" => grow(&mut block["text"], &delta["text"]),
                    "thinking_delta" => grow(&mut block["thinking"], &delta["thinking"]),
                    "signature_delta" => block["signature"] = delta["signature"].clone(),
                    "input_json_delta" => input.push_str(delta["partial_json"].as_str().unwrap()),
                    other => panic!("{other}"),
                }
            }
            "content_block_stop" => {
                assert_eq!(open.take(), Some(block));
                if message["content"][block]["type"] == "tool_use" && !input.is_empty() {
                    message["content"][block]["input"] = serde_json::from_str(&input).unwrap();
                }
            }
            "message_delta" => {
                message["stop_reason"] = data["delta"]["stop_reason"].clone();
                message["stop_sequence"] = data["delta"]["stop_sequence"].clone();
                message["usage"] = data["usage"].clone();
            }
            other => panic!("{other}: {data}"),
        }
    }
    assert_eq!((events[0].0.as_str(), events.last().unwrap().0.as_str()), ("message_start", "message_stop"));
    message
}

fn text(message: &Value) -> String {
    let blocks = message["content"].as_array().unwrap().iter();
    blocks.filter_map(|block| block["text"].as_str()).collect()
}

#[tokio::test]
async fn a_question_is_answered_whole_and_streamed() {
    for server in [Server::start().await, through().await] {
        for (prompt, reply) in DIALECT.both_ways(&server.http(), wish).await {
            let message = message(&reply);
            assert_eq!(text(&message), answer_to(&prompt));
            assert_eq!(
                (&message["type"], &message["role"], &message["model"], &message["stop_reason"]),
                (&json!("message"), &json!("assistant"), &json!("mock"), &json!("end_turn"))
            );
            assert!(message["id"].as_str().unwrap().starts_with("msg_"));
            let usage = &message["usage"];
            assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(4), &json!(20)), "{usage}");
            assert_eq!(reply.header("x-ish-cache"), "MISS");
            assert_eq!(reply.header("request-id"), reply.header("x-request-id"));
            assert!(!reply.header("request-id").is_empty() && !reply.header("cache-status").is_empty());
        }
        server.stop().await;
    }
}

/// What OpenAI's dialect asked is known in Anthropic's, and the other way round; plain and streamed alike.
#[tokio::test]
async fn the_cache_is_shared_over_dialects() {
    let server = Server::start().await;
    let http = server.http();
    let openai = |prompt: &str| {
        let mut body = asking(prompt);
        body["max_tokens"] = 100.into();
        body["messages"].as_array_mut().unwrap().insert(0, json!({"role": "system", "content": "Be brief."}));
        body
    };
    let anthropic = |prompt: &str| {
        let mut body = wish(prompt);
        body["system"] = json!([{"type": "text", "text": "Be brief."}]);
        body
    };
    let first = http.chat(&openai("Which question came first?")).await;
    for body in [anthropic("Which question came first?"), streaming(anthropic("Which question came first?"))] {
        let reply = http.post(PATH, &body).await;
        assert_eq!(reply.header("x-ish-cache"), "HIT", "{reply:?}");
        let message = message(&reply);
        assert_eq!(text(&message), first.text());
        assert_eq!((&message["usage"]["input_tokens"], &message["usage"]["output_tokens"]), (&json!(0), &json!(0)));
        let saved = &message["ish"]["cache"]["saved_usage"];
        assert_eq!((&message["ish"]["cache"]["status"], &saved["completion_tokens"]), (&json!("hit"), &json!(20)));
    }
    let second = http.post(PATH, &streaming(anthropic("Which question came second?"))).await;
    let again = http.chat(&openai("Which question came second?")).await;
    assert_eq!((again.header("x-ish-cache"), again.text()), ("HIT", text(&message(&second))));
    assert_eq!(server.upstream_calls(), 2);
    server.stop().await;
}

#[tokio::test]
async fn the_cache_obeys_body_and_headers() {
    let server = Server::start().await;
    let mut paced = wish("Which question is paced?");
    server.http().post(PATH, &paced).await;
    paced["cache"] = json!({"replay": "paced"});
    let reply = server.http().post(PATH, &streaming(paced)).await;
    assert_eq!((reply.header("x-ish-cache"), text(&message(&reply))), ("HIT", answer_to("Which question is paced?")));
    assert!(reply.named_events().iter().filter(|(name, _)| name == "content_block_delta").count() > 5);
    let off = server.http().with("x-ish-cache", "off").post(PATH, &wish("Which question is paced?")).await;
    assert_eq!((off.header("x-ish-cache"), off.status.as_u16()), ("BYPASS", 200));
    let only = server.http().with("x-ish-cache", "only").post(PATH, &wish("Which is not there?")).await;
    assert_eq!((only.status.as_u16(), &only.json()["error"]["type"]), (504, &json!("timeout_error")));
    let odd = server.http().post(PATH, &json!({"messages": [{"role": "user", "content": "x"}], "cache": 7})).await;
    assert_eq!((odd.status.as_u16(), &odd.json()["error"]["type"]), (400, &json!("invalid_request_error")));
    assert!(!server.upstream_bodies().iter().any(|body| body.get("cache").is_some()));
    server.stop().await;
}

/// The last body that reached the provider.
fn sent(server: &Server) -> Value {
    server.provider.log().into_iter().rfind(|entry| entry.route == Route::Chat).unwrap().json()
}

#[tokio::test]
async fn tools_make_the_round_trip() {
    for server in [Server::start().await, through().await] {
        server.provider.set_behaviour(Behaviour { tool_calls: 2, reasoning_tokens: 2, ..Behaviour::default() });
        let body = |prompt: &str| {
            let mut body = wish(prompt);
            body["tools"] = json!([
                {"name": "look", "input_schema": {"type": "object", "properties": {"query": {"type": "string"}}}},
                {"name": "count", "description": "Counts.", "input_schema": {"type": "object"}}]);
            body["tool_choice"] = json!({"type": "any"});
            body
        };
        for (prompt, reply) in DIALECT.both_ways(&server.http(), body).await {
            let message = message(&reply);
            assert_eq!(message["stop_reason"], "tool_use", "{message}");
            let content = message["content"].as_array().unwrap();
            let kinds: Vec<&str> = content.iter().map(|block| block["type"].as_str().unwrap()).collect();
            assert_eq!(kinds, ["thinking", "tool_use", "tool_use"]);
            assert!(!content[0]["thinking"].as_str().unwrap().is_empty());
            assert_eq!((&content[1]["name"], &content[1]["input"]["number"]), (&json!("look"), &json!(0)));
            assert_eq!((&content[2]["name"], &content[2]["input"]["number"]), (&json!("count"), &json!(1)));

            let mut answered = body(&prompt);
            let messages = answered["messages"].as_array_mut().unwrap();
            messages.push(json!({"role": "assistant", "content": content}));
            messages.push(json!({"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": content[2]["id"], "content": "seven"},
                {"type": "tool_result", "tool_use_id": content[1]["id"], "is_error": true, "content": [{"type": "text", "text": "dark"}]}]}));
            let reply = server.http().post(PATH, &answered).await;
            assert_eq!(reply.json()["stop_reason"], "end_turn", "{reply:?}");
            let sent = sent(&server);
            if sent.get("max_tokens").is_some() && sent["tools"][0].get("input_schema").is_some() {
                // The same dialect on both sides: what went in comes out.
                assert_eq!(sent["messages"][1]["content"], json!(content));
                let results = &sent["messages"][2]["content"];
                assert_eq!((&results[1]["tool_use_id"], &results[1]["is_error"]), (&content[1]["id"], &json!(true)));
                assert_eq!(
                    (&sent["tools"][1]["description"], &sent["tool_choice"]),
                    (&json!("Counts."), &json!({"type": "any"}))
                );
            } else {
                assert_eq!(
                    (&sent["tool_choice"], &sent["tools"][0]["function"]["name"]),
                    (&json!("required"), &json!("look"))
                );
                let (calls, result) = (&sent["messages"][1]["tool_calls"], &sent["messages"][2]);
                assert_eq!((&calls[0]["id"], &calls[1]["function"]["name"]), (&content[1]["id"], &json!("count")));
                assert_eq!(
                    (&result["role"], &result["tool_call_id"], &result["content"]),
                    (&json!("tool"), &content[2]["id"], &json!("seven"))
                );
            }
        }
        server.stop().await;
    }
}

/// A reasoning block keeps its signature, a marked block its mark, from Anthropic's client to Anthropic.
#[tokio::test]
async fn marks_and_signatures_survive_between_equals() {
    let server = through().await;
    let mark = json!({"type": "ephemeral"});
    let body = json!({"model": "mock", "max_tokens": 50, "top_k": 3, "stop_sequences": ["END"], "metadata": {"user_id": "u1"},
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "output_config": {"effort": "low", "task_budget": {"type": "tokens", "total": 9}},
        "context_management": {"edits": []}, "service_tier": "standard_only",
        "system": [{"type": "text", "text": "Be brief.", "cache_control": mark}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is it?", "cache_control": mark},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}, "title": "d.pdf"}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s1"},
                {"type": "redacted_thinking", "data": "r1"}, {"type": "text", "text": "It is red."}]},
            {"role": "user", "content": [{"type": "text", "text": "Are you sure?"}]}],
        "tools": [{"name": "look", "input_schema": {"type": "object"}, "cache_control": mark}]});
    let reply = server.http().post(PATH, &body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let sent = sent(&server);
    for name in [
        "model",
        "max_tokens",
        "top_k",
        "stop_sequences",
        "metadata",
        "thinking",
        "output_config",
        "context_management",
        "service_tier",
        "system",
        "messages",
        "tools",
    ] {
        assert_eq!(sent[name], body[name], "{name}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_conversation_with_an_image_reaches_a_provider_of_openais_dialect() {
    let server = Server::start().await;
    let body = |prompt: &str| {
        json!({"model": "mock", "max_tokens": 100, "system": "Be brief.", "messages": [
            {"role": "user", "content": "What is this?"},
            {"role": "assistant", "content": [{"type": "text", "text": "A picture."}]},
            {"role": "user", "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                {"type": "text", "text": prompt}]}]})
    };
    for (prompt, reply) in DIALECT.both_ways(&server.http(), body).await {
        let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}});
        let content = json!([picture, {"type": "text", "text": prompt}]);
        assert!(server.upstream_bodies().iter().any(|body| body["messages"][3]["content"] == content), "{prompt}");
        let said = format!("{picture}{prompt}");
        let turns =
            [("system", "Be brief."), ("user", "What is this?"), ("assistant", "A picture."), ("user", said.as_str())];
        assert_eq!(text(&message(&reply)), answer_to_conversation(turns, 20));
    }
    server.stop().await;
}

/// The answer's reason to stop, the stop sequence included.
#[tokio::test]
async fn reasons_to_stop_have_anthropics_words() {
    for server in [Server::start().await, through().await] {
        for (fault, word) in [(Fault::Length, "max_tokens"), (Fault::ContentFilter, "refusal")] {
            server.provider.set_behaviour(Behaviour::with_fault(fault));
            for (_, reply) in DIALECT.both_ways(&server.http(), wish).await {
                assert_eq!(message(&reply)["stop_reason"], word, "{fault:?}");
            }
        }
        server.stop().await;
    }
}

/// The type that Anthropic gives an error of this status.
fn kind(status: u16) -> &'static str {
    match status {
        400 | 405 | 409 | 422 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        _ => "api_error",
    }
}

fn assert_error(reply: &Reply, status: u16, what: &str) {
    let json = reply.json();
    assert_eq!(reply.status, status, "{what}: {json}");
    assert_eq!((&json["type"], &json["error"]["type"]), (&json!("error"), &json!(kind(status))), "{what}: {json}");
    assert!(json["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{what}");
    assert_eq!(
        (&json["request_id"], reply.header("content-type")),
        (&json!(reply.header("request-id")), "application/json"),
        "{what}"
    );
    assert_eq!(reply.header("request-id"), reply.header("x-request-id"), "{what}");
    let is_final = !matches!(status, 429 | 500..);
    assert_eq!(reply.header("x-should-retry") == "false", is_final, "{what}: {status}");
}

#[tokio::test]
async fn every_error_has_anthropics_form() {
    let server = Server::start_with(|config| config.server.max_body_bytes = 100_000).await;
    let http = server.http();
    let large = format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(100_000));
    let deep = format!(r#"{{"messages":{}{}}}"#, "[".repeat(40_000), "]".repeat(40_000));
    for (what, body, status) in [
        ("no JSON", "{".to_owned(), 400),
        ("a list", "[]".to_owned(), 400),
        ("deep", deep, 400),
        ("too large", large, 413),
        ("no messages", r#"{"model":"mock"}"#.to_owned(), 400),
        ("a wrong type", r#"{"model":"mock","messages":"x"}"#.to_owned(), 400),
        ("a doubled name", r#"{"model":"mock","model":"m","messages":[]}"#.to_owned(), 400),
        ("an unknown model", r#"{"model":"nobody/knows","messages":[{"role":"user","content":"x"}]}"#.to_owned(), 404),
    ] {
        assert_error(&http.send(Method::POST, PATH, body).await, status, what);
    }
    assert_error(&http.get(PATH).await, 405, "a method");
    assert_error(&http.post("/v1/messages/batches", &wish("x")).await, 404, "a route");
    assert_error(&http.with("host", "evil.example").post(PATH, &wish("x")).await, 403, "a foreign page");
    server.stop().await;
}

#[tokio::test]
async fn a_key_stands_in_either_header() {
    let server = Server::start_with_keys().await;
    assert_error(&server.http().post(PATH, &wish("x")).await, 401, "no key");
    assert_error(&server.http().with("x-api-key", "ish_wrong").post(PATH, &wish("x")).await, 401, "a wrong key");
    let key = server.new_key("acme").await;
    for http in [server.http().with("x-api-key", &key), server.http().with_key(&key)] {
        let reply =
            http.with("anthropic-version", "2026-10-21").post("/v1/messages?beta=true", &wish("Who asks?")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert!(server.provider.log().iter().all(|entry| !format!("{:?}", entry.headers).contains(&key)));
    server.stop().await;
}

#[tokio::test]
async fn every_fault_is_told_in_anthropics_words() {
    DIALECT.tells_every_fault().await;
}

#[tokio::test]
async fn a_wait_that_the_provider_asks_for_is_passed_on() {
    let server = Server::start().await;
    server.provider.set_behaviour(Behaviour::with_fault(Fault::RateLimit { retry_after_seconds: 7 }));
    let reply = server.http().post(PATH, &wish("May I?")).await;
    assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (429, "7"));
    server.stop().await;
}

#[tokio::test]
async fn the_call_ends_with_its_caller() {
    DIALECT.ends_with_its_caller().await;
}

const COUNT: &str = "/v1/messages/count_tokens";

/// An estimate of ours, unless the provider counts, which is then named and hears nothing of how to answer.
#[tokio::test]
async fn tokens_are_counted_without_an_answer() {
    let server = Server::start().await;
    let short = server.http().post(COUNT, &wish("How long is this?")).await;
    let long = server.http().post(COUNT, &wish(&"How long is this? ".repeat(50))).await;
    let tokens = |reply: &Reply| reply.json()["input_tokens"].as_u64().unwrap();
    assert!((4..20).contains(&tokens(&short)) && (150..400).contains(&tokens(&long)), "{short:?} {long:?}");
    assert_eq!((short.header("x-ish-provider"), server.upstream_calls()), ("", 0));
    server.stop().await;

    let server = through().await;
    let mut body = wish("How long is this?");
    body["system"] = "Be brief.".into();
    body["temperature"] = json!(0.5);
    let counted = server.http().with("anthropic-beta", "b-1").post(COUNT, &body).await;
    assert_eq!((tokens(&counted), counted.header("x-ish-provider")), (6, "openai"));
    let asked = server.provider.log().pop().unwrap();
    assert_eq!((asked.route, &asked.json()["model"]), (Route::Count, &json!("mock")));
    assert_eq!(asked.headers["anthropic-beta"], "b-1");
    assert_eq!(server.upstream_calls(), 0);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_counted_is_refused_in_anthropics_form() {
    let server = Server::start_with(|config| config.server.max_body_bytes = 100_000).await;
    let http = server.http();
    for (what, body, status) in [
        ("no JSON", "{".to_owned(), 400),
        ("no messages", r#"{"model":"mock"}"#.to_owned(), 400),
        (
            "a doubled name",
            r#"{"model":"mock","model":"m","messages":[{"role":"user","content":"x"}]}"#.to_owned(),
            400,
        ),
        ("a wrong type", r#"{"model":"mock","messages":[{"role":"user","content":7}]}"#.to_owned(), 400),
        (
            "a wish about the cache that is none",
            r#"{"model":"mock","cache":false,"messages":[{"role":"user","content":"x"}]}"#.to_owned(),
            400,
        ),
        ("an unknown model", r#"{"model":"nobody/knows","messages":[{"role":"user","content":"x"}]}"#.to_owned(), 404),
        ("too large", format!(r#"{{"messages":"{}"}}"#, "x".repeat(100_000)), 413),
    ] {
        assert_error(&http.send(Method::POST, COUNT, body).await, status, what);
    }
    assert_error(&http.get(COUNT).await, 405, "a method");
    server.stop().await;
    let server = Server::start_with_keys().await;
    assert_error(&server.http().post(COUNT, &wish("x")).await, 401, "no key");
    server.stop().await;
}

/// What a provider of another dialect lacks is refused with the field's name.
#[tokio::test]
async fn what_would_be_lost_is_refused_by_name() {
    let server = Server::start().await;
    for (member, value) in [("mcp_servers", json!([{"type": "url"}])), ("stop", json!("x")), ("n", json!(2))] {
        let mut body = wish("What is lost?");
        body[member] = value;
        let reply = server.http().post(PATH, &body).await;
        assert_error(&reply, 400, member);
        assert!(reply.json()["error"]["message"].as_str().unwrap().contains(&format!("`{member}`")));
    }
    assert_eq!(server.upstream_calls(), 0);
    server.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Whatever length an answer has and however its bytes are written, the stream says what the whole says.
    #[test]
    fn a_stream_adds_up_to_the_whole(tokens in 0usize..40, reasoning in 0usize..4, wire in prop_oneof![Just("bytewise"), Just("batched"), Just("crlf,comments")]) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(DIALECT.stream_adds_up(tokens, reasoning, wire));
    }
}
