//! What operators are told, as one object.

use serde::Serialize;

use super::advice::{self, Recommendation};
use super::bottleneck::{self, Bottleneck};
use super::minutes::Trend;
use super::process::{EVERY, KEPT, Usage};
use super::state::State;
use super::window::Window;
use super::{Inner, MINUTE, lock};
use crate::metrics::{Figures, Metrics, Operation, Place};

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Whether the process is looked at (`monitoring.enabled`).
    pub enabled: bool,
    /// How far back its figures go, five minutes at most.
    pub window_seconds: f64,
    /// Questions in the window.
    pub questions: u64,
    /// Of these, the share that the cache answered.
    pub hit_rate: Option<f64>,
    /// US dollars that these did not cost, as far as prices are configured.
    pub saved_usd: f64,
    /// The process itself.
    pub process: ProcessReport,
    /// Each operation that was counted in the window, those that took most together first.
    pub operations: Vec<OperationReport>,
    /// What holds questions up, the worst first.
    pub bottlenecks: Vec<Bottleneck>,
    /// What to change.
    pub recommendations: Vec<Recommendation>,
    /// How things stand against the last hour and day.
    pub trends: Vec<Trend>,
    /// What is remembered for all this.
    pub kept: Kept,
}

/// The process and what it may use.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcessReport {
    /// Processors that it may use.
    pub cores: i64,
    /// Memory that it may use, where that is known.
    pub memory_limit_bytes: i64,
    /// In the last minute.
    pub minute: Option<Usage>,
    /// In all the time that samples are kept of.
    pub kept: Option<Usage>,
}

/// An operation in the window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OperationReport {
    /// The part of the program.
    pub component: String,
    /// What it does.
    pub operation: String,
    /// `path`: of questions; `beside`: a whole, within another or in the background; `own`: profiled by service code.
    pub place: &'static str,
    /// How often.
    pub count: u64,
    /// All of it together.
    pub seconds: f64,
    /// Of what all on the path of questions took; `None` beside it.
    pub share: Option<f64>,
    /// On average.
    pub mean_ms: f64,
    /// Half of them took less.
    pub p50_ms: f64,
    /// 95 of 100 did.
    pub p95_ms: f64,
    /// None took longer, as finely as is counted.
    pub longest_ms: f64,
    /// Processor time of all of them, where it is measured.
    pub cpu_seconds: Option<f64>,
}

/// What the profiler remembers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kept {
    /// Memory for all of it.
    pub bytes: usize,
    /// Samples of the process.
    pub samples: usize,
    /// The most that are kept.
    pub samples_most: usize,
    /// Time between two of them.
    pub sample_ms: u64,
    /// Minutes of trends, 1,440 at most.
    pub minutes: usize,
    /// Marks that a window can begin at.
    pub marks: usize,
}

impl Inner {
    pub(super) fn report(&self) -> Report {
        let window = self.window();
        let (minute, kept) = {
            let samples = lock(&self.samples);
            (samples.over(MINUTE), samples.over(EVERY * KEPT as u32 * 2))
        };
        let state = State::of(&window, &self.metrics, minute.as_ref(), self.settings.clone());
        let trends = self.trends(&window, minute.as_ref());
        let remembered = self.kept(kept.as_ref());
        Report {
            enabled: self.is_on,
            window_seconds: window.seconds,
            questions: window.counters.questions as u64,
            hit_rate: window.hit_rate(),
            saved_usd: window.counters.saved_usd,
            process: ProcessReport {
                cores: self.metrics.cpu_limit.get(),
                memory_limit_bytes: self.metrics.memory_limit.get(),
                minute,
                kept,
            },
            operations: operations(&window, bottleneck::path_seconds(&state)),
            bottlenecks: bottleneck::find(&state),
            recommendations: advice::give(&state),
            trends,
            kept: remembered,
        }
    }

    fn trends(&self, window: &Window, usage: Option<&Usage>) -> Vec<Trend> {
        let minutes = lock(&self.minutes);
        let now = figures(window, &self.metrics, usage).into_iter();
        let trends = now.zip(names(window)).enumerate().map(|(at, (now, name))| minutes.trend(name, at, now));
        trends.filter(|trend| trend.now.is_some() || trend.day.is_some()).collect()
    }

    fn kept(&self, usage: Option<&Usage>) -> Kept {
        let (samples, marks, minutes) = (lock(&self.samples), lock(&self.marks), lock(&self.minutes));
        Kept {
            bytes: samples.bytes() + minutes.bytes() + marks.iter().map(super::Mark::bytes).sum::<usize>(),
            samples: usage.map_or(0, |usage| usage.samples),
            samples_most: KEPT,
            sample_ms: EVERY.as_millis() as u64,
            minutes: minutes.len(),
            marks: marks.len(),
        }
    }
}

/// What trends are told of, in the order of [`figures`].
fn names(window: &Window) -> impl Iterator<Item = String> {
    let whole = ["requests_per_second", "request p95_ms", "hit_rate", "cpu_cores", "memory_bytes"].map(str::to_owned);
    let operations = window.operations.iter().map(|(operation, _)| operation);
    whole.into_iter().chain(operations.map(|one| format!("{}/{} p95_ms", one.component(), one.name())))
}

/// The figures of a window that are kept of each minute.
pub(super) fn figures(window: &Window, metrics: &Metrics, usage: Option<&Usage>) -> Vec<Option<f64>> {
    let requests = window.of(&metrics.stages.request);
    let p95_ms = |figures: &Figures| figures.quantile_seconds(0.95).map(|seconds| seconds * 1e3);
    let whole = [
        Some(requests.count() as f64 / window.seconds),
        p95_ms(&requests),
        window.hit_rate(),
        usage.map(|usage| usage.cpu_cores),
        usage.map(|usage| usage.memory_bytes as f64),
    ];
    whole.into_iter().chain(window.operations.iter().map(|(_, figures)| p95_ms(figures))).collect()
}

fn operations(window: &Window, path_seconds: f64) -> Vec<OperationReport> {
    let counted = window.operations.iter().filter_map(|(operation, figures)| shown(operation, figures, path_seconds));
    let mut operations: Vec<OperationReport> = counted.collect();
    operations.sort_by(|a, b| f64::total_cmp(&b.seconds, &a.seconds));
    operations
}

/// `None` of one that was not counted.
fn shown(operation: &Operation, figures: &Figures, path_seconds: f64) -> Option<OperationReport> {
    let place = Place::of(operation);
    let ms = |share| figures.quantile_seconds(share).map(|seconds| seconds * 1e3);
    Some(OperationReport {
        component: operation.component().to_owned(),
        operation: operation.name().to_owned(),
        place: match place {
            Place::Path => "path",
            Place::Beside => "beside",
            Place::Own => "own",
        },
        count: figures.count(),
        seconds: figures.seconds(),
        share: (place != Place::Beside && path_seconds > 0.0).then(|| figures.seconds() / path_seconds),
        mean_ms: figures.mean_seconds()? * 1e3,
        p50_ms: ms(0.5)?,
        p95_ms: ms(0.95)?,
        longest_ms: figures.longest_seconds()? * 1e3,
        cpu_seconds: figures.cpu_seconds(),
    })
}
