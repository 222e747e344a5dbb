//! How a run went while it lasted: counts and latencies of each stretch of it.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::reply::Outcome;
use super::report::nanoseconds;

/// Stretches of a run at most, but that none is shorter than a second.
const STRETCHES: u32 = 120;

/// One stretch of a run, by when its replies came.
#[derive(Clone, Debug, Serialize)]
pub struct Moment {
    /// Seconds from the beginning of the count to the stretch's end.
    pub at_s: f64,
    /// Good replies per second.
    pub good_per_second: f64,
    /// Replies per second that said: not now.
    pub refused_per_second: f64,
    /// Anything else per second.
    pub bad_per_second: f64,
    /// Latency of good replies, the middle one.
    pub p50_ms: f64,
    /// 99 of 100 were faster.
    pub p99_ms: f64,
}

/// The stretches so far, and the one that is on.
pub(super) struct Course {
    began: Instant,
    every: Duration,
    ends: Instant,
    good: Histogram<u64>,
    refused: u64,
    bad: u64,
    moments: Vec<Moment>,
}

impl Course {
    pub(super) fn new(began: Instant, lasts: Duration) -> Self {
        let every = (lasts / STRETCHES).max(Duration::from_secs(1));
        Self { began, every, ends: began + every, good: nanoseconds(), refused: 0, bad: 0, moments: Vec::new() }
    }

    pub(super) fn record(&mut self, outcome: &Outcome) {
        let now = Instant::now();
        while now >= self.ends {
            self.close();
        }
        match outcome {
            Outcome::Good(times) => self.good.saturating_record(times.total.as_nanos() as u64),
            Outcome::WrongStatus(wrong) if wrong.is_refusal() => self.refused += 1,
            _ => self.bad += 1,
        }
    }

    /// Ends the stretch that is on.
    pub(super) fn close(&mut self) {
        let ms = |quantile: f64| self.good.value_at_quantile(quantile) as f64 / 1e6;
        let per_second = |count: u64| count as f64 / self.every.as_secs_f64();
        self.moments.push(Moment {
            at_s: (self.ends - self.began).as_secs_f64(),
            good_per_second: per_second(self.good.len()),
            refused_per_second: per_second(self.refused),
            bad_per_second: per_second(self.bad),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
        });
        self.good.reset();
        (self.refused, self.bad) = (0, 0);
        self.ends += self.every;
    }

    pub(super) fn moments(&self) -> &[Moment] {
        &self.moments
    }
}
