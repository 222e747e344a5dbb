//! What a chat request may take and how often it may fail: targets that every load is measured against.

use clap::Args;
use loadtest::generator::Report;

use crate::trial::goal::{Bound, Goal};

/// The targets of a whole request.
#[derive(Args, Clone, Debug)]
pub(crate) struct Bounds {
    /// Half of the replies must come within so many milliseconds.
    #[arg(long, default_value_t = 100.0)]
    p50_ms: f64,
    /// 95 of 100.
    #[arg(long, default_value_t = 500.0)]
    p95_ms: f64,
    /// 99 of 100.
    #[arg(long, default_value_t = 1_000.0)]
    p99_ms: f64,
    /// The share of requests that must be answered as they should.
    #[arg(long, default_value_t = 0.995)]
    success: f64,
}

impl Bounds {
    /// A report against them, beside the floor's.
    pub(crate) fn goals(&self, test: &str, report: &Report, floor: Option<&Report>) -> Vec<Goal> {
        let time = |name: &str, bound: f64, of: fn(&Report) -> f64| {
            let ms = |report: &Report| of(report) / 1e3;
            // Where nothing was answered there is no time.
            let measured = if report.good == 0 { f64::NAN } else { ms(report) };
            Goal::new(test, name, "ms", Bound::AtMost(bound), measured).beside(floor.map(ms))
        };
        vec![
            time("p50 of a reply", self.p50_ms, |report| report.total.p50_us).advice(
                "every request is slow: look at the profiler's components, and whether processors are busy (docs/runbooks.md)",
            ),
            time("p95 of a reply", self.p95_ms, |report| report.total.p95_us)
                .advice("some requests wait: look at the pools' waits and at the embedder's queue"),
            time("p99 of a reply", self.p99_ms, |report| report.total.p99_us)
                .advice("a few requests wait long: look at slow queries and at the runtime's lag"),
            Goal::new(test, "answered as it should", "", Bound::AtLeast(self.success), report.success())
                .beside(floor.map(Report::success))
                .advice("look at `wrong_statuses`, `wrong_replies`, `broken` and `unsent` in the report"),
        ]
    }

    /// Whether a report meets them all.
    pub(crate) fn are_met(&self, report: &Report) -> bool {
        self.goals("", report, None).iter().all(|goal| goal.met)
    }
}
