//! One part of a figure: a metric's series, those that are meant, and what they say together.

use std::collections::{BTreeMap, BTreeSet};

use crate::metrics::{Amount, Described, Reading, Series};

/// What a term's groups say: by the labels that tell them apart, as text; empty where there is one.
pub(super) type Levels = BTreeMap<String, Amount>;

/// A metric's series, those that are meant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Term {
    pub metric: &'static Described,
    /// Of a histogram: which part of what was observed lies below.
    pub quantile: Option<f64>,
    pub selectors: Vec<Selector>,
    /// The window that is its own, in seconds.
    pub over_s: Option<u32>,
}

/// What a label's value has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selector {
    pub label: String,
    /// Whether it is to be one of these, or none.
    pub is_one: bool,
    pub values: BTreeSet<String>,
}

impl Term {
    pub fn is_gauge(&self) -> bool {
        self.metric.kind == "gauge"
    }

    /// Counters and histograms are added up, to one or to one for each value of `by`. Each gauge stands alone, by the labels that no
    /// selector has fixed.
    pub fn levels(&self, reading: &Reading, by: Option<&str>) -> Levels {
        let mut levels = Levels::new();
        if self.metric.kind == "counter" && by.is_none() {
            // A counter with labels has no series before its first event.
            levels.insert(String::new(), Amount::Counter(0.0));
        }
        for series in reading.of(self.metric.name).iter().filter(|series| self.means(series)) {
            let group = self.group(series, by);
            levels.entry(group).and_modify(|level| add(level, &series.amount)).or_insert_with(|| series.amount.clone());
        }
        levels
    }

    fn means(&self, series: &Series) -> bool {
        self.selectors.iter().all(|selector| {
            let value = series.labels.iter().find(|(label, _)| *label == selector.label).map(|(_, value)| value);
            value.is_some_and(|value| selector.values.contains(value)) == selector.is_one
        })
    }

    fn group(&self, series: &Series, by: Option<&str>) -> String {
        let is_told_apart = |label: &str| match by {
            Some(by) => label == by,
            None => self.is_gauge() && !self.selectors.iter().any(|selector| selector.fixes(label)),
        };
        let kept = series.labels.iter().filter(|(label, _)| is_told_apart(label));
        kept.map(|(label, value)| format!("{label}={value:?}")).collect::<Vec<_>>().join(", ")
    }
}

impl Selector {
    fn fixes(&self, label: &str) -> bool {
        self.label == label && self.is_one && self.values.len() == 1
    }
}

/// Gauges of one group are one gauge by a label that others differ by: the greatest counts.
fn add(level: &mut Amount, more: &Amount) {
    match (level, more) {
        (Amount::Counter(sum), Amount::Counter(more)) => *sum += more,
        (Amount::Gauge(most), Amount::Gauge(more)) => *most = most.max(*more),
        (Amount::Histogram(sums), Amount::Histogram(more)) => {
            for ((_, sum), (_, more)) in sums.iter_mut().zip(more) {
                *sum += more;
            }
        }
        // A metric has one kind.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::figure::Figure;
    use super::*;
    use crate::metrics::Metrics;

    fn levels(metrics: &Metrics, text: &str, by: Option<&str>) -> Vec<(String, Amount)> {
        let figure: Figure = text.parse().unwrap();
        let term = &figure.top;
        term.levels(&metrics.reading(&BTreeSet::from([term.metric.name])), by).into_iter().collect()
    }

    #[test]
    fn counters_are_added_up_and_gauges_are_not() {
        let metrics = Metrics::new();
        let one = |group: &str, amount| vec![(group.to_owned(), amount)];
        assert_eq!(levels(&metrics, "ish_provider_requests_total", None), one("", Amount::Counter(0.0)));
        assert!(levels(&metrics, "ish_provider_requests_total", Some("provider")).is_empty());
        for (provider, outcome, times) in [("a", "ok", 5), ("a", "cut", 2), ("b", "ok", 1)] {
            metrics.provider_requests.with_label_values(&[provider, outcome]).inc_by(times);
        }
        let ok = "ish_provider_requests_total{outcome=\"ok|rejected\"}";
        assert_eq!(levels(&metrics, ok, None), one("", Amount::Counter(6.0)));
        let not_ok = "ish_provider_requests_total{outcome!=\"ok\", provider=\"a\"}";
        assert_eq!(levels(&metrics, not_ok, None), one("", Amount::Counter(2.0)));
        let by = levels(&metrics, "ish_provider_requests_total", Some("provider"));
        let wanted = [("provider=\"a\"", 7.0), ("provider=\"b\"", 1.0)];
        assert_eq!(by, wanted.map(|(group, sum)| (group.to_owned(), Amount::Counter(sum))));

        metrics.pool_in_use.with_label_values(&["http"]).set(3);
        metrics.pool_in_use.with_label_values(&["redis"]).set(1);
        let each = levels(&metrics, "ish_pool_in_use", None);
        let wanted = [("pool=\"http\"", 3.0), ("pool=\"redis\"", 1.0)];
        assert_eq!(each, wanted.map(|(group, most)| (group.to_owned(), Amount::Gauge(most))));
        assert_eq!(levels(&metrics, "ish_pool_in_use{pool=\"redis\"}", None), one("", Amount::Gauge(1.0)));
    }

    #[test]
    fn histograms_are_added_bucket_by_bucket() {
        let metrics = Metrics::new();
        metrics.http_request_duration.with_label_values(&["/a"]).observe(0.04);
        metrics.http_request_duration.with_label_values(&["/b"]).observe(0.4);
        let both = levels(&metrics, "p50(ish_http_request_duration_seconds)", None);
        let Amount::Histogram(buckets) = &both[0].1 else { panic!("buckets") };
        assert_eq!((buckets.iter().find(|(bound, _)| *bound >= 0.05).unwrap().1, buckets.last().unwrap().1), (1, 2));
    }
}
