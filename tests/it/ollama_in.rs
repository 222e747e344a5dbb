//! Ollama's dialect at our door: plain and streamed, tools, images; errors in its own form; one cache with OpenAI's
//! dialect; one path with our simplest client.

use http::Method;
use ish::config::{Config, ProviderKind};
use loadtest::provider::Behaviour;
use loadtest::provider::answer::answer_to;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Dialect, Reply, Server, asking};

const PATH: &str = "/api/chat";

const DIALECT: Dialect = Dialect {
    path: PATH,
    wish,
    streaming,
    telling: "\"done\":false",
    text: |reply| told(reply)["message"]["content"].as_str().unwrap().to_owned(),
    said: |reply| {
        let told = told(reply);
        json!([told["message"], told["done_reason"], told["prompt_eval_count"], told["eval_count"]])
    },
    assert_refused: |reply, status, _, what| assert_error(reply, status, what),
    assert_broken: |reply, what| {
        let lines = reply.lines();
        assert!(lines.last().unwrap()["error"].is_string(), "{what}: {lines:?}");
        assert!(lines.iter().all(|line| line["done"] != true), "{what}");
    },
};

/// A question whose answer comes whole: it streams unless told otherwise.
fn wish(prompt: &str) -> Value {
    json!({"model": "mock", "stream": false, "options": {"num_predict": 100}, "messages": [{"role": "user", "content": prompt}]})
}

fn streaming(mut body: Value) -> Value {
    body.as_object_mut().unwrap().remove("stream");
    body
}

/// A server whose provider speaks Ollama's dialect too.
async fn through() -> Server {
    Server::start_with(|config: &mut Config| {
        let provider = &mut config.providers[0];
        provider.kind = ProviderKind::Ollama;
        provider.base_url.set_path("");
    })
    .await
}

/// What a client reads from a reply, of whichever kind: the last line, with the whole message.
fn told(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    if reply.header("content-type") == "application/json" {
        return reply.json();
    }
    assert_eq!(reply.header("content-type"), "application/x-ndjson");
    let lines = reply.lines();
    let text =
        |name: &str| lines.iter().map(|line| line["message"][name].as_str().unwrap_or_default()).collect::<String>();
    let calls: Vec<Value> =
        lines.iter().filter_map(|line| line["message"]["tool_calls"].as_array()).flatten().cloned().collect();
    let (last, before) = lines.split_last().unwrap();
    assert!(before.iter().all(|line| line["done"] == false) && last["done"] == true, "{lines:?}");
    let mut whole = last.clone();
    whole["message"] = json!({"role": "assistant", "content": text("content")});
    if !text("thinking").is_empty() {
        whole["message"]["thinking"] = text("thinking").into();
    }
    if !calls.is_empty() {
        whole["message"]["tool_calls"] = calls.into();
    }
    whole
}

#[tokio::test]
async fn a_question_is_answered_whole_and_streamed() {
    for server in [Server::start().await, through().await] {
        for (prompt, reply) in DIALECT.both_ways(&server.http(), wish).await {
            let told = told(&reply);
            assert_eq!(told["message"], json!({"role": "assistant", "content": answer_to(&prompt)}));
            assert_eq!((&told["model"], &told["done_reason"]), (&json!("mock"), &json!("stop")));
            assert_eq!((&told["prompt_eval_count"], &told["eval_count"]), (&json!(4), &json!(20)));
            assert!(told["total_duration"].as_u64().unwrap() > 0 && told["created_at"].is_string());
            assert_eq!(reply.header("x-ish-cache"), "MISS");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn the_cache_is_shared_with_openais_and_anthropics_dialect() {
    let server = Server::start().await;
    let mut openai = asking("Which question came first?");
    openai["max_tokens"] = 100.into();
    let first = server.http().chat(&openai).await;
    for body in [wish("Which question came first?"), streaming(wish("Which question came first?"))] {
        let reply = server.http().post(PATH, &body).await;
        assert_eq!(reply.header("x-ish-cache"), "HIT", "{reply:?}");
        let told = told(&reply);
        assert_eq!((&told["message"]["content"], &told["eval_count"]), (&json!(first.text()), &json!(0)));
        assert_eq!(told["ish"]["cache"]["saved_usage"]["completion_tokens"], 20);
    }
    let anthropic = server.http().post("/v1/messages", &openai).await;
    assert_eq!(anthropic.header("x-ish-cache"), "HIT");
    assert_eq!(server.upstream_calls(), 1);
    server.stop().await;
}

/// Two clients on one path: the body says whose it is.
#[tokio::test]
async fn the_simplest_client_keeps_its_path() {
    let server = Server::start().await;
    let simple = server.http().post(PATH, &json!({"message": "Who is simple?", "model": "mock"})).await;
    assert_eq!((simple.status.as_u16(), &simple.json()["message"]), (200, &json!(answer_to("Who is simple?"))));
    assert!(simple.json()["session"].is_string());
    let odd = server.http().post(PATH, &json!({"message": 7})).await;
    assert_eq!((odd.status.as_u16(), odd.header("content-type")), (400, "application/problem+json"));
    server.stop().await;
}

#[tokio::test]
async fn tools_make_the_round_trip() {
    for server in [Server::start().await, through().await] {
        server.provider.set_behaviour(Behaviour { tool_calls: 2, reasoning_tokens: 2, ..Behaviour::default() });
        let body = |prompt: &str| {
            let mut body = wish(prompt);
            body["tools"] = json!([
                {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"query": {"type": "string"}}}}},
                {"type": "function", "function": {"name": "count", "parameters": {"type": "object", "properties": {}}}}]);
            body
        };
        for (prompt, reply) in DIALECT.both_ways(&server.http(), body).await {
            let told = told(&reply);
            assert!(!told["message"]["thinking"].as_str().unwrap().is_empty(), "{told}");
            let calls = told["message"]["tool_calls"].as_array().unwrap();
            assert_eq!(
                (&calls[0]["function"]["name"], &calls[0]["function"]["arguments"]["number"]),
                (&json!("look"), &json!(0))
            );
            assert_eq!(
                (&calls[1]["function"]["name"], &calls[1]["function"]["arguments"]["number"]),
                (&json!("count"), &json!(1))
            );

            // As the official client sends them back: without the calls' ids, the results by the tools' names.
            let without = |call: &Value| json!({"function": call["function"]});
            let mut answered = body(&prompt);
            let messages = answered["messages"].as_array_mut().unwrap();
            messages.push(json!({"role": "assistant", "content": "", "tool_calls": calls.iter().map(without).collect::<Vec<_>>()}));
            messages.push(json!({"role": "tool", "tool_name": "count", "content": "seven"}));
            messages.push(json!({"role": "tool", "tool_name": "look", "content": "red"}));
            let reply = server.http().post(PATH, &answered).await;
            assert_eq!((reply.status.as_u16(), &reply.json()["done_reason"]), (200, &json!("stop")), "{reply:?}");
            let sent = server.upstream_bodies().pop().unwrap();
            let (calls, results) = (&sent["messages"][1]["tool_calls"], &sent["messages"]);
            assert_eq!((&results[2]["tool_call_id"], &results[3]["tool_call_id"]), (&calls[1]["id"], &calls[0]["id"]));
            assert!(calls[0]["id"].is_string() && calls[0]["id"] != calls[1]["id"]);
        }
        server.stop().await;
    }
}

/// Options, images and the rest arrive unchanged where the provider is an Ollama.
#[tokio::test]
async fn between_equals_nothing_is_lost() {
    let server = through().await;
    let body = json!({"model": "mock", "stream": false, "format": {"type": "object", "properties": {"z": {}, "a": {}}}, "think": "high", "keep_alive": "5m",
        "options": {"num_predict": 50, "temperature": 0.5, "top_k": 3, "seed": 7, "stop": ["END"], "num_ctx": 4096, "repeat_penalty": 1.1},
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is it?", "images": ["iVBORw0KGgo="]}]});
    let reply = server.http().post(PATH, &body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let sent = server.upstream_bodies().pop().unwrap();
    for name in ["model", "format", "think", "keep_alive", "options", "messages"] {
        assert_eq!(sent[name], body[name], "{name}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_image_reaches_a_provider_of_openais_dialect() {
    let server = Server::start().await;
    let mut body = wish("What is this?");
    body["messages"][0]["images"] = json!(["iVBORw0KGgo="]);
    assert_eq!(server.http().post(PATH, &body).await.status, 200);
    let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}});
    let content = json!([{"type": "text", "text": "What is this?"}, picture]);
    assert_eq!(server.upstream_bodies()[0]["messages"][0]["content"], content);
    server.stop().await;
}

fn assert_error(reply: &Reply, status: u16, what: &str) {
    assert_eq!(reply.status, status, "{what}: {reply:?}");
    assert!(reply.json()["error"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {reply:?}");
}

#[tokio::test]
async fn every_error_has_ollamas_form() {
    let server = Server::start_with(|config| config.server.max_body_bytes = 100_000).await;
    let http = server.http();
    let large = format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(100_000));
    let deep = format!(r#"{{"messages":{}{}}}"#, "[".repeat(40_000), "]".repeat(40_000));
    for (what, body, status) in [
        ("no JSON", "{\"messages\"".to_owned(), 400),
        ("deep", deep, 400),
        ("too large", large, 413),
        ("no messages", r#"{"model":"mock","messages":[]}"#.to_owned(), 400),
        ("a wrong type", r#"{"model":"mock","messages":"x"}"#.to_owned(), 400),
        ("an unknown model", r#"{"model":"nobody/knows","messages":[{"role":"user","content":"x"}]}"#.to_owned(), 404),
    ] {
        assert_error(&http.send(Method::POST, PATH, body).await, status, what);
    }
    assert_error(&http.get(PATH).await, 405, "a method");
    assert_error(&http.post("/api/generate", &wish("x")).await, 404, "a route");
    assert_error(&http.with("host", "evil.example").post(PATH, &wish("x")).await, 403, "a foreign page");
    server.stop().await;
    let server = Server::start_with_keys().await;
    assert_error(&server.http().post(PATH, &wish("x")).await, 401, "no key");
    assert_error(&server.http().get("/api/tags").await, 401, "no key");
    server.stop().await;
}

#[tokio::test]
async fn every_fault_is_told_in_ollamas_words() {
    DIALECT.tells_every_fault().await;
}

#[tokio::test]
async fn the_call_ends_with_its_caller() {
    DIALECT.ends_with_its_caller().await;
}

#[tokio::test]
async fn the_models_and_the_version_are_told() {
    let server = Server::start().await;
    let listed = server.http().get("/api/tags").await.json();
    let names: Vec<&str> =
        listed["models"].as_array().unwrap().iter().map(|model| model["model"].as_str().unwrap()).collect();
    assert!(names.contains(&"mock") && names.contains(&"demo"), "{names:?}");
    assert!(server.http().get("/api/version").await.json()["version"].is_string());
    server.stop().await;
}

/// What is known, and nothing else; the member has an older name too.
#[tokio::test]
async fn a_model_is_shown() {
    let server = Server::start().await;
    for name in ["model", "name"] {
        let shown = server.http().post("/api/show", &json!({name: "mock", "verbose": true})).await;
        assert_eq!(shown.status, 200, "{shown:?}");
        let shown = shown.json();
        assert_eq!((&shown["details"]["family"], &shown["model_info"]), (&json!("openai"), &json!({})));
        assert_eq!(shown["capabilities"], json!(["completion"]));
    }
    for (what, body, status) in [
        ("no JSON", "{", 400),
        ("a list", "[]", 400),
        ("nobody", "{}", 400),
        ("an empty name", r#"{"model":""}"#, 400),
        ("a number", r#"{"model":7}"#, 400),
        ("a doubled name", r#"{"model":"mock","model":"demo"}"#, 400),
        ("half a character", r#"{"model":"\ud800"}"#, 400),
        ("another member", r#"{"model":"mock","license":"x"}"#, 400),
        ("an unknown model", r#"{"model":"nobody/knows"}"#, 404),
    ] {
        assert_error(&server.http().send(Method::POST, "/api/show", body).await, status, what);
    }
    assert_error(&server.http().get("/api/show").await, 405, "a method");
    server.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    /// Whatever length an answer has and however its bytes are written, the stream says what the whole says.
    #[test]
    fn a_stream_adds_up_to_the_whole(tokens in 0usize..40, reasoning in 0usize..4, wire in prop_oneof![Just("bytewise"), Just("batched"), Just("crlf,comments")]) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(DIALECT.stream_adds_up(tokens, reasoning, wire));
    }
}
