//! OpenAI's Responses API at our door: plain and streamed, tools, images, errors; one cache with chat completions; a call
//! that ends with its caller.

use loadtest::provider::answer::answer_to;
use loadtest::provider::{Behaviour, Fault};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Dialect, Reply, Server, asking};

const PATH: &str = "/v1/responses";

const DIALECT: Dialect = Dialect {
    path: PATH,
    wish,
    streaming,
    telling: "output_text.delta",
    text: |reply| text(&response(reply)),
    said: |reply| {
        let response = response(reply);
        let items = response["output"].as_array().unwrap().iter();
        let items = items.map(|item| json!([item["type"], item["content"], item["status"]]));
        json!([items.collect::<Vec<_>>(), response["usage"]])
    },
    assert_refused: |reply, status, code, what| {
        let json = reply.json();
        assert_eq!((reply.status.as_u16(), &json["error"]["code"]), (status, &json!(code)), "{what}: {json}");
        assert!(json["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {json}");
    },
    assert_broken: |reply, what| {
        let events = reply.named_events();
        let (name, data) = events.last().unwrap();
        assert_eq!((name.as_str(), &data["response"]["status"]), ("response.failed", &json!("failed")), "{what}");
        assert!(data["response"]["error"]["message"].is_string(), "{what}: {data}");
    },
};

fn wish(prompt: &str) -> Value {
    json!({"model": "mock", "input": prompt})
}

fn streaming(mut body: Value) -> Value {
    body["stream"] = true.into();
    body
}

/// The whole response, of a reply of whichever kind; a stream's events must have added up to it.
fn response(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    if !reply.header("content-type").starts_with("text/event-stream") {
        return reply.json();
    }
    let events = reply.named_events();
    let mut items: Vec<Value> = Vec::new();
    let mut texts: Vec<String> = Vec::new();
    for (number, (name, data)) in events.iter().enumerate() {
        assert_eq!((&data["type"], &data["sequence_number"]), (&json!(name), &json!(number)));
        let place = usize::try_from(data["output_index"].as_u64().unwrap_or_default()).unwrap();
        match name.as_str() {
            "response.output_item.added" => {
                assert_eq!(place, items.len());
                items.push(Value::Null);
                texts.push(String::new());
            }
            "response.output_text.delta"
            | "response.reasoning_text.delta"
            | "response.function_call_arguments.delta" => {
                texts[place].push_str(data["delta"].as_str().unwrap());
            }
            "response.output_text.done" | "response.reasoning_text.done" => assert_eq!(data["text"], texts[place]),
            "response.function_call_arguments.done" => assert_eq!(data["arguments"], texts[place]),
            "response.output_item.done" => items[place] = data["item"].clone(),
            _ => {}
        }
    }
    assert_eq!((events[0].0.as_str(), events[1].0.as_str()), ("response.created", "response.in_progress"));
    let last = &events.last().unwrap().1;
    assert_eq!(last["response"]["output"], json!(items));
    last["response"].clone()
}

fn text(response: &Value) -> String {
    let items = response["output"].as_array().unwrap().iter();
    items.filter_map(|item| item["content"][0]["text"].as_str().filter(|_| item["type"] == "message")).collect()
}

#[tokio::test]
async fn a_question_is_answered_whole_and_streamed() {
    let server = Server::start().await;
    let body = |prompt: &str| json!({"model": "mock", "input": prompt, "store": true, "metadata": {"k": "v"}});
    for (prompt, reply) in DIALECT.both_ways(&server.http(), body).await {
        let response = response(&reply);
        assert_eq!((text(&response), &response["status"]), (answer_to(&prompt), &json!("completed")));
        assert_eq!((&response["object"], &response["model"]), (&json!("response"), &json!("mock")));
        assert_eq!((&response["store"], &response["metadata"]), (&json!(false), &json!({"k": "v"})));
        let usage = &response["usage"];
        assert_eq!(
            (&usage["input_tokens"], &usage["output_tokens"], &usage["total_tokens"]),
            (&json!(4), &json!(20), &json!(24))
        );
        assert_eq!(reply.header("x-ish-cache"), "MISS");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_cache_is_shared_with_chat_completions() {
    let server = Server::start().await;
    let mut older = asking("Which question came first?");
    older["messages"].as_array_mut().unwrap().insert(0, json!({"role": "system", "content": "Be brief."}));
    let first = server.http().chat(&older).await;
    let newer = json!({"model": "mock", "instructions": "Be brief.", "input": "Which question came first?"});
    for body in [newer.clone(), streaming(newer)] {
        let reply = server.http().post(PATH, &body).await;
        assert_eq!(reply.header("x-ish-cache"), "HIT", "{reply:?}");
        let response = response(&reply);
        assert_eq!((text(&response), &response["usage"]["total_tokens"]), (first.text(), &json!(0)));
        assert_eq!(response["ish"]["cache"]["saved_usage"]["completion_tokens"], 20);
    }
    assert_eq!(server.upstream_calls(), 1);
    server.stop().await;
}

#[tokio::test]
async fn tools_make_the_round_trip() {
    let server = Server::start().await;
    server.provider.set_behaviour(Behaviour { tool_calls: 2, reasoning_tokens: 2, ..Behaviour::default() });
    let body = |prompt: &str| {
        json!({"model": "mock", "input": [{"role": "user", "content": prompt}], "tool_choice": "required", "tools": [
            {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": false},
            {"type": "function", "name": "count", "parameters": {"type": "object"}}]})
    };
    for (prompt, reply) in DIALECT.both_ways(&server.http(), body).await {
        let output = response(&reply)["output"].as_array().unwrap().clone();
        let kinds: Vec<&str> = output.iter().map(|item| item["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["reasoning", "function_call", "function_call"]);
        assert!(!output[0]["content"][0]["text"].as_str().unwrap().is_empty());
        let arguments: Value = serde_json::from_str(output[2]["arguments"].as_str().unwrap()).unwrap();
        assert_eq!(
            (&output[1]["name"], &output[2]["name"], &arguments["number"]),
            (&json!("look"), &json!("count"), &json!(1))
        );

        let mut answered = body(&prompt);
        let input = answered["input"].as_array_mut().unwrap();
        input.extend(output.clone());
        input.push(json!({"type": "function_call_output", "call_id": output[2]["call_id"], "output": "seven"}));
        input.push(json!({"type": "function_call_output", "call_id": output[1]["call_id"], "output": "red"}));
        let reply = server.http().post(PATH, &answered).await;
        assert_eq!(response(&reply)["status"], "completed");
        let sent = server.upstream_bodies().pop().unwrap();
        assert_eq!(sent["messages"].as_array().unwrap().len(), 4, "the assistant's items are one message");
        let (assistant, result) = (&sent["messages"][1], &sent["messages"][2]);
        assert_eq!((&assistant["tool_calls"][1]["id"], &result["content"]), (&output[2]["call_id"], &json!("seven")));
        assert_eq!(assistant["reasoning_content"], output[0]["content"][0]["text"]);
    }
    server.stop().await;
}

#[tokio::test]
async fn an_image_arrives() {
    let server = Server::start().await;
    let body = json!({"model": "mock", "input": [{"role": "user", "content": [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}]}]});
    assert_eq!(server.http().post(PATH, &body).await.status, 200);
    let picture =
        json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}});
    let content = json!([{"type": "text", "text": "What is this?"}, picture]);
    assert_eq!(server.upstream_bodies()[0]["messages"][0]["content"], content);
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_cut_or_filtered_is_incomplete() {
    let server = Server::start().await;
    for (fault, reason) in [(Fault::Length, "max_output_tokens"), (Fault::ContentFilter, "content_filter")] {
        server.provider.set_behaviour(Behaviour::with_fault(fault));
        for (_, reply) in DIALECT.both_ways(&server.http(), wish).await {
            let response = response(&reply);
            assert_eq!(
                (&response["status"], &response["incomplete_details"]["reason"]),
                (&json!("incomplete"), &json!(reason))
            );
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn errors_have_openais_form() {
    let server = Server::start().await;
    for (body, status, param) in [
        (json!({"model": "mock", "input": "x", "previous_response_id": "resp_1"}), 400, "previous_response_id"),
        (json!({"model": "mock", "input": "x", "background": true}), 400, "background"),
        (json!({"model": "mock", "input": "x", "tools": [{"type": "web_search"}]}), 400, "tools[0].type"),
        (json!({"model": "mock", "input": 7}), 400, "input"),
        (json!({"model": "nobody/knows", "input": "x"}), 404, "model"),
    ] {
        let reply = server.http().post(PATH, &body).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["error"]["param"]), (status, &json!(param)), "{reply:?}");
        assert_eq!(reply.header("x-should-retry"), "false");
    }
    server.provider.set_behaviour(Behaviour::with_fault(Fault::RateLimit { retry_after_seconds: 7 }));
    let reply = server.http().post(PATH, &streaming(wish("May I?"))).await;
    assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (429, "7"));
    server.provider.set_behaviour(Behaviour::with_fault(Fault::ErrorEvent { after: 5 }));
    let reply = server.http().post(PATH, &streaming(wish("Will it break?"))).await;
    let events = reply.named_events();
    let (name, data) = events.last().unwrap();
    assert_eq!((name.as_str(), &data["response"]["status"]), ("response.failed", &json!("failed")));
    assert!(data["response"]["error"]["message"].is_string());
    let again = server.http().post(PATH, &wish("Will it break?")).await;
    assert_ne!(again.header("x-ish-cache"), "HIT", "a broken answer is not kept");
    server.stop().await;
}

#[tokio::test]
async fn every_fault_is_told_in_openais_words() {
    DIALECT.tells_every_fault().await;
}

#[tokio::test]
async fn the_call_ends_with_its_caller() {
    DIALECT.ends_with_its_caller().await;
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
