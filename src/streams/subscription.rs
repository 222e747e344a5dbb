//! A listener's cursor in an answer's log: what comes next, as far as there is credit for it.

use std::sync::Arc;

use tokio::sync::watch;

use super::log::{LiveStream, Piece};

/// One listener's cursor.
#[derive(Debug)]
pub struct Subscription {
    /// The answer.
    pub stream: Arc<LiveStream>,
    restarts: u32,
    seen: u64,
    taken: u64,
    origin_seen: bool,
    over: bool,
    grown: watch::Receiver<()>,
}

impl Subscription {
    /// From behind `seen`, in the epoch after so many restarts.
    pub(super) fn new(stream: Arc<LiveStream>, grown: watch::Receiver<()>, restarts: u32, seen: u64) -> Self {
        Self { stream, restarts, seen, taken: 0, origin_seen: false, over: false, grown }
    }

    /// The next piece, of at most `credit` deltas; `None` after the end, or where the answer goes on elsewhere. Cancel-safe.
    pub async fn next(&mut self, credit: u64) -> Option<Piece> {
        self.ready(credit).await;
        self.take(credit)
    }

    /// Resolves when there is a next piece, or none follows. Cancel-safe. Whoever waits for something else before it
    /// takes the piece gets what is ready by then joined in it.
    pub async fn ready(&mut self, credit: u64) {
        loop {
            self.grown.mark_unchanged();
            let (restarts, seen, origin_seen) = (self.restarts, self.seen, self.origin_seen);
            if self.over || self.stream.locked(|log| log.has_next(restarts, seen, origin_seen, credit)) {
                return;
            }
            // The sender lives as long as the stream, which this subscription holds.
            let _ = self.grown.changed().await;
        }
    }

    /// Resolves when the answer has ended and more of such are in memory than there is room for: who cannot take it now
    /// lets it go. Cancel-safe.
    pub fn unaffordable(&self) -> impl Future<Output = ()> + Send + use<> {
        let (mut grown, stream) = (self.grown.clone(), Arc::clone(&self.stream));
        async move {
            loop {
                if let Some(share) = stream.share.get() {
                    return share.too_much().await;
                }
                // The sender lives as long as the stream.
                let _ = grown.changed().await;
            }
        }
    }

    /// The last number that was handed out in this epoch.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// How many deltas were handed out, in all epochs.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The epoch of what was handed out last.
    pub fn epoch(&self) -> u32 {
        self.restarts + 1
    }

    /// The next piece, if it is there already.
    pub fn take(&mut self, credit: u64) -> Option<Piece> {
        if self.over {
            return None;
        }
        let (restarts, seen, origin_seen) = (self.restarts, self.seen, self.origin_seen);
        let (now, piece) = self.stream.locked(|log| (log.restarts, log.next(restarts, seen, origin_seen, credit)));
        let Some(piece) = piece else {
            self.over = self.stream.locked(|log| log.is_over);
            return None;
        };
        match &piece {
            Piece::Origin(_) => self.origin_seen = true,
            Piece::Restart(_) => (self.restarts, self.seen, self.origin_seen) = (now, 0, true),
            Piece::Snapshot { seq, .. } => (self.restarts, self.seen, self.origin_seen) = (now, *seq, false),
            Piece::Delta { from, seq, .. } => {
                self.seen = *seq;
                self.taken += seq + 1 - from;
            }
            Piece::End { .. } => self.over = true,
        }
        Some(piece)
    }
}
