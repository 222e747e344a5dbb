//! The one writer of a socket: a bounded queue in front of it, pings between, and the close of a reader that does not
//! read.

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, timeout};

use super::frames::Frame;
use super::{Close, Heartbeat};
use crate::api::Api;

/// Frames that may wait: what answers produce meanwhile waits joined in their logs.
const QUEUE: usize = 8;

pub(super) enum Outgoing {
    Frame(String),
    Close(Close),
}

impl From<Frame> for Outgoing {
    fn from(frame: Frame) -> Self {
        Self::Frame(frame.to_json())
    }
}

pub(super) type Frames = mpsc::Sender<Outgoing>;

pub(super) fn start(api: &Api, sink: SplitSink<WebSocket, Message>) -> (JoinHandle<()>, Frames) {
    let (frames, queue) = mpsc::channel(QUEUE);
    let sent = api.0.metrics.ws_frames.with_label_values(&["out"]);
    let task = api.0.tasks.spawn(write(sink, queue, sent, api.0.facts.heartbeat));
    (task, frames)
}

async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut queue: mpsc::Receiver<Outgoing>,
    sent: prometheus::IntCounter,
    heartbeat: Heartbeat,
) {
    let mut ping_at = Instant::now() + heartbeat.0;
    loop {
        let message = tokio::select! {
            biased;
            outgoing = queue.recv() => match outgoing {
                Some(Outgoing::Frame(text)) => Message::Text(text.into()),
                Some(Outgoing::Close(close)) => {
                    let _ = timeout(Duration::from_secs(5), sink.send(Message::Close(Some(close.frame())))).await;
                    break;
                }
                None => break,
            },
            () = tokio::time::sleep_until(ping_at) => {
                ping_at = Instant::now() + heartbeat.0;
                Message::Ping(Bytes::new())
            }
        };
        match timeout(heartbeat.one_write(), sink.send(message)).await {
            Ok(Ok(())) => sent.inc(),
            Ok(Err(_)) => break,
            Err(_) => {
                let _ = timeout(Duration::from_secs(1), sink.send(Message::Close(Some(Close::Slow.frame())))).await;
                break;
            }
        }
    }
    let _ = timeout(Duration::from_secs(1), sink.close()).await;
}
