//! An answer that another instance makes, as its listeners here have it: the same log, grown by what its owner says in Redis
//! and brought to what the store holds, until that says the end. So an answer can be resumed on any instance, and one that
//! was lost to another goes on for those who listen.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Streams;
use super::ending::Terminal;
use super::log::{Heard, LiveStream};
use super::redis::Said;
use crate::conversations::ConversationError;

/// Between two looks into the store: while Redis says nothing, and while it does.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));

/// Between two looks into Redis for each 50 that are followed here: at first, and when nothing comes.
const LISTEN_EVERY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(160));

/// One that is followed.
struct Mirror {
    streams: Streams,
    live: Arc<LiveStream>,
    /// The last piece read in Redis.
    last: String,
    /// When the store is to be looked into.
    look_at: Instant,
    pause: Duration,
}

/// Follows it to its end, or until nobody listens; it stands among the mirrors meanwhile.
pub(super) async fn follow(streams: Streams, live: Arc<LiveStream>) {
    let parts = &streams.inner.parts;
    let (last, look_at) = ("0-0".to_owned(), Instant::now());
    let mut mirror = Mirror { streams: streams.clone(), live: Arc::clone(&live), last, look_at, pause: LISTEN_EVERY.0 };
    tokio::select! {
        () = mirror.follow() => {}
        // Its readers find it elsewhere, and need not wait here for the end of what is not made here.
        () = async { tokio::select! { () = parts.stop.cancelled() => {} () = streams.draining() => {} } } => {
            mirror.look().await;
            live.leave_unless_ended();
        }
    }
    drop(mirror);
    if live.has_ended() {
        streams.inner.ended.keep(&live);
    }
    streams.inner.mirrors.lock().unwrap_or_else(PoisonError::into_inner).remove(&live.begun.stream);
}

impl Mirror {
    async fn follow(&mut self) {
        loop {
            if Instant::now() >= self.look_at {
                self.look().await;
            }
            if self.live.has_ended() {
                return;
            }
            let crowd = self.streams.mirrored() as u32 / 50 + 1;
            tokio::time::sleep(self.pause * crowd).await;
            self.listen().await;
            if self.streams.forget_deserted(&self.live) {
                return;
            }
        }
    }

    /// Takes what the owner has said in Redis.
    async fn listen(&mut self) {
        let Some(tails) = self.streams.inner.parts.tails.clone() else {
            self.pause = LOOK_EVERY.0;
            return;
        };
        match tails.listen(self.live.begun.stream, &mut self.last).await {
            Ok(pieces) if pieces.is_empty() => self.pause = (2 * self.pause).min(LISTEN_EVERY.1),
            Ok(pieces) => {
                self.pause = LISTEN_EVERY.0;
                for said in pieces {
                    self.hear(&said).await;
                }
            }
            Err(_) => self.pause = LISTEN_EVERY.1,
        }
    }

    async fn hear(&mut self, said: &Said) {
        let mut heard = self.live.hear(said);
        if heard == Heard::Ahead || said.is_end {
            // The store knows of an epoch, and of an end, before anybody says it.
            self.look().await;
            heard = self.live.hear(said);
        }
        if heard == Heard::New {
            self.streams.inner.parts.metrics.stream_pieces_followed.with_label_values(&["redis"]).inc();
            self.look_at = self.look_at.max(Instant::now() + LOOK_EVERY.1);
        }
    }

    /// Takes what the store holds.
    async fn look(&mut self) {
        self.look_at = Instant::now() + LOOK_EVERY.0;
        let live = &self.live;
        match self.streams.inner.parts.conversations.message(&live.tenant, live.begun.reply).await {
            Ok(message) => {
                if live.agree(&message) {
                    self.streams.inner.parts.metrics.stream_pieces_followed.with_label_values(&["store"]).inc();
                }
            }
            // Deleted with its conversation, which ends it.
            Err(ConversationError::NotFound(_)) => {
                let text_blake3 = blake3::hash(live.progress().content.as_bytes()).to_hex().to_string();
                live.end(Terminal::Cancelled { text_blake3 });
            }
            Err(error) => tracing::warn!(%error, "another instance's answer could not be looked at; the next look may"),
        }
    }
}
