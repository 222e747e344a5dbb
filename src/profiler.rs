//! Where time, processor, memory and money go, told to operators: from what [`crate::metrics::Stages`] and [`crate::profile`] count, from the
//! pools, and from looks at the process ten times a second. It finds bottlenecks and says what to change; it changes nothing.
//!
//! All of it is in memory and bounded: 10,000 samples of the process, a day of minutes, five marks of the counters. It begins
//! anew with the process.

mod advice;
mod bottleneck;
mod flame;
mod minutes;
mod process;
mod report;
mod state;
mod summary;
mod window;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

pub use advice::Recommendation;
pub use bottleneck::{Bottleneck, Kind, Severity};
pub use flame::{FlameError, MOST_SECONDS};
pub use minutes::{Direction, Trend};
pub use process::Usage;
pub use report::{OperationReport, Report};

use crate::config::Config;
use crate::metrics::Metrics;
use crate::pool::Pools;
use minutes::Minutes;
use process::{Samples, Source};
use state::Settings;
use summary::Summary;
use window::{Mark, Window};

/// What trends are made of.
const MINUTE: Duration = Duration::from_mins(1);

/// A report looks back to the oldest of so many marks, one a minute.
const MARKS: usize = 5;

/// The profiler of one application. Cloning is cheap.
#[derive(Clone)]
pub struct Profiler {
    inner: Arc<Inner>,
}

struct Inner {
    is_on: bool,
    interval: Duration,
    settings: Settings,
    metrics: Arc<Metrics>,
    pools: Pools,
    samples: Mutex<Samples>,
    marks: Mutex<VecDeque<Mark>>,
    minutes: Mutex<Minutes>,
}

impl Profiler {
    /// Begins to count from now on. The process is looked at once [`Profiler::watch`] runs.
    pub fn new(config: &Config, metrics: &Arc<Metrics>, pools: &Pools) -> Self {
        let marks = VecDeque::from([Mark::now(metrics, pools)]);
        let inner = Inner {
            is_on: config.monitoring.enabled,
            interval: config.monitoring.interval,
            settings: Settings::of(config),
            metrics: Arc::clone(metrics),
            pools: pools.clone(),
            samples: Mutex::default(),
            marks: Mutex::new(marks),
            minutes: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Looks at the process until `stop`, keeps the minutes, and says each `monitoring.interval` how things are; nothing of it
    /// where `monitoring.enabled` is off.
    pub async fn watch(self, stop: CancellationToken) {
        if self.inner.is_on {
            let _ = stop.run_until_cancelled(self.look()).await;
        }
    }

    async fn look(&self) {
        let source = Source::open();
        let mut summary = Summary::begin(&self.inner.metrics, &self.inner.pools);
        let every = |period: Duration| {
            let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut sample, mut minute, mut say) = (every(process::EVERY), every(MINUTE), every(self.inner.interval));
        let mut looked = Instant::now();
        loop {
            tokio::select! {
                _ = sample.tick() => {
                    let took = looked.elapsed();
                    looked = Instant::now();
                    if let Some(reading) = source.as_ref().and_then(Source::read) {
                        lock(&self.inner.samples).take(reading, took);
                    }
                }
                _ = minute.tick() => self.inner.end_minute(),
                _ = say.tick() => summary.say(&self.inner, self.inner.interval),
            }
        }
    }

    /// Watches all threads for `span` and draws where they were, as SVG. Dropping the future ends it.
    ///
    /// # Errors
    /// [`FlameError`].
    pub async fn flame_graph(&self, span: Duration) -> Result<Vec<u8>, FlameError> {
        let limit = u64::try_from(self.inner.metrics.memory_limit.get()).unwrap_or(0);
        let held = Source::open().and_then(|source| source.read()).map_or(0, |reading| reading.resident_bytes);
        flame::fits(held, limit)?;
        flame::draw_after(span).await
    }

    /// All that is known now. Gauges are as they were set last: whoever asks has them refreshed before.
    pub fn report(&self) -> Report {
        self.inner.report()
    }
}

impl Inner {
    /// Keeps what the last minute was like, and a mark to look back to.
    fn end_minute(&self) {
        let now = Mark::now(&self.metrics, &self.pools);
        let mut marks = lock(&self.marks);
        if let Some(last) = marks.back() {
            let window = Window::between(last, &now, self.metrics.profile_seconds.all());
            let usage = lock(&self.samples).over(MINUTE);
            lock(&self.minutes).push(&report::figures(&window, &self.metrics, usage.as_ref()));
        }
        if marks.len() == MARKS {
            marks.pop_front();
        }
        marks.push_back(now);
    }

    /// What was counted since the oldest mark.
    fn window(&self) -> Window {
        let (now, marks) = (Mark::now(&self.metrics, &self.pools), lock(&self.marks));
        // There is one from the start on.
        let since = marks.front().unwrap_or(&now);
        Window::between(since, &now, self.metrics.profile_seconds.all())
    }
}

// Nothing under these locks panics; should it ever, the figures stay usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    fn profiler() -> Profiler {
        let config = Config::read(&Environment::from([("ISH_LISTEN", "127.0.0.1:0")]), None).unwrap();
        Profiler::new(&config, &Arc::new(Metrics::new()), &Pools::default())
    }

    #[test]
    fn a_slow_stage_is_named_and_its_minutes_are_its_trend() {
        let profiler = profiler();
        let stages = &profiler.inner.metrics.stages;
        assert_eq!(profiler.report().bottlenecks, []);
        (0..50).for_each(|_| stages.stored.record(Duration::from_millis(2)));
        (0..50).for_each(|_| stages.embed.record(Duration::from_millis(200)));
        let report = profiler.report();
        assert_eq!(report.bottlenecks[0].name, "embedding/look-up");
        assert_eq!(report.bottlenecks.len(), 1);
        profiler.inner.end_minute();
        (0..50).for_each(|_| stages.embed.record(Duration::from_millis(800)));
        let report = profiler.report();
        let trend = report.trends.iter().find(|trend| trend.name == "embedding/look-up p95_ms").unwrap();
        assert_eq!(trend.direction, Some(Direction::Rising), "{trend:?}");
        let operation = report.operations.iter().find(|one| one.operation == "look-up" && one.component == "embedding");
        assert_eq!(operation.unwrap().count, 100, "all of the window, of five minutes");
    }

    #[test]
    fn what_is_kept_is_bounded_and_told() {
        let profiler = profiler();
        for number in 0..200 {
            profiler.inner.metrics.profile_seconds.of("many", &number.to_string()).record(Duration::from_millis(1));
        }
        (0..minutes::KEPT * 2).for_each(|_| profiler.inner.end_minute());
        let kept = profiler.report().kept;
        assert_eq!((kept.minutes, kept.marks), (minutes::KEPT, MARKS));
        assert!(kept.bytes > 500_000 && kept.bytes < 3 << 20, "{} bytes", kept.bytes);
    }
}
