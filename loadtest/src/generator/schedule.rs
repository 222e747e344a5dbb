//! When the requests of an open loop are due: evenly spaced, and taken in turn by whichever connection is free.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The places of one run.
pub(super) struct Schedule {
    started: Instant,
    rate: f64,
    all: u64,
    taken: Cell<u64>,
    /// Taken, and not sent after all.
    given_back: Cell<u64>,
}

impl Schedule {
    /// Those from `started` to before `until`.
    pub(super) fn new(started: Instant, until: Instant, rate: f64) -> Self {
        let all = (until.saturating_duration_since(started).as_secs_f64() * rate).ceil() as u64;
        Self { started, rate, all, taken: Cell::new(0), given_back: Cell::new(0) }
    }

    /// Takes the next place, waits until it is due, and returns the moment its latency counts from; `None`: all are taken.
    pub(super) async fn next(&self) -> Option<Instant> {
        let due = self.take()?;
        if due <= Instant::now() {
            return Some(due);
        }
        tokio::time::sleep_until(due.into()).await;
        // The timer wakes up to a millisecond late; that lateness is ours, not the server's.
        Some(Instant::now())
    }

    /// The place just taken came too late to be sent.
    pub(super) fn give_back(&self) {
        self.given_back.set(self.given_back.get() + 1);
    }

    /// Places at or after `from` that were not sent.
    pub(super) fn unsent_since(&self, from: Instant) -> u64 {
        let before = (from.saturating_duration_since(self.started).as_secs_f64() * self.rate).ceil() as u64;
        self.all.saturating_sub(self.taken.get().max(before)) + self.given_back.get()
    }

    fn take(&self) -> Option<Instant> {
        let place = self.taken.get();
        (place < self.all).then(|| {
            self.taken.set(place + 1);
            self.started + Duration::from_secs_f64(place as f64 / self.rate)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_evenly_spaced_and_what_nobody_takes_is_known() {
        let started = Instant::now();
        let schedule = Schedule::new(started, started + Duration::from_secs(2), 4.0);
        let due: Vec<_> = (0..3).filter_map(|_| schedule.take()).collect();
        assert_eq!(due, [0, 250, 500].map(|ms| started + Duration::from_millis(ms)));
        assert_eq!(schedule.unsent_since(started), 5);
        schedule.give_back();
        assert_eq!(schedule.unsent_since(started), 6);
        assert_eq!(
            schedule.unsent_since(started + Duration::from_secs(1)),
            5,
            "four places count, and the one given back"
        );
        while schedule.take().is_some() {}
        assert_eq!(schedule.unsent_since(started), 1);
    }
}
