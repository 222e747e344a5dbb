//! Readers that move: to another instance while theirs goes on, with Redis and when that is lost, and when theirs is killed
//! in the middle of what they read. Every socket of the tests judges what it hears: no hole and no double within an epoch, a
//! new epoch from its beginning, one end, at the text's own hash; here it is held against what is stored.

use std::collections::BTreeMap;
use std::time::Duration;

use ish::config::Config;
use loadtest::provider::answer::{answer_to, answer_to_conversation};
use serde_json::{Value, json};

use crate::harness::{Ack, Answer, Http, Line, Process, Server, Socket, redis_host, report, until};
use crate::instances::Fleet;
use crate::on_redis::over;

/// Two instances that know of each other.
async fn pair(line: &Line) -> [Server; 2] {
    let shared = over(line);
    let quick = |config: &mut Config| {
        shared(config);
        config.instances.heartbeat = Duration::from_millis(200);
    };
    let first = Server::start_on_postgres(&quick).await;
    let second = first.beside(&quick).await;
    for server in [&first, &second] {
        until("the other instance", || (server.metrics().instances.get() == 2).then_some(())).await;
    }
    [first, second]
}

fn followed(server: &Server, from: &str) -> u64 {
    server.metrics().stream_pieces_followed.with_label_values(&[from]).get()
}

#[tokio::test]
async fn what_an_owner_says_is_heard_elsewhere_and_a_lost_redis_loses_nothing() {
    let line = Line::to(redis_host()).await;
    let [first, second] = pair(&line).await;
    first.provider.hold_after(3);
    let prompt = "Who reads along?";
    let (mut here, mut there) = (first.socket().await, second.socket().await);
    let ack = here.ask("a", prompt).await;
    here.hear_until(&ack.stream, |answer| answer.seq == 3).await;
    there.resume(&ack.stream, Answer::default()).await;
    there.hear_until(&ack.stream, |answer| answer.seq == 3).await;

    let held = "Who loses nothing?";
    let other = here.ask("b", held).await;
    here.hear_until(&other.stream, |answer| answer.seq == 3).await;
    there.resume(&other.stream, Answer::default()).await;
    there.hear_until(&other.stream, |answer| answer.seq == 3).await;
    line.cut();
    first.provider.release();
    for (ack, prompt) in [(&ack, prompt), (&other, held)] {
        for socket in [&mut here, &mut there] {
            let answer = socket.answer(&ack.stream).await;
            assert_eq!((answer.ending(), answer.epoch, &answer.text), ("done", 1, &answer_to(prompt)));
        }
    }
    assert!(followed(&second, "redis") > 0, "nothing came by Redis while it was there");
    line.mend();
    drop((here, there));
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn a_wish_to_end_goes_by_redis() {
    let line = Line::to(redis_host()).await;
    let [first, second] = pair(&line).await;
    first.provider.hold_after(3);
    let (mut here, mut there) = (first.socket().await, second.socket().await);
    let ack = here.ask("a", "Who has had enough?").await;
    here.hear_until(&ack.stream, |answer| answer.seq == 3).await;
    there.say(json!({"type": "cancel", "stream": ack.stream})).await;
    assert_eq!(here.answer(&ack.stream).await.ending(), "cancelled");
    there.resume(&ack.stream, Answer::default()).await;
    assert_eq!(there.answer(&ack.stream).await.ending(), "cancelled");
    drop((here, there));
    second.stop().await;
    first.stop().await;
}

/// Rounds in `make test`; `make soak` asks for more.
#[expect(clippy::disallowed_methods, reason = "how often, which only the one who starts the tests knows")]
fn rounds() -> usize {
    std::env::var("ISH_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}

/// Answers that are read in each round.
const READ_AT_ONCE: usize = 4;

/// A question whose answer takes a while, and how long that is.
fn question(round: usize, number: usize) -> (String, usize) {
    let tokens = [300, 900, 1500, 600][number % 4];
    (format!("What is asked in round {round}, number {number}? [[tokens={tokens} each=1ms]]"), tokens)
}

/// What the readers of all rounds had.
#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<String, usize>,
    by_snapshot: usize,
    violations: Vec<String>,
}

impl Tally {
    /// Judges one answer by what its reader had in the end and what is stored.
    fn judge(&mut self, id: &str, (prompt, tokens): &(String, usize), answer: &Answer, stored: &Value) {
        let whole = answer_to_conversation([("user", prompt.as_str())], *tokens);
        let end = answer.end.as_ref().unwrap();
        let outcome = match (answer.ending(), end["code"].as_str(), answer.epoch) {
            ("done", None, 1) if answer.text == whole => "whole",
            ("error", Some("interrupted"), 2) if whole.starts_with(&answer.text) => "interrupted",
            _ => "violation",
        };
        let state = if outcome == "whole" { "complete" } else { "interrupted" };
        let as_stored = (&stored["content"], &stored["epoch"], &stored["seq"], &stored["state"]);
        let as_told = (&json!(answer.text), &json!(answer.epoch), &json!(answer.seq), &json!(state));
        if outcome == "violation" || as_stored != as_told {
            self.violations.push(format!("{id}: {answer:?} of {stored}"));
        }
        self.by_snapshot += usize::from(answer.snapshots > 0);
        *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
    }
}

/// Asks on one instance, kills it somewhere in the middle, and reads everything to its end on the other.
async fn round(round: usize, victim: Process, heir: &Process, tally: &mut Tally) {
    let mut socket = Socket::greeted(victim.address).await;
    let mut asked: Vec<(Ack, (String, usize))> = Vec::new();
    for number in 0..READ_AT_ONCE {
        let question = question(round, number);
        asked.push((socket.ask(&format!("r{round}-{number}"), &question.0).await, question));
    }
    // A place in the longest answer that differs from round to round.
    let strike_at = 1 + (round * 137 % 700) as u64;
    socket.hear_until(&asked[2].0.stream, |answer| answer.seq >= strike_at).await;
    let known: Vec<Answer> = asked.iter().map(|(ack, _)| socket.known(&ack.stream)).collect();
    victim.kill().await;
    let mut socket = Socket::greeted(heir.address).await;
    for ((ack, question), known) in asked.iter().zip(known) {
        let answer = if known.end.is_some() {
            known
        } else {
            socket.resume(&ack.stream, known).await;
            socket.answer(&ack.stream).await
        };
        let page = Http::new(heir.address).get(&format!("/api/sessions/{}/messages", ack.conversation)).await.json();
        assert_eq!(page["data"].as_array().map(Vec::len), Some(2), "each once: {page}");
        tally.judge(&ack.id, question, &answer, &page["data"][1]);
    }
    assert!(socket.is_silent().await, "one end each");
}

#[tokio::test]
async fn readers_of_a_killed_instance_go_on_at_another() {
    let mut fleet = Fleet::new().await;
    let redis = format!("redis://{}", redis_host());
    let prefix = format!("test-{}:", uuid::Uuid::now_v7().simple());
    let shared = [("REDIS_URL", redis.as_str()), ("ISH_REDIS_PREFIX", prefix.as_str())];
    let mut heir = fleet.start(&shared).await;
    let mut tally = Tally::default();
    for number in 0..rounds() {
        // Each inherits from the one that is killed, and is killed in the round after.
        let next = fleet.start(&shared).await;
        round(number, heir, &next, &mut tally).await;
        heir = next;
    }
    let what = "an instance killed (kill -9) in the middle of four answers in each round; their reader resumes them on another";
    let counted = json!({
        "rounds": rounds(),
        "answers": rounds() * READ_AT_ONCE,
        "outcomes": tally.outcomes,
        "answers_replaced_by_a_snapshot": tally.by_snapshot,
        "violations": tally.violations,
    });
    report::write("moving", what, &counted);
    assert!(tally.violations.is_empty(), "{:#?}", tally.violations);
    assert!(tally.outcomes.contains_key("interrupted"), "rounds in which nothing was cut prove nothing");
}
