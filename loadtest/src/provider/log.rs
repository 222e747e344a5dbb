//! The request log: what reached the provider and how each answer ended.
//!
//! `tokens_sent` counts tokens handed to the HTTP layer. That layer writes at once while the
//! socket takes bytes, so the number runs ahead of the wire by one socket buffer at most.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, header};
use serde::Serialize;
use tokio::sync::Notify;

/// Which endpoint a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// `POST /v1/chat/completions`, or another dialect's: `/v1/messages`, `/api/chat`, `:generateContent`.
    Chat,
    /// `POST /v1/embeddings`.
    Embeddings,
    /// `GET /v1/models`, or another dialect's.
    Models,
    /// `POST /v1/messages/count_tokens`, Anthropic's.
    Count,
    /// Anything else; answered 404.
    Unknown,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is still being written, or held.
    InFlight,
    /// Everything that was to be sent has been sent; error statuses count too.
    Completed,
    /// The client closed the connection first.
    ClientGone,
    /// The provider itself broke the connection, as asked.
    Broken,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Number of the request since the start, from 1; the answer's id is `chatcmpl-mock-<id>`.
    pub id: u64,
    /// When its body had arrived in full.
    pub arrived: Instant,
    /// Which endpoint it was for.
    pub route: Route,
    /// Its path and query.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, byte for byte.
    pub body: Bytes,
    /// Whether it asked for a stream.
    pub stream: bool,
    /// Status of the answer; 0 while there is none, and for ever where no reply is sent.
    pub status: u16,
    /// Content tokens handed to the HTTP layer, over all choices.
    pub tokens_sent: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended; for [`Outcome::ClientGone`] the moment the provider noticed.
    pub ended: Option<Instant>,
}

impl Entry {
    /// The `authorization` header.
    pub fn authorization(&self) -> Option<&str> {
        self.headers.get(header::AUTHORIZATION)?.to_str().ok()
    }

    /// The body as JSON; `Null` where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Totals since the start, also of requests that the log no longer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Counts {
    /// Chat requests that arrived.
    pub chat: u64,
    /// Embedding requests that arrived.
    pub embeddings: u64,
    /// Model list requests that arrived.
    pub models: u64,
    /// Prompts whose tokens were to be counted.
    pub count: u64,
    /// Requests for anything else.
    pub unknown: u64,
    /// Answers sent in full.
    pub completed: u64,
    /// Answers that the client did not wait for.
    pub client_gone: u64,
    /// Answers that the provider broke off, as asked.
    pub broken: u64,
}

/// The log itself.
#[derive(Debug)]
pub(super) struct RequestLog {
    kept: Mutex<Kept>,
    changed: Notify,
    capacity: usize,
    started: Instant,
}

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Entry>,
    counts: Counts,
    last_id: u64,
}

/// A request as it arrives.
pub(super) struct Arrival {
    pub(super) route: Route,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl RequestLog {
    pub(super) fn new(capacity: usize) -> Self {
        Self { kept: Mutex::default(), changed: Notify::new(), capacity, started: Instant::now() }
    }

    /// Writes down an arrival and returns its number.
    pub(super) fn arrived(&self, arrival: Arrival) -> u64 {
        let mut kept = self.kept();
        kept.last_id += 1;
        let id = kept.last_id;
        *kept.counts.of_route(arrival.route) += 1;
        if kept.entries.len() == self.capacity {
            kept.entries.pop_front();
        }
        kept.entries.push_back(Entry {
            id,
            arrived: Instant::now(),
            route: arrival.route,
            target: arrival.target,
            headers: arrival.headers,
            body: arrival.body,
            stream: false,
            status: 0,
            tokens_sent: 0,
            outcome: Outcome::InFlight,
            ended: None,
        });
        drop(kept);
        self.changed.notify_waiters();
        id
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.kept().entries.iter().cloned().collect()
    }

    pub(super) fn counts(&self) -> Counts {
        self.kept().counts
    }

    /// Waits until the entries satisfy `predicate`.
    ///
    /// # Panics
    /// After 30 seconds.
    pub(super) async fn wait_for(&self, what: &str, predicate: impl Fn(&[Entry]) -> bool) -> Vec<Entry> {
        let satisfied = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                // Registered before the look, so that no change falls between look and wait.
                changed.as_mut().enable();
                let entries = self.entries();
                if predicate(&entries) {
                    return entries;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), satisfied).await;
        waited.unwrap_or_else(|_| panic!("still waiting for {what}; the provider's log: {}", self.to_json()))
    }

    /// The log as JSON, times in milliseconds since the start, bodies as text.
    pub(super) fn to_json(&self) -> serde_json::Value {
        let since_start = |at: Instant| at.duration_since(self.started).as_secs_f64() * 1000.0;
        let entries = self.entries();
        entries
            .iter()
            .map(|entry| {
                serde_json::json!({
                    "id": entry.id,
                    "route": entry.route,
                    "arrived_ms": since_start(entry.arrived),
                    "ended_ms": entry.ended.map(since_start),
                    "authorization": entry.authorization(),
                    "stream": entry.stream,
                    "status": entry.status,
                    "tokens_sent": entry.tokens_sent,
                    "outcome": entry.outcome,
                    "body": String::from_utf8_lossy(&entry.body),
                })
            })
            .collect()
    }

    /// Changes the entry with this number, if the log still holds it.
    fn update(&self, id: u64, change: impl FnOnce(&mut Entry)) {
        let mut kept = self.kept();
        // Numbers are consecutive, so the position follows from the oldest one.
        let oldest = kept.entries.front().map_or(0, |entry| entry.id);
        let position = id.checked_sub(oldest).and_then(|offset| usize::try_from(offset).ok());
        if let Some(entry) = position.and_then(|position| kept.entries.get_mut(position)) {
            change(entry);
        }
    }

    fn end(&self, id: u64, outcome: Outcome, tokens_sent: usize) {
        *self.kept().counts.of_outcome(outcome) += 1;
        self.update(id, |entry| {
            entry.outcome = outcome;
            entry.tokens_sent = tokens_sent;
            entry.ended = Some(Instant::now());
        });
        self.changed.notify_waiters();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn of_route(&mut self, route: Route) -> &mut u64 {
        match route {
            Route::Chat => &mut self.chat,
            Route::Embeddings => &mut self.embeddings,
            Route::Models => &mut self.models,
            Route::Count => &mut self.count,
            Route::Unknown => &mut self.unknown,
        }
    }

    fn of_outcome(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Completed => &mut self.completed,
            Outcome::ClientGone | Outcome::InFlight => &mut self.client_gone,
            Outcome::Broken => &mut self.broken,
        }
    }
}

/// Follows one answer and writes its end into the log when dropped.
///
/// Whoever answers holds it: dropped with the answer unfinished means that the client went away.
pub(super) struct Tracker {
    shared: Arc<super::Shared>,
    id: u64,
    tokens_sent: usize,
    outcome: Outcome,
}

impl Tracker {
    pub(super) fn new(shared: Arc<super::Shared>, id: u64) -> Self {
        Self { shared, id, tokens_sent: 0, outcome: Outcome::ClientGone }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn answering(&self, status: u16, stream: bool) {
        self.shared.log.update(self.id, |entry| {
            entry.status = status;
            entry.stream = stream;
        });
    }

    /// Adds tokens just handed to the HTTP layer; zero costs nothing.
    pub(super) fn sent(&mut self, tokens: usize) {
        if tokens == 0 {
            return;
        }
        self.tokens_sent += tokens;
        let total = self.tokens_sent;
        self.shared.log.update(self.id, |entry| entry.tokens_sent = total);
        self.shared.log.changed.notify_waiters();
    }

    pub(super) fn completed(&mut self) {
        self.outcome = Outcome::Completed;
    }

    pub(super) fn broken(&mut self) {
        self.outcome = Outcome::Broken;
    }

    pub(super) fn gate(&self) -> &super::Gate {
        &self.shared.gate
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.shared.log.end(self.id, self.outcome, self.tokens_sent);
    }
}
