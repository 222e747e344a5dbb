//! Several processes on one database: one dies, is paused, or is told to stop in the middle of an answer, and the others go
//! on for it. What a reader has had in the end is what is stored, with one end, wherever it was read.

use loadtest::provider::answer::answer_to;
use loadtest::provider::{Provider, ProviderOptions, RunningProvider};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Answer, Database, Http, Process, Socket};

/// Processes on one database, with one provider.
pub struct Fleet {
    pub provider: RunningProvider,
    folders: Vec<TempDir>,
    /// Goes last.
    database: Database,
}

impl Fleet {
    pub async fn new() -> Self {
        let provider = Provider::start(ProviderOptions::default()).await.unwrap();
        Self { provider, folders: Vec::new(), database: Database::new().await }
    }

    pub async fn start(&mut self, more: &[(&str, &str)]) -> Process {
        let variables = [
            ("DATABASE_URL", self.database.url.as_str()),
            ("DATABASE_DIRECT_URL", self.database.direct_url.as_str()),
            // How long a busy machine takes to connect decides no test.
            ("ISH_DATABASE_ACQUIRE_TIMEOUT", "30"),
            ("ISH_INSTANCES_HEARTBEAT", "0.2"),
            ("ISH_INSTANCES_LEASE", "2"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let started = Process::start(folder.path(), &self.provider.base_url(), &[&variables, more].concat()).await;
        self.folders.push(folder);
        started
    }
}

/// A stored message, as this instance reads it.
async fn stored(process: &Process, conversation: &str) -> Value {
    let page = Http::new(process.address).get(&format!("/api/sessions/{conversation}/messages")).await.json();
    page["data"][1].clone()
}

/// What a reader had in the end is what is stored, cut by the death of its maker.
async fn was_interrupted(process: &Process, conversation: &str, prompt: &str, answer: &Answer) {
    let end = answer.end.as_ref().unwrap();
    assert_eq!((&end["type"], &end["code"], &end["retryable"]), (&json!("error"), &json!("interrupted"), &json!(true)));
    assert_eq!(answer.epoch, 2, "who takes an answer over begins an epoch");
    assert!(answer_to(prompt).starts_with(&answer.text), "{answer:?}");
    let message = stored(process, conversation).await;
    assert_eq!((&message["state"], &message["content"]), (&json!("interrupted"), &json!(answer.text)));
    assert_eq!((&message["epoch"], &message["seq"]), (&end["epoch"], &end["seq"]));
}

#[tokio::test]
async fn a_killed_instances_answers_are_taken_over_and_the_others_go_on() {
    let mut fleet = Fleet::new().await;
    let (first, second) = (fleet.start(&[]).await, fleet.start(&[]).await);
    fleet.provider.hold_after(3);
    let mut to_first = Socket::greeted(first.address).await;
    let (cut, kept) = ("Who is cut in the middle?", "Who goes on regardless?");
    let ack = to_first.ask("a", cut).await;
    let known = to_first.hear_until(&ack.stream, |answer| answer.seq == 3).await;
    let mut to_second = Socket::greeted(second.address).await;
    let other = to_second.ask("b", kept).await;
    to_second.hear_until(&other.stream, |answer| answer.seq == 3).await;

    first.kill().await;
    to_second.resume(&ack.stream, known).await;
    was_interrupted(&second, &ack.conversation, cut, &to_second.answer(&ack.stream).await).await;
    // A third one's start changes nothing for those who live.
    let third = fleet.start(&[]).await;
    let mut to_third = Socket::greeted(third.address).await;
    to_third.resume(&other.stream, Answer::default()).await;
    fleet.provider.release();
    let answers = [to_second.answer(&other.stream).await, to_third.answer(&other.stream).await];
    for answer in answers {
        assert_eq!((answer.ending(), answer.epoch, &answer.text), ("done", 1, &answer_to(kept)));
    }
    assert_eq!(stored(&third, &other.conversation).await["content"], answer_to(kept));
    assert_eq!(fleet.provider.counts().chat, 2, "nothing was asked twice");
    // Who was acknowledged by the dead is known to the living.
    let again = to_third.ask("a", cut).await;
    assert!(again.duplicate && again.stream == ack.stream);
    was_interrupted(&third, &ack.conversation, cut, &to_third.answer(&ack.stream).await).await;
}

/// A process that was only paused finds that it was replaced: it writes nothing more, and tells its readers how it ended.
#[tokio::test]
async fn a_paused_instance_that_was_replaced_writes_nothing_more() {
    let mut fleet = Fleet::new().await;
    let (first, second) = (fleet.start(&[]).await, fleet.start(&[]).await);
    fleet.provider.hold_after(3);
    let mut to_first = Socket::greeted(first.address).await;
    let prompt = "Who sleeps too long?";
    let ack = to_first.ask("a", prompt).await;
    to_first.hear_until(&ack.stream, |answer| answer.seq == 3).await;
    first.signal("-STOP");
    let mut to_second = Socket::greeted(second.address).await;
    to_second.resume(&ack.stream, Answer::default()).await;
    let seen = to_second.answer(&ack.stream).await;
    was_interrupted(&second, &ack.conversation, prompt, &seen).await;

    first.signal("-CONT");
    fleet.provider.release();
    let told = to_first.answer(&ack.stream).await;
    assert_eq!((&told.text, told.snapshots), (&seen.text, 1), "what it had said beyond that is void");
    was_interrupted(&first, &ack.conversation, prompt, &told).await;
    first.kill().await;
}

#[tokio::test]
async fn an_answer_is_read_and_cancelled_on_any_instance() {
    let mut fleet = Fleet::new().await;
    let (first, second) = (fleet.start(&[]).await, fleet.start(&[]).await);
    fleet.provider.hold_after(3);
    let mut to_first = Socket::greeted(first.address).await;
    let ack = to_first.ask("a", "Who wants no more?").await;
    to_first.hear_until(&ack.stream, |answer| answer.seq == 3).await;
    let mut to_second = Socket::greeted(second.address).await;
    to_second.resume(&ack.stream, Answer::default()).await;
    let read = to_second.hear_until(&ack.stream, |answer| answer.seq == 3).await;
    assert_eq!(read.epoch, 1);
    to_second.say(json!({"type": "cancel", "stream": ack.stream})).await;
    for socket in [&mut to_first, &mut to_second] {
        let answer = socket.answer(&ack.stream).await;
        assert_eq!((answer.ending(), &answer.text), ("cancelled", &read.text));
    }
    assert_eq!(stored(&second, &ack.conversation).await["state"], "cancelled");
    fleet.provider.wait_until_idle().await;
}

#[tokio::test]
async fn what_outlasts_a_drain_is_handed_over() {
    let mut fleet = Fleet::new().await;
    let second = fleet.start(&[]).await;
    // It has seen the other at its own start.
    let mut first = fleet.start(&[("ISH_DRAIN_TIMEOUT", "0.3")]).await;
    fleet.provider.hold_after(3);
    let mut to_first = Socket::greeted(first.address).await;
    let prompt = "Who is handed over?";
    let ack = to_first.ask("a", prompt).await;
    let known = to_first.hear_until(&ack.stream, |answer| answer.seq == 3).await;
    first.terminate();
    assert_eq!(to_first.closed().await, 1001);
    assert_eq!(to_first.known(&ack.stream).ending(), "none yet", "it goes on elsewhere");
    assert!(first.end().await.success());
    let mut to_second = Socket::greeted(second.address).await;
    to_second.resume(&ack.stream, known.clone()).await;
    let answer = to_second.answer(&ack.stream).await;
    assert_eq!(answer.text, known.text, "all that was said was saved");
    was_interrupted(&second, &ack.conversation, prompt, &answer).await;
}

/// Whoever starts under a name is its predecessor's successor, without waiting for that to be dead to the others.
#[tokio::test]
async fn a_start_under_the_same_name_takes_over_at_once() {
    let mut fleet = Fleet::new().await;
    let patient = [("INSTANCE_ID", "a"), ("ISH_INSTANCES_LEASE", "600")];
    let first = fleet.start(&patient).await;
    fleet.provider.hold_after(3);
    let mut socket = Socket::greeted(first.address).await;
    let prompt = "Who comes back?";
    let ack = socket.ask("a", prompt).await;
    socket.hear_until(&ack.stream, |answer| answer.seq == 3).await;
    first.kill().await;
    let again = fleet.start(&patient).await;
    let mut socket = Socket::greeted(again.address).await;
    socket.resume(&ack.stream, Answer::default()).await;
    was_interrupted(&again, &ack.conversation, prompt, &socket.answer(&ack.stream).await).await;
}
