//! The provider does on the wire what its directives promise.
//!
//! Seen through a plain TCP socket, so that nothing a client library mends stays unseen.

mod wire;

use loadtest::provider::answer::{answer_to, answer_to_conversation};
use loadtest::provider::{Behaviour, Entry, Fault, Outcome, Provider, ProviderOptions, Route, RunningProvider};
use serde_json::{Value, json};

use wire::{Reply, ask, ask_body, chat, open, refused, stream};

async fn provider() -> RunningProvider {
    Provider::start(ProviderOptions::default()).await.expect("a free port")
}

fn content(reply: &Reply) -> String {
    reply.events().iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

fn finish_reason(reply: &Reply) -> Option<String> {
    let events = reply.events();
    events.iter().find_map(|event| event["choices"][0]["finish_reason"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn json_and_stream_say_the_same() {
    let provider = provider().await;
    let whole = ask(&provider, chat("hello")).await;
    let streamed = ask(&provider, stream("hello")).await;
    assert_eq!(whole.status, 200);
    assert_eq!(whole.json()["choices"][0]["message"]["content"], answer_to("hello"));
    assert_eq!(whole.json()["usage"]["completion_tokens"], 20);
    assert_eq!(content(&streamed), answer_to("hello"));
    assert_eq!(streamed.header("content-type"), Some("text/event-stream"));
    assert_eq!(streamed.header("transfer-encoding"), Some("chunked"));
    assert!(streamed.body().ends_with(b"data: [DONE]\n\n"));
    assert!(streamed.ended_properly());
    let ids: Vec<Value> = streamed.events().iter().map(|event| event["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == "chatcmpl-mock-2"), "{ids:?}");
}

#[tokio::test]
async fn usage_comes_when_asked_for() {
    let provider = provider().await;
    let without = ask(&provider, stream("hello")).await;
    assert!(without.events().iter().all(|event| event.get("usage").is_none()));
    let mut request = stream("hello");
    request["stream_options"] = json!({ "include_usage": true });
    let with = ask(&provider, request).await;
    let last = with.events().pop().expect("events");
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], json!({ "prompt_tokens": 1, "completion_tokens": 20, "total_tokens": 21 }));
    assert_eq!(with.events()[0]["usage"], Value::Null);
}

#[tokio::test]
async fn parameters_are_echoed_and_limits_kept() {
    let provider = provider().await;
    let mut request = chat("hello");
    request["temperature"] = json!(0.5);
    request["brand_new"] = json!({ "x": [1] });
    request["max_tokens"] = json!(3);
    let reply = ask(&provider, request.clone()).await.json();
    assert_eq!(reply["echo"], json!({ "temperature": 0.5, "brand_new": { "x": [1] }, "max_tokens": 3 }));
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
    assert_eq!(reply["choices"][0]["message"]["content"], answer_to_conversation([("user", "hello")], 3));
    request["stream"] = json!(true);
    assert_eq!(ask(&provider, request).await.events()[0]["echo"]["brand_new"], json!({ "x": [1] }));
}

#[tokio::test]
async fn several_choices_logprobs_and_reasoning() {
    let provider = provider().await;
    let mut request = chat("hello [[reasoning=2 tokens=4]]");
    request["n"] = json!(2);
    request["logprobs"] = json!(true);
    let reply = ask(&provider, request.clone()).await.json();
    let choices = reply["choices"].as_array().expect("choices");
    assert_eq!(choices.len(), 2);
    assert_ne!(choices[0]["message"]["content"], choices[1]["message"]["content"]);
    assert_eq!(choices[1]["logprobs"]["content"].as_array().map(Vec::len), Some(4));
    assert!(choices[0]["message"]["reasoning_content"].is_string());
    request["stream"] = json!(true);
    let events = ask(&provider, request).await.events();
    let of_choice = |index| events.iter().filter(move |event| event["choices"][0]["index"] == index);
    assert_eq!(of_choice(1).filter(|event| event["choices"][0]["logprobs"].is_object()).count(), 4);
    assert_eq!(of_choice(0).filter(|event| event["choices"][0]["delta"]["reasoning_content"].is_string()).count(), 2);
}

#[tokio::test]
async fn tool_calls_whole_and_in_fragments() {
    let provider = provider().await;
    let mut request = chat("weather [[tool_calls=2]]");
    request["tools"] = json!([{ "type": "function", "function": { "name": "lookup", "parameters": {} } }]);
    let whole = ask(&provider, request.clone()).await.json();
    let calls = whole["choices"][0]["message"]["tool_calls"].clone();
    assert_eq!(calls.as_array().map(Vec::len), Some(2));
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    request["stream"] = json!(true);
    let events = ask(&provider, request.clone()).await.events();
    let fragments: Vec<&str> = events
        .iter()
        .map(|event| &event["choices"][0]["delta"]["tool_calls"][0])
        .filter(|call| call["index"] == 1)
        .filter_map(|call| call["function"]["arguments"].as_str())
        .collect();
    assert!(fragments.len() > 3);
    assert_eq!(fragments.concat(), calls[1]["function"]["arguments"].as_str().expect("arguments"));
    // Once the tool has answered, the provider speaks.
    let messages = request["messages"].as_array_mut().expect("messages");
    messages.push(json!({ "role": "tool", "tool_call_id": "call_mock_1_0", "content": "sunny" }));
    request["stream"] = json!(false);
    assert!(ask(&provider, request).await.json()["choices"][0]["message"]["content"].is_string());
}

#[tokio::test]
async fn statuses_carry_openai_errors() {
    let provider = provider().await;
    let limited = ask(&provider, chat("[[fault=rate_limit retry_after=7]]")).await;
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("7")));
    assert_eq!(limited.json()["error"]["code"], "rate_limit_exceeded");
    let spent = ask(&provider, chat("[[fault=quota]]")).await;
    assert_eq!((spent.status, spent.header("retry-after")), (429, None));
    assert_eq!(spent.json()["error"]["code"], "insufficient_quota");
    for status in [500, 502, 503, 529] {
        let reply = ask(&provider, stream(&format!("[[fault={status}]]"))).await;
        assert_eq!(reply.status, status);
        assert!(reply.json()["error"]["message"].is_string());
    }
    assert_eq!(ask(&provider, chat("[[fault=typo]]")).await.status, 400);
    assert_eq!(ask_body(&provider, "POST", "/v1/chat/completions", b"not json").await.status, 400);
    assert_eq!(ask_body(&provider, "GET", "/v1/nothing", b"").await.status, 404);
}

#[tokio::test]
async fn no_reply_at_all() {
    let provider = provider().await;
    for fault in ["close", "reset"] {
        assert!(refused(&provider, &chat(&format!("[[fault={fault}]]"))).await, "{fault}");
    }
    let silent = open(&provider, &chat("[[fault=no_reply]]")).await;
    provider.wait_for_chats(3).await;
    drop(silent);
    let log = provider.wait_until_idle().await;
    let outcomes: Vec<Outcome> = log.iter().map(|entry| entry.outcome).collect();
    assert_eq!(outcomes, [Outcome::Broken, Outcome::Broken, Outcome::ClientGone]);
}

#[tokio::test]
async fn streams_that_break_off() {
    let provider = provider().await;
    let cut = ask(&provider, stream("[[fault=cut after=3]]")).await;
    assert!(!cut.ended_properly() && !cut.is_done() && !cut.body().ends_with(b"\n"));
    let early = ask(&provider, stream("[[fault=early_end after=3]]")).await;
    assert!(early.ended_properly() && !early.is_done());
    let error = ask(&provider, stream("[[fault=error_event after=3]]")).await;
    assert_eq!(error.events().pop().expect("events")["error"]["code"], "overloaded");
    assert!(error.ended_properly() && !error.is_done());
    for reply in [&cut, &early, &error] {
        assert_eq!(content(reply).split(' ').count(), 3);
        assert_eq!(finish_reason(reply), None);
    }
    let unfinished = ask(&provider, stream("[[fault=no_done]]")).await;
    assert_eq!(finish_reason(&unfinished).as_deref(), Some("stop"));
    assert!(unfinished.ended_properly() && !unfinished.is_done());
    let log = provider.wait_until_idle().await;
    assert_eq!(log[0].outcome, Outcome::Broken);
    assert_eq!(log.iter().map(|entry| entry.tokens_sent).collect::<Vec<_>>(), [3, 3, 3, 20]);
}

#[tokio::test]
async fn a_json_reply_is_cut_below_its_announced_length() {
    let provider = provider().await;
    let cut = ask(&provider, chat("[[fault=cut]]")).await;
    let announced: usize = cut.header("content-length").and_then(|length| length.parse().ok()).expect("a length");
    assert_eq!(cut.body().len(), announced / 2);
    let early = ask(&provider, chat("[[fault=early_end]]")).await;
    assert!(early.ended_properly() && serde_json::from_slice::<Value>(&early.body()).is_err());
}

#[tokio::test]
async fn odd_contents() {
    let provider = provider().await;
    for (fault, reason) in [("length", "length"), ("content_filter", "content_filter")] {
        let reply = ask(&provider, stream(&format!("[[fault={fault}]]"))).await;
        assert_eq!(finish_reason(&reply).as_deref(), Some(reason));
        assert!(reply.is_done());
    }
    let invalid = ask(&provider, stream("[[fault=invalid_utf8 after=2]]")).await;
    assert!(std::str::from_utf8(&invalid.body()).is_err() && invalid.is_done());
    assert!(std::str::from_utf8(&ask(&provider, chat("[[fault=invalid_utf8]]")).await.body()).is_err());
    let huge = ask(&provider, stream("[[fault=huge bytes=8388608]]")).await;
    assert_eq!(huge.events()[1]["choices"][0]["delta"]["content"].as_str().map(str::len), Some(8_388_608));
    let empty = ask(&provider, stream("[[fault=empty_choices]]")).await;
    assert!(empty.is_done() && empty.events().iter().all(|event| event["choices"] == json!([])));
    assert_eq!(ask(&provider, chat("[[fault=empty_choices]]")).await.json()["choices"], json!([]));
}

#[tokio::test]
async fn wrong_forms() {
    let provider = provider().await;
    let ignored = ask(&provider, stream("[[fault=ignore_stream]]")).await;
    assert_eq!(ignored.header("content-type"), Some("application/json"));
    assert_eq!(ignored.json()["object"], "chat.completion");
    let html = ask(&provider, chat("[[fault=content_type]]")).await;
    assert_eq!((html.status, html.header("content-type")), (200, Some("text/html")));
    let garbage = ask(&provider, stream("[[fault=garbage]]")).await;
    assert_eq!((garbage.status, garbage.header("content-type")), (200, Some("text/event-stream")));
    assert!(!garbage.is_done() && garbage.events().is_empty());
}

#[tokio::test]
async fn lawful_ways_to_write_a_stream() {
    let provider = provider().await;
    let expected = |quirks: &str| answer_to(&format!("hi [[wire={quirks}]]"));
    for quirks in ["crlf", "comments", "bytewise", "batched", "nospace", "crlf,comments,bytewise,nospace"] {
        let reply = ask(&provider, stream(&format!("hi [[wire={quirks}]]"))).await;
        assert_eq!(content(&reply), expected(quirks), "{quirks}");
        assert!(reply.is_done(), "{quirks}");
    }
    let bytewise = ask(&provider, stream("hi [[wire=bytewise]]")).await;
    assert!(bytewise.chunks().iter().all(|chunk| chunk.len() == 1));
    let batched = ask(&provider, stream("hi [[wire=batched]]")).await;
    assert_eq!(batched.chunks().len(), 1);
    let comments = ask(&provider, stream("hi [[wire=crlf,comments]]")).await;
    assert!(comments.body().starts_with(b": keep-alive\r\n\r\ndata: {"));
}

#[tokio::test]
async fn a_slow_loris_sends_single_bytes() {
    let provider = provider().await;
    let reply = ask(&provider, stream("[[tokens=1 fault=slow_loris every=1ms]]")).await;
    assert!(reply.chunks().iter().all(|chunk| chunk.len() == 1));
    assert!(reply.is_done());
}

#[tokio::test]
async fn a_held_stream_goes_on_when_released() {
    let provider = provider().await;
    provider.hold_after(4);
    let mut held = open(&provider, &stream("hello")).await;
    let whole = open(&provider, &chat("hello")).await;
    provider.wait_until_held(2).await;
    held.read_until(b"\"content\":\"A").await;
    assert_eq!(tokens_of(&provider.log()), [4, 0]);
    provider.release();
    assert_eq!(content(&held.finish().await), answer_to("hello"));
    assert_eq!(whole.finish().await.status, 200);
    assert_eq!(ask(&provider, chat("again")).await.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let provider = provider().await;
    let hanging = open(&provider, &stream("[[fault=hang after=3]]")).await;
    let waiting = open(&provider, &chat("[[hold=0]]")).await;
    provider.wait_for("three tokens", |log| tokens_of(log).contains(&3)).await;
    provider.wait_until_held(1).await;
    drop((hanging, waiting));
    let log = provider.wait_until_idle().await;
    assert!(log.iter().all(|entry| entry.outcome == Outcome::ClientGone));
    assert_eq!(provider.counts().client_gone, 2);
}

fn tokens_of(log: &[Entry]) -> Vec<usize> {
    log.iter().map(|entry| entry.tokens_sent).collect()
}

#[tokio::test]
async fn planned_faults_then_business_as_usual() {
    let provider = provider().await;
    provider.fail_next(2, Fault::Status(503));
    provider.next_requests(1, &Behaviour { tokens: 2, ..Behaviour::default() });
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(ask(&provider, chat("hello")).await.status);
    }
    assert_eq!(statuses, [503, 503, 200, 200]);
    assert_eq!(tokens_of(&provider.log()), [0, 0, 2, 20]);
}

#[tokio::test]
async fn the_next_request_can_be_planned_over_http() {
    let provider = provider().await;
    let planned = ask_body(&provider, "POST", "/_next", b"[[fault=503]]").await;
    assert_eq!(planned.status, 200);
    let misspelt = ask_body(&provider, "POST", "/_next", b"[[fault=typo]]").await;
    assert_eq!(misspelt.status, 400);
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(ask(&provider, chat("hello")).await.status);
    }
    assert_eq!(statuses, [503, 200]);
}

#[tokio::test]
async fn a_held_stream_can_be_released_over_http() {
    let provider = provider().await;
    let mut held = open(&provider, &stream("[[hold=2]]")).await;
    held.read_until(b"\"content\":\"A").await;
    let released = ask_body(&provider, "POST", "/_release", b"1").await;
    assert_eq!(released.status, 200);
    assert!(held.finish().await.is_done());
    assert_eq!(ask_body(&provider, "POST", "/_release", b"all").await.status, 400);
}

#[tokio::test]
async fn an_answer_varies_only_when_asked_to() {
    let provider = provider().await;
    let text = |reply: Reply| reply.json()["choices"][0]["message"]["content"].clone();
    assert_eq!(text(ask(&provider, chat("hello")).await), text(ask(&provider, chat("hello")).await));
    provider.change_behaviour(|behaviour| behaviour.vary = true);
    assert_ne!(text(ask(&provider, chat("hello")).await), text(ask(&provider, chat("hello")).await));
}

#[tokio::test]
async fn what_a_dialect_does_not_define_is_refused_only_when_asked_to() {
    let provider = provider().await;
    let mut odd = chat("hello");
    odd["keep_alive"] = json!("5m");
    assert_eq!(ask(&provider, odd.clone()).await.status, 200);
    provider.change_behaviour(|behaviour| behaviour.strict = true);
    assert_eq!(ask(&provider, chat("hello")).await.status, 200);
    let mut marked = chat("hello");
    marked["messages"][0]["content"] = json!([{"type": "text", "text": "x", "cache_control": {}}]);
    for (body, named) in [(odd, "keep_alive"), (marked, "part.cache_control")] {
        let refused = ask(&provider, body).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["message"]),
            (400, &json!(format!("unknown member {named}")))
        );
    }
}

#[tokio::test]
async fn the_log_and_the_lists_can_be_read_over_http() {
    let provider = provider().await;
    ask(&provider, chat("hello")).await;
    let models = ask_body(&provider, "GET", "/v1/models", b"").await.json();
    assert_eq!(models["data"][0]["id"], "mock");
    let embeddings = ask_body(&provider, "POST", "/v1/embeddings", br#"{"model":"e","input":"hi"}"#).await.json();
    assert_eq!(embeddings["data"][0]["embedding"].as_array().map(Vec::len), Some(384));
    let log = provider.wait_until_idle().await;
    assert_eq!(
        log.iter().map(|entry| entry.route).collect::<Vec<_>>(),
        [Route::Chat, Route::Models, Route::Embeddings]
    );
    assert_eq!(log[0].authorization(), Some("Bearer test"));
    assert_eq!(log[0].json()["messages"][0]["content"], "hello");
    let counts = ask_body(&provider, "GET", "/_counts", b"").await.json();
    assert_eq!((&counts["chat"], &counts["completed"]), (&json!(1), &json!(3)));
    let written = ask_body(&provider, "GET", "/_log", b"").await.json();
    assert_eq!((&written[0]["outcome"], &written[0]["tokens_sent"]), (&json!("completed"), &json!(20)));
}

#[tokio::test]
async fn a_stopped_provider_refuses_and_can_come_back() {
    let provider = provider().await;
    let address = provider.address();
    provider.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    let options = ProviderOptions { listen: address, ..ProviderOptions::default() };
    let back = Provider::start(options).await.expect("the same port again");
    assert_eq!(ask(&back, chat("hello")).await.status, 200);
}
