//! What is to be said once is refused when it is said twice: headers that steer the cache or show a key, and members of
//! each body, in the form of each dialect. What may be said in several lines is read whole.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Reply, Server, asking};

const RESPONSES: &str = "/v1/responses";

fn item(prompt: &str) -> Value {
    json!({"model": "mock", "input": prompt})
}

/// Every route that makes an answer, each with a body that it takes.
async fn answering(server: &Server) -> Vec<(String, Value)> {
    let session = server.http().post("/api/sessions", &json!({})).await.json()["id"].as_str().unwrap().to_owned();
    vec![
        ("/v1/chat/completions".to_owned(), asking("What is said once?")),
        ("/v1/messages".to_owned(), asking("What is said once?")),
        (RESPONSES.to_owned(), item("What is said once?")),
        ("/api/chat".to_owned(), json!({"model": "mock", "message": "What is said once?"})),
        ("/api/chat".to_owned(), json!({"model": "mock", "stream": false, "messages": asking("x")["messages"]})),
        (format!("/api/sessions/{session}/messages"), json!({"model": "mock", "content": "What is said once?"})),
    ]
}

/// The sentence of a refusal, found where the route's dialect has it.
fn sentence(reply: &Reply) -> String {
    assert_eq!(reply.status, 400, "{reply:?}");
    let json = reply.json();
    let places = [&json["error"]["message"], &json["detail"], &json["error"]];
    places.into_iter().find_map(Value::as_str).unwrap_or_else(|| panic!("{reply:?}")).to_owned()
}

#[tokio::test]
async fn a_wish_in_two_lines_is_refused_everywhere() {
    let server = Server::start().await;
    for (name, one, two) in
        [("x-ish-cache", "off", "on"), ("x-ish-cache-ttl", "5", "5"), ("x-ish-cache-namespace", "a", "b")]
    {
        let http = server.http().with(name, one).with(name, two);
        let wanted = format!("the header {name} takes one value, and came with {one:?} and {two:?}");
        for (path, body) in answering(&server).await {
            assert_eq!(sentence(&http.post(&path, &body).await), wanted, "{path}");
        }
        for path in ["/v1/models", "/v1/models/mock", "/api/tags", "/api/version", "/api/sessions", "/livez", "/"] {
            assert_eq!(sentence(&http.get(path).await), wanted, "{path}");
        }
    }
    let reply = server.http().with("host", "localhost").with("host", "evil.example").get("/api/sessions").await;
    assert!(sentence(&reply).contains("the header host takes one value"));
    assert_eq!(server.upstream_calls(), 0);
    server.stop().await;
}

#[tokio::test]
async fn two_keys_are_no_key() {
    let server = Server::start_with_keys().await;
    for name in ["authorization", "x-api-key"] {
        let value = |key: &str| if name == "authorization" { format!("Bearer {key}") } else { key.to_owned() };
        let twice = server.http().with(name, &value(ADMIN_KEY)).with(name, &value(ADMIN_KEY));
        assert_eq!(twice.get("/v1/models").await.status, 200, "{name}");
        let torn = server.http().with(name, &value(ADMIN_KEY)).with(name, &value("ish_other"));
        let sentence = sentence(&torn.get("/v1/models").await);
        assert!(sentence.contains(name) && !sentence.contains("ish_"), "{sentence}");
    }
    server.stop().await;
}

/// A header that says nothing is a bad value, also where the same body was read before without it.
#[tokio::test]
async fn a_bad_value_is_refused_wherever_it_is_read() {
    let server = Server::start().await;
    let long = "x".repeat(129);
    for (path, body) in answering(&server).await {
        assert_eq!(server.http().post(&path, &body).await.status, 200, "{path}");
        for (name, value) in [
            ("x-ish-cache", ""),
            ("x-ish-cache", "on, off"),
            ("x-ish-cache", "ON"),
            ("x-ish-cache-ttl", ""),
            ("x-ish-cache-ttl", "+5"),
            ("x-ish-cache-ttl", "-1"),
            ("x-ish-cache-ttl", "NaN"),
            ("x-ish-cache-ttl", "1e999"),
            ("x-ish-cache-namespace", &long),
        ] {
            let reply = server.http().with(name, value).post(&path, &body).await;
            let named = if value == long { "namespace" } else { name };
            assert!(sentence(&reply).contains(named), "{path}: {name}: {value}: {reply:?}");
        }
    }
    server.stop().await;
}

/// An empty name is the room that all share, whatever room the body names; it wins, as every header does.
#[tokio::test]
async fn an_empty_room_is_not_the_bodys() {
    let server = Server::start().await;
    let mut body = asking("Which room is this?");
    body["cache"] = json!({"namespace": "mine"});
    assert_eq!(server.http().chat(&body).await.header("x-ish-cache"), "MISS");
    assert_eq!(server.http().chat(&body).await.header("x-ish-cache"), "HIT");
    let shared = server.http().with("x-ish-cache-namespace", "");
    assert_eq!(shared.chat(&body).await.header("x-ish-cache"), "MISS");
    server.stop().await;
}

#[tokio::test]
async fn the_lines_of_cache_control_are_one_list() {
    let server = Server::start().await;
    let http = server.http().with("cache-control", "no-transform").with("cache-control", "no-cache, no-store");
    for _ in 0..2 {
        assert_eq!(http.chat(&asking("Is this kept?")).await.header("x-ish-cache"), "BYPASS");
    }
    server.stop().await;
}

/// Stored questions heed the headers too, and what the body wishes stands where no header speaks.
#[tokio::test]
async fn stored_questions_heed_the_headers() {
    let server = Server::start().await;
    let http = server.http().with("x-ish-cache", "off");
    let unread = |cache: &Value| {
        assert_eq!((&cache["status"], &cache["reason"]), (&json!("bypass"), &json!("the request asked for no cache")));
    };
    let simple =
        http.post("/api/chat", &json!({"message": "What is a stored question?", "model": "mock"})).await.json();
    unread(&simple["cache"]);
    let path = format!("/api/sessions/{}/messages", simple["session"].as_str().unwrap());
    // An `id` that is null is none.
    let wish = json!({"id": null, "content": "What is a further question?", "model": "mock", "cache": {"mode": "on"}});
    unread(&http.post(&path, &wish).await.json()["answer"]["cache"]);
    let read = server.http().post(&path, &wish).await.json();
    assert_eq!(read["answer"]["cache"]["status"], "miss", "{read}");
    server.stop().await;
}

/// At each level that is read here, whoever reads after us might go by the other member.
#[tokio::test]
async fn a_member_that_stands_twice_is_refused_in_every_dialect() {
    let server = Server::start().await;
    let session = server.http().post("/api/sessions", &json!({})).await.json()["id"].as_str().unwrap().to_owned();
    let sent = format!("/api/sessions/{session}/messages");
    let twice: &[(&str, &[&str])] = &[
        (
            "/v1/chat/completions",
            &[
                r#"{"messages":[{"role":"user","content":"x"}],"MODEL","MODEL"}"#,
                r#"{"MODEL","messages":[{"role":"user","content":"x","role":"system"}]}"#,
                r#"{"MODEL","messages":[{"role":"user","content":[{"type":"text","text":"x","text":"y"}]}]}"#,
                r#"{"MODEL","messages":[{"role":"user","content":"x"}],"cache":{"mode":"on","mode":"off"}}"#,
                r#"{"MODEL","messages":[{"role":"user","content":"x"}],"stream_options":{"include_usage":true,"include_usage":false}}"#,
            ],
        ),
        (
            "/v1/messages",
            &[
                r#"{"messages":[{"role":"user","content":"x"}],"MODEL","MODEL"}"#,
                r#"{"MODEL","messages":[{"role":"user","content":"x","role":"assistant"}]}"#,
                r#"{"MODEL","messages":[{"role":"user","content":[{"type":"text","text":"x","text":"y"}]}]}"#,
                r#"{"MODEL","messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"a","url":"b"}}]}]}"#,
                r#"{"MODEL","messages":[{"role":"user","content":"x"}],"metadata":{"user_id":"a","user_id":"b"}}"#,
                r#"{"MODEL","messages":[{"role":"user","content":"x"}],"tools":[{"name":"f","name":"g"}]}"#,
                r#"{"MODEL","messages":[{"role":"user","content":"x"}],"tool_choice":{"type":"any","type":"none"}}"#,
                r#"{"MODEL","messages":[{"role":"user","content":"x"}],"output_config":{"effort":"low","effort":"high"}}"#,
                r#"{"MODEL","messages":[{"role":"user","content":"x"}],"cache":{"ttl":1,"ttl":2}}"#,
            ],
        ),
        (
            RESPONSES,
            &[
                r#"{"input":"x","MODEL","MODEL"}"#,
                r#"{"MODEL","input":[{"role":"user","content":"x","content":"y"}]}"#,
                r#"{"MODEL","input":[{"role":"user","content":[{"type":"input_text","text":"x","text":"y"}]}]}"#,
                r#"{"MODEL","input":"x","reasoning":{"effort":"low","effort":"high"}}"#,
                r#"{"MODEL","input":"x","text":{"format":{"type":"text","type":"json_object"}}}"#,
                r#"{"MODEL","input":"x","tools":[{"type":"function","name":"f","name":"g"}]}"#,
                r#"{"MODEL","input":"x","cache":{"ttl":1,"ttl":2}}"#,
            ],
        ),
        (
            "/api/chat",
            &[
                r#"{"messages":[{"role":"user","content":"x"}],"MODEL","MODEL"}"#,
                r#"{"MODEL","messages":[{"role":"user","content":"x","role":"system"}]}"#,
                r#"{"MODEL","messages":[{"role":"user","content":"x"}],"options":{"seed":1,"seed":2}}"#,
                r#"{"MODEL","messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","name":"g","arguments":{}}}]}]}"#,
                r#"{"MODEL","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","name":"g"}}]}"#,
                r#"{"MODEL","messages":[{"role":"user","content":"x"}],"cache":{"ttl":1,"ttl":2}}"#,
                r#"{"message":"x","message":"y"}"#,
            ],
        ),
        (
            &sent,
            &[
                r#"{"content":"x","content":"y"}"#,
                r#"{"content":"x","params":{"seed":1,"seed":2}}"#,
                r#"{"content":"x","cache":{"ttl":1,"ttl":2}}"#,
            ],
        ),
        ("/v1/embeddings", &[r#"{"model":"all-minilm-l6-v2","input":"x","input":"y"}"#]),
        (
            "/api/cache/explain",
            &[r#"{"prompt":"x","prompt":"y"}"#, r#"{"prompt":"x","cache":{"mode":"on","mode":"off"}}"#],
        ),
    ];
    for (path, bodies) in twice {
        for body in *bodies {
            let reply = server.http().send(Method::POST, path, body.replace(r#""MODEL""#, r#""model":"mock""#)).await;
            let sentence = sentence(&reply);
            let is_named = sentence.contains("duplicate") || sentence.contains("`stream_options`");
            assert!(is_named, "{path}: {body}: {sentence}");
        }
    }
    assert_eq!(server.upstream_calls(), 0);
    server.stop().await;
}
