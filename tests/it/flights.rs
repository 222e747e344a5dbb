//! Equal requests in flight share one upstream call, whatever they came by; each that stays gets all of it; the last to
//! leave ends it. How many calls there were, the provider's own log says.

use std::sync::Arc;

use http::Method;
use loadtest::provider::Outcome;
use loadtest::provider::answer::answer_to;
use serde_json::json;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::harness::{Http, Reply, Server, Socket, asking, soon, until};

/// Waits until the provider has seen its only call end, and says how.
async fn only_call_ended(server: &Server) -> Outcome {
    let ended = |log: &[loadtest::provider::Entry]| log.first().is_some_and(|entry| entry.ended.is_some());
    let log = server.provider.wait_for("the upstream call's end", ended).await;
    assert_eq!(log.len(), 1, "one upstream call");
    log[0].outcome
}

/// Waits until so many requests share the flight that is held.
async fn joined(server: &Server, count: u64) {
    until("the requests that join", || (server.metrics().flights_joined.get() == count).then_some(())).await;
}

/// Who asks, by their number: a third of each kind.
#[derive(Debug, Clone, Copy)]
enum Way {
    Json,
    Sse,
    Socket,
}

impl Way {
    fn of(number: usize) -> Self {
        [Self::Json, Self::Sse, Self::Socket][number % 3]
    }
}

/// One asker of the crowd; returns the whole text, or `None` when it left early.
async fn ask(
    server: Arc<Server>,
    number: usize,
    prompt: String,
    begun: Option<Arc<Barrier>>,
    leaves: bool,
) -> Option<String> {
    match Way::of(number) {
        Way::Json => {
            let asking = server.http().begin_chat(&asking(&prompt));
            if let Some(begun) = begun {
                begun.wait().await;
            }
            if leaves {
                return None;
            }
            Some(asking.reply().await.text())
        }
        Way::Sse => {
            // The head of a stream comes with its first event, so that the wait is for both.
            let (http, body) = (server.http(), asking(&prompt));
            let opening = tokio::spawn(async move { http.stream(&body).await });
            if let Some(begun) = begun {
                begun.wait().await;
            }
            if leaves {
                opening.abort();
                return None;
            }
            Some(opening.await.unwrap().whole().await.text())
        }
        Way::Socket => {
            let mut socket = server.socket().await;
            let ack = socket.ask(&format!("n{number}"), &prompt).await;
            if let Some(begun) = begun {
                begun.wait().await;
            }
            if leaves {
                // A tab that is closed cancels nothing; this reader means it.
                socket.say(json!({"type": "cancel", "stream": ack.stream})).await;
                assert_eq!(socket.answer(&ack.stream).await.ending(), "cancelled");
                return None;
            }
            Some(socket.answer(&ack.stream).await.text)
        }
    }
}

/// The opener first, then two thirds at once; a third of all leaves; the last third comes after the first token.
async fn crowd(size: usize) {
    let server = Arc::new(Server::start_with(|config| config.cache.semantic = false).await);
    let prompt = "What do a thousand people ask at once?".to_owned();
    server.provider.hold_after(1);
    // The opener is a stream, so that the others see its first token.
    let mut opener = server.http().stream(&asking(&prompt)).await;
    opener.first_text().await;
    server.provider.wait_until_held(1).await;

    let late = size / 3;
    let begun = Arc::new(Barrier::new(size - late + 1));
    let mut early = JoinSet::new();
    for number in 0..size - late {
        // Two consecutive numbers of six leave: of every kind alike.
        early.spawn(ask(Arc::clone(&server), number, prompt.clone(), Some(Arc::clone(&begun)), number / 3 % 2 == 1));
    }
    soon("the crowd", begun.wait()).await;
    drop(opener);
    let mut after = JoinSet::new();
    for number in 0..late {
        after.spawn(ask(Arc::clone(&server), size + number, prompt.clone(), None, false));
    }
    // The provider goes on when as many have joined as stay: a crowd of cache hits would prove nothing.
    let stay = (0..size - late).filter(|number| number / 3 % 2 == 0).count();
    until("everybody in the flight", || (server.metrics().flights_joined.get() >= (stay + late) as u64).then_some(()))
        .await;
    server.provider.release();

    let whole = answer_to(&prompt);
    let mut answered = 0;
    for asker in early.join_all().await.into_iter().chain(after.join_all().await).flatten() {
        assert_eq!(asker, whole);
        answered += 1;
    }
    assert_eq!(answered, stay + late);
    assert_eq!(server.upstream_calls(), 1, "one upstream call for {size}");
    assert_eq!(server.provider.log()[0].outcome, Outcome::Completed);
    Arc::into_inner(server).expect("nobody asks any more").stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_equal_prompts_are_one_upstream_call() {
    crowd(1_000).await;
}

#[tokio::test]
async fn a_few_equal_prompts_are_one_upstream_call() {
    crowd(12).await;
}

#[tokio::test]
async fn requests_at_the_very_same_moment_open_one_flight() {
    let server = Server::start_with(|config| config.cache.semantic = false).await;
    for round in 0..10 {
        let prompt = format!("What is asked in round {round}?");
        let asked: Vec<_> = (0..20)
            .map(|number| {
                let (http, body) = (server.http(), asking(&prompt));
                tokio::spawn(async move {
                    if number % 2 == 0 {
                        http.chat(&body).await.text()
                    } else {
                        http.stream(&body).await.whole().await.text()
                    }
                })
            })
            .collect();
        for asked in asked {
            assert_eq!(asked.await.unwrap(), answer_to(&prompt));
        }
        assert_eq!(server.upstream_calls(), round + 1);
    }
    server.stop().await;
}

async fn begin_held(server: &Server, prompt: &str, stream: bool) -> Box<dyn Send> {
    server.provider.hold_after(2);
    let coming: Box<dyn Send> = if stream {
        let mut coming = server.http().stream(&asking(prompt)).await;
        coming.first_text().await;
        Box::new(coming)
    } else {
        Box::new(server.http().begin_chat(&asking(prompt)))
    };
    server.provider.wait_until_held(1).await;
    coming
}

#[tokio::test]
async fn the_last_http_caller_to_leave_ends_the_upstream_call() {
    for stream in [false, true] {
        let server = Server::start().await;
        let prompt = "Who leaves before the end?";
        let first = begin_held(&server, prompt, stream).await;
        let second = server.http().begin_chat(&asking(prompt));
        joined(&server, 1).await;
        drop(first);
        // The other still listens: the call goes on.
        until("the first one's leaving", || (server.metrics().http_in_flight.get() <= 1).then_some(())).await;
        assert_eq!(
            (server.provider.log()[0].outcome, server.chat().flights()),
            (Outcome::InFlight, 1),
            "stream: {stream}"
        );
        drop(second);
        assert_eq!(only_call_ended(&server).await, Outcome::ClientGone, "stream: {stream}");
        until("the flight's end", || (server.chat().flights() == 0).then_some(())).await;
        server.provider.release();
        server.stop().await;
    }
}

#[tokio::test]
async fn a_caller_past_the_cache_ends_its_own_call() {
    for (stream, mode) in [
        (false, "off"),
        (true, "off"),
        (false, "read_only"),
        (true, "read_only"),
        (false, "refresh"),
        (true, "refresh"),
    ] {
        let server = Server::start().await;
        server.provider.hold_after(2);
        let body = json!({"model": "mock", "messages": [{"role": "user", "content": "Who goes alone?"}], "cache": {"mode": mode}});
        if stream {
            let mut coming = server.http().stream(&body).await;
            coming.first_text().await;
            drop(coming);
        } else {
            let asking = server.http().begin_chat(&body);
            server.provider.wait_until_held(1).await;
            drop(asking);
        }
        assert_eq!(only_call_ended(&server).await, Outcome::ClientGone, "{mode}, stream: {stream}");
        server.provider.release();
        server.stop().await;
    }
}

#[tokio::test]
async fn a_stored_question_keeps_a_flight_up_when_http_leaves() {
    let server = Server::start().await;
    let prompt = "Who stays on the line?";
    let coming = begin_held(&server, prompt, true).await;
    let mut socket = server.socket().await;
    let ack = socket.ask("a", prompt).await;
    joined(&server, 1).await;
    socket.cut();
    drop(coming);
    // Its reader has gone too, but a stored question is owed its answer.
    server.provider.release();
    until("the answer's end", || (server.streams().running() == 0).then_some(())).await;
    assert_eq!(only_call_ended(&server).await, Outcome::Completed);
    let mut socket = server.socket().await;
    socket.resume(&ack.stream, crate::harness::Answer::default()).await;
    let answer = socket.answer(&ack.stream).await;
    assert_eq!((answer.text, &answer.end.unwrap()["cache"]["status"]), (answer_to(prompt), &json!("collapsed")));
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_late_joiner_says_that_it_shares() {
    let server = Server::start().await;
    let prompt = "Who comes late?";
    let first = begin_held(&server, prompt, true).await;
    let late = server.http().begin_chat(&asking(prompt));
    joined(&server, 1).await;
    server.provider.release();
    let late = late.reply().await;
    assert_eq!((late.header("x-ish-cache"), late.text()), ("COALESCED", answer_to(prompt)));
    assert!(late.header("cache-status").contains("collapsed"));
    drop(first);
    server.stop().await;
}

#[tokio::test]
async fn an_error_goes_to_all() {
    let server = Server::start().await;
    let prompt = "Who is told of the failure? [[hold=3 fault=cut after=3]]";
    let mut opener = server.http().stream(&asking(prompt)).await;
    opener.first_text().await;
    server.provider.wait_until_held(1).await;
    let whole = server.http().begin_chat(&asking(prompt));
    let (http, body) = (server.http(), asking(prompt));
    let streamed = tokio::spawn(async move { http.stream(&body).await.whole().await });
    let mut socket = server.socket().await;
    let ack = socket.ask("a", prompt).await;
    joined(&server, 3).await;
    server.provider.release();
    let told = |reply: &Reply| reply.error()["code"].clone();
    assert_eq!(told(&opener.whole().await), "upstream_error");
    let whole = whole.reply().await;
    assert_eq!((whole.status.as_u16(), told(&whole)), (502, json!("upstream_error")));
    assert_eq!(told(&streamed.await.unwrap()), "upstream_error");
    let failed = socket.answer(&ack.stream).await;
    assert_eq!((failed.ending(), failed.end.as_ref().unwrap()["partial"].clone()), ("error", json!(true)));
    assert_eq!(server.upstream_calls(), 1, "nobody asks again in silence");
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn what_must_not_be_shared_is_not() {
    let server = Server::start().await;
    let prompt = "Who wants an answer of their own?";
    let first = begin_held(&server, prompt, true).await;
    let mut own = Vec::new();
    for cache in
        [json!({"mode": "refresh"}), json!({"mode": "off"}), json!({"mode": "read_only"}), json!({"namespace": "n"})]
    {
        let mut body = asking(prompt);
        body["cache"] = cache;
        own.push(server.http().begin_chat(&body));
    }
    let mut several = asking(prompt);
    several["n"] = 2.into();
    own.push(server.http().begin_chat(&several));
    own.push(server.http().begin_chat(&several));
    server.provider.wait_until_held(7).await;
    assert_eq!(server.upstream_calls(), 7);
    server.provider.release();
    for asking in own {
        assert_eq!(asking.reply().await.status, 200);
    }
    assert_eq!(server.metrics().flights_joined.get(), 0);
    drop(first);
    server.stop().await;
}

/// An answer is in the cache before its flight can no longer be joined: there is no moment between the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_flight_and_cache_there_is_no_gap() {
    let server = Server::start_with(|config| config.cache.semantic = false).await;
    let rounds = 30;
    for round in 0..rounds {
        let prompt = format!("What is between, in round {round}? [[tokens=1]]");
        // Each asks again as soon as it has been answered, while others are still being.
        let askers: Vec<_> = (0..4).map(|_| tokio::spawn(ask_on(server.http(), prompt.clone()))).collect();
        for asker in askers {
            asker.await.unwrap();
        }
    }
    assert_eq!(server.upstream_calls(), rounds);
    server.stop().await;
}

async fn ask_on(http: Http, prompt: String) {
    for _ in 0..5 {
        assert_eq!(http.send(Method::POST, "/v1/chat/completions", asking(&prompt).to_string()).await.status, 200);
    }
}

/// A reader that does not read holds nobody up.
#[tokio::test]
async fn a_slow_reader_holds_up_no_one() {
    let server = Server::start().await;
    let prompt = "Who reads slowly? [[tokens=20000]]";
    let mut slow = server.http().stream(&asking(prompt)).await;
    let (mut lazy, _) = Socket::greeted_with(server.address, json!({"type": "hello", "protocol": 1})).await;
    lazy.say(json!({"type": "send", "id": "lazy", "content": prompt})).await;
    let quick = server.http().chat(&asking(prompt)).await;
    assert_eq!(quick.text().split(' ').count(), 20_000);
    // Neither has read anything yet; both still get all of it.
    assert!(!slow.first_text().await.is_empty());
    let ack = lazy.hear_type("ack").await;
    assert_eq!(lazy.answer(ack["stream"].as_str().unwrap()).await.text, quick.text());
    assert_eq!(server.upstream_calls(), 1);
    drop((slow, lazy));
    server.stop().await;
}
