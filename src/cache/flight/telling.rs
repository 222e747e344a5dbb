//! What of a flight others have been told, what is still to be said, and how long Redis may take none of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::wire::{Piece, Word};
use super::{Ending, Flight};
use crate::message::Delta;

/// How long Redis may fail one who tells or reads along before he goes his own way.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long Redis has failed without a break.
#[derive(Default)]
pub(super) struct Trouble {
    since: Option<Instant>,
}

impl Trouble {
    pub(super) fn is_over(&mut self) {
        self.since = None;
    }

    /// It goes on; whether that can be borne.
    pub(super) fn is_bearable(&mut self) -> bool {
        self.since.get_or_insert_with(Instant::now).elapsed() <= PATIENCE
    }
}

/// How far a flight has been told.
#[derive(Default)]
pub(super) struct Telling {
    pub(super) deltas: usize,
    pieces: bool,
    by: bool,
    end: bool,
    pub(super) bytes: usize,
    /// Texts so far.
    number: u64,
    /// Those that Redis has not taken yet, with their numbers.
    pub(super) unsaid: VecDeque<(u64, Vec<u8>)>,
    trouble: Trouble,
}

impl Telling {
    /// Puts what is new into words.
    pub(super) fn word(&mut self, flight: &Flight, fresh: &[Arc<Delta>], ending: Option<&Ending>) {
        if self.end || (fresh.is_empty() && ending.is_none()) {
            return;
        }
        let mut words = Vec::new();
        if let Some(by) = flight.served.by().filter(|_| !self.by) {
            words.push(Word::By(by.provider.to_string(), by.model.to_string()));
            self.by = true;
        }
        self.deltas += fresh.len();
        // At the end, those who have heard nothing get the answer as a whole.
        if self.pieces || ending.is_none_or(|ending| matches!(ending, Ending::Failed(_))) {
            let pieces = fresh.iter().filter_map(|delta| Piece::of(delta));
            words.extend(pieces.map(Word::Piece));
            self.pieces |= words.iter().any(|word| matches!(word, Word::Piece(_)));
        }
        words.extend(ending.map(|ending| Word::end(ending, self.pieces)));
        self.end = ending.is_some();
        if !words.is_empty() {
            // Words are made of texts and numbers: they can always be written.
            let text = serde_json::to_vec(&words).unwrap_or_default();
            self.bytes += text.len();
            self.number += 1;
            self.unsaid.push_back((self.number, text));
        }
    }

    /// What Redis answered, where it did; its error, where that has lasted too long.
    pub(super) fn bear<T, E>(&mut self, answer: Result<T, E>) -> Result<Option<T>, E> {
        match answer {
            Ok(answer) => {
                self.trouble.is_over();
                Ok(Some(answer))
            }
            Err(_) if self.trouble.is_bearable() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
