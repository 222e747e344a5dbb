//! The provider goes wrong in every way it knows, asked plainly, for a stream and over the socket. Each time: the
//! client is told in its own dialect, nothing that is not whole is ever reused, one ask is one upstream call, and no
//! handler panics (which [`Server::stop`] checks).

use std::time::Duration;

use ish::config::Config;
use loadtest::provider::Fault;
use loadtest::provider::answer::answer_to;
use serde_json::{Value, json};

use crate::harness::{Reply, Server, Socket, asking};

/// What a client is told.
#[derive(Debug, Clone, Copy)]
pub enum Told {
    /// The answer, whole; but it is not to be kept.
    Answer,
    /// The answer, whole, and kept.
    Kept,
    /// This status and code instead of an answer.
    Status(u16, &'static str),
    /// The answer begins, and breaks off with this code.
    Breaks(&'static str),
}

/// A fault with what becomes of it, asked plainly and for a stream.
pub struct Case {
    pub name: &'static str,
    pub fault: Fault,
    pub plain: Told,
    pub streamed: Told,
}

const fn case(name: &'static str, fault: Fault, plain: Told, streamed: Told) -> Case {
    Case { name, fault, plain, streamed }
}

use Told::{Answer, Breaks, Kept, Status};

pub const LOST: Told = Status(502, "upstream_error");
pub const LATE: Told = Status(504, "upstream_timeout");

/// Every fault of the provider.
pub const CASES: &[Case] = &[
    case("close", Fault::Close, LOST, LOST),
    case("reset", Fault::Reset, LOST, LOST),
    case("no reply", Fault::NoReply, LATE, LATE),
    case("hang at once", Fault::Hang { after: 0 }, LATE, LATE),
    case("hang in the middle", Fault::Hang { after: 5 }, LATE, Breaks("upstream_timeout")),
    case("cut at once", Fault::Cut { after: 0 }, LOST, LOST),
    case("cut in the middle", Fault::Cut { after: 5 }, LOST, Breaks("upstream_error")),
    case("early end", Fault::EarlyEnd { after: 5 }, LOST, Breaks("upstream_error")),
    case("error event at once", Fault::ErrorEvent { after: 0 }, Status(502, "server_error"), Status(502, "overloaded")),
    case("error event", Fault::ErrorEvent { after: 5 }, Status(502, "server_error"), Breaks("overloaded")),
    case("invalid UTF-8", Fault::InvalidUtf8 { after: 5 }, LOST, Breaks("upstream_error")),
    case("huge", Fault::Huge { bytes: 5 << 20 }, Kept, LOST),
    case("slow loris", Fault::SlowLoris { every: Duration::from_millis(300) }, LATE, LATE),
    case(
        "rate limit",
        Fault::RateLimit { retry_after_seconds: 7 },
        Status(429, "rate_limit_exceeded"),
        Status(429, "rate_limit_exceeded"),
    ),
    case("quota", Fault::InsufficientQuota, Status(429, "insufficient_quota"), Status(429, "insufficient_quota")),
    case("quota by type", Fault::QuotaByType, Status(429, "insufficient_quota"), Status(429, "insufficient_quota")),
    case("low credit", Fault::LowCredit, Status(429, "insufficient_quota"), Status(429, "insufficient_quota")),
    case("402", Fault::Status(402), Status(429, "insufficient_quota"), Status(429, "insufficient_quota")),
    case("408", Fault::Status(408), Status(408, "invalid_request"), Status(408, "invalid_request")),
    case("400", Fault::Status(400), Status(400, "invalid_request"), Status(400, "invalid_request")),
    case("401", Fault::Status(401), Status(502, "upstream_rejected"), Status(502, "upstream_rejected")),
    case("403", Fault::Status(403), Status(502, "upstream_rejected"), Status(502, "upstream_rejected")),
    case("404", Fault::Status(404), Status(404, "model_not_found"), Status(404, "model_not_found")),
    case("422", Fault::Status(422), Status(422, "invalid_request"), Status(422, "invalid_request")),
    case("500", Fault::Status(500), Status(502, "server_error"), Status(502, "server_error")),
    case("503", Fault::Status(503), Status(503, "overloaded"), Status(503, "overloaded")),
    case("529", Fault::Status(529), Status(503, "overloaded"), Status(503, "overloaded")),
    case("garbage", Fault::Garbage, LOST, LOST),
    case("content type", Fault::WrongContentType, LOST, LOST),
    case("no [DONE]", Fault::MissingDone, Kept, Kept),
    case("length", Fault::Length, Answer, Answer),
    case("content filter", Fault::ContentFilter, Answer, Answer),
    case("stream ignored", Fault::IgnoreStream, Kept, LOST),
    case("no choices", Fault::EmptyChoices, LOST, LOST),
];

/// Deadlines that a test can wait for, no retries (tests/it/routing.rs has them), and no matching by meaning: each prompt stands for itself.
pub fn impatient(config: &mut Config) {
    config.upstream.first_token_timeout = Duration::from_secs(1);
    config.upstream.idle_timeout = Duration::from_secs(1);
    config.upstream.total_timeout = Duration::from_secs(3);
    config.routing.max_retries = 0;
    // One fault after another comes from one provider: its breaker is another test's matter.
    config.routing.breaker_failures = std::num::NonZeroU32::MAX;
    config.cache.semantic = false;
}

fn check(case: &Case, told: Told, reply: &Reply, prompt: &str) {
    let name = case.name;
    match told {
        Answer | Kept => {
            assert_eq!(reply.status, 200, "{name}: {reply:?}");
            if !matches!(case.fault, Fault::EmptyChoices | Fault::Huge { .. }) {
                assert_eq!(reply.text(), answer_to(prompt), "{name}");
            }
            assert!(reply.error().is_null(), "{name}");
        }
        Status(status, code) => {
            assert_eq!(reply.status, status, "{name}: {reply:?}");
            assert_eq!(reply.json()["error"]["code"], code, "{name}");
            assert!(reply.json()["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        }
        Breaks(code) => {
            assert_eq!(reply.status, 200, "{name}: {reply:?}");
            let error = reply.error();
            assert_eq!((&error["code"], &error["partial"]), (&json!(code), &json!(true)), "{name}: {error}");
            assert!(answer_to(prompt).starts_with(&reply.text()), "{name}: what came was right");
            assert_ne!(reply.events().last().unwrap(), "[DONE]", "{name}: a broken answer does not end well");
        }
    }
}

/// Asks twice: what is not whole is asked for again.
pub async fn ask_twice(server: &Server, case: &Case, told: Told, stream: bool) {
    let before = server.upstream_calls();
    let prompt = format!("Tell the provider about {}, {}.", case.name, if stream { "streamed" } else { "whole" });
    let ask = async || {
        let http = server.http();
        if stream { http.stream(&asking(&prompt)).await.whole().await } else { http.chat(&asking(&prompt)).await }
    };
    server.provider.fail_next(1, case.fault);
    let reply = ask().await;
    check(case, told, &reply, &prompt);
    assert_eq!(server.upstream_calls(), before + 1, "{}: one ask is one upstream call", case.name);
    let kept = matches!(told, Kept);
    let again = ask().await;
    assert_eq!(again.status, 200, "{}", case.name);
    assert_eq!(again.header("x-ish-cache"), if kept { "HIT" } else { "MISS" }, "{}", case.name);
    assert_eq!(server.upstream_calls(), before + if kept { 1 } else { 2 }, "{}", case.name);
}

#[tokio::test]
async fn every_fault_asked_plainly() {
    let server = Server::start_with(impatient).await;
    for case in CASES {
        ask_twice(&server, case, case.plain, false).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn every_fault_asked_for_a_stream() {
    let server = Server::start_with(impatient).await;
    for case in CASES {
        ask_twice(&server, case, case.streamed, true).await;
    }
    server.stop().await;
}

/// Over the socket a fault is the stream's one terminal frame, and is stored with what came before it.
#[tokio::test]
async fn every_fault_over_the_socket() {
    let server = Server::start_with(impatient).await;
    let mut socket = server.socket().await;
    for case in CASES {
        let (name, before) = (case.name, server.upstream_calls());
        let prompt = format!("Tell the provider about {name}, by socket.");
        server.provider.fail_next(1, case.fault);
        let (ack, answer) = socket.ask_whole(&format!("first {name}"), &prompt).await;
        assert_eq!(server.upstream_calls(), before + 1, "{name}: one ask is one upstream call");
        let end = answer.end.clone().unwrap();
        match case.streamed {
            Answer | Kept => assert_eq!((&end["type"], &answer.text), (&json!("done"), &answer_to(&prompt)), "{name}"),
            Status(..) | Breaks(_) => {
                assert_eq!(end["type"], "error", "{name}: {end}");
                assert_eq!(end["partial"], !answer.text.is_empty(), "{name}: {end}");
                let lasting = match case.fault {
                    Fault::InsufficientQuota | Fault::QuotaByType | Fault::LowCredit => true,
                    Fault::Status(status) => (400..500).contains(&status) && status != 408,
                    _ => false,
                };
                assert_eq!(end["retryable"], !lasting, "{name}: {end}");
            }
        }
        let stored = server.http().get(&format!("/api/sessions/{}/messages", ack.conversation)).await.json();
        let state = if end["type"] == "done" { "complete" } else { "failed" };
        assert_eq!(
            (&stored["data"][1]["state"], &stored["data"][1]["content"]),
            (&json!(state), &json!(answer.text)),
            "{name}"
        );
        let (_, again) = socket.ask_whole(&format!("second {name}"), &prompt).await;
        let cached = again.end.unwrap()["cache"]["status"] == "hit";
        assert_eq!(cached, matches!(case.streamed, Kept), "{name}");
    }
    drop(socket);
    server.stop().await;
}

/// The terminal frame of a failed answer is told again, from memory and from the store.
#[tokio::test]
async fn a_failed_answer_resumes_as_failed() {
    let server = Server::start_with(impatient).await;
    let mut socket = server.socket().await;
    server.provider.fail_next(1, Fault::Cut { after: 5 });
    let (ack, failed) = socket.ask_whole("a", "How does an answer fail?").await;
    socket.resume(&ack.stream, crate::harness::Answer::default()).await;
    assert_eq!(socket.answer(&ack.stream).await.end, failed.end);
    drop(socket);
    let server = server.restart_with(impatient).await;
    let mut socket = Socket::greeted(server.address).await;
    socket.resume(&ack.stream, crate::harness::Answer::default()).await;
    let told = socket.answer(&ack.stream).await;
    assert_eq!((told.text, told.end), (failed.text, failed.end));
    drop(socket);
    server.stop().await;
}

/// The stored routes tell a fault in their own form.
#[tokio::test]
async fn the_stored_routes_answer_a_fault_with_a_problem() {
    let server = Server::start_with(impatient).await;
    let session = server.http().post("/api/sessions", &json!({})).await.json()["id"].as_str().unwrap().to_owned();
    let routes: [(String, Value); 2] = [
        ("/api/chat".to_owned(), json!({"message": "What is a plain fault?"})),
        (format!("/api/sessions/{session}/messages"), json!({"content": "What is a stored fault?"})),
    ];
    for (path, body) in routes {
        server.provider.fail_next(1, Fault::Status(500));
        let reply = server.http().post(&path, &body).await;
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (502, "application/problem+json"), "{path}");
        assert_eq!(reply.json()["code"], "upstream_error", "{path}");
    }
    assert_eq!(server.upstream_calls(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_said_so() {
    let server = Server::start_with(|config| {
        impatient(config);
        // A port that nothing listens on: bound once, and let go.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        config.providers[0].base_url = format!("http://{free}/v1").parse().unwrap();
    })
    .await;
    let reply = server.http().chat(&asking("Is anybody there?")).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (502, &json!("upstream_unreachable")));
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(!text.contains("127.0.0.1"), "an error says nothing of addresses: {text}");
    server.stop().await;
}

#[tokio::test]
async fn retry_after_is_passed_on() {
    let server = Server::start_with(impatient).await;
    server.provider.fail_next(1, Fault::RateLimit { retry_after_seconds: 7 });
    let limited = server.http().chat(&asking("How many may ask?")).await;
    assert_eq!((limited.header("retry-after"), limited.header("x-should-retry")), ("7", ""));
    server.provider.fail_next(1, Fault::InsufficientQuota);
    let spent = server.http().chat(&asking("How much is left?")).await;
    assert_eq!(spent.header("x-should-retry"), "false", "asking again does not bring money");
    server.stop().await;
}
