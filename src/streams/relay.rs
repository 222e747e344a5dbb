//! Says an answer that is made here to those who listen on other instances. It reads the answer's log as any listener does:
//! a Redis that is slow, or away, holds up nobody, and gets more at a time later.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::log::{LiveStream, Piece};
use super::redis::{Said, Tails};
use super::subscription::Subscription;
use crate::redis::RedisError;

/// How often it is asked whether anybody listens, or wants no more.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// What comes within this time is said in one piece.
const GATHERED: Duration = Duration::from_millis(20);

/// Bytes of one answer that are said at most; beyond it comes from the store.
const MOST_BYTES: usize = 8 * 1024 * 1024;

struct Relay {
    tails: Tails,
    live: Arc<LiveStream>,
    subscription: Subscription,
    text_at: usize,
    reasoning_at: usize,
}

/// Until the answer ends, or is another's.
pub(super) async fn relay(tails: Tails, live: Arc<LiveStream>) {
    let subscription = live.subscribe(0);
    live.set_unheard(true);
    let mut relay = Relay { tails, live: Arc::clone(&live), subscription, text_at: 0, reasoning_at: 0 };
    relay.run().await;
    drop(relay);
    live.set_unheard(false);
}

impl Relay {
    async fn run(&mut self) {
        while !self.live.is_done() && self.text_at + self.reasoning_at < MOST_BYTES {
            let ask_at = Instant::now() + ASK_EVERY;
            if self.is_heard().await && !self.say_until(ask_at).await {
                return;
            }
            tokio::time::sleep_until(ask_at).await;
        }
    }

    async fn is_heard(&self) -> bool {
        let asked = self.tails.asked(self.live.begun.stream).await.unwrap_or_default();
        if asked.is_cancelled {
            self.live.cancel.cancel();
        }
        self.live.set_unheard(!asked.is_heard);
        asked.is_heard
    }

    /// Says what comes until then; false when nothing more will.
    async fn say_until(&mut self, until: Instant) -> bool {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                () = self.subscription.ready(u64::MAX) => {}
            }
            tokio::time::sleep(GATHERED).await;
            let piece = self.subscription.take(u64::MAX);
            let is_last = matches!(piece, Some(Piece::End { .. } | Piece::Snapshot { .. }) | None);
            if self.say(piece).await.is_err() {
                // Begun again from the start: those who have some of it pass that over.
                self.subscription = self.live.subscribe(0);
                (self.text_at, self.reasoning_at) = (0, 0);
                return !is_last;
            }
            if is_last {
                return false;
            }
        }
    }

    async fn say(&mut self, piece: Option<Piece>) -> Result<(), RedisError> {
        let (seq, text, reasoning, is_end) = match piece {
            Some(Piece::Delta { seq, text, reasoning, .. }) => (seq, text, reasoning, false),
            Some(Piece::End { seq, .. }) => (seq, String::new(), String::new(), true),
            Some(Piece::Restart(_)) => {
                (self.text_at, self.reasoning_at) = (0, 0);
                return Ok(());
            }
            // Where it came from is said by its end; a snapshot is another owner's word.
            Some(Piece::Origin(_) | Piece::Snapshot { .. }) | None => return Ok(()),
        };
        let (text_at, reasoning_at) = (self.text_at, self.reasoning_at);
        self.text_at += text.len();
        self.reasoning_at += reasoning.len();
        let epoch = self.subscription.epoch();
        let said = Said { epoch, seq, text_at, reasoning_at, text, reasoning, is_end };
        self.tails.say(self.live.begun.stream, &said).await
    }
}
