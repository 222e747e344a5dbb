//! How long operations take: each with buckets fine enough to tell percentiles, counted without a lock or an allocation. One
//! metric for Prometheus, with coarser buckets; the finer ones are the profiler's.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

mod timing;

pub use timing::{Timing, thread_cpu};

/// Buckets in each doubling: what a percentile says is within a fifth of the truth.
const FINE: usize = 4;

/// The first bucket ends a little above 2^8 ns.
const FIRST: u32 = 8;

/// The last one takes everything from 2^40 ns on, 18 minutes.
const BUCKETS: usize = FINE * 32 + 1;

/// Prometheus is told one bucket for each doubling between these, 16 µs and 69 s.
const TOLD: std::ops::RangeInclusive<u32> = 14..=36;

/// Operations that are told apart, the product's own among them; those that come later are counted together.
const MOST: usize = 128;

/// Where those that come too late are counted.
const LATE: &str = "other";

/// One operation of a component, counted.
#[derive(Debug)]
pub struct Operation {
    component: String,
    name: String,
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
    /// How often it has begun: some of these times its processor time is measured.
    turns: AtomicU64,
    cpu_ns: AtomicU64,
    cpu_samples: AtomicU64,
}

impl Operation {
    fn new(component: &str, name: &str) -> Self {
        Self {
            component: component.to_owned(),
            name: name.to_owned(),
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum_ns: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            cpu_ns: AtomicU64::new(0),
            cpu_samples: AtomicU64::new(0),
        }
    }

    /// The part of the program.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// What it does.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It took so long.
    pub fn record(&self, took: Duration) {
        self.record_times(took, 1);
    }

    /// It took so long so many times.
    fn record_times(&self, took: Duration, times: u64) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(ns)].fetch_add(times, Relaxed);
        self.sum_ns.fetch_add(ns.saturating_mul(times), Relaxed);
    }

    /// So much processor time went into one, as it was measured for some of them.
    pub fn record_cpu(&self, cpu: Duration) {
        self.cpu_ns.fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.cpu_samples.fetch_add(1, Relaxed);
    }

    /// The number of the turn that begins.
    fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Relaxed)
    }

    /// Whether the processor time of a turn is to be measured: that asks the system twice (some microseconds), so only the first few are, and one
    /// in 1,024 then.
    fn is_chosen(turn: u64) -> bool {
        turn < 16 || turn.is_multiple_of(1_024)
    }

    /// All of it since the start.
    pub fn figures(&self) -> Figures {
        Figures {
            buckets: std::array::from_fn(|at| self.buckets[at].load(Relaxed)),
            sum_ns: self.sum_ns.load(Relaxed),
            cpu_ns: self.cpu_ns.load(Relaxed),
            cpu_samples: self.cpu_samples.load(Relaxed),
        }
    }
}

/// What was counted of an operation, since the start or between two moments.
#[derive(Debug, Clone)]
pub struct Figures {
    buckets: [u64; BUCKETS],
    sum_ns: u64,
    cpu_ns: u64,
    cpu_samples: u64,
}

impl Figures {
    /// Of an operation that has not begun yet.
    pub fn none() -> Self {
        Self { buckets: [0; BUCKETS], sum_ns: 0, cpu_ns: 0, cpu_samples: 0 }
    }

    /// What came after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            buckets: std::array::from_fn(|at| self.buckets[at].saturating_sub(earlier.buckets[at])),
            sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns),
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            cpu_samples: self.cpu_samples.saturating_sub(earlier.cpu_samples),
        }
    }

    /// How many ended.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What they took together.
    pub fn seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// What they took each, on average; `None` of none.
    pub fn mean_seconds(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.seconds() / count as f64)
    }

    /// What `share` of them stayed below, from 0 to 1; `None` of none.
    pub fn quantile_seconds(&self, share: f64) -> Option<f64> {
        let count = self.count();
        let mut left = (share.clamp(0.0, 1.0) * count as f64).max(1.0);
        for (at, &here) in self.buckets.iter().enumerate().filter(|(_, here)| **here > 0) {
            if left <= here as f64 {
                let (from, to) = (lower_ns(at) as f64, lower_ns(at + 1) as f64);
                return Some((from + (to - from) * left / here as f64) / 1e9);
            }
            left -= here as f64;
        }
        None
    }

    /// What none of them took longer than, as finely as a percentile is told; `None` of none.
    pub fn longest_seconds(&self) -> Option<f64> {
        let last = self.buckets.iter().rposition(|&here| here > 0)?;
        Some(lower_ns(last + 1) as f64 / 1e9)
    }

    /// Processor time of all of them, as the measured ones tell; `None` where none was measured.
    pub fn cpu_seconds(&self) -> Option<f64> {
        (self.cpu_samples > 0).then(|| self.cpu_ns as f64 / 1e9 / self.cpu_samples as f64 * self.count() as f64)
    }

    fn below(&self, exponent: u32) -> u64 {
        let end = (exponent - FIRST) as usize * FINE;
        self.buckets[..end].iter().sum()
    }
}

/// The bucket of a time: the doubling that it lies in, and which quarter of that.
fn bucket_of(ns: u64) -> usize {
    let ns = ns.max(1 << FIRST);
    let doubling = ns.ilog2();
    let quarter = (ns >> (doubling - FINE.ilog2())) as usize % FINE;
    ((doubling - FIRST) as usize * FINE + quarter).min(BUCKETS - 1)
}

/// Where a bucket begins; that of the first is what is told of all below it.
fn lower_ns(bucket: usize) -> u64 {
    let (doubling, quarter) = (FIRST as usize + bucket / FINE, bucket % FINE);
    ((FINE + quarter) as u64) << (doubling - FINE.ilog2() as usize)
}

/// All operations of a program. Cloning is cheap.
#[derive(Clone)]
pub struct Durations {
    inner: Arc<Inner>,
}

struct Inner {
    desc: Desc,
    operations: RwLock<Vec<Arc<Operation>>>,
}

impl Durations {
    /// None yet. Labelled by `component` and `operation`.
    pub(super) fn new(name: &str, help: &str, labels: &[&str]) -> Self {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let desc = Desc::new(name.to_owned(), help.to_owned(), labels, std::collections::HashMap::new());
        let desc = desc.expect("invariant: a valid metric");
        Self { inner: Arc::new(Inner { desc, operations: RwLock::default() }) }
    }

    /// The operation of that name; looked up once by whoever counts often.
    pub fn of(&self, component: &str, name: &str) -> Arc<Operation> {
        let known = |operations: &[Arc<Operation>], component: &str, name: &str| {
            let is_it = |operation: &&Arc<Operation>| operation.component == component && operation.name == name;
            operations.iter().find(is_it).cloned()
        };
        let here = known(&self.inner.operations.read().unwrap_or_else(PoisonError::into_inner), component, name);
        if let Some(operation) = here {
            return operation;
        }
        let mut operations = self.inner.operations.write().unwrap_or_else(PoisonError::into_inner);
        let (component, name) = if operations.len() < MOST - 1 { (component, name) } else { (LATE, LATE) };
        known(&operations, component, name).unwrap_or_else(|| {
            let operation = Arc::new(Operation::new(component, name));
            operations.push(Arc::clone(&operation));
            operation
        })
    }

    /// All, in the order in which they were first named: what is counted here stays where it is.
    pub fn all(&self) -> Vec<Arc<Operation>> {
        self.inner.operations.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Collector for Durations {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.inner.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let told = self.all().into_iter().map(|operation| (operation.figures(), operation));
        let told: Vec<Metric> = told.filter(|(figures, _)| figures.count() > 0).map(|(f, o)| metric(&f, &o)).collect();
        if told.is_empty() {
            return Vec::new();
        }
        let mut family = MetricFamily::default();
        family.set_name(self.inner.desc.fq_name.clone());
        family.set_help(self.inner.desc.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(told);
        vec![family]
    }
}

fn metric(figures: &Figures, operation: &Operation) -> Metric {
    let label = |name: &str, value: &str| {
        let mut label = LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value.to_owned());
        label
    };
    let bucket = |exponent: u32| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound((1_u64 << exponent) as f64 / 1e9);
        bucket.set_cumulative_count(figures.below(exponent));
        bucket
    };
    let mut histogram = Histogram::default();
    histogram.set_sample_count(figures.count());
    histogram.set_sample_sum(figures.seconds());
    histogram.set_bucket(TOLD.map(bucket).collect());
    let labels = vec![label("component", operation.component()), label("operation", operation.name())];
    let mut metric = Metric::from_label(labels);
    metric.set_histogram(histogram);
    metric
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn durations() -> Durations {
        Durations::new("test_seconds", "Times.", &["component", "operation"])
    }

    proptest! {
        #[test]
        fn a_time_lies_in_its_bucket(ns in 256_u64..1 << 40) {
            let bucket = bucket_of(ns);
            prop_assert!(lower_ns(bucket) <= ns && ns < lower_ns(bucket + 1), "{ns} in {bucket}");
            prop_assert!(lower_ns(bucket + 1) as f64 / lower_ns(bucket) as f64 <= 1.25);
        }
    }

    #[test]
    fn what_is_too_short_or_too_long_has_a_bucket_too() {
        assert_eq!((bucket_of(0), bucket_of(255), bucket_of(256)), (0, 0, 0));
        assert_eq!((bucket_of(1 << 40), bucket_of(u64::MAX)), (BUCKETS - 1, BUCKETS - 1));
    }

    #[test]
    fn percentiles_are_those_of_what_was_counted_between() {
        let operation = durations().of("search", "rank");
        operation.record(Duration::from_secs(5));
        let before = operation.figures();
        (1..=100).for_each(|ms| operation.record(Duration::from_millis(ms)));
        let figures = operation.figures().since(&before);
        assert_eq!(figures.count(), 100);
        assert!((figures.seconds() - 5.05).abs() < 1e-6);
        for (share, seconds) in [(0.5, 0.05), (0.95, 0.095), (0.0, 0.001)] {
            let told = figures.quantile_seconds(share).unwrap();
            assert!((told / seconds - 1.0).abs() < 0.2, "{share}: {told} for {seconds}");
        }
        let longest = figures.longest_seconds().unwrap();
        assert!((0.1..=0.125).contains(&longest), "{longest}");
        assert_eq!(Figures::none().quantile_seconds(0.5), None);
        assert_eq!(Figures::none().longest_seconds(), None);
    }

    #[test]
    fn processor_time_of_all_is_told_by_that_of_the_chosen() {
        let operation = durations().of("search", "rank");
        assert_eq!(operation.figures().cpu_seconds(), None);
        assert_eq!((0..10_000).filter(|turn| Operation::is_chosen(*turn)).count(), 16 + 9);
        (0..4).for_each(|_| operation.record(Duration::from_millis(3)));
        (0..2).for_each(|_| operation.record_cpu(Duration::from_millis(1)));
        assert!((operation.figures().cpu_seconds().unwrap() - 0.004).abs() < 1e-9);
    }

    #[test]
    fn there_is_a_bound_on_how_many_are_told_apart() {
        let durations = durations();
        for number in 0..MOST * 2 {
            durations.of("many", &number.to_string()).record(Duration::from_millis(1));
        }
        let all = durations.all();
        assert_eq!(all.len(), MOST);
        assert_eq!((all[MOST - 1].component(), all[MOST - 1].figures().count()), (LATE, (MOST + 1) as u64));
        assert!(Arc::ptr_eq(&durations.of("many", "3"), &all[3]));
    }

    #[test]
    fn prometheus_is_told_what_was_counted() {
        let durations = durations();
        assert!(durations.collect().is_empty(), "an operation that never was has no series");
        let operation = durations.of("search", "rank");
        operation.record(Duration::from_micros(10));
        operation.record(Duration::from_secs(100));
        let families = durations.collect();
        let histogram = families[0].get_metric()[0].get_histogram();
        assert_eq!(histogram.get_sample_count(), 2);
        let counts: Vec<u64> = histogram.get_bucket().iter().map(Bucket::cumulative_count).collect();
        assert!(counts.iter().all(|count| *count == 1), "{counts:?}");
    }
}
