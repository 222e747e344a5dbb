//! The real binary, killed: at seeded moments, and between a commit and its acknowledgement. Whatever was acknowledged
//! is there afterwards, each once, and every answer has an end. The judge is [`check`], which reads the clients'
//! history and the SQLite file and knows nothing of either side's code.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use loadtest::provider::answer::{answer_to, answer_to_conversation};
use loadtest::provider::{Provider, ProviderOptions, RunningProvider};
use serde_json::{Value, json};
use sqlx::{Connection, Row, SqliteConnection};
use tokio::task::JoinSet;

use crate::harness::history::{self, History};
use crate::harness::{Answer, Process, Socket, soon};

/// Asks with several clients, strikes, starts again, brings everything to its end, strikes again; then judges.
async fn round(seed: u64, crash_point: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    let provider = Provider::start(ProviderOptions::default()).await.unwrap();
    let path = folder.path().join("history.jsonl");
    let (history, numbers) = (History::open(&path), Arc::new(AtomicU64::new(seed)));
    let variables: Vec<_> = crash_point.iter().map(|point| ("FAILPOINTS", *point)).collect();
    let mut process = Process::start(folder.path(), &provider.base_url(), &variables).await;
    let strike = history.clone();
    let moment = async move { strike.more(20 + seed * 137 % 900).await };
    let mut clients = JoinSet::new();
    for client in 0..4 {
        let name = format!("s{seed}c{client}");
        clients.spawn(history::ask_until_gone(process.address, history.clone(), name, Arc::clone(&numbers)));
    }
    if crash_point.is_some() {
        let status = process.end().await;
        assert!(!status.success(), "the binary has no crash points: it must be built with --features failpoints");
    } else {
        soon("the moment to strike", moment).await;
        process.kill().await;
    }
    soon("the clients' end", clients.join_all()).await;

    let process = Process::start(folder.path(), &provider.base_url(), &[]).await;
    history::reconcile(&process, &history, &history::read(&path)).await;
    process.kill().await;
    check(&folder.path().join("ish.db"), &history::read(&path)).await;
}

/// A stored message, as the file has it.
#[derive(Debug)]
struct Stored {
    role: String,
    state: String,
    content: String,
    parent: Option<String>,
    stream: Option<String>,
}

async fn stored(database: &Path) -> BTreeMap<String, Stored> {
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}", database.display())).await.unwrap();
    let sound: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
    assert_eq!(sound, "ok");
    let rows = sqlx::query("SELECT id, role, state, content, packed, parent, stream FROM messages");
    let rows = rows.fetch_all(&mut connection).await.unwrap();
    let message = |row: &sqlx::sqlite::SqliteRow| {
        let stored = Stored {
            role: row.get("role"),
            state: row.get("state"),
            content: row.get::<Option<&[u8]>, _>("packed").map_or_else(|| row.get("content"), unpacked),
            parent: row.get("parent"),
            stream: row.get("stream"),
        };
        (row.get("id"), stored)
    };
    rows.iter().map(message).collect()
}

/// A long text as the file holds it, in zlib's form.
fn unpacked(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

/// The judge.
async fn check(database: &Path, events: &[Value]) {
    let messages = stored(database).await;
    let prompts: BTreeMap<&str, &str> = events
        .iter()
        .filter(|event| event["event"] == "sent")
        .map(|event| (event["id"].as_str().unwrap(), event["prompt"].as_str().unwrap()))
        .collect();
    let mut acknowledged = 0;
    for ack in events.iter().filter(|event| event["event"] == "acknowledged") {
        acknowledged += 1;
        let prompt = prompts[ack["id"].as_str().unwrap()];
        let question = &messages[ack["message"].as_str().unwrap()];
        assert_eq!((question.role.as_str(), question.content.as_str()), ("user", prompt), "{ack}");
        let same = messages.values().filter(|message| message.role == "user" && message.content == prompt).count();
        assert_eq!(same, 1, "each once: {ack}");
        let reply = &messages[ack["reply"].as_str().unwrap()];
        assert_eq!(
            (reply.parent.as_deref(), reply.stream.as_deref()),
            (ack["message"].as_str(), ack["stream"].as_str())
        );
        assert!(history::whole_answer(prompt).starts_with(&reply.content), "{ack}: {reply:?}");
        assert_eq!(reply.state == "complete", reply.content == history::whole_answer(prompt), "{ack}: {reply:?}");
    }
    assert!(acknowledged > 0, "a round in which nothing happened proves nothing");
    for end in events.iter().filter(|event| event["event"] == "ended") {
        let reply = messages.values().find(|message| message.stream.as_deref() == end["stream"].as_str()).unwrap();
        assert_eq!(reply.content, end["text"].as_str().unwrap(), "what a client has seen at the end is what is stored");
        assert_eq!(reply.state, if end["type"] == "done" { "complete" } else { "interrupted" }, "{end}");
    }
    let unfinished = messages.values().filter(|message| message.state == "streaming").count();
    assert_eq!(unfinished, 0, "every answer has an end");
    assert_eq!(messages.len(), 2 * prompts.len(), "a question and an answer for each that was sent, and nothing else");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_nothing_acknowledged_is_lost() {
    for seed in [1, 2, 3, 5] {
        round(seed, None).await;
    }
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_commit_and_acknowledgement_nothing_is_lost_or_doubled() {
    for seed in [7, 19, 44] {
        round(seed, Some(&format!("commit-before-ack={seed}*off->return"))).await;
    }
}

/// The narrowest case by itself: the question is in the store, its sender was never told, and sends it again.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn what_was_committed_but_not_acknowledged_is_a_duplicate_when_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let provider = Provider::start(ProviderOptions::default()).await.unwrap();
    // The first commit is the start's own; workers would have theirs.
    let crash = [("FAILPOINTS", "commit-before-ack=1*off->return"), ("ISH_TASK_WORKERS", "false")];
    let mut process = Process::start(folder.path(), &provider.base_url(), &crash).await;
    let mut socket = Socket::greeted(process.address).await;
    let send = json!({"type": "send", "id": "a", "content": "Is it stored?"});
    socket.say(send.clone()).await;
    assert_eq!(socket.hear_any().await.err(), Some(1006), "it crashed before the acknowledgement");
    assert!(!process.end().await.success());
    let process = Process::start(folder.path(), &provider.base_url(), &[]).await;
    let mut socket = Socket::greeted(process.address).await;
    let ack = socket.ask_with(send).await;
    assert!(ack.duplicate);
    let answer = socket.answer(&ack.stream).await;
    assert_eq!(answer.end.unwrap()["code"], "interrupted");
    let messages = stored(&folder.path().join("ish.db")).await;
    assert_eq!(messages.len(), 2);
    process.kill().await;
}

async fn running(variables: &[(&str, &str)]) -> (tempfile::TempDir, RunningProvider, Process) {
    let folder = tempfile::tempdir().unwrap();
    let provider = Provider::start(ProviderOptions::default()).await.unwrap();
    let process = Process::start(folder.path(), &provider.base_url(), variables).await;
    (folder, provider, process)
}

#[tokio::test]
async fn a_killed_server_leaves_a_snapshot_of_what_was_saved() {
    let (folder, provider, process) = running(&[]).await;
    let mut socket = Socket::greeted(process.address).await;
    // Past the first checkpoint at 2 KB, short of the second.
    let prompt = "What is saved of this? [[tokens=800 hold=400]]";
    let ack = socket.ask("a", prompt).await;
    let seen = socket.hear_until(&ack.stream, |answer| answer.seq == 400).await;
    let database = folder.path().join("ish.db");
    soon("a checkpoint", async { while stored(&database).await[&ack.reply].content.is_empty() {} }).await;
    process.kill().await;
    let process = Process::start(folder.path(), &provider.base_url(), &[]).await;
    let mut socket = Socket::greeted(process.address).await;
    socket.resume(&ack.stream, seen.clone()).await;
    let resumed = socket.answer(&ack.stream).await;
    let end = resumed.end.unwrap();
    assert_eq!((&end["code"], &end["partial"], &end["retryable"]), (&json!("interrupted"), &json!(true), &json!(true)));
    assert!(!resumed.text.is_empty() && seen.text.starts_with(&resumed.text));
    // The same send does not ask again by itself; a regenerate does.
    let again = socket.ask_with(json!({"type": "regenerate", "id": "b", "message": ack.reply})).await;
    provider.wait_until_held(1).await;
    provider.release();
    assert_eq!(socket.answer(&again.stream).await.text, answer_to_conversation([("user", prompt)], 800));
    process.kill().await;
}

#[tokio::test]
async fn sigterm_lets_answers_end_and_exits_cleanly() {
    let (folder, provider, mut process) = running(&[]).await;
    provider.hold_after(3);
    let mut socket = Socket::greeted(process.address).await;
    let ack = socket.ask("a", "Who waits for the end?").await;
    socket.hear_until(&ack.stream, |answer| answer.seq == 3).await;
    process.terminate();
    socket.hear_type("draining").await;
    provider.release();
    assert_eq!(socket.answer(&ack.stream).await.text, answer_to("Who waits for the end?"));
    assert_eq!(socket.closed().await, 1001);
    assert!(process.end().await.success());
    assert_eq!(stored(&folder.path().join("ish.db")).await[&ack.reply].state, "complete");
}

#[tokio::test]
async fn sigterm_cuts_what_outlasts_the_drain_and_says_so() {
    let (folder, provider, mut process) = running(&[("ISH_DRAIN_TIMEOUT", "0.3")]).await;
    provider.hold_after(3);
    let mut socket = Socket::greeted(process.address).await;
    let ack = socket.ask("a", "Who takes too long?").await;
    let seen = socket.hear_until(&ack.stream, |answer| answer.seq == 3).await;
    process.terminate();
    let cut = socket.answer(&ack.stream).await;
    assert_eq!(cut.end.unwrap()["code"], "interrupted");
    assert!(process.end().await.success());
    let stored = stored(&folder.path().join("ish.db")).await;
    assert_eq!(
        (stored[&ack.reply].state.as_str(), &stored[&ack.reply].content),
        ("interrupted", &seen.text),
        "all that was said is saved"
    );
    let process = Process::start(folder.path(), &provider.base_url(), &[]).await;
    let mut socket = Socket::greeted(process.address).await;
    socket.resume(&ack.stream, Answer::default()).await;
    assert_eq!(socket.answer(&ack.stream).await.text, seen.text);
    process.kill().await;
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    let (_folder, provider, mut process) = running(&[("ISH_DRAIN_TIMEOUT", "600")]).await;
    provider.hold_after(1);
    let mut socket = Socket::greeted(process.address).await;
    let ack = socket.ask("a", "Who has no patience?").await;
    socket.hear_until(&ack.stream, |answer| answer.seq == 1).await;
    process.terminate();
    socket.hear_type("draining").await;
    process.terminate();
    assert!(!process.end().await.success());
}

#[tokio::test]
async fn a_data_folder_takes_one_server() {
    let (folder, provider, process) = running(&[]).await;
    let (status, said) = Process::refused(folder.path(), &provider.base_url());
    assert!(!status.success());
    assert!(said.contains(&format!("another ish (process {})", process.id())), "{said}");
    // A killed one leaves no lock behind.
    process.kill().await;
    let process = Process::start(folder.path(), &provider.base_url(), &[]).await;
    process.kill().await;
}
