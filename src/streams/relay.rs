//! Says answers that are made here to those who listen on other instances. Each is read from its log as any listener reads
//! it: a Redis that is slow, or away, holds up nobody, and gets more at a time later.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Streams;
use super::log::{LiveStream, Piece};
use super::redis::{Asked, Said, Tails};
use super::subscription::Subscription;
use crate::redis::RedisError;

/// How often it is asked whether anybody listens, or wants no more.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Answers that are asked for at a time.
const ASKED_AT_ONCE: usize = 256;

/// What comes within this time is said in one piece.
const GATHERED: Duration = Duration::from_millis(20);

/// Bytes of one answer that are said at most; beyond it comes from the store.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// Asks for all answers that are made here what others want of them, and has said what somebody listens to; until the stop.
pub(super) async fn attend(streams: Streams, tails: Tails) {
    let stop = streams.inner.parts.stop.clone();
    let attendant = Attendant { streams, tails, said: HashMap::new() };
    stop.run_until_cancelled(attendant.attend()).await;
}

struct Attendant {
    streams: Streams,
    tails: Tails,
    /// What ends the saying of each, and who says it.
    said: HashMap<Uuid, (CancellationToken, JoinHandle<()>)>,
}

impl Attendant {
    async fn attend(mut self) {
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            self.said.retain(|_, (_, saying)| !saying.is_finished());
            let lives = if self.streams.has_others() { self.streams.lives() } else { Vec::new() };
            for some in lives.chunks(ASKED_AT_ONCE) {
                let names: Vec<Uuid> = some.iter().map(|live| live.begun.stream).collect();
                let asked = self.tails.asked(&names).await.unwrap_or_else(|_| vec![Asked::default(); some.len()]);
                for (live, asked) in some.iter().zip(asked) {
                    self.obey(live, asked);
                }
            }
        }
    }

    fn obey(&mut self, live: &Arc<LiveStream>, asked: Asked) {
        if asked.is_cancelled {
            live.cancel.cancel();
        }
        let stream = live.begun.stream;
        if !asked.is_heard {
            if let Some((unheard, _)) = self.said.remove(&stream) {
                unheard.cancel();
            }
        } else if !self.said.contains_key(&stream) {
            let unheard = CancellationToken::new();
            let relay = Relay::of(self.tails.clone(), Arc::clone(live)).run();
            let end = unheard.clone();
            let saying = self.streams.inner.parts.tasks.spawn(async move {
                end.run_until_cancelled(relay).await;
            });
            self.said.insert(stream, (unheard, saying));
        }
    }
}

/// Says one answer. It counts as a listener, as those do whom it stands for.
struct Relay {
    tails: Tails,
    live: Arc<LiveStream>,
    subscription: Subscription,
    text_at: usize,
    reasoning_at: usize,
}

impl Relay {
    fn of(tails: Tails, live: Arc<LiveStream>) -> Self {
        let subscription = live.subscribe(0);
        Self { tails, live, subscription, text_at: 0, reasoning_at: 0 }
    }

    /// Until the answer ends, or is another's, or Redis fails: then it is begun anew, from the start, while somebody listens.
    /// Those who have some of it pass that over.
    async fn run(mut self) {
        while self.text_at + self.reasoning_at < MOST_BYTES {
            tokio::select! {
                () = self.live.lost.cancelled() => return,
                () = self.subscription.ready(u64::MAX) => {}
            }
            tokio::time::sleep(GATHERED).await;
            let piece = self.subscription.take(u64::MAX);
            let is_last = matches!(piece, Some(Piece::End { .. } | Piece::Snapshot { .. }) | None);
            if self.say(piece).await.is_err() || is_last {
                return;
            }
        }
        // The rest comes from the store; those who listen are stood for all the same.
        while !self.live.is_done() {
            tokio::time::sleep(ASK_EVERY).await;
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
