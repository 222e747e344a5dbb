//! What metrics say at a moment, as numbers: for those who judge by them inside the process, as a Prometheus does outside.

use std::collections::{BTreeMap, BTreeSet};

use prometheus::proto::{Metric, MetricType};

use super::{DESCRIBED, Described, Metrics};

/// What the process's own collector adds.
const PROCESS: &[Described] = &[
    of_process("process_cpu_seconds_total", "counter", "Processor time of the process."),
    of_process("process_max_fds", "gauge", "Files that it may have open."),
    of_process("process_open_fds", "gauge", "Files that it has open."),
    of_process("process_resident_memory_bytes", "gauge", "Memory that it holds."),
    of_process("process_start_time_seconds", "gauge", "When it was started, in seconds since 1970."),
    of_process("process_threads", "gauge", "Its threads."),
    of_process("process_virtual_memory_bytes", "gauge", "Address space, used or not."),
];

const fn of_process(name: &'static str, kind: &'static str, help: &'static str) -> Described {
    Described { name, kind, help, labels: &[] }
}

/// Every metric, those of the process among them.
pub fn known() -> impl Iterator<Item = &'static Described> {
    DESCRIBED.iter().chain(PROCESS)
}

/// Some metrics at a moment.
#[derive(Debug, Clone, Default)]
pub struct Reading(BTreeMap<String, Vec<Series>>);

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Names and values.
    pub labels: Vec<(String, String)>,
    /// How much.
    pub amount: Amount,
}

/// How much a series says.
#[derive(Debug, Clone, PartialEq)]
pub enum Amount {
    /// Since the process began.
    Counter(f64),
    /// Now.
    Gauge(f64),
    /// Bounds, the last infinite, each with how much was observed up to it since the process began.
    Histogram(Vec<(f64, u64)>),
}

impl Reading {
    /// The series of a metric.
    pub fn of(&self, name: &str) -> &[Series] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

impl Metrics {
    /// What those of these names say. Gauges that mirror figures kept elsewhere are as they were set last.
    pub fn reading(&self, names: &BTreeSet<&str>) -> Reading {
        let families = self.registry.gather();
        let wanted = families.iter().filter(|family| names.contains(family.name()));
        let read = wanted.map(|family| {
            let kind = family.get_field_type();
            (family.name().to_owned(), family.get_metric().iter().map(|metric| series(kind, metric)).collect())
        });
        Reading(read.collect())
    }
}

fn series(kind: MetricType, metric: &Metric) -> Series {
    let labels = metric.get_label().iter().map(|label| (label.name().to_owned(), label.value().to_owned()));
    let amount = match kind {
        MetricType::COUNTER => Amount::Counter(metric.get_counter().get_value()),
        MetricType::HISTOGRAM => {
            let histogram = metric.get_histogram();
            let buckets = histogram.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
            Amount::Histogram(buckets.chain([(f64::INFINITY, histogram.get_sample_count())]).collect())
        }
        _ => Amount::Gauge(metric.get_gauge().get_value()),
    };
    Series { labels: labels.collect(), amount }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_set_and_observed_is_read() {
        let metrics = Metrics::new();
        metrics.cache_errors.with_label_values(&["l2"]).inc_by(3);
        metrics.redis_up.set(1);
        metrics.runtime_lag.observe(0.3);
        let names = BTreeSet::from(["ish_cache_errors_total", "ish_redis_up", "ish_runtime_lag_seconds"]);
        let reading = metrics.reading(&names);
        let errors = Series { labels: vec![("tier".to_owned(), "l2".to_owned())], amount: Amount::Counter(3.0) };
        assert_eq!(reading.of("ish_cache_errors_total"), [errors]);
        assert_eq!(reading.of("ish_redis_up")[0].amount, Amount::Gauge(1.0));
        let Amount::Histogram(buckets) = &reading.of("ish_runtime_lag_seconds")[0].amount else { panic!("buckets") };
        assert_eq!(buckets.iter().find(|(bound, _)| *bound >= 0.5).unwrap(), &(0.5, 1));
        assert_eq!(buckets.iter().find(|(bound, _)| *bound >= 0.25).unwrap(), &(0.25, 0));
        assert_eq!(buckets.last().unwrap(), &(f64::INFINITY, 1));
        assert!(reading.of("ish_instances").is_empty(), "it was not asked for");
    }

    #[test]
    fn what_is_known_of_the_process_is_what_its_collector_says() {
        let said: BTreeSet<_> = Metrics::new()
            .text()
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE process_"))
            .map(|line| format!("process_{line}"))
            .collect();
        assert_eq!(said, PROCESS.iter().map(|metric| format!("{} {}", metric.name, metric.kind)).collect());
    }
}
