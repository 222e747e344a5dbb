//! One line in the log each `monitoring.interval`: how much was asked, how fast it was, what the cache spared, and what it took.

use std::time::Duration;

use super::window::{Mark, Window};
use super::{Inner, lock};
use crate::metrics::Metrics;
use crate::pool::Pools;

/// From one line to the next.
pub(super) struct Summary {
    last: Mark,
}

impl Summary {
    pub(super) fn begin(metrics: &Metrics, pools: &Pools) -> Self {
        Self { last: Mark::now(metrics, pools) }
    }

    /// Says how it was since the last line.
    pub(super) fn say(&mut self, inner: &Inner, interval: Duration) {
        let now = Mark::now(&inner.metrics, &inner.pools);
        let window = Window::between(&self.last, &now, inner.metrics.profile_seconds.all());
        self.last = now;
        let usage = lock(&inner.samples).over(interval);
        let requests = window.of(&inner.metrics.stages.request);
        tracing::info!(
            seconds = window.seconds.round(),
            requests = requests.count(),
            failed = window.counters.failures,
            p95_ms = requests.quantile_seconds(0.95).map(|seconds| rounded(seconds * 1e3)),
            questions = window.counters.questions,
            hits = window.counters.hits,
            saved_usd = rounded(window.counters.saved_usd),
            cpu_cores = usage.as_ref().map(|usage| rounded(usage.cpu_cores)),
            memory_mb = usage.as_ref().map(|usage| usage.memory_bytes / 1_000_000),
            "summary"
        );
    }
}

/// To the thousandth.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded() {
        assert_eq!((rounded(0.123_456), rounded(12.0)), (0.123, 12.0));
    }
}
