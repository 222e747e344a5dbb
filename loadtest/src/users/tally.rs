//! What was heard of the questions that count.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::answer::Heard;

/// What the provider takes for an answer by itself.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Known {
    pub first_ms: u64,
    pub per_token_ms: u64,
}

impl Known {
    fn first(self) -> Duration {
        Duration::from_millis(self.first_ms)
    }

    fn whole(self, tokens: u64) -> Duration {
        Duration::from_millis(self.first_ms + self.per_token_ms * tokens.saturating_sub(1))
    }
}

/// Counters and histograms while the run lasts.
pub(super) struct Tally {
    known: Known,
    pub good: u64,
    pub failures: BTreeMap<String, u64>,
    /// Good answers by what the cache said.
    pub by_cache: BTreeMap<String, u64>,
    pub output_tokens: u64,
    pub sockets_lost: u64,
    pub ack: Times,
    pub first: Times,
    pub whole: Times,
    pub added_first: Times,
    pub added_whole: Times,
}

/// From a microsecond to ten minutes, to three digits.
pub(super) struct Times(Histogram<u64>);

/// Times in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Quantiles {
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

impl Tally {
    pub(super) fn new(known: Known) -> Self {
        Self {
            known,
            good: 0,
            failures: BTreeMap::new(),
            by_cache: BTreeMap::new(),
            output_tokens: 0,
            sockets_lost: 0,
            ack: Times::new(),
            first: Times::new(),
            whole: Times::new(),
            added_first: Times::new(),
            added_whole: Times::new(),
        }
    }

    pub(super) fn record(&mut self, answer: Result<Heard, String>) {
        match answer {
            Ok(heard) => self.hear(heard),
            Err(fault) => *self.failures.entry(fault).or_default() += 1,
        }
    }

    fn hear(&mut self, heard: Heard) {
        // An answer from the cache took the provider no time: all of its time is ours.
        let is_hit = heard.cache == "hit";
        let known = |time: Duration| if is_hit { Duration::ZERO } else { time };
        self.good += 1;
        self.output_tokens += heard.output_tokens;
        *self.by_cache.entry(heard.cache).or_default() += 1;
        self.ack.record(heard.ack);
        self.first.record(heard.first);
        self.whole.record(heard.whole);
        self.added_first.record(heard.first.saturating_sub(known(self.known.first())));
        self.added_whole.record(heard.whole.saturating_sub(known(self.known.whole(heard.output_tokens))));
    }

    pub(super) fn asked(&self) -> u64 {
        self.good + self.failures.values().sum::<u64>()
    }
}

impl Times {
    fn new() -> Self {
        Self(Histogram::new_with_bounds(1, 600_000_000, 3).expect("invariant: the bounds are in order"))
    }

    fn record(&mut self, time: Duration) {
        self.0.saturating_record(time.as_micros() as u64);
    }

    pub(super) fn quantiles(&self) -> Quantiles {
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / 1e3;
        let max = self.0.max() as f64 / 1e3;
        Quantiles { p50: at(0.5), p90: at(0.9), p95: at(0.95), p99: at(0.99), p99_9: at(0.999), max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(cache: &str, first: u64, whole: u64) -> Heard {
        let ms = Duration::from_millis;
        let (conversation, cache) = (String::new(), cache.to_owned());
        Heard { conversation, ack: ms(1), first: ms(first), whole: ms(whole), output_tokens: 11, cache }
    }

    #[test]
    fn what_the_provider_takes_is_no_time_of_ours() {
        let mut tally = Tally::new(Known { first_ms: 100, per_token_ms: 10 });
        tally.record(Ok(heard("miss", 107, 220)));
        let (first, whole) = (tally.added_first.quantiles().max, tally.added_whole.quantiles().max);
        assert!((first - 7.0).abs() < 0.1 && (whole - 20.0).abs() < 0.1, "{first} {whole}");
        tally.record(Ok(heard("hit", 30, 40)));
        let (first, whole) = (tally.added_first.quantiles().max, tally.added_whole.quantiles().max);
        assert!((first - 30.0).abs() < 0.1 && (whole - 40.0).abs() < 0.1, "{first} {whole}");
        tally.record(Err("error overloaded".to_owned()));
        assert_eq!((tally.good, tally.asked()), (2, 3));
    }
}
