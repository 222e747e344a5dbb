//! Bad input of every kind on every route that takes a body, and on the socket: a clear 4xx in the dialect's own form,
//! never a 5xx, never a panic, and the next good request is answered.

use bytes::Bytes;
use http::Method;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::harness::{Reply, Server, asking};

/// A route that takes a body, with one that it takes.
struct Route {
    path: String,
    good: Value,
    /// Whether an empty body is a good one.
    empty_is_good: bool,
}

async fn routes(server: &Server) -> Vec<Route> {
    let session = server.http().post("/api/sessions", &json!({})).await.json()["id"].as_str().unwrap().to_owned();
    let route = |path: &str, good: Value| Route { path: path.to_owned(), good, empty_is_good: false };
    vec![
        route("/v1/chat/completions", asking("What is a good request?")),
        route("/v1/messages", asking("What is a good request?")),
        route("/v1/messages/count_tokens", asking("What is a good request?")),
        route("/v1/responses", json!({"model": "mock", "input": "What is a good request?"})),
        route("/v1/embeddings", json!({"model": "all-minilm-l6-v2", "input": "a good request"})),
        route("/api/chat", json!({"message": "What is a good request?"})),
        Route { empty_is_good: true, ..route("/api/sessions", json!({"title": "good"})) },
        route(&format!("/api/sessions/{session}/messages"), json!({"content": "What is a good request?"})),
        route("/api/show", json!({"model": "mock"})),
        route("/api/cache/explain", json!({"prompt": "What is a good request?"})),
        route("/api/cache/feedback", json!({"key": "ab".repeat(32), "verdict": "wrong"})),
        route("/api/admin/keys", json!({"name": "good", "tenant": "t"})),
    ]
}

/// A clear refusal in the route's own dialect.
fn assert_refused(path: &str, what: &str, reply: &Reply) {
    let what = format!("{path}: {what}: {} {}", reply.status, String::from_utf8_lossy(&reply.body));
    assert!(reply.status.is_client_error(), "{what}");
    let json: Value = serde_json::from_slice(&reply.body).unwrap_or_else(|_| panic!("no JSON: {what}"));
    if path.starts_with("/v1/messages") {
        assert_eq!(reply.header("content-type"), "application/json", "{what}");
        assert_eq!((&json["type"], json["error"]["type"].is_string()), (&json!("error"), true), "{what}");
        assert!(json["error"]["message"].as_str().is_some_and(|text| !text.is_empty() && text.len() < 1_000), "{what}");
        assert_eq!(json["request_id"], reply.header("request-id"), "{what}");
    } else if path == "/api/show" {
        assert_eq!(reply.header("content-type"), "application/json", "{what}");
        assert!(json["error"].as_str().is_some_and(|text| !text.is_empty() && text.len() < 1_000), "{what}");
    } else if path.starts_with("/v1/") {
        assert_eq!(reply.header("content-type"), "application/json", "{what}");
        let error = &json["error"];
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty() && text.len() < 1_000), "{what}");
        assert!(error["type"].is_string() && error["code"].is_string(), "{what}");
    } else {
        assert_eq!(reply.header("content-type"), "application/problem+json", "{what}");
        assert_eq!(json["status"], reply.status.as_u16(), "{what}");
        assert!(json["detail"].as_str().is_some_and(|text| !text.is_empty() && text.len() < 1_000), "{what}");
        assert!(json["title"].is_string() && json["code"].is_string() && json["type"].is_string(), "{what}");
    }
    assert!(!reply.header("x-request-id").is_empty(), "{what}");
}

/// Bodies that are no JSON object of any route, by what is wrong with them.
fn bad_bodies() -> Vec<(&'static str, Bytes)> {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    let bytes: [(&str, Vec<u8>); 17] = [
        ("empty", Vec::new()),
        ("white space", b" \n".to_vec()),
        ("cut", br#"{"model":"mock","messages":[{"role":"us"#.to_vec()),
        ("text", b"hello there".to_vec()),
        ("a number", b"17".to_vec()),
        ("a string", b"\"text\"".to_vec()),
        ("a list", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("trailing comma", br#"{"message":"x",}"#.to_vec()),
        ("two objects", br#"{"message":"x"}{"message":"y"}"#.to_vec()),
        ("bad UTF-8", b"{\"message\":\"\xff\xfe\xc0\"}".to_vec()),
        ("half a surrogate pair", br#"{"message":"\ud800","content":"\ud800","title":"\ud800","prompt":"\ud800","model":"\ud800","name":"\ud800","key":"\ud800"}"#.to_vec()),
        ("a raw NUL", b"{\"message\":\"a\0b\"}".to_vec()),
        ("nothing but NULs", vec![0; 64]),
        ("deep lists", deep("[", "]").into_bytes()),
        ("deep objects", format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000)).into_bytes()),
        ("too large", format!(r#"{{"message":"{}"}}"#, "x".repeat(10_000_000)).into_bytes()),
    ];
    bytes.into_iter().map(|(what, bytes)| (what, Bytes::from(bytes))).collect()
}

#[tokio::test]
async fn no_route_takes_what_is_no_json_object() {
    let server = Server::start().await;
    for route in routes(&server).await {
        for (what, body) in bad_bodies() {
            if what == "empty" && route.empty_is_good {
                continue;
            }
            let reply = server.http().send(Method::POST, &route.path, body).await;
            assert_refused(&route.path, what, &reply);
            let expected = if what == "too large" { 413 } else { 400 };
            assert_eq!(reply.status, expected, "{}: {what}", route.path);
        }
        let good = server.http().post(&route.path, &route.good).await;
        assert!(good.status.is_success(), "{}: {good:?}", route.path);
    }
    server.stop().await;
}

/// Each member of a good body replaced by a value of another type.
#[tokio::test]
async fn no_route_takes_a_member_of_the_wrong_type() {
    let server = Server::start().await;
    let wrong = [json!(null), json!(17), json!(-1.5e300), json!(true), json!([1]), json!({"a": {"b": []}}), json!("")];
    for route in routes(&server).await {
        for name in route.good.as_object().unwrap().keys() {
            for value in &wrong {
                let mut body = route.good.clone();
                body[name] = value.clone();
                let reply = server.http().post(&route.path, &body).await;
                // An absent or empty value may be a lawful one; a panic or a 500 never is.
                if reply.status.is_success() {
                    let tokens = name == "input" && value.is_array();
                    assert!(value.is_null() || value == "" || tokens, "{}: {name} = {value}", route.path);
                } else {
                    assert_refused(&route.path, &format!("{name} = {value}"), &reply);
                }
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_chat_request_is_refused_by_the_name_of_its_fault() {
    let server = Server::start().await;
    let turn = |turn: Value| json!({"model": "mock", "messages": [turn]});
    let bodies = [
        (json!({"model": "mock"}), "messages"),
        (json!({"model": "mock", "messages": []}), "messages"),
        (json!({"model": "mock", "messages": "hello"}), "messages"),
        (json!({"model": 7, "messages": [{"role": "user", "content": "x"}]}), "model"),
        (json!({"model": "mock", "messages": [{"role": "user", "content": "x"}], "stream": "yes"}), "stream"),
        (json!({"model": "mock", "messages": [{"role": "user", "content": "x"}], "user": 1}), "user"),
        (
            json!({"model": "mock", "messages": [{"role": "user", "content": "x"}], "stream_options": 1}),
            "stream_options",
        ),
        (turn(json!("hello")), "messages[0]"),
        (turn(json!({"content": "x"})), "messages[0].role"),
        (turn(json!({"role": "pirate", "content": "x"})), "messages[0].role"),
        (turn(json!({"role": "user"})), "messages[0].content"),
        (turn(json!({"role": "user", "content": 7})), "messages[0].content"),
        (turn(json!({"role": "user", "content": [7]})), "messages[0].content"),
        (turn(json!({"role": "user", "content": [{"text": "no type"}]})), "messages[0].content"),
    ];
    for (body, param) in bodies {
        let reply = server.http().chat(&body).await;
        assert_refused("/v1/chat/completions", param, &reply);
        assert_eq!(reply.json()["error"]["param"], param, "{body}");
    }
    for text in [
        r#"{"model":"mock","model":"other","messages":[{"role":"user","content":"x"}]}"#,
        r#"{"model":"mock","messages":[{"role":"user","role":"system","content":"x"}]}"#,
    ] {
        let reply = server.http().send(Method::POST, "/v1/chat/completions", text).await;
        assert_refused("/v1/chat/completions", "a name twice", &reply);
        assert!(reply.json()["error"]["message"].as_str().unwrap().contains("duplicate"), "{reply:?}");
    }
    assert_eq!(server.upstream_calls(), 0);
    server.stop().await;
}

#[tokio::test]
async fn an_embeddings_request_is_refused_by_the_name_of_its_fault() {
    let server = Server::start().await;
    let good = json!({"model": "all-minilm-l6-v2", "input": "x"});
    let faults = [
        ("model", json!(null)),
        ("model", json!(7)),
        ("input", json!(null)),
        ("input", json!([17.5])),
        ("input", json!([-1])),
        ("encoding_format", json!("hex")),
        ("dimensions", json!(-1)),
        ("dimensions", json!(3)),
        ("user", json!({})),
    ];
    for (param, value) in faults {
        let mut body = good.clone();
        body[param] = value;
        let reply = server.http().post("/v1/embeddings", &body).await;
        assert_refused("/v1/embeddings", param, &reply);
        assert_eq!(reply.json()["error"]["param"], param, "{body}");
    }
    server.stop().await;
}

/// JSON has one kind of number, whatever a client's language writes.
#[tokio::test]
async fn a_token_is_the_same_with_and_without_a_point() {
    let server = Server::start().await;
    let mut replies = Vec::new();
    for input in ["[[9906,1917]]", "[[9906.0,1917.0]]", "\"Hello world\""] {
        let body = format!(r#"{{"model":"all-minilm-l6-v2","input":{input}}}"#);
        replies.push(server.http().send(Method::POST, "/v1/embeddings", body).await.json());
    }
    assert!(replies[0]["data"][0]["embedding"].is_array(), "{replies:?}");
    assert_eq!(replies[0], replies[1]);
    assert_eq!(replies[0], replies[2]);
    server.stop().await;
}

#[tokio::test]
async fn a_limit_is_the_same_with_and_without_a_point() {
    let server = Server::start().await;
    for (path, body) in [
        ("/api/admin/keys", r#"{"name":"x","requests_per_minute":60.0}"#),
        ("/v1/messages", r#"{"model":"mock","max_tokens":50.0,"messages":[{"role":"user","content":"x"}]}"#),
        ("/v1/responses", r#"{"model":"mock","max_output_tokens":50.0,"input":"y"}"#),
        ("/api/chat", r#"{"model":"mock","options":{"num_predict":50.0},"messages":[{"role":"user","content":"z"}]}"#),
    ] {
        let reply = server.http().send(Method::POST, path, body).await;
        assert!(reply.status.is_success(), "{reply:?}");
    }
    let sent = server.upstream_bodies();
    assert_eq!([&sent[0]["max_tokens"], &sent[1]["max_completion_tokens"], &sent[2]["max_tokens"]], [&json!(50); 3]);
    let listed = server.http().get("/api/admin/keys").await.json();
    assert_eq!(listed["data"][0]["requests_per_minute"], 60);
    let path = format!("/api/admin/keys/{}", listed["data"][0]["id"].as_str().unwrap());
    let changed = server.http().send(Method::PATCH, &path, r#"{"token_burst":7.0}"#).await;
    assert_eq!(changed.json()["token_burst"], 7);
    server.stop().await;
}

/// Token 172 of cl100k is the byte F0, with which a character of four bytes begins.
#[tokio::test]
async fn a_text_that_was_cut_inside_a_character_has_a_vector() {
    let server = Server::start().await;
    let ask = |input: Value| json!({"model": "all-minilm-l6-v2", "input": input});
    let cut = server.http().post("/v1/embeddings", &ask(json!([[9906, 1917, 172]]))).await;
    let shown = server.http().post("/v1/embeddings", &ask(json!("Hello world\u{fffd}"))).await;
    assert_eq!(cut.status, 200, "{cut:?}");
    assert_eq!(cut.json(), shown.json());
    let unknown = server.http().post("/v1/embeddings", &ask(json!([[4_000_000_000_u32]]))).await;
    assert_refused("/v1/embeddings", "a token that there is not", &unknown);
    server.stop().await;
}

/// Odd, but lawful: it is passed on and answered.
#[tokio::test]
async fn odd_but_lawful_input_is_answered() {
    let server = Server::start().await;
    let prompts = [
        "a\u{0}b".to_owned(),
        "\u{feff}\u{202e}mirror".to_owned(),
        "🦀".repeat(1_000),
        "x".repeat(1_000_000),
        "\n".repeat(50) + "z",
    ];
    for prompt in prompts {
        let reply = server.http().chat(&asking(&prompt)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let stored = server.http().post("/api/chat", &json!({"message": prompt})).await;
        assert_eq!(stored.status, 200, "{stored:?}");
    }
    let mut numbers = asking("What are huge numbers?");
    numbers["seed"] = json!(u64::MAX);
    numbers["temperature"] = json!(1e308);
    assert_eq!(server.http().chat(&numbers).await.status, 200, "judging parameters is the provider's business");
    let huge = r#"{"model":"mock","messages":[{"role":"user","content":"big"}],"seed":123456789012345678901234567890}"#;
    let reply = server.http().send(Method::POST, "/v1/chat/completions", huge).await;
    assert!(reply.status == 200 || reply.status == 400, "{reply:?}");
    // Nesting that is deep, but not absurd, inside a member that we do not interpret.
    let deep = format!(
        r#"{{"model":"mock","messages":[{{"role":"user","content":"deep"}}],"x":{}1{}}}"#,
        "[".repeat(100),
        "]".repeat(100)
    );
    assert_eq!(server.http().send(Method::POST, "/v1/chat/completions", deep).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn bad_paths_and_queries_have_the_dialects_form() {
    let server = Server::start().await;
    let paths = [
        "/api/sessions?limit=many",
        "/api/sessions?limit=-1",
        "/api/sessions/no-uuid",
        "/api/sessions/%ff",
        "/api/sessions/01890000-0000-7000-8000-000000000000",
        "/api/sessions/01890000-0000-7000-8000-000000000000/messages?before=x",
        "/api/sessions/a/messages/b/why",
        "/api/cache/entries/nothex",
        "/api/cache/entries?limit=x",
        "/api/cache/entries?limit=0",
        "/api/cache/entries?limit=501",
        "/v1/models/%ff",
    ];
    for path in paths {
        assert_refused(path, "GET", &server.http().get(path).await);
    }
    for path in
        ["/api/cache/entries", "/api/cache/entries?all=maybe", "/api/cache/entries?older_than_s=x", "/api/admin/keys/x"]
    {
        assert_refused(path, "DELETE", &server.http().delete(path).await);
    }
    assert_eq!(server.http().get("/ws").await.status, 426);
    server.stop().await;
}

/// What a body can suffer on its way.
#[derive(Debug, Clone)]
enum Damage {
    /// These bytes are put at a place.
    Insert(usize, Vec<u8>),
    /// So many bytes are taken from a place.
    Cut(usize, usize),
    /// A byte is replaced.
    Replace(usize, u8),
    /// A part is repeated.
    Repeat(usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..4),
        prop::sample::select(vec![
            "{", "}", "[", "]", "\"", ":", ",", "null", "1e999", "\\u0000", "\\ud83d", "-0", "\"a\":1,"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop_oneof![
        (any::<usize>(), bytes).prop_map(|(place, bytes)| Damage::Insert(place, bytes)),
        (any::<usize>(), 1_usize..20).prop_map(|(place, length)| Damage::Cut(place, length)),
        (any::<usize>(), any::<u8>()).prop_map(|(place, byte)| Damage::Replace(place, byte)),
        (any::<usize>(), 1_usize..40).prop_map(|(place, length)| Damage::Repeat(place, length)),
    ]
}

fn damaged(good: &Value, damages: &[Damage]) -> Vec<u8> {
    let mut bytes = good.to_string().into_bytes();
    for damage in damages {
        let length = bytes.len().max(1);
        match damage {
            Damage::Insert(place, new) => {
                let place = place % length;
                bytes.splice(place..place, new.iter().copied());
            }
            Damage::Cut(place, count) => {
                drop(bytes.drain((place % length).min(bytes.len())..(place % length + count).min(bytes.len())));
            }
            Damage::Replace(place, byte) => {
                if let Some(old) = bytes.get_mut(place % length) {
                    *old = *byte;
                }
            }
            Damage::Repeat(place, count) => {
                let part = bytes[(place % length).min(bytes.len())..(place % length + count).min(bytes.len())].to_vec();
                bytes.extend(part);
            }
        }
    }
    bytes
}

/// Whatever happens to a good body on its way, the answer is a success, a clear refusal, or the provider's own.
#[tokio::test]
async fn no_damaged_body_is_the_servers_fault() {
    let server = Server::start().await;
    let routes = routes(&server).await;
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(damage(), 1..4);
    for round in 0..150 {
        for route in &routes {
            let damages = strategy.new_tree(&mut runner).unwrap().current();
            let body = damaged(&route.good, &damages);
            let shown = String::from_utf8_lossy(&body).into_owned();
            let reply = server.http().send(Method::POST, &route.path, body).await;
            if !reply.status.is_success() {
                assert_refused(&route.path, &format!("round {round}, {shown}"), &reply);
            }
        }
    }
    server.stop().await;
}

/// The same for frames: an answer, an error frame, or a close with a code of the protocol.
#[tokio::test]
async fn no_damaged_frame_is_the_servers_fault() {
    let server = Server::start().await;
    let good = [
        json!({"type": "send", "id": "a", "content": "What is a good frame?", "cache": {"mode": "on"}, "params": {"temperature": 0.5}}),
        json!({"type": "resume", "stream": "01890000-0000-7000-8000-000000000000", "epoch": 1, "after": 0}),
        json!({"type": "credit", "stream": "01890000-0000-7000-8000-000000000000", "deltas": 3}),
        json!({"type": "cancel", "stream": "01890000-0000-7000-8000-000000000000"}),
        json!({"type": "regenerate", "id": "b", "message": "01890000-0000-7000-8000-000000000000"}),
        json!({"type": "ping", "nonce": "n"}),
    ];
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(damage(), 1..4);
    let mut socket = server.socket().await;
    for _ in 0..100 {
        for frame in &good {
            let damages = strategy.new_tree(&mut runner).unwrap().current();
            let Ok(text) = String::from_utf8(damaged(frame, &damages)) else { continue };
            socket.say_text(&text).await;
            // A ping behind it: its pong, or a close, comes after whatever the frame was answered with.
            socket.say_text(r#"{"type":"ping","nonce":"behind"}"#).await;
            let closed = loop {
                match socket.hear_any().await {
                    Ok(frame) if frame["nonce"] == "behind" => break false,
                    Ok(_) => {}
                    Err(code) => {
                        assert_eq!(code, 4400, "{text}");
                        break true;
                    }
                }
            };
            if closed {
                socket = server.socket().await;
            }
        }
    }
    drop(socket);
    server.stop().await;
}
