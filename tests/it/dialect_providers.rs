//! Providers of other dialects, behind OpenAI's: what is asked reaches them in their words, what they answer comes back
//! in OpenAI's, whole and streamed; what they lack is refused by name; and they go wrong in every way without a broken
//! answer being kept.

use std::time::Duration;

use ish::config::{Config, ProviderKind};
use loadtest::provider::answer::{answer_to, answer_to_conversation};
use loadtest::provider::{Behaviour, Entry, Fault, Outcome, Provider, ProviderOptions, Route};
use serde_json::{Value, json};

use crate::harness::{Process, Reply, Server, asking};
use crate::provider_faults::{CASES, Case, LOST, Told, ask_twice, impatient};

const KINDS: &[ProviderKind] = &[ProviderKind::Anthropic, ProviderKind::Gemini, ProviderKind::Ollama];

/// A server whose one provider speaks another dialect.
async fn speaking(kind: ProviderKind) -> Server {
    Server::start_with(|config| speak(config, kind)).await
}

fn speak(config: &mut Config, kind: ProviderKind) {
    impatient(config);
    // An enormous event takes a while to be written where all tests run at once.
    config.upstream.first_token_timeout = Duration::from_secs(2);
    config.upstream.idle_timeout = Duration::from_secs(2);
    config.upstream.total_timeout = Duration::from_secs(5);
    let provider = &mut config.providers[0];
    provider.kind = kind;
    "there".clone_into(&mut provider.name);
    provider.base_url.set_path("");
    provider.models.clear();
    config.chat.default_model = Some("mock".to_owned());
}

/// The last chat request that reached the provider.
fn last_chat(server: &Server) -> Entry {
    server.provider.log().into_iter().rfind(|entry| entry.route == Route::Chat).unwrap()
}

/// Asks whole and for a stream, under prompts that differ, and hands both replies on.
async fn both_ways(server: &Server, body: impl Fn(&str) -> Value) -> [(String, Reply); 2] {
    let (whole, streamed) = ("Ask whole, please tell.".to_owned(), "Ask streamed, please tell.".to_owned());
    let first = server.http().chat(&body(&whole)).await;
    let mut request = body(&streamed);
    request["stream_options"] = json!({"include_usage": true});
    let second = server.http().stream(&request).await.whole().await;
    [(whole, first), (streamed, second)]
}

/// The assistant's message of a reply, of chunks added up as a client does it.
fn message(reply: &Reply) -> Value {
    if !reply.header("content-type").starts_with("text/event-stream") {
        return reply.json()["choices"][0]["message"].clone();
    }
    let mut message = json!({"role": "assistant"});
    let mut calls: Vec<Value> = Vec::new();
    for chunk in reply.chunks() {
        let Some(delta) = chunk["choices"][0]["delta"].as_object().cloned() else { continue };
        for (name, value) in delta {
            match (name.as_str(), value) {
                ("tool_calls", Value::Array(fragments)) => {
                    for fragment in &fragments {
                        add(&mut calls, fragment);
                    }
                }
                ("thinking_blocks", Value::Array(blocks)) => {
                    let mut known = message["thinking_blocks"].as_array().cloned().unwrap_or_default();
                    known.extend(blocks);
                    message["thinking_blocks"] = known.into();
                }
                ("role", _) => {}
                (name, Value::String(text)) => {
                    message[name] = format!("{}{text}", message[name].as_str().unwrap_or_default()).into();
                }
                (name, value) => panic!("a delta with {name} = {value}"),
            }
        }
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    message
}

fn add(calls: &mut Vec<Value>, fragment: &Value) {
    let index = usize::try_from(fragment["index"].as_u64().unwrap()).unwrap();
    if index == calls.len() {
        let mut call = fragment.clone();
        call.as_object_mut().unwrap().remove("index");
        calls.push(call);
        return;
    }
    let known = &mut calls[index]["function"]["arguments"];
    *known = format!("{}{}", known.as_str().unwrap(), fragment["function"]["arguments"].as_str().unwrap()).into();
}

fn finish_reason(reply: &Reply) -> Value {
    if !reply.header("content-type").starts_with("text/event-stream") {
        return reply.json()["choices"][0]["finish_reason"].clone();
    }
    let reasons = reply.chunks().into_iter().map(|chunk| chunk["choices"][0]["finish_reason"].clone());
    reasons.rev().find(|reason| !reason.is_null()).unwrap_or_default()
}

fn usage(reply: &Reply) -> Value {
    if !reply.header("content-type").starts_with("text/event-stream") {
        return reply.json()["usage"].clone();
    }
    reply.chunks().last().unwrap()["usage"].clone()
}

/// Text, usage and reason come back; a repeat is answered from the cache.
#[tokio::test]
async fn a_question_is_answered_and_kept() {
    for kind in KINDS {
        let server = speaking(*kind).await;
        for (prompt, reply) in both_ways(&server, asking).await {
            assert_eq!((reply.status.as_u16(), reply.text()), (200, answer_to(&prompt)), "{kind:?}");
            assert_eq!(finish_reason(&reply), "stop", "{kind:?}");
            let usage = usage(&reply);
            assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(4), &json!(20)), "{kind:?}");
            let again = server.http().chat(&asking(&prompt)).await;
            assert_eq!((again.header("x-ish-cache"), again.text()), ("HIT", answer_to(&prompt)), "{kind:?}");
        }
        let (_, answer) = server.socket().await.ask_whole("a", "Ask by socket, please tell.").await;
        assert_eq!(answer.text, answer_to("Ask by socket, please tell."), "{kind:?}");
        assert_eq!(server.upstream_calls(), 3, "{kind:?}");
        server.stop().await;
    }
}

/// What the provider's own prompt cache read is part of the input, and said.
#[tokio::test]
async fn a_prompt_cache_is_counted_as_openai_does() {
    let server = speaking(ProviderKind::Anthropic).await;
    let long = |prompt: &str| asking(&format!("{prompt} one two three four five six seven eight"));
    for (_, reply) in both_ways(&server, long).await {
        let usage = usage(&reply);
        assert_eq!((&usage["prompt_tokens"], &usage["total_tokens"]), (&json!(12), &json!(32)), "{usage}");
        assert_eq!(usage["prompt_tokens_details"], json!({"cached_tokens": 1, "cache_write_tokens": 0}));
    }
    server.stop().await;
}

/// However the bytes of a stream are cut and framed, its text comes whole.
#[tokio::test]
async fn a_stream_may_be_written_in_any_lawful_way() {
    for kind in KINDS {
        let server = speaking(*kind).await;
        for wire in ["crlf", "comments,nospace", "bytewise", "batched", "crlf,comments,bytewise"] {
            let prompt = format!("Write as you like, [[wire={wire}]] please.");
            let reply = server.http().stream(&asking(&prompt)).await.whole().await;
            assert_eq!((reply.text(), finish_reason(&reply)), (answer_to(&prompt), json!("stop")), "{kind:?}: {wire}");
        }
        server.stop().await;
    }
}

/// Who leaves ends the call, whole or streamed.
#[tokio::test]
async fn the_call_ends_with_its_last_listener() {
    for kind in KINDS {
        let server = speaking(*kind).await;
        server.provider.hold_after(3);
        let mut streamed = server.http().stream(&asking("Who leaves a stream?")).await;
        streamed.first_text().await;
        let whole = server.http().begin_chat(&asking("Who leaves a whole answer?"));
        server.provider.wait_until_held(2).await;
        drop((streamed, whole));
        let gone = |log: &[Entry]| log.iter().filter(|entry| entry.outcome == Outcome::ClientGone).count();
        server.provider.wait_for("both calls given up", |log| gone(log) == 2).await;
        server.stop().await;
    }
}

/// The key goes in the provider's own header and nowhere else.
#[tokio::test]
async fn the_key_stands_in_the_header_of_the_dialect() {
    for kind in KINDS {
        let server = speaking(*kind).await;
        server.http().chat(&asking("Who is asking?")).await;
        server.http().get("/v1/models").await;
        for entry in server.provider.log() {
            let header = |name: &str| entry.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let (wanted, key) = match kind {
                ProviderKind::Anthropic => ("x-api-key", "sk-upstream"),
                ProviderKind::Gemini => ("x-goog-api-key", "sk-upstream"),
                ProviderKind::Ollama | ProviderKind::OpenAi => ("authorization", "Bearer sk-upstream"),
            };
            assert_eq!(header(wanted).as_deref(), Some(key), "{kind:?}");
            for other in ["authorization", "x-api-key", "x-goog-api-key"].iter().filter(|other| **other != wanted) {
                assert_eq!(header(other), None, "{kind:?}: {other}");
            }
            assert!(!entry.target.contains("sk-upstream"), "{kind:?}: {}", entry.target);
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn their_models_are_listed() {
    for kind in KINDS {
        let server = speaking(*kind).await;
        let listed = server.http().get("/v1/models").await.json();
        let names: Vec<&str> = listed["data"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|model| model["owned_by"] == "there")
            .map(|model| model["id"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["mock", "mock-alt", "mock-embedding"], "{kind:?}");
        let mut elsewhere = asking("Who is not in the list?");
        elsewhere["model"] = "there/unlisted:7b".into();
        let reply = server.http().chat(&elsewhere).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, answer_to("Who is not in the list?")), "{kind:?}");
        server.stop().await;
    }
}

/// System prompts, earlier turns and images arrive; each dialect's own words are held by the unit tests.
#[tokio::test]
async fn a_conversation_with_an_image_arrives() {
    for kind in KINDS {
        let server = speaking(*kind).await;
        let body = |prompt: &str| {
            json!({"model": "mock", "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "What is this?"},
                {"role": "assistant", "content": "A picture."},
                {"role": "user", "content": [
                    {"type": "text", "text": prompt},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]}]})
        };
        for (prompt, reply) in both_ways(&server, body).await {
            let turns =
                [("system", "Be brief."), ("user", "What is this?"), ("assistant", "A picture."), ("user", &prompt)];
            assert_eq!(reply.text(), answer_to_conversation(turns, 20), "{kind:?}: {reply:?}");
            assert!(last_chat(&server).json().to_string().contains("\"iVBORw0KGgo=\""), "{kind:?}");
        }
        server.stop().await;
    }
}

/// Two calls come, are answered by their ids, and the answer to that comes.
#[tokio::test]
async fn tools_make_the_round_trip() {
    for kind in KINDS {
        let server = speaking(*kind).await;
        server.provider.set_behaviour(Behaviour { tool_calls: 2, reasoning_tokens: 2, ..Behaviour::default() });
        let tools = json!([
            {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"query": {"type": "string"}}}}},
            {"type": "function", "function": {"name": "count"}}]);
        let body = |prompt: &str| {
            let mut body = asking(prompt);
            body["tools"] = tools.clone();
            body
        };
        for (prompt, reply) in both_ways(&server, body).await {
            assert_eq!(
                (reply.status.as_u16(), finish_reason(&reply)),
                (200, json!("tool_calls")),
                "{kind:?}: {reply:?}"
            );
            let message = message(&reply);
            assert!(!message["reasoning_content"].as_str().unwrap().is_empty(), "{kind:?}: {message}");
            let calls = message["tool_calls"].as_array().unwrap().clone();
            let names: Vec<&str> = calls.iter().map(|call| call["function"]["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["look", "count"], "{kind:?}");
            let ids: Vec<&str> = calls.iter().map(|call| call["id"].as_str().unwrap()).collect();
            assert!(!ids[0].is_empty() && ids[0] != ids[1], "{kind:?}: {ids:?}");
            let arguments: Vec<Value> = calls
                .iter()
                .map(|call| serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap())
                .collect();
            assert_eq!((&arguments[0]["number"], &arguments[1]["number"]), (&json!(0), &json!(1)), "{kind:?}");

            let mut answered = body(&prompt);
            let messages = answered["messages"].as_array_mut().unwrap();
            messages.push(message);
            // In the other order: it is the id that says which call is answered.
            messages.push(json!({"role": "tool", "tool_call_id": ids[1], "content": "seven"}));
            messages.push(json!({"role": "tool", "tool_call_id": ids[0], "content": "red"}));
            let reply = server.http().chat(&answered).await;
            assert_eq!((reply.status.as_u16(), finish_reason(&reply)), (200, json!("stop")), "{kind:?}: {reply:?}");
            assert!(!reply.text().is_empty(), "{kind:?}");
            check_results(*kind, &last_chat(&server).json(), &ids);
        }
        server.stop().await;
    }
}

/// What the provider is told about the calls and their results.
fn check_results(kind: ProviderKind, sent: &Value, ids: &[&str]) {
    match kind {
        ProviderKind::Anthropic => {
            let assistant = &sent["messages"][1]["content"];
            assert_eq!(
                assistant[0],
                json!({"type": "thinking", "thinking": assistant[0]["thinking"], "signature": "signed"})
            );
            assert_eq!((&assistant[1]["id"], &assistant[2]["id"]), (&json!(ids[0]), &json!(ids[1])));
            assert_eq!(assistant[1]["input"]["number"], 0);
            let results = &sent["messages"][2]["content"];
            assert_eq!(results[0]["tool_use_id"], ids[1]);
            assert_eq!(results[0]["content"], json!([{"type": "text", "text": "seven"}]));
            assert_eq!(results[1]["tool_use_id"], ids[0]);
        }
        ProviderKind::Gemini => {
            let calls = &sent["contents"][1]["parts"];
            assert_eq!(calls[0]["functionCall"]["id"], ids[0]);
            assert_eq!(
                (&calls[0]["thoughtSignature"], &calls[1]["thoughtSignature"]),
                (&json!("c2lnbmVk"), &Value::Null)
            );
            assert_eq!(calls[1]["functionCall"]["args"]["number"], 1);
            let results = &sent["contents"][2]["parts"];
            let seven = json!({"id": ids[1], "name": "count", "response": {"result": "seven"}});
            assert_eq!(
                (&results[0]["functionResponse"], &results[1]["functionResponse"]["name"]),
                (&seven, &json!("look"))
            );
        }
        ProviderKind::Ollama => {
            let calls = &sent["messages"][1]["tool_calls"];
            assert_eq!((&calls[0]["id"], &calls[1]["function"]["arguments"]["number"]), (&json!(ids[0]), &json!(1)));
            assert!(!sent["messages"][1]["thinking"].as_str().unwrap().is_empty());
            let seven = json!({"role": "tool", "content": "seven", "tool_name": "count", "tool_call_id": ids[1]});
            assert_eq!((&sent["messages"][2], &sent["messages"][3]["tool_name"]), (&seven, &json!("look")));
        }
        ProviderKind::OpenAi => panic!("it has its own tests"),
    }
}

#[tokio::test]
async fn a_cut_answer_and_a_filtered_one_say_so_and_are_not_kept() {
    for kind in KINDS {
        let server = speaking(*kind).await;
        // Ollama has no filter, and so no word for one.
        let reasons = [(Fault::Length, "length"), (Fault::ContentFilter, "content_filter")];
        for (fault, reason) in reasons.into_iter().take(if *kind == ProviderKind::Ollama { 1 } else { 2 }) {
            server.provider.change_behaviour(|behaviour| behaviour.fault = Some(fault));
            for (prompt, reply) in both_ways(&server, |prompt| asking(&format!("{prompt} {reason}"))).await {
                assert_eq!((reply.status.as_u16(), finish_reason(&reply)), (200, json!(reason)), "{kind:?}");
                let again = server.http().chat(&asking(&format!("{prompt} {reason}"))).await;
                assert_eq!(again.header("x-ish-cache"), "MISS", "{kind:?}");
            }
        }
        // A limit of the caller's own.
        server.provider.change_behaviour(|behaviour| behaviour.fault = None);
        let mut short = asking("How short may it be?");
        short["max_tokens"] = 3.into();
        let reply = server.http().chat(&short).await;
        assert_eq!((finish_reason(&reply), usage(&reply)["completion_tokens"].clone()), (json!("length"), json!(3)));
        server.stop().await;
    }
}

/// A refusal names the field and the provider, in OpenAI's form, before anything is sent.
#[tokio::test]
async fn what_a_provider_lacks_is_refused_by_name() {
    for kind in KINDS {
        let server = speaking(*kind).await;
        let mut body = asking("What is it that you lack?");
        body["logit_bias"] = json!({"50256": -100});
        for reply in [server.http().chat(&body).await, server.http().stream(&body).await.whole().await] {
            let error = reply.error();
            assert_eq!(reply.status, 400, "{kind:?}: {reply:?}");
            assert_eq!(
                (&error["param"], &error["code"], &error["type"]),
                (&json!("logit_bias"), &json!("unsupported_parameter"), &json!("invalid_request_error")),
                "{kind:?}"
            );
            assert!(error["message"].as_str().unwrap().contains("the provider `there`"), "{kind:?}: {error}");
            assert_eq!(reply.header("x-should-retry"), "false", "{kind:?}");
        }
        assert_eq!(server.upstream_calls(), 0, "{kind:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_wait_that_a_provider_asks_for_is_passed_on() {
    for kind in KINDS {
        let server = speaking(*kind).await;
        server.provider.fail_next(1, Fault::RateLimit { retry_after_seconds: 7 });
        let limited = server.http().chat(&asking("How many may ask?")).await;
        assert_eq!((limited.status.as_u16(), limited.header("retry-after")), (429, "7"), "{kind:?}");
        server.stop().await;
    }
}

/// What becomes of a fault that OpenAI's dialect tells otherwise.
fn told(kind: ProviderKind, case: &Case, stream: bool) -> Told {
    use Told::{Breaks, Kept, Status};
    const OVERLOADED: Told = Status(503, "upstream_overloaded");
    let usual = if stream { case.streamed } else { case.plain };
    match (case.name, usual) {
        // Before the first token nothing has been said, so that a failure has its own status.
        ("error event at once", Status(502, "overloaded")) if kind == ProviderKind::Ollama => LOST,
        ("error event", Breaks(_)) if kind == ProviderKind::Ollama => Breaks("upstream_error"),
        (_, Status(502, "server_error")) => LOST,
        (_, Status(502 | 503, "overloaded")) => OVERLOADED,
        ("error event", Breaks(_)) => Breaks("upstream_overloaded"),
        ("400" | "404" | "408" | "422", Status(status, _)) => Status(status, "upstream_rejected"),
        // Its last line is what says why the answer ended.
        ("no [DONE]", Kept) if kind == ProviderKind::Ollama && stream => Breaks("upstream_error"),
        ("content filter", _) if kind == ProviderKind::Ollama => Kept,
        ("no choices", _) if kind == ProviderKind::Anthropic && !stream => Told::Answer,
        // A word of OpenAI's that the others do not have.
        ("quota by type", _) => Status(429, "rate_limit_exceeded"),
        _ => usual,
    }
}

async fn every_fault(kind: ProviderKind, stream: bool) {
    let server = speaking(kind).await;
    for case in CASES {
        ask_twice(&server, case, told(kind, case, stream), stream).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn every_fault_of_anthropic_asked_plainly() {
    every_fault(ProviderKind::Anthropic, false).await;
}

#[tokio::test]
async fn every_fault_of_anthropic_asked_for_a_stream() {
    every_fault(ProviderKind::Anthropic, true).await;
}

#[tokio::test]
async fn every_fault_of_gemini_asked_plainly() {
    every_fault(ProviderKind::Gemini, false).await;
}

#[tokio::test]
async fn every_fault_of_gemini_asked_for_a_stream() {
    every_fault(ProviderKind::Gemini, true).await;
}

#[tokio::test]
async fn every_fault_of_ollama_asked_plainly() {
    every_fault(ProviderKind::Ollama, false).await;
}

#[tokio::test]
async fn every_fault_of_ollama_asked_for_a_stream() {
    every_fault(ProviderKind::Ollama, true).await;
}

/// The command line says of each provider whether it answers, and shows no key.
#[tokio::test]
async fn the_command_line_lists_the_providers() {
    let provider = Provider::start(ProviderOptions::default()).await.unwrap();
    let (root, base_url) = (provider.root_url(), provider.base_url());
    let host = provider.address().to_string();
    // A port that nothing listens on: bound once, and let go.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{free}");
    let said = Process::verb(
        &["providers", "--json"],
        &[
            ("OPENAI_BASE_URL", &base_url),
            ("OPENAI_API_KEY", "sk-hidden"),
            ("ISH_OPENAI_MODELS", "mock"),
            ("ANTHROPIC_BASE_URL", &root),
            ("GEMINI_API_KEY", "sk-hidden"),
            ("GEMINI_BASE_URL", &nobody),
            ("OLLAMA_HOST", &host),
        ],
    )
    .await
    .unwrap();
    let rows: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), &row["has_key"], &row["answers"], &row["models"]))
        .collect();
    let (yes, no, three, one) = (&json!(true), &json!(false), &json!(3), &json!(1));
    assert_eq!(
        told,
        [
            ("openai", yes, yes, three),
            ("anthropic", no, yes, three),
            ("gemini", yes, no, &Value::Null),
            ("ollama", no, yes, three),
            ("demo", no, yes, one),
        ]
    );
    assert_eq!(rows[2]["problem"], "the provider could not be reached");
    assert_eq!(rows[3]["base_url"], format!("http://{host}/"));
    assert!(!said.contains("sk-hidden"), "{said}");
}
