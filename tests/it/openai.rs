//! OpenAI's dialect as a client sees it: what passes through untouched, what is forgiven, how errors look, what the
//! cache may do and how it says so, and who may ask.

use http::Method;
use loadtest::provider::answer::answer_to;
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Reply, Server, asking, soon};

/// A request with tools that the provider may call.
fn with_tools(prompt: &str) -> Value {
    let mut body = asking(prompt);
    body["tools"] = json!([
        {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}},
        {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}},
    ]);
    body
}

fn with_cache(prompt: &str, cache: Value) -> Value {
    let mut body = asking(prompt);
    body["cache"] = cache;
    body
}

/// The flat header, or what went wrong.
fn word(reply: &Reply) -> String {
    if reply.status == 200 { reply.header("x-ish-cache").to_owned() } else { reply.json().to_string() }
}

/// An error in OpenAI's form.
fn assert_openai_error(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/json");
    let error = &reply.json()["error"];
    assert_eq!(error["code"], code, "{error}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
    assert!(error["type"].is_string() && error.get("param").is_some(), "{error}");
    assert!(!reply.header("x-request-id").is_empty());
}

#[tokio::test]
async fn a_plain_answer_passes_through_byte_for_byte() {
    let server = Server::start().await;
    let body = r#"{ "model":"mock", "messages":[{"role":"user","content":"What is ore?"}], "weird": {"b":1.50,"a":[]}, "temperature":0.70 }"#;
    let reply = server.http().send(Method::POST, "/v1/chat/completions", body).await;
    assert_eq!(server.provider.log()[0].body, body, "the request's bytes");
    assert_eq!(reply.text(), answer_to("What is ore?"));
    assert_eq!(reply.json()["id"], "chatcmpl-mock-1", "the provider's own reply");
    assert_eq!(reply.json()["echo"]["weird"], json!({"b": 1.5, "a": []}));
    assert_eq!(reply.json()["usage"]["completion_tokens"], 20);
    assert_eq!(server.provider.log()[0].authorization(), Some("Bearer sk-upstream"));
    server.stop().await;
}

#[tokio::test]
async fn a_stream_passes_through_with_usage_only_where_it_was_asked_for() {
    let server = Server::start().await;
    let plain = server.http().stream(&asking("What is slate?")).await.whole().await;
    assert_eq!(plain.header("content-type"), "text/event-stream; charset=utf-8");
    assert_eq!(plain.text(), answer_to("What is slate?"));
    assert_eq!(plain.events().last().unwrap(), "[DONE]");
    assert!(plain.chunks().iter().all(|chunk| chunk["usage"].is_null()), "nobody asked for usage");
    let mut counted = asking("What is marble?");
    counted["stream_options"] = json!({"include_usage": true});
    let counted = server.http().stream(&counted).await.whole().await;
    let last = counted.chunks().pop().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(20)));
    // The count is asked for upstream either way: the cache keeps it.
    assert!(server.upstream_bodies().iter().all(|body| body["stream_options"]["include_usage"] == true));
    server.stop().await;
}

#[tokio::test]
async fn tools_pass_through_plain_and_streamed() {
    let server = Server::start().await;
    let whole = server.http().chat(&with_tools("Look the tides up. [[tool_calls=2]]")).await;
    let calls = whole.json()["choices"][0]["message"]["tool_calls"].clone();
    assert_eq!((&calls[0]["function"]["name"], &calls[1]["function"]["name"]), (&json!("look_up"), &json!("add")));
    assert_eq!(whole.json()["choices"][0]["finish_reason"], "tool_calls");
    let streamed = server.http().stream(&with_tools("Look the winds up. [[tool_calls=2]]")).await.whole().await;
    let mut arguments = [String::new(), String::new()];
    for chunk in streamed.chunks() {
        for call in chunk["choices"][0]["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let place = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
            arguments[place].push_str(call["function"]["arguments"].as_str().unwrap_or_default());
        }
    }
    for (number, arguments) in arguments.iter().enumerate() {
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        assert_eq!(arguments["number"], number);
    }
    // A turn with a tool's result goes up as it came.
    let mut turn = with_tools("Look the tides up. [[tool_calls=1]]");
    turn["messages"] = json!([
        {"role": "user", "content": "Look the tides up."},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "high at noon"},
    ]);
    assert_eq!(server.http().chat(&turn).await.status, 200);
    assert_eq!(server.upstream_bodies().last().unwrap()["messages"], turn["messages"]);
    server.stop().await;
}

#[tokio::test]
async fn a_cached_answer_with_tool_calls_is_replayed_whole_and_streamed() {
    let server = Server::start().await;
    let body = with_tools("Look the stars up. [[tool_calls=2]]");
    let made = server.http().chat(&body).await;
    let whole = server.http().chat(&body).await;
    assert_eq!((word(&made), word(&whole)), ("MISS".to_owned(), "HIT".to_owned()));
    assert_eq!(whole.json()["choices"][0]["message"]["tool_calls"], made.json()["choices"][0]["message"]["tool_calls"]);
    let streamed = server.http().stream(&body).await.whole().await;
    assert_eq!(word(&streamed), "HIT");
    let chunks = streamed.chunks();
    let calls = &chunks[0]["choices"][0]["delta"]["tool_calls"];
    assert_eq!((&calls[0]["index"], &calls[1]["index"]), (&json!(0), &json!(1)), "clients merge fragments by index");
    assert_eq!(calls[1]["function"], made.json()["choices"][0]["message"]["tool_calls"][1]["function"]);
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(server.upstream_calls(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_model_may_be_named_with_its_provider() {
    let server = Server::start().await;
    let mut body = asking("What is flint?");
    body["model"] = "openai/any-name:of/theirs".into();
    assert_eq!(server.http().chat(&body).await.status, 200);
    assert_eq!(server.upstream_bodies()[0]["model"], "any-name:of/theirs");
    body["model"] = "demo/demo".into();
    assert!(server.http().chat(&body).await.text().contains("built into ish"));
    for unknown in ["no-such-model", "nowhere/gpt", "openai/", "/", ""] {
        body["model"] = unknown.into();
        let reply = server.http().chat(&body).await;
        let (status, code) = if unknown.is_empty() { (400, "invalid_request_error") } else { (404, "model_not_found") };
        assert_openai_error(&reply, status, code);
        assert_eq!(reply.json()["error"]["param"], "model");
    }
    assert_eq!(server.upstream_calls(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_request_without_a_model_gets_the_default_one() {
    let server = Server::start().await;
    let reply = server.http().chat(&json!({"messages": [{"role": "user", "content": "What is clay?"}]})).await;
    assert_eq!(reply.text(), answer_to("What is clay?"));
    assert_eq!(server.upstream_bodies()[0]["model"], "mock");
    server.stop().await;
}

#[tokio::test]
async fn the_model_list_names_what_can_be_asked() {
    let server = Server::start().await;
    let listed = server.http().get("/v1/models").await.json();
    let ids: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(
        (&listed["object"], ids.as_slice()),
        (&json!("list"), ["mock", "mock-alt", "demo", "all-minilm-l6-v2"].as_slice())
    );
    let one = server.http().get("/v1/models/openai/mock").await.json();
    assert_eq!(
        (&one["id"], &one["owned_by"], &one["object"]),
        (&json!("openai/mock"), &json!("openai"), &json!("model"))
    );
    assert_openai_error(&server.http().get("/v1/models/unknown").await, 404, "model_not_found");
    server.stop().await;
}

#[tokio::test]
async fn paths_that_clients_get_wrong_are_forgiven() {
    let server = Server::start().await;
    for path in ["/chat/completions", "/v1//chat/completions", "//v1/chat/completions/", "/v1/chat/completions?x=1"] {
        let reply = server.http().post(path, &asking("What is chalk?")).await;
        assert_eq!(reply.text(), answer_to("What is chalk?"), "{path}");
    }
    for path in ["/models", "//models/", "/v1/models/"] {
        assert_eq!(server.http().get(path).await.json()["object"], "list", "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn errors_have_the_dialects_own_form() {
    let server = Server::start().await;
    let http = server.http();
    assert_openai_error(&http.get("/v1/nowhere").await, 404, "not_found");
    assert_openai_error(&http.get("/v1/chat/completions").await, 405, "method_not_allowed");
    assert_openai_error(&http.get("/chat/completions").await, 405, "method_not_allowed");
    assert_openai_error(&http.delete("/v1/models").await, 405, "method_not_allowed");
    assert_openai_error(&http.chat(&json!({"model": "mock"})).await, 400, "invalid_request_error");
    for (reply, status) in [(http.get("/nowhere/at/all").await, 404), (http.delete("/api/chat").await, 405)] {
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (status, "application/problem+json"));
        assert_eq!(reply.json()["status"], status);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_request_carries_one_identifier_all_the_way() {
    let server = Server::start().await;
    let named = server.http().with("x-request-id", "client-7").chat(&asking("What is felt?")).await;
    assert_eq!(named.header("x-request-id"), "client-7");
    assert!(named.header("x-process-time").parse::<f64>().is_ok());
    let odd = server.http().with("x-request-id", "spaces are odd").get("/livez").await;
    assert_eq!(odd.header("x-request-id").len(), 32, "an identifier that could break a log line is replaced");
    server.stop().await;
}

#[tokio::test]
async fn headers_say_what_the_cache_did() {
    let server = Server::start().await;
    let http = server.http();
    let miss = http.chat(&asking("How is glass made in Venice?")).await;
    assert_eq!(word(&miss), "MISS");
    assert!(miss.header("cache-status").starts_with("ish; fwd=miss; key="), "{}", miss.header("cache-status"));
    let hit = http.chat(&asking("How is glass made in Venice?")).await;
    assert_eq!((word(&hit), hit.header("x-ish-cache-tier")), ("HIT".to_owned(), "l1"));
    assert!(hit.header("cache-status").starts_with("ish; hit; ttl="), "{}", hit.header("cache-status"));
    assert!(hit.header("cache-status").ends_with("detail=exact-l1"));
    assert_eq!(hit.header("x-ish-cache-key"), miss.header("x-ish-cache-key"));
    assert_eq!((hit.header("age"), hit.header("cache-control")), ("0", "no-store"));
    let normalized = http.chat(&asking("  how IS  glass made in Venice ")).await;
    let expected = if word(&normalized) == "NORMALIZED_HIT" {
        normalized
    } else {
        http.chat(&asking("how is glass made in Venice?")).await
    };
    assert_eq!(word(&expected), "NORMALIZED_HIT");
    let off = http.chat(&with_cache("How is glass made in Venice?", json!({"mode": "off"}))).await;
    assert_eq!((word(&off), off.header("x-ish-cache-key")), ("BYPASS".to_owned(), ""));
    assert!(off.header("cache-status").starts_with("ish; fwd=bypass"));
    server.stop().await;
}

#[tokio::test]
async fn a_hit_costs_nothing_and_says_what_it_saved() {
    let server = Server::start().await;
    let body = asking("How is paper made?");
    let made = server.http().chat(&body).await.json();
    let hit = server.http().chat(&body).await.json();
    assert_eq!(hit["usage"], json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}));
    assert_eq!(hit["ish"]["cache"]["saved_usage"], made["usage"]);
    assert_eq!(hit["ish"]["cache"]["status"], "hit");
    assert_ne!(hit["id"], made["id"], "each reply has an id of its own");
    assert_eq!(hit["choices"][0]["message"]["content"], made["choices"][0]["message"]["content"]);
    let mut counted = body.clone();
    counted["stream_options"] = json!({"include_usage": true});
    let streamed = server.http().stream(&counted).await.whole().await;
    let chunks = streamed.chunks();
    assert_eq!(streamed.text(), answer_to("How is paper made?"));
    assert_eq!(chunks[0]["ish"]["cache"]["saved_usage"], made["usage"]);
    assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 0);
    assert_eq!(streamed.events().last().unwrap(), "[DONE]");
    assert_eq!(server.upstream_calls(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_streamed_answer_serves_a_plain_request_and_the_other_way_round() {
    let server = Server::start().await;
    let http = server.http();
    let streamed = http.stream(&asking("How is rope made? [[reasoning=2]]")).await.whole().await;
    let whole = http.chat(&asking("How is rope made? [[reasoning=2]]")).await;
    assert_eq!((word(&whole), whole.text()), ("HIT".to_owned(), streamed.text()));
    assert!(whole.json()["choices"][0]["message"]["reasoning_content"].as_str().is_some_and(|text| !text.is_empty()));
    let whole = http.chat(&asking("How is soap made?")).await;
    let streamed = http.stream(&asking("How is soap made?")).await.whole().await;
    assert_eq!((word(&streamed), streamed.text()), ("HIT".to_owned(), whole.text()));
    server.stop().await;
}

#[tokio::test]
async fn a_paced_replay_comes_word_by_word() {
    let server = Server::start().await;
    let body = with_cache("How is cheese made?", json!({"replay": "paced"}));
    server.http().chat(&body).await;
    let replayed = server.http().stream(&body).await.whole().await;
    assert_eq!((word(&replayed), replayed.text()), ("HIT".to_owned(), answer_to("How is cheese made?")));
    assert!(replayed.chunks().len() > 20, "{}", replayed.chunks().len());
    server.stop().await;
}

/// What a mode reads and writes, by the body and by the headers that stand for it.
#[tokio::test]
async fn the_cache_does_what_the_caller_says() {
    let server = Server::start().await;
    let http = server.http();
    let modes = [
        ("off", "silk", ["BYPASS", "MISS"]),
        ("read_only", "wool", ["MISS", "MISS"]),
        ("write_only", "linen", ["MISS", "HIT"]),
        ("refresh", "cotton", ["MISS", "HIT"]),
        ("on", "hemp", ["MISS", "HIT"]),
    ];
    for (mode, thing, [first, second]) in modes {
        let prompt = format!("Where does {thing} come from?");
        assert_eq!(word(&http.chat(&with_cache(&prompt, json!({"mode": mode}))).await), first, "{mode}");
        assert_eq!(word(&http.chat(&asking(&prompt)).await), second, "{mode}, then on");
        let by_header = http.with("x-ish-cache", mode).chat(&asking(&prompt)).await;
        let expected = match mode {
            "off" => "BYPASS",
            "write_only" | "refresh" => "MISS",
            _ => "HIT",
        };
        assert_eq!(word(&by_header), expected, "x-ish-cache: {mode} over a stored answer");
    }
    server.stop().await;
}

#[tokio::test]
async fn refresh_replaces_the_answer() {
    let server = Server::start().await;
    let prompt = "Where does ink come from? [[vary]]";
    let first = server.http().chat(&asking(prompt)).await.text();
    let second = server.http().with("cache-control", "no-cache").chat(&asking(prompt)).await.text();
    let third = server.http().chat(&asking(prompt)).await;
    assert_ne!(first, second);
    assert_eq!((word(&third), third.text()), ("HIT".to_owned(), second));
    server.stop().await;
}

#[tokio::test]
async fn only_never_asks_upstream() {
    let server = Server::start().await;
    let prompt = "Where does salt come from?";
    for ask in [
        server.http().chat(&with_cache(prompt, json!({"mode": "only"}))).await,
        server.http().with("cache-control", "only-if-cached").chat(&asking(prompt)).await,
        server.http().with("x-ish-cache", "only").stream(&asking(prompt)).await.whole().await,
    ] {
        assert_openai_error(&ask, 504, "not_cached");
    }
    assert_eq!(server.upstream_calls(), 0);
    server.http().chat(&asking(prompt)).await;
    assert_eq!(word(&server.http().with("x-ish-cache", "only").chat(&asking(prompt)).await), "HIT");
    server.stop().await;
}

#[tokio::test]
async fn http_and_litellm_spellings_are_understood() {
    let server = Server::start().await;
    let http = server.http();
    http.chat(&asking("Who writes almanacs?")).await;
    let ask = |cache: Value| with_cache("Who writes almanacs?", cache);
    assert_eq!(word(&http.chat(&ask(json!({"no-cache": true}))).await), "MISS");
    assert_eq!(word(&http.chat(&ask(json!({"no-cache": true, "no-store": true}))).await), "BYPASS");
    assert_eq!(
        word(&http.with("cache-control", "no-cache, no-store").chat(&asking("Who writes almanacs?")).await),
        "BYPASS"
    );
    assert_eq!(word(&http.chat(&ask(json!({"s-maxage": 60}))).await), "HIT");
    let fresh = http.with("cache-control", "max-age=0").chat(&asking("Who writes almanacs?")).await;
    assert_eq!(word(&fresh), "HIT", "it was made within this second");
    server.stop().await;
}

#[tokio::test]
async fn ttl_and_namespace_bind_an_entry() {
    let server = Server::start().await;
    let http = server.http();
    let prompt = "Who keeps bees?";
    let roomy = http.with("x-ish-cache-namespace", "room").with("x-ish-cache-ttl", "60").chat(&asking(prompt)).await;
    assert_eq!(word(&roomy), "MISS");
    assert_eq!(word(&http.chat(&asking(prompt)).await), "MISS", "another room");
    let hit = http.chat(&with_cache(prompt, json!({"namespace": "room"}))).await;
    assert_eq!(word(&hit), "HIT");
    let ttl = hit.json()["ish"]["cache"]["ttl_s"].as_u64().unwrap();
    assert!((50..=60).contains(&ttl), "{ttl}");
    // An answer that may not be reused at all is stored for a moment that is over at once.
    let prompt = "Who keeps geese?";
    http.chat(&with_cache(prompt, json!({"ttl": 0}))).await;
    let only = http.with("x-ish-cache", "only");
    soon("the entry's end", async { while only.chat(&asking(prompt)).await.status == 200 {} }).await;
    assert_eq!(word(&http.chat(&asking(prompt)).await), "MISS");
    server.stop().await;
}

#[tokio::test]
async fn faulty_cache_wishes_name_the_field() {
    let server = Server::start().await;
    for (cache, param) in [
        (json!({"mode": "maybe"}), "cache.mode"),
        (json!({"ttl": -1}), "cache.ttl"),
        (json!({"threshold": 1.5}), "cache.threshold"),
        (json!({"surprise": 1}), "cache.surprise"),
        (json!("on"), "cache"),
    ] {
        let reply = server.http().chat(&with_cache("Who?", cache)).await;
        assert_openai_error(&reply, 400, "invalid_request_error");
        assert_eq!(reply.json()["error"]["param"], param);
    }
    for (name, value) in [("x-ish-cache", "maybe"), ("x-ish-cache-ttl", "soon"), ("x-ish-cache-ttl", "NaN")] {
        let reply = server.http().with(name, value).chat(&asking("Who?")).await;
        assert_openai_error(&reply, 400, "invalid_request_error");
        assert_eq!(reply.json()["error"]["param"], name);
    }
    assert_eq!(server.upstream_calls(), 0);
    server.stop().await;
}

#[tokio::test]
async fn several_answers_are_cached_but_never_shared_in_flight() {
    let server = Server::start().await;
    let mut body = asking("Invent two names.");
    body["n"] = 2.into();
    let made = server.http().chat(&body).await;
    assert_eq!(made.json()["choices"].as_array().unwrap().len(), 2);
    let again = server.http().chat(&body).await;
    if word(&again) == "HIT" {
        assert_eq!(again.json()["choices"][1]["message"], made.json()["choices"][1]["message"]);
    }
    server.stop().await;
}

#[tokio::test]
async fn embeddings_come_in_each_form() {
    let server = Server::start().await;
    let ask = |input: Value| json!({"model": "all-minilm-l6-v2", "input": input});
    let post = async |body: &Value| server.http().post("/v1/embeddings", body).await;
    let one = post(&ask(json!("a stormy sea"))).await.json();
    assert_eq!(one["data"][0]["embedding"].as_array().unwrap().len(), 384);
    assert!(one["usage"]["prompt_tokens"].as_u64() > Some(2));
    let many = post(&ask(json!(["a stormy sea", "a calm lake"]))).await.json();
    assert_eq!((many["data"].as_array().unwrap().len(), &many["data"][1]["index"]), (2, &json!(1)));
    assert_eq!(many["data"][0]["embedding"], one["data"][0]["embedding"]);
    // "hello world" in cl100k.
    let tokens = post(&ask(json!([15339, 1917]))).await.json();
    let text = post(&ask(json!("hello world"))).await.json();
    assert_eq!(tokens["data"][0]["embedding"], text["data"][0]["embedding"]);
    assert_eq!(post(&ask(json!([[15339, 1917], [15339]]))).await.json()["data"].as_array().unwrap().len(), 2);
    let mut base64 = ask(json!("hello world"));
    base64["encoding_format"] = "base64".into();
    let coded = post(&base64).await.json();
    let bytes = decode_base64(coded["data"][0]["embedding"].as_str().unwrap());
    let values: Vec<f32> = bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert!((f64::from(values[0]) - text["data"][0]["embedding"][0].as_f64().unwrap()).abs() < 1e-6);
    for (body, status, code) in [
        (json!({"model": "other", "input": "x"}), 404, "model_not_found"),
        (ask(json!("")), 400, "invalid_request_error"),
        (ask(json!([])), 400, "invalid_request_error"),
        (ask(json!([4_000_000_000_u64])), 400, "invalid_request_error"),
        (ask(json!({"text": "x"})), 400, "invalid_request_error"),
    ] {
        assert_openai_error(&post(&body).await, status, code);
    }
    server.stop().await;
}

fn decode_base64(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[tokio::test]
async fn local_mode_answers_this_machine_only() {
    let server = Server::start().await;
    let own = format!("http://{}", server.address);
    let refused: [&[(&str, &str)]; 7] = [
        &[("host", "evil.example")],
        &[("host", "localhost.evil.example:80")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("x-forwarded-for", "10.1.2.3")],
        &[("via", "1.1 proxy")],
        &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
    ];
    for headers in refused {
        let http = headers.iter().fold(server.http(), |http, (name, value)| http.with(name, value));
        assert_openai_error(&http.chat(&asking("Who?")).await, 403, "foreign_page");
        assert_eq!(http.get("/api/sessions").await.header("content-type"), "application/problem+json");
    }
    let allowed: [&[(&str, &str)]; 4] = [
        &[("origin", &own), ("sec-fetch-site", "same-origin")],
        &[("host", "localhost:1")],
        &[("authorization", "Bearer anything at all")],
        &[("x-api-key", "whatever")],
    ];
    for headers in allowed {
        let http = headers.iter().fold(server.http(), |http, (name, value)| http.with(name, value));
        assert_eq!(http.get("/v1/models").await.status, 200, "{headers:?}");
    }
    assert_eq!(server.upstream_calls(), 0);
    server.stop().await;
}

#[tokio::test]
async fn an_allowed_origin_gets_its_cors_headers() {
    let server =
        Server::start_with(|config| config.server.allowed_origins = vec!["https://ui.example".to_owned()]).await;
    let http = server.http().with("origin", "https://ui.example");
    let names = "authorization,x-stainless-os,anthropic-version,x-ish-cache-threshold";
    let asking_leave = http.with("access-control-request-headers", names);
    let preflight = asking_leave.send(Method::OPTIONS, "/v1/chat/completions", "").await;
    assert_eq!(preflight.header("access-control-allow-headers"), names);
    assert_eq!(
        (preflight.status.as_u16(), preflight.header("access-control-allow-origin")),
        (204, "https://ui.example")
    );
    let reply = http.with("sec-fetch-site", "cross-site").chat(&asking("What is a loom?")).await;
    assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin")), (200, "https://ui.example"));
    assert!(reply.header("access-control-expose-headers").contains("x-ish-cache"));
    server.stop().await;
}

#[tokio::test]
async fn with_keys_nobody_asks_without_one() {
    let server = Server::start_with_keys().await;
    let key = server.new_key("acme").await;
    for http in [server.http(), server.http().with_key("ish_wrong"), server.http().with_key("")] {
        assert_openai_error(&http.chat(&asking("Who?")).await, 401, "invalid_api_key");
        assert_openai_error(&http.post("/chat/completions", &asking("Who?")).await, 401, "invalid_api_key");
        assert_eq!(http.get("/api/sessions").await.status, 401);
        assert_eq!(http.get("/livez").await.status, 200);
        assert_eq!(http.get("/").await.status, 200);
    }
    assert_eq!(server.http().with("x-api-key", &key).chat(&asking("What is tar?")).await.status, 200);
    let user = server.http().with_key(&key);
    assert_eq!(user.get("/api/admin/keys").await.status, 403);
    assert_eq!(server.provider.log()[0].authorization(), Some("Bearer sk-upstream"), "a caller's key stays here");
    // A revoked key is refused at once by the server that revoked it.
    let admin = server.http().with_key(ADMIN_KEY);
    let listed = admin.get("/api/admin/keys").await.json();
    let id = listed["data"].as_array().unwrap().iter().find(|key| key["tenant"] == "acme").unwrap()["id"].clone();
    assert_eq!(admin.delete(&format!("/api/admin/keys/{}", id.as_str().unwrap())).await.status, 204);
    assert_openai_error(&user.chat(&asking("What is tar?")).await, 401, "invalid_api_key");
    assert!(
        !server
            .http()
            .with_key(ADMIN_KEY)
            .get("/api/admin/keys")
            .await
            .body
            .windows(20)
            .any(|part| part == &key.as_bytes()[..20])
    );
    server.stop().await;
}

#[tokio::test]
async fn two_tenants_see_nothing_of_each_other() {
    let server = Server::start_with_keys().await;
    let ours = server.http().with_key(&server.new_admin_key("ours").await);
    let theirs = server.http().with_key(&server.new_admin_key("theirs").await);
    let prompt = "Which tenant invented the compass?";
    let made = ours.chat(&asking(prompt)).await;
    assert_eq!(word(&made), "MISS");
    assert_eq!(word(&theirs.chat(&asking(prompt)).await), "MISS", "no answer of another tenant");
    assert_eq!(word(&ours.chat(&asking(prompt)).await), "HIT");
    assert_eq!(server.upstream_calls(), 2);
    let key = made.header("x-ish-cache-key");
    assert_eq!(ours.get(&format!("/api/cache/entries/{key}")).await.status, 200);
    assert_eq!(theirs.get(&format!("/api/cache/entries/{key}")).await.status, 404);
    assert_eq!(theirs.delete(&format!("/api/cache/entries/{key}")).await.status, 404);
    let wrong = theirs.post("/api/cache/feedback", &json!({"key": key, "verdict": "wrong"})).await;
    assert_eq!(wrong.json()["evicted"], false);
    assert_eq!(theirs.delete("/api/cache/entries?all=true").await.json()["evicted"], 1, "its own");
    assert_eq!(word(&ours.chat(&asking(prompt)).await), "HIT", "ours is still there");
    let session = ours.post("/api/sessions", &json!({"title": "ours"})).await.json()["id"].as_str().unwrap().to_owned();
    for path in [format!("/api/sessions/{session}"), format!("/api/sessions/{session}/messages")] {
        assert_eq!((ours.get(&path).await.status.as_u16(), theirs.get(&path).await.status.as_u16()), (200, 404));
    }
    assert_eq!(theirs.delete(&format!("/api/sessions/{session}")).await.status, 404);
    let posted = theirs.post(&format!("/api/sessions/{session}/messages"), &json!({"content": "hello"})).await;
    assert_eq!(posted.status, 404);
    assert!(theirs.get("/api/sessions").await.json()["data"].as_array().unwrap().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_answer_is_evicted_and_not_matched_again() {
    let server = Server::start().await;
    let body = asking("Which river runs through Basel?");
    let key = server.http().chat(&body).await.header("x-ish-cache-key").to_owned();
    let told = server.http().post("/api/cache/feedback", &json!({"key": key, "verdict": "wrong"})).await;
    assert_eq!(told.json()["evicted"], true, "{told:?}");
    assert_eq!(word(&server.http().chat(&body).await), "MISS");
    server.stop().await;
}

#[tokio::test]
async fn an_entry_outlives_a_restart() {
    let server = Server::start().await;
    let body = asking("Which lake lies between Geneva and Lausanne?");
    let text = server.http().chat(&body).await.text();
    let server = server.restart().await;
    let hit = server.http().chat(&body).await;
    assert_eq!((word(&hit), hit.header("x-ish-cache-tier"), hit.text()), ("HIT".to_owned(), "l3", text));
    assert_eq!(server.upstream_calls(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_file_in_the_operators_words_belongs_to_the_question() {
    let server = Server::start().await;
    let about = |file: &str| {
        json!({"model": "mock", "messages": [
            {"role": "system", "content": [
                {"type": "text", "text": "Answer from the attached file."},
                {"type": "file", "file": {"filename": "contract.pdf", "file_data": format!("data:application/pdf;base64,{file}")}},
            ]},
            {"role": "user", "content": "What is the notice period in the contract?"},
        ]})
    };
    assert_eq!(server.http().chat(&about("AAAA")).await.header("x-ish-cache"), "MISS");
    assert_eq!(server.http().chat(&about("AAAA")).await.header("x-ish-cache"), "HIT");
    assert_eq!(server.http().chat(&about("BBBB")).await.header("x-ish-cache"), "MISS");
    server.stop().await;
}

#[tokio::test]
async fn where_the_operator_speaks_is_part_of_the_question() {
    let server = Server::start().await;
    let (rules, first, answer) = (
        json!({"role": "system", "content": "Answer in one word."}),
        json!({"role": "user", "content": "Name a river in France, please."}),
        json!({"role": "assistant", "content": "The Loire."}),
    );
    let last = json!({"role": "user", "content": "What is the capital city of Norway called?"});
    let before = json!({"model": "mock", "messages": [rules, first, answer, last]});
    let between = json!({"model": "mock", "messages": [first, answer, rules, last]});
    assert_eq!(server.http().chat(&before).await.header("x-ish-cache"), "MISS");
    assert_eq!(server.http().chat(&between).await.header("x-ish-cache"), "MISS");
    server.stop().await;
}

#[tokio::test]
async fn a_schema_in_another_order_is_another_question() {
    let server = Server::start().await;
    let ordered = |properties: &str| {
        format!(
            r#"{{"model":"mock","messages":[{{"role":"user","content":"Is this review kind?"}}],"response_format":
            {{"type":"json_schema","json_schema":{{"name":"v","schema":{{"type":"object","properties":{{{properties}}}}}}}}}}}"#
        )
    };
    let (reason, verdict) = (r#""reason":{"type":"string"}"#, r#""verdict":{"type":"boolean"}"#);
    let (one, other) = (ordered(&format!("{reason},{verdict}")), ordered(&format!("{verdict},{reason}")));
    for (body, cache) in [(&one, "MISS"), (&one, "HIT"), (&other, "MISS")] {
        let reply = server.http().send(Method::POST, "/v1/chat/completions", body.clone()).await;
        assert_eq!(reply.header("x-ish-cache"), cache);
    }
    server.stop().await;
}
