//! What a run found out.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::course::Moment;
use super::reply::{Outcome, Times};

/// Of which latencies are told one by one.
const QUANTILES: [f64; 11] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1.0];

/// Counters and histograms while a run lasts.
pub(super) struct Tally {
    good: u64,
    statuses: BTreeMap<u16, u64>,
    wrong_replies: BTreeMap<String, u64>,
    broken: u64,
    total: Histogram<u64>,
    first_content: Histogram<u64>,
    refused: Histogram<u64>,
    without_retry_after: u64,
    kinds: BTreeMap<String, Histogram<u64>>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            good: 0,
            statuses: BTreeMap::new(),
            wrong_replies: BTreeMap::new(),
            broken: 0,
            total: nanoseconds(),
            first_content: nanoseconds(),
            refused: nanoseconds(),
            without_retry_after: 0,
            kinds: BTreeMap::new(),
        }
    }
}

/// The counted part of a run.
pub(super) struct Span {
    /// Requests sent, those of the warm-up too.
    pub(super) sent: u64,
    /// Requests that were due and never sent.
    pub(super) unsent: u64,
    /// How long it took until the last reply.
    pub(super) elapsed: Duration,
    /// How long it was to take.
    pub(super) full: Duration,
    /// CPU time of the target.
    pub(super) cpu: Option<Duration>,
    /// The same by the names of its threads.
    pub(super) cpu_by_thread: BTreeMap<String, Duration>,
}

/// From a microsecond to ten minutes, to three digits.
pub(super) fn nanoseconds() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 600_000_000_000, 3).expect("invariant: the bounds are in order")
}

impl Tally {
    /// Counts requests that nobody waits for any longer.
    pub(super) fn give_up(&mut self, requests: usize) {
        self.broken += requests as u64;
    }

    pub(super) fn record(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Good(times) => self.good(times),
            Outcome::WrongStatus(wrong) => {
                *self.statuses.entry(wrong.status).or_default() += 1;
                if wrong.is_refusal() {
                    self.refused.saturating_record(wrong.after.as_nanos() as u64);
                    self.without_retry_after += u64::from(!wrong.has_retry_after);
                }
            }
            Outcome::WrongReply(reason) => *self.wrong_replies.entry(reason.clone()).or_default() += 1,
            Outcome::Broken => self.broken += 1,
        }
    }

    fn good(&mut self, times: &Times) {
        let total = times.total.as_nanos() as u64;
        self.good += 1;
        self.total.saturating_record(total);
        if let Some(first_content) = times.first_content {
            self.first_content.saturating_record(first_content.as_nanos() as u64);
        }
        if let Some(kind) = &times.kind {
            self.kinds.entry(kind.clone()).or_insert_with(nanoseconds).saturating_record(total);
        }
    }
}

/// The result of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Requests sent, those of the warm-up too.
    pub sent: u64,
    /// Requests of an open loop that were due and never sent, since no connection was free in time.
    pub unsent: u64,
    /// Replies that were as expected.
    pub good: u64,
    /// Everything else: wrong statuses, wrong replies and broken connections together.
    pub bad: u64,
    /// Replies by status, where it was none of success.
    pub wrong_statuses: BTreeMap<u16, u64>,
    /// Replies with a status of success that were not as expected, by what they were.
    pub wrong_replies: BTreeMap<String, u64>,
    /// Requests without a complete reply.
    pub broken: u64,
    /// Good replies per second.
    pub per_second: f64,
    /// CPU time of the target per good reply, in microseconds, if its process was named.
    pub cpu_us_per_request: Option<f64>,
    /// The same by the names of its threads.
    pub cpu_us_by_thread: BTreeMap<String, f64>,
    /// CPU time of the target per second, 1.0 being one core.
    pub cores_used: Option<f64>,
    /// Latency of the whole reply.
    pub total: Percentiles,
    /// Latency of the first content, streams only.
    pub first_content: Option<Percentiles>,
    /// Replies that said: not now (429 and 503); they are among the bad ones.
    pub refused: Option<Refused>,
    /// Good replies by what tells them apart, where that was asked for.
    pub kinds: BTreeMap<String, Kind>,
    /// Shares of the good replies, each with the microseconds within which they came.
    pub quantiles: Vec<[f64; 2]>,
    /// How the run went while it lasted.
    pub course: Vec<Moment>,
}

/// Replies that said: not now.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    /// How many.
    pub count: u64,
    /// Of these, how many did not say when to come back.
    pub without_retry_after: u64,
    /// How soon they came.
    pub total: Percentiles,
}

/// Good replies of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Kind {
    /// How many.
    pub count: u64,
    /// Latency of the whole reply.
    pub total: Percentiles,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    /// Half were faster.
    pub p50_us: f64,
    /// 90 of 100 were faster.
    pub p90_us: f64,
    /// 95 of 100 were faster.
    pub p95_us: f64,
    /// 99 of 100 were faster.
    pub p99_us: f64,
    /// The slowest.
    pub max_us: f64,
}

impl Report {
    /// The share of the requests that were due, sent or not, whose replies were good.
    pub fn success(&self) -> f64 {
        let all = self.good + self.bad + self.unsent;
        if all == 0 { 0.0 } else { self.good as f64 / all as f64 }
    }

    pub(super) fn new(tally: &Tally, span: &Span, course: &[Moment]) -> Self {
        let wrong = tally.statuses.values().sum::<u64>() + tally.wrong_replies.values().sum::<u64>();
        let good = tally.good as f64;
        // Replies that came after the end began before it, so they belong to the full time.
        let seconds = span.elapsed.min(span.full).as_secs_f64();
        let per = |amount: f64, whole: f64| if whole > 0.0 { amount / whole } else { 0.0 };
        let cpu_seconds = span.cpu.map(|cpu| cpu.as_secs_f64());
        Self {
            sent: span.sent,
            unsent: span.unsent,
            good: tally.good,
            bad: wrong + tally.broken,
            wrong_statuses: tally.statuses.clone(),
            wrong_replies: tally.wrong_replies.clone(),
            broken: tally.broken,
            per_second: per(good, seconds),
            cpu_us_per_request: cpu_seconds.filter(|_| tally.good > 0).map(|cpu| per(cpu * 1e6, good)),
            cpu_us_by_thread: span
                .cpu_by_thread
                .iter()
                .map(|(name, time)| (name.clone(), per(time.as_secs_f64() * 1e6, good)))
                .collect(),
            cores_used: cpu_seconds.map(|cpu| per(cpu, span.elapsed.as_secs_f64())),
            total: Percentiles::of(&tally.total),
            first_content: (!tally.first_content.is_empty()).then(|| Percentiles::of(&tally.first_content)),
            refused: Refused::of(tally),
            kinds: tally.kinds.iter().map(|(name, times)| (name.clone(), Kind::of(times))).collect(),
            quantiles: QUANTILES.map(|share| [share, tally.total.value_at_quantile(share) as f64 / 1e3]).to_vec(),
            course: course.to_vec(),
        }
    }
}

impl Refused {
    fn of(tally: &Tally) -> Option<Self> {
        let Tally { refused, without_retry_after, .. } = tally;
        let (count, without_retry_after) = (refused.len(), *without_retry_after);
        (count > 0).then(|| Self { count, without_retry_after, total: Percentiles::of(refused) })
    }
}

impl Kind {
    fn of(times: &Histogram<u64>) -> Self {
        Self { count: times.len(), total: Percentiles::of(times) }
    }
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p95_us: at(0.95),
            p99_us: at(0.99),
            max_us: histogram.max() as f64 / 1e3,
        }
    }
}
