//! Reads what an operator writes as an alert's metric:
//!
//! ```text
//! figure   = [ "1 -" ] term [ "/" term ] [ "by" label ]
//! term     = ( series | quantile "(" series ")" ) [ "over" seconds ]
//! series   = metric [ "{" selector { "," selector } "}" ]
//! selector = label ( "=" | "!=" ) '"' value { "|" value } '"'
//! quantile = "p50" | "p75" | "p90" | "p95" | "p99"
//! ```
//!
//! A gauge is what it is; a counter counts in a second; of a histogram a quantile is taken.

use super::figure::{FIGURES, Figure};
use super::term::{Selector, Term};
use crate::config::likeliest;
use crate::metrics::{Described, known};

/// Quantiles by their words.
const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)];

/// Why a text is no figure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FigureError {
    /// It is neither a figure nor a metric.
    #[error(
        "there is no metric {name:?}{}; take a metric of docs/metrics.md, or one of {}",
        suggestion(name),
        FIGURES.iter().map(|figure| figure.name).collect::<Vec<_>>().join(", ")
    )]
    Unknown {
        /// As written.
        name: String,
    },
    /// A metric has no such label.
    #[error("{metric} has no label {label:?}; it has {}", if labels.is_empty() { "none" } else { labels.as_str() })]
    Label {
        /// The metric.
        metric: &'static str,
        /// As written.
        label: String,
        /// Those that there are.
        labels: String,
    },
    /// A histogram without a quantile.
    #[error("{0} is a histogram: take a quantile of it, as in p95({0})")]
    Histogram(&'static str),
    /// A quantile of something else.
    #[error("{0} is no histogram: it has no quantiles")]
    Quantile(&'static str),
    /// Something else is not as it should be.
    #[error("{wanted} is wanted before {before:?}")]
    Form {
        /// What is missing.
        wanted: &'static str,
        /// What stands in its place.
        before: String,
    },
}

fn suggestion(name: &str) -> String {
    let metrics = known().map(|metric| metric.name);
    likeliest(name, &metrics.chain(FIGURES.iter().map(|figure| figure.name)).collect::<Vec<_>>())
}

pub(super) fn parse(text: &str) -> Result<Figure, FigureError> {
    let mut left = Left(text);
    let is_rest = left.takes("1 -");
    let top = term(&mut left)?;
    let bottom = if left.takes("/") { Some(term(&mut left)?) } else { None };
    let by = if left.takes("by ") { Some(left.word().to_owned()) } else { None };
    if !left.0.trim().is_empty() {
        return Err(left.wants("the end"));
    }
    if let Some(by) = &by {
        for term in [Some(&top), bottom.as_ref()].into_iter().flatten() {
            has_label(term.metric, by)?;
        }
    }
    Ok(Figure { is_rest, top, bottom, by })
}

fn term(left: &mut Left) -> Result<Term, FigureError> {
    let word = left.word();
    let quantile = QUANTILES.iter().find(|(name, _)| *name == word).map(|(_, part)| *part);
    let (metric, selectors) = if quantile.is_some() {
        left.must("(")?;
        let name = left.word();
        let series = series(name, left)?;
        left.must(")")?;
        series
    } else {
        series(word, left)?
    };
    match (metric.kind, quantile) {
        ("histogram", None) => return Err(FigureError::Histogram(metric.name)),
        ("counter" | "gauge", Some(_)) => return Err(FigureError::Quantile(metric.name)),
        _ => {}
    }
    let over_s = if left.takes("over ") { Some(left.seconds()?) } else { None };
    Ok(Term { metric, quantile, selectors, over_s })
}

fn series(name: &str, left: &mut Left) -> Result<(&'static Described, Vec<Selector>), FigureError> {
    let metric = known().find(|metric| metric.name == name);
    let metric = metric.ok_or_else(|| FigureError::Unknown { name: name.to_owned() })?;
    let mut selectors = Vec::new();
    if left.takes("{") {
        loop {
            selectors.push(selector(metric, left)?);
            if !left.takes(",") {
                break;
            }
        }
        left.must("}")?;
    }
    Ok((metric, selectors))
}

fn selector(metric: &'static Described, left: &mut Left) -> Result<Selector, FigureError> {
    let label = left.word().to_owned();
    has_label(metric, &label)?;
    let is_one = !left.takes("!=");
    if is_one {
        left.must("=")?;
    }
    left.must("\"")?;
    let Some((values, rest)) = left.0.split_once('"') else { return Err(left.wants("the value's closing quote")) };
    left.0 = rest;
    Ok(Selector { label, is_one, values: values.split('|').map(str::to_owned).collect() })
}

fn has_label(metric: &'static Described, label: &str) -> Result<(), FigureError> {
    if metric.labels.contains(&label) {
        return Ok(());
    }
    Err(FigureError::Label { metric: metric.name, label: label.to_owned(), labels: metric.labels.join(", ") })
}

/// What is still to be read.
struct Left<'t>(&'t str);

impl<'t> Left<'t> {
    fn takes(&mut self, token: &str) -> bool {
        let rest = self.0.trim_start().strip_prefix(token);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn must(&mut self, token: &'static str) -> Result<(), FigureError> {
        if self.takes(token) { Ok(()) } else { Err(self.wants(token)) }
    }

    fn word(&mut self) -> &'t str {
        let text = self.0.trim_start();
        let end = text.find(|char: char| !(char.is_ascii_alphanumeric() || char == '_')).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.0 = rest;
        word
    }

    /// From a second to a week.
    fn seconds(&mut self) -> Result<u32, FigureError> {
        let before = self.wants("a number of seconds from 1 to 604800");
        self.word().parse().ok().filter(|seconds| (1..=604_800).contains(seconds)).ok_or(before)
    }

    fn wants(&self, wanted: &'static str) -> FigureError {
        FigureError::Form { wanted, before: self.0.trim_start().chars().take(40).collect() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_named_figure_is_one() {
        for figure in FIGURES {
            assert!(figure.name.parse::<Figure>().is_ok(), "{}: {:?}", figure.name, figure.name.parse::<Figure>());
        }
    }

    #[test]
    fn an_expression_is_taken_apart() {
        let text = "1 - p95(ish_pool_wait_seconds{pool=\"http|redis\"}) over 60 / ish_pool_limit by pool";
        let figure: Figure = text.parse().unwrap();
        assert!(figure.is_rest);
        assert_eq!((figure.top.metric.name, figure.top.quantile), ("ish_pool_wait_seconds", Some(0.95)));
        assert_eq!((figure.top.over_s, figure.top.selectors[0].values.len()), (Some(60), 2));
        assert_eq!(figure.bottom.unwrap().metric.name, "ish_pool_limit");
        assert_eq!(figure.by.as_deref(), Some("pool"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, said) in [
            ("eror_rate", "did you mean error_rate?"),
            ("ish_panic_total", "did you mean ish_panics_total?"),
            ("", "there is no metric \"\"; take a metric"),
            ("ish_panics_total{pool=\"x\"}", "ish_panics_total has no label \"pool\"; it has none"),
            ("ish_pool_in_use{pol=\"x\"}", "no label \"pol\"; it has pool"),
            ("ish_pool_in_use by tier", "no label \"tier\""),
            ("ish_runtime_lag_seconds", "as in p95(ish_runtime_lag_seconds)"),
            ("p95(ish_panics_total)", "is no histogram"),
            ("p95 ish_runtime_lag_seconds", "( is wanted before \"ish_runtime"),
            ("ish_pool_in_use{pool=\"x}", "closing quote is wanted"),
            ("ish_pool_in_use{pool=\"x\"", "} is wanted before \"\""),
            ("ish_panics_total over 0", "1 to 604800 is wanted before \"0\""),
            ("ish_panics_total + 1", "the end is wanted before \"+ 1\""),
        ] {
            let error = text.parse::<Figure>().unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_figure_or_a_fault(text in "(ish_panics_total|p95|[ {}()=!\"|/a-z0-9-]|by |over ){0,12}") {
            if let Err(error) = text.parse::<Figure>() {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
