//! Two targets, one dies in the middle of its answer. Over the socket the reader is told and gets the other's answer whole,
//! under a new epoch; where the dialect has no word for that, the stream ends with its one error. Never two answers as one,
//! and nothing of either is kept.

use std::collections::BTreeMap;

use ish::config::Strategy;
use loadtest::provider::answer::answer_to;
use loadtest::provider::{Fault, Provider, ProviderOptions};
use serde_json::{Value, json};

use crate::harness::{Ack, Answer, Socket, asking, report};
use crate::routing::{Pair, quick};

/// Rounds in `make test`; `make soak` asks for more.
#[expect(clippy::disallowed_methods, reason = "how often, which only the one who starts the tests knows")]
fn rounds() -> usize {
    std::env::var("ISH_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(6)
}

fn of_pair(prompt: &str) -> Value {
    let mut body = asking(prompt);
    body["model"] = "pair".into();
    body
}

async fn ask_pair(socket: &mut Socket, id: &str, prompt: &str) -> Ack {
    socket.ask_with(json!({"type": "send", "id": id, "content": prompt, "model": "pair"})).await
}

/// The fault of a round: another kind and another place each time, the same in every run.
fn fault(round: usize) -> Fault {
    let after = 1 + round * 7 % 15;
    match round % 5 {
        0 => Fault::Cut { after },
        1 => Fault::ErrorEvent { after },
        2 => Fault::EarlyEnd { after },
        3 => Fault::InvalidUtf8 { after },
        _ => Fault::Hang { after },
    }
}

/// What a reader had in the end.
fn had(answer: &Answer, whole: &str) -> Result<&'static str, String> {
    let end = answer.end.clone().unwrap_or_default();
    match (answer.ending(), answer.restarts, answer.epoch) {
        ("done", 0, 1) if answer.text == whole => Ok("unbroken"),
        ("done", 1, 2) if answer.text == whole => Ok("marked_restart"),
        ("error", 1, 2) if whole.starts_with(&answer.text) && end["partial"] == true => Ok("error"),
        _ => Err(format!("{answer:?} instead of {whole:?}")),
    }
}

/// What the readers of all rounds had.
#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<&'static str, usize>,
    faults: BTreeMap<String, usize>,
    terminal_frames: BTreeMap<usize, usize>,
    violations: Vec<String>,
}

impl Tally {
    /// Asks, and judges what comes; `fault` is what the provider was told to do.
    async fn ask(&mut self, socket: &mut Socket, id: &str, expected: &str, fault: Fault) -> (Ack, Answer) {
        let prompt = format!("What remains of round {id}?");
        let ack = ask_pair(socket, id, &prompt).await;
        let answer = socket.answer(&ack.stream).await;
        // The socket of the tests lets nobody say anything of a stream that has ended.
        *self.terminal_frames.entry(usize::from(socket.is_silent().await)).or_default() += 1;
        let kind = format!("{fault:?}").split([' ', '(']).next().unwrap().to_owned();
        *self.faults.entry(kind).or_default() += 1;
        match had(&answer, &answer_to(&prompt)) {
            Ok(outcome) if outcome == expected => *self.outcomes.entry(outcome).or_default() += 1,
            Ok(outcome) => self.violations.push(format!("{id}: {fault:?}: {outcome} instead of {expected}")),
            Err(what) => self.violations.push(format!("{id}: {fault:?}: {what}")),
        }
        (ack, answer)
    }

    fn report(&self, rounds: usize) {
        let what = "two targets of which one dies in the middle of its answer in each round; in every third, further ones of \
                    which one dies before its first token, and both in the middle";
        let counted = json!({
            "rounds": rounds,
            "outcomes": self.outcomes,
            "faults": self.faults,
            "questions_by_terminal_frames": self.terminal_frames,
            "violations": self.violations,
        });
        report::write("midstream", what, &counted);
        assert!(self.violations.is_empty(), "{:#?}", self.violations);
    }
}

#[tokio::test]
async fn one_dies_in_mid_stream_and_the_reader_has_one_whole_marked_answer() {
    let pair = Pair::start(Strategy::Ordered, |config| {
        config.upstream.idle_timeout = std::time::Duration::from_secs(2);
        config.routing.breaker_failures = std::num::NonZeroU32::MAX;
    })
    .await;
    let mut socket = pair.server.socket().await;
    let mut tally = Tally::default();
    for round in 0..rounds() {
        let fault = fault(round);
        pair.server.provider.fail_next(1, fault);
        let (ack, answer) = tally.ask(&mut socket, &format!("r{round}"), "marked_restart", fault).await;
        let cache = &answer.end.as_ref().unwrap()["cache"];
        assert_eq!((&cache["provider"], &cache["stored"]), (&json!("second"), &json!(false)), "{round}: {cache}");
        let stored = pair.server.http().get(&format!("/api/sessions/{}/messages", ack.conversation)).await.json();
        let message = &stored["data"][1];
        let expected = (&json!("complete"), &json!(answer.text), &json!(2));
        assert_eq!((&message["state"], &message["content"], &message["epoch"]), expected, "{round}");
        let again = ask_pair(&mut socket, &format!("a{round}"), &format!("What remains of round r{round}?")).await;
        let again = socket.answer(&again.stream).await.end.unwrap();
        assert_eq!(again["cache"]["status"], "miss", "an answer whose provider changed is not kept: {again}");
        if round % 3 == 0 {
            pair.server.provider.fail_next(1, Fault::Close);
            tally.ask(&mut socket, &format!("u{round}"), "unbroken", Fault::Close).await;
            pair.server.provider.fail_next(1, fault);
            pair.second.fail_next(1, Fault::Cut { after: 4 });
            tally.ask(&mut socket, &format!("e{round}"), "error", fault).await;
        }
    }
    let fallbacks = pair.server.http().get("/metrics").await;
    assert!(String::from_utf8_lossy(&fallbacks.body).contains(r#"when="after_first_token""#));
    tally.report(rounds());
    drop(socket);
    pair.server.stop().await;
}

/// A whole provider goes away, with its listener and every connection; those who read it lose nothing that they are not told.
#[tokio::test]
async fn a_provider_that_goes_away_with_all_its_streams_is_replaced() {
    let mut pair = Pair::start(Strategy::Ordered, |_| ()).await;
    pair.server.provider.hold_after(3);
    let mut sockets = Vec::new();
    for number in 0..4 {
        let mut socket = pair.server.socket().await;
        let prompt = format!("Who reads number {number}?");
        let ack = ask_pair(&mut socket, &format!("n{number}"), &prompt).await;
        socket.hear_until(&ack.stream, |answer| answer.seq > 0).await;
        sockets.push((socket, ack, prompt));
    }
    pair.server.provider.wait_until_held(4).await;
    let idle = Provider::start(ProviderOptions::default()).await.unwrap();
    std::mem::replace(&mut pair.server.provider, idle).stop().await;
    for (mut socket, ack, prompt) in sockets {
        let answer = socket.answer(&ack.stream).await;
        assert_eq!((answer.restarts, answer.ending(), &answer.text), (1, "done", &answer_to(&prompt)));
    }
    pair.server.stop().await;
}

#[tokio::test]
async fn a_dialect_without_a_word_for_it_ends_with_one_error() {
    let pair = Pair::start(Strategy::Ordered, |_| ()).await;
    for body in [of_pair("What is told to a stream?"), {
        let mut body = of_pair("What is told to one that passes?");
        body["cache"] = json!({"mode": "off"});
        body
    }] {
        let (first, second) = pair.calls();
        pair.server.provider.fail_next(1, Fault::Cut { after: 5 });
        let broken = pair.server.http().stream(&body).await.whole().await;
        let errors = broken.chunks().iter().filter(|chunk| chunk.get("error").is_some()).count();
        assert_eq!((errors, &broken.error()["partial"]), (1, &json!(true)));
        let whole = answer_to(body["messages"][0]["content"].as_str().unwrap());
        assert!(whole.starts_with(&broken.text()) && broken.text().len() < whole.len(), "{}", broken.text());
        assert_eq!(pair.calls(), (first + 1, second), "nobody else is asked");
        let again = pair.server.http().stream(&body).await.whole().await;
        assert_eq!((again.text(), again.header("x-ish-cache") == "HIT"), (whole, false));
    }
    pair.server.stop().await;
}

#[tokio::test]
async fn with_nobody_else_to_ask_it_is_the_error_that_it_was() {
    let server = crate::harness::Server::start_with(quick).await;
    server.provider.fail_next(1, Fault::Cut { after: 5 });
    let mut socket = server.socket().await;
    let (_, answer) = socket.ask_whole("a", "Is there another?").await;
    let end = answer.end.unwrap();
    assert_eq!(
        (&end["type"], &end["partial"], &end["epoch"], answer.restarts),
        (&json!("error"), &json!(true), &json!(1), 0)
    );
    assert_eq!(server.upstream_calls(), 1);
    drop(socket);
    server.stop().await;
}

/// Who comes back with what was said before the restart gets what replaced it.
#[tokio::test]
async fn a_reader_that_comes_back_from_the_old_epoch_gets_the_new_text() {
    let pair = Pair::start(Strategy::Ordered, |_| ()).await;
    let prompt = "What did I miss?";
    let mut socket = pair.server.socket().await;
    pair.server.provider.hold_after(3);
    let ack = ask_pair(&mut socket, "a", prompt).await;
    let known = socket.hear_until(&ack.stream, |answer| answer.seq > 0).await;
    pair.server.provider.wait_until_held(1).await;
    socket.cut();
    let mut pair = pair;
    let idle = Provider::start(ProviderOptions::default()).await.unwrap();
    std::mem::replace(&mut pair.server.provider, idle).stop().await;
    crate::harness::until("the answer's end", || (pair.server.streams().running() == 0).then_some(())).await;
    let mut socket = pair.server.socket().await;
    socket.resume(&ack.stream, known).await;
    let answer = socket.answer(&ack.stream).await;
    assert_eq!((answer.text, answer.snapshots, answer.epoch), (answer_to(prompt), 1, 2));
    drop(socket);
    pair.server.stop().await;
}
