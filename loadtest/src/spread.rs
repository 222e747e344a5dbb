//! A figure over the rounds of a run.

use serde::Serialize;

/// The middle of what was measured, and how far the rest lies from it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Median, least and greatest; of an even number the median is the lower middle one.
    pub(crate) fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        Some(Self { median: figures[(figures.len() - 1) / 2], min, max })
    }

    pub(crate) fn text(self) -> String {
        format!("{:.2} ({:.2}-{:.2})", self.median, self.min, self.max)
    }
}
