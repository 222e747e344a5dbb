//! The one writer of a socket: a queue in front of it that is bounded in bytes, pings between, and the close of a reader
//! that does not read.

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, timeout};

use super::close::Close;
use super::frames::Frame;
use crate::api::Api;

/// Frames that may wait: what answers produce meanwhile waits joined in their logs.
const QUEUE: usize = 16;

/// Bytes of frames that may wait, or one frame that is larger.
const HELD_BYTES: usize = 256 * 1024;

/// What is kept free for a piece of an answer before it is taken from its log.
const PIECE_ROOM: usize = 2 * crate::streams::PIECE_BYTES;

/// The socket has ended.
#[derive(Debug)]
pub(super) struct Ended;

/// The way into the queue. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Frames {
    queue: mpsc::Sender<Outgoing>,
    room: Arc<Semaphore>,
    held: IntGauge,
}

/// Room for one frame.
pub(super) struct Room(OwnedSemaphorePermit);

enum Outgoing {
    Frame(Held),
    Close(Close),
}

/// A frame that waits, with the room that it takes.
struct Held {
    text: String,
    _room: OwnedSemaphorePermit,
    bytes: i64,
    gauge: IntGauge,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gauge.sub(self.bytes);
    }
}

impl Frames {
    /// Waits until a piece of an answer can be taken.
    pub(super) async fn room(&self) -> Result<Room, Ended> {
        self.room_for(PIECE_ROOM).await
    }

    /// Queues a frame in room that was kept for it; what it does not need is given back.
    pub(super) async fn send_in(&self, Room(mut room): Room, frame: &Frame) -> Result<(), Ended> {
        let text = frame.to_json();
        drop(room.split(room.num_permits().saturating_sub(text.len())));
        self.put(room, text).await
    }

    /// Queues a frame once there is room for it.
    pub(super) async fn send(&self, frame: &Frame) -> Result<(), Ended> {
        let text = frame.to_json();
        let Room(room) = self.room_for(text.len()).await?;
        self.put(room, text).await
    }

    /// Has the socket closed, once what waits has been sent.
    pub(super) async fn close(&self, close: Close) {
        // A writer that has ended has closed the socket itself.
        let _ = self.queue.send(Outgoing::Close(close)).await;
    }

    /// Resolves when the writer has ended.
    pub(super) async fn ended(&self) {
        self.queue.closed().await;
    }

    async fn put(&self, room: OwnedSemaphorePermit, text: String) -> Result<(), Ended> {
        let bytes = text.len() as i64;
        self.held.add(bytes);
        let held = Held { text, _room: room, bytes, gauge: self.held.clone() };
        self.queue.send(Outgoing::Frame(held)).await.map_err(|_| Ended)
    }

    async fn room_for(&self, bytes: usize) -> Result<Room, Ended> {
        let permits = u32::try_from(bytes.clamp(1, HELD_BYTES)).unwrap_or(u32::MAX);
        tokio::select! {
            room = Arc::clone(&self.room).acquire_many_owned(permits) => room.map(Room).map_err(|_| Ended),
            () = self.queue.closed() => Err(Ended),
        }
    }
}

/// Starts the writer; its task ends with the reason, if it was the one to close the socket.
pub(super) fn start(api: &Api, sink: SplitSink<WebSocket, Message>) -> (JoinHandle<Option<Close>>, Frames) {
    let (queue, waiting) = mpsc::channel(QUEUE);
    let metrics = &api.0.metrics;
    let writer = Writer {
        sink,
        waiting,
        sent: metrics.ws_frames.with_label_values(&["out"]),
        between_pings: api.0.facts.heartbeat.between_pings(),
        one_write: api.0.facts.heartbeat.one_write(),
    };
    let task = api.0.tasks.spawn(writer.run());
    (task, Frames { queue, room: Arc::new(Semaphore::new(HELD_BYTES)), held: metrics.ws_held_bytes.clone() })
}

struct Writer {
    sink: SplitSink<WebSocket, Message>,
    waiting: mpsc::Receiver<Outgoing>,
    sent: IntCounter,
    between_pings: Duration,
    one_write: Duration,
}

impl Writer {
    async fn run(mut self) -> Option<Close> {
        let closed = self.write().await;
        // What still waits is nobody's.
        drop(self.waiting);
        let _ = timeout(Duration::from_secs(1), self.sink.close()).await;
        closed
    }

    async fn write(&mut self) -> Option<Close> {
        let mut ping_at = Instant::now() + self.between_pings;
        loop {
            let (message, _held) = tokio::select! {
                biased;
                () = tokio::time::sleep_until(ping_at) => {
                    ping_at = Instant::now() + self.between_pings;
                    (Message::Ping(Bytes::new()), None)
                }
                outgoing = self.waiting.recv() => match outgoing? {
                    Outgoing::Frame(mut held) => (Message::Text(std::mem::take(&mut held.text).into()), Some(held)),
                    Outgoing::Close(close) => {
                        self.say_close(close, Duration::from_secs(5)).await;
                        return Some(close);
                    }
                },
            };
            match timeout(self.one_write, self.sink.send(message)).await {
                Ok(Ok(())) => self.sent.inc(),
                Ok(Err(_)) => return Some(Close::Lost),
                Err(_) => {
                    self.say_close(Close::UNREAD, Duration::from_secs(1)).await;
                    return Some(Close::UNREAD);
                }
            }
        }
    }

    async fn say_close(&mut self, close: Close, within: Duration) {
        if close != Close::Lost {
            let _ = timeout(within, self.sink.send(Message::Close(Some(close.frame())))).await;
        }
    }
}
