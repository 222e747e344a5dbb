//! One upstream call for equal requests: a flight is a task of its own with a replay log. Each listener has a cursor
//! and a guard; late ones replay; the opener may leave first; the last to leave ends the upstream call; an error goes
//! to all.

mod redis;
mod telling;
mod wire;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::redis::{Follow, Heard, Lead, Leases, Turn};
use super::scope::Digest;
use crate::message::{Completion, Delta, Served};
use crate::upstream::Failure;

/// How an answer ended.
#[derive(Debug, Clone)]
pub enum Ending {
    /// All of it came; whether it was stored stands beside it.
    Complete {
        /// The whole answer.
        completion: Arc<Completion>,
        /// The provider's own bytes, where it answered at once in OpenAI's dialect.
        raw: Option<Bytes>,
        /// Whether it was put into the cache.
        stored: bool,
    },
    /// The provider failed.
    Failed(Failure),
}

/// What a listener hears next.
#[derive(Debug, Clone)]
pub enum Event {
    /// A piece of the answer.
    Delta(Arc<Delta>),
    /// The end; nothing comes after it.
    End(Ending),
}

#[derive(Debug, Default)]
struct Log {
    deltas: Vec<Arc<Delta>>,
    ending: Option<Ending>,
}

/// One answer being made, and who listens.
#[derive(Debug)]
pub struct Flight {
    /// Who answers, and what it takes.
    pub served: Served,
    log: Mutex<Log>,
    grown: watch::Sender<()>,
    listeners: AtomicUsize,
    abandoned: CancellationToken,
}

impl Flight {
    fn new(served: Served) -> Arc<Self> {
        Arc::new(Self {
            served,
            log: Mutex::default(),
            grown: watch::Sender::new(()),
            listeners: AtomicUsize::new(0),
            abandoned: CancellationToken::new(),
        })
    }

    /// Adds a piece.
    pub fn push(&self, delta: Delta) {
        self.locked(|log| log.deltas.push(Arc::new(delta)));
        self.grown.send_replace(());
    }

    /// Ends it; a second ending is ignored.
    pub fn end(&self, ending: Ending) {
        self.locked(|log| {
            log.ending.get_or_insert(ending);
        });
        self.grown.send_replace(());
    }

    /// Gives everyone an answer that was there already.
    pub fn land(&self, completion: Arc<Completion>) {
        self.push(completion.as_delta());
        self.end(Ending::Complete { completion, raw: None, stored: true });
    }

    /// Resolves when the last listener has left.
    pub async fn abandoned(&self) {
        self.abandoned.cancelled().await;
    }

    /// The opener's place.
    fn listen(self: &Arc<Self>) -> Listener {
        self.listeners.fetch_add(1, Ordering::SeqCst);
        self.listener()
    }

    /// A further place; `None` once the last listener has left: its call is being ended.
    fn board(self: &Arc<Self>) -> Option<Listener> {
        let further = |listeners: usize| (listeners > 0).then_some(listeners + 1);
        self.listeners.fetch_update(Ordering::SeqCst, Ordering::SeqCst, further).ok()?;
        Some(self.listener())
    }

    fn listener(self: &Arc<Self>) -> Listener {
        Listener { flight: Arc::clone(self), cursor: 0, grown: self.grown.subscribe() }
    }

    fn locked<T>(&self, work: impl FnOnce(&mut Log) -> T) -> T {
        work(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One reader of a flight. Dropping it is leaving.
#[derive(Debug)]
pub struct Listener {
    flight: Arc<Flight>,
    cursor: usize,
    grown: watch::Receiver<()>,
}

impl Listener {
    /// Who answers, and what it takes.
    pub fn served(&self) -> &Served {
        &self.flight.served
    }

    /// The next event. Cancel-safe. After [`Event::End`] it must not be called again: it would wait for ever.
    pub async fn next(&mut self) -> Event {
        loop {
            self.grown.mark_unchanged();
            if let Some(event) = self.take() {
                return event;
            }
            // The sender lives as long as the flight, which this listener holds.
            let _ = self.grown.changed().await;
        }
    }

    /// The next event if it is there already.
    pub fn take(&mut self) -> Option<Event> {
        let cursor = self.cursor;
        let event = self.flight.locked(|log| match log.deltas.get(cursor) {
            Some(delta) => Some(Event::Delta(Arc::clone(delta))),
            None => log.ending.clone().map(Event::End),
        });
        self.cursor += usize::from(matches!(event, Some(Event::Delta(_))));
        event
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.flight.listeners.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.flight.abandoned.cancel();
        }
    }
}

/// The flights that can be joined, by exact key.
#[derive(Debug, Default, Clone)]
pub struct Flights {
    by_key: Arc<Mutex<HashMap<Digest, Arc<Flight>>>>,
}

/// A place in a flight.
pub enum Seat {
    /// An equal request is in flight already.
    Joined(Listener),
    /// The caller must fly it: run the call, then drop the pilot.
    Opened(Pilot, Listener),
}

/// The right and duty to fly; dropping it makes the flight joinable no longer, and ends it if nothing else did.
pub struct Pilot {
    /// The flight.
    pub flight: Arc<Flight>,
    key: Option<Digest>,
    flights: Flights,
}

impl Flights {
    /// Joins the flight of `key`, where there is one.
    pub fn join(&self, key: Digest) -> Option<Listener> {
        let by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        by_key.get(&key)?.board()
    }

    /// Joins the flight of `key`, or opens one whose answer `served` will tell about.
    pub fn join_or_open(&self, key: Digest, served: Served) -> Seat {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = by_key.get(&key).and_then(Flight::board) {
            return Seat::Joined(listener);
        }
        let flight = Flight::new(served);
        by_key.insert(key, Arc::clone(&flight));
        let listener = flight.listen();
        Seat::Opened(Pilot { flight, key: Some(key), flights: self.clone() }, listener)
    }

    /// Opens a flight that nobody can join.
    pub fn open_alone(&self, served: Served) -> (Pilot, Listener) {
        let flight = Flight::new(served);
        let listener = flight.listen();
        (Pilot { flight, key: None, flights: self.clone() }, listener)
    }

    /// How many can be joined.
    pub fn len(&self) -> usize {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none can be joined.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let mut by_key = self.flights.by_key.lock().unwrap_or_else(PoisonError::into_inner);
            if by_key.get(&key).is_some_and(|known| Arc::ptr_eq(known, &self.flight)) {
                by_key.remove(&key);
            }
        }
        // A pilot that panicked or was aborted must not leave its listeners waiting.
        self.flight
            .end(Ending::Failed(Failure::new(crate::upstream::FailureKind::Cut, "the upstream call was given up")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    fn delta(text: &str) -> Delta {
        Delta { text: text.to_owned(), ..Delta::default() }
    }

    async fn text(mut listener: Listener) -> String {
        let mut text = String::new();
        while let Event::Delta(delta) = listener.next().await {
            text.push_str(&delta.text);
        }
        text
    }

    #[tokio::test]
    async fn late_listeners_replay_and_the_opener_may_leave_first() {
        let flights = Flights::default();
        let Seat::Opened(pilot, opener) = flights.join_or_open(key(1), Served::default()) else { panic!("must open") };
        pilot.flight.push(delta("a"));
        let Seat::Joined(late) = flights.join_or_open(key(1), Served::default()) else { panic!("must join") };
        drop(opener);
        pilot.flight.push(delta("b"));
        let completion = Arc::new(Completion::of_text("m", "ab", None));
        pilot.flight.end(Ending::Complete { completion, raw: None, stored: true });
        drop(pilot);
        assert_eq!(text(late).await, "ab");
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn the_last_to_leave_ends_the_call_and_the_next_opens_anew() {
        let flights = Flights::default();
        let Seat::Opened(pilot, opener) = flights.join_or_open(key(1), Served::default()) else { panic!("must open") };
        drop(opener);
        pilot.flight.abandoned().await;
        assert!(matches!(flights.join_or_open(key(1), Served::default()), Seat::Opened(..)));
        drop(pilot);
        assert!(flights.is_empty(), "the second pilot was dropped with its seat");
    }

    #[tokio::test]
    async fn nobody_joins_between_the_last_ones_leaving_and_its_being_said() {
        let flights = Flights::default();
        let Seat::Opened(pilot, opener) = flights.join_or_open(key(1), Served::default()) else { panic!("must open") };
        // The first half of the opener's leaving.
        pilot.flight.listeners.fetch_sub(1, Ordering::SeqCst);
        assert!(flights.join(key(1)).is_none());
        assert!(matches!(flights.join_or_open(key(1), Served::default()), Seat::Opened(..)));
        std::mem::forget(opener);
    }

    #[tokio::test]
    async fn a_lost_pilot_fails_its_listeners() {
        let (pilot, mut listener) = Flights::default().open_alone(Served::default());
        drop(pilot);
        assert!(matches!(listener.next().await, Event::End(Ending::Failed(_))));
    }
}
