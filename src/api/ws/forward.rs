//! One answer on its way to one socket: as fast as the socket takes it, and as far as the client gives credit.

use std::pin::pin;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::close::Close;
use super::frames::{Frame, frame_of, terminal_frame};
use super::refusal;
use super::writer::Frames;
use crate::api::Api;
use crate::conversations::ConversationError;
use crate::streams::{Found, Piece, Subscription, stored_terminal};

/// A running one; dropped, it stops.
pub(super) struct Forward {
    task: JoinHandle<()>,
    granted: watch::Sender<u64>,
}

/// Where it goes, and whose it is.
#[derive(Clone)]
pub(super) struct Way {
    pub api: Api,
    pub tenant: String,
    pub request_id: String,
    pub frames: Frames,
}

impl Forward {
    /// Begins, with credit for so many deltas.
    pub(super) fn start(way: Way, subscription: Subscription, credit: u64) -> Self {
        let (granted, grants) = watch::channel(credit);
        let tasks = way.api.0.tasks.clone();
        let task = tasks.spawn(way.forward(subscription, grants));
        Self { task, granted }
    }

    pub(super) fn grant(&self, deltas: u64) {
        self.granted.send_modify(|granted| *granted = granted.saturating_add(deltas));
    }

    pub(super) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Resolves at its end. Cancel-safe.
    pub(super) async fn finished(&mut self) {
        if !self.task.is_finished() {
            let _ = (&mut self.task).await;
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Way {
    /// Until its end. A piece is taken from the log only once there is room for it, so that what comes meanwhile is in the
    /// same frame.
    async fn forward(self, mut subscription: Subscription, mut grants: watch::Receiver<u64>) {
        let heartbeat = self.api.0.facts.heartbeat;
        let mut unaffordable = pin!(subscription.unaffordable());
        loop {
            let left = grants.borrow_and_update().saturating_sub(subscription.taken());
            tokio::select! {
                // Who has it all needs no credit for its end.
                biased;
                () = subscription.ready(left) => {}
                // The sender lives in the session, which aborts this task when it ends.
                Ok(()) = grants.changed() => continue,
                () = &mut unaffordable, if left == 0 => return self.forward_later(subscription, grants).await,
                () = tokio::time::sleep(heartbeat.without_credit()), if left == 0 => {
                    return self.frames.close(Close::NO_CREDIT).await;
                }
            }
            let Ok(room) = self.frames.room().await else { return };
            let Some(piece) = subscription.take(left) else { return };
            let last = matches!(piece, Piece::End { .. });
            let sent = self.frames.send_in(room, &frame_of(&subscription, piece)).await;
            if sent.is_err() || last {
                return;
            }
        }
    }

    /// Lets an ended answer go for which there is no credit and no room: once there is credit, it comes from the store.
    async fn forward_later(&self, subscription: Subscription, mut grants: watch::Receiver<u64>) {
        let (stream, epoch, seen) = (subscription.stream.begun.stream, subscription.epoch(), subscription.seen());
        self.api.0.metrics.streams_let_go.inc();
        drop(subscription);
        tokio::select! {
            Ok(()) = grants.changed() => {}
            () = tokio::time::sleep(self.api.0.facts.heartbeat.without_credit()) => {
                return self.frames.close(Close::NO_CREDIT).await;
            }
        }
        for frame in self.stored(stream, epoch, seen).await {
            if self.frames.send(&frame).await.is_err() {
                return;
            }
        }
    }

    /// An answer that has left memory.
    async fn stored(&self, stream: Uuid, epoch: u32, after: u64) -> Vec<Frame> {
        let message = self.api.0.conversations.message_of_stream(&self.tenant, stream).await;
        self.ended(stream, epoch, after, message.map(|message| Found::Stored(Box::new(message))))
    }

    /// An answer that cannot be listened to: its text, unless the client has it all, and its end.
    pub(super) fn ended(
        &self,
        stream: Uuid,
        epoch: u32,
        after: u64,
        found: Result<Found, ConversationError>,
    ) -> Vec<Frame> {
        let message = match found {
            Ok(Found::Stored(message)) => message,
            Ok(Found::Live(_)) | Err(ConversationError::NotFound(_)) => return vec![Frame::Gone { stream }],
            Err(error) => return vec![refusal(None, &self.request_id, &error.into())],
        };
        let Some(terminal) = stored_terminal(&message) else { return vec![Frame::Gone { stream }] };
        let (stored_epoch, seq) = (message.epoch, message.seq);
        let end = terminal_frame(stream, stored_epoch, seq, message.id, terminal);
        if (epoch, after) == (stored_epoch, seq) {
            return vec![end];
        }
        let (text, reasoning) = (message.content, message.reasoning);
        vec![Frame::Snapshot { stream, epoch: stored_epoch, seq, text, reasoning }, end]
    }
}
