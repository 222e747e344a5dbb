//! What the clients of a server that will crash have done and been told, one JSON line each, written down at once: the
//! only thing that a checker may believe besides the database.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use loadtest::provider::answer::answer_to_conversation;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Ack, Answer, Process, Socket};

/// The history of all clients. Cloning is cheap.
#[derive(Clone)]
pub struct History {
    file: Arc<Mutex<File>>,
    /// Events so far, for whoever waits for a moment to strike.
    events: watch::Sender<u64>,
}

impl History {
    /// Goes on with the file, or begins it.
    pub fn open(path: &Path) -> Self {
        let file = File::options().create(true).append(true).open(path).unwrap();
        Self { file: Arc::new(Mutex::new(file)), events: watch::Sender::new(0) }
    }

    /// Writes one event down.
    pub fn note(&self, event: &Value) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(format!("{event}\n").as_bytes()).unwrap();
        drop(file);
        self.events.send_modify(|events| *events += 1);
    }

    /// Counts something that need not be written down.
    pub fn tick(&self) {
        self.events.send_modify(|events| *events += 1);
    }

    /// Waits until so many more events have happened.
    pub async fn more(&self, count: u64) {
        let mut events = self.events.subscribe();
        let target = *events.borrow() + count;
        // The sender lives here.
        let _ = events.wait_for(|events| *events >= target).await;
    }
}

/// The tokens of a question's answer; long ones are checkpointed on the way.
fn tokens_of(number: u64) -> usize {
    [10, 40, 600][usize::try_from(number % 3).unwrap()]
}

/// A question that nobody else asks, whose answer takes a moment.
pub fn question(id: &str, number: u64) -> String {
    format!("What does {id} ask? [[tokens={} each=1ms]]", tokens_of(number))
}

/// The whole answer to such a question.
pub fn whole_answer(prompt: &str) -> String {
    let tokens = prompt.split_once("tokens=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    answer_to_conversation([("user", prompt)], tokens.unwrap())
}

/// One client that asks until the server is gone, the first question of each socket while the last is still answered.
pub async fn ask_until_gone(
    process_address: std::net::SocketAddr,
    history: History,
    name: String,
    numbers: Arc<AtomicU64>,
) {
    let Ok(mut socket) = Socket::try_greeted(process_address).await else { return };
    let mut waiting: Vec<(String, String)> = Vec::new();
    loop {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let id = format!("{name}-{number}");
        let prompt = question(&id, number);
        history.note(&json!({"event": "sent", "id": id, "prompt": prompt}));
        if socket.try_say(json!({"type": "send", "id": id, "content": prompt})).await.is_err() {
            return;
        }
        // Every second question is waited for; the others are answered side by side.
        loop {
            let Ok(frame) = socket.hear_any().await else { return };
            history.tick();
            match frame["type"].as_str().unwrap() {
                "ack" => {
                    let ack: Ack = serde_json::from_value(frame).unwrap();
                    note_ack(&history, &ack);
                    waiting.push((ack.stream, ack.reply));
                    if number.is_multiple_of(2) {
                        break;
                    }
                }
                "done" | "error" | "cancelled" => {
                    let stream = frame["stream"].as_str().unwrap().to_owned();
                    note_end(&history, &stream, &socket.known(&stream));
                    waiting.retain(|(waited, _)| *waited != stream);
                    if waiting.is_empty() {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
}

pub fn note_ack(history: &History, ack: &Ack) {
    history.note(&json!({
        "event": "acknowledged", "id": ack.id, "conversation": ack.conversation, "message": ack.message,
        "reply": ack.reply, "stream": ack.stream, "duplicate": ack.duplicate,
    }));
}

pub fn note_end(history: &History, stream: &str, answer: &Answer) {
    let end = answer.end.as_ref().unwrap();
    history.note(&json!({
        "event": "ended", "stream": stream, "type": end["type"], "code": end.get("code"), "text": answer.text, "seq": answer.seq,
    }));
}

/// Events of the file, as a checker reads them.
pub fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// After a restart: what was acknowledged is resumed to its end, what was not is sent again under its id.
pub async fn reconcile(process: &Process, history: &History, events: &[Value]) {
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).cloned().collect::<Vec<_>>();
    let (acknowledged, ended) = (of("acknowledged"), of("ended"));
    let mut socket = Socket::greeted(process.address).await;
    for ack in &acknowledged {
        let stream = text(ack, "stream");
        if ended.iter().any(|end| text(end, "stream") == stream) {
            continue;
        }
        socket.resume(&stream, Answer::default()).await;
        note_end(history, &stream, &socket.answer(&stream).await);
    }
    for sent in of("sent") {
        let id = text(&sent, "id");
        if acknowledged.iter().any(|ack| text(ack, "id") == id) {
            continue;
        }
        let ack = socket.ask(&id, &text(&sent, "prompt")).await;
        note_ack(history, &ack);
        note_end(history, &ack.stream, &socket.answer(&ack.stream).await);
    }
}
