//! One target, what was measured for it, and the same of a server that does nothing.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// A target of a test.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Goal {
    pub test: String,
    pub name: String,
    pub unit: String,
    pub bound: Bound,
    pub measured: f64,
    /// The floor's own figure in the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
    /// What was measured, as a multiple of the floor's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    pub met: bool,
    /// What to do where it is missed.
    #[serde(skip_serializing, default)]
    pub advice: String,
}

/// What is asked of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// Of the floor's.
    RatioAtMost(f64),
    RatioAtLeast(f64),
}

impl Goal {
    /// A figure against its target.
    pub(crate) fn new(test: &str, name: &str, unit: &str, bound: Bound, measured: f64) -> Self {
        Self {
            test: test.to_owned(),
            name: name.to_owned(),
            unit: unit.to_owned(),
            bound,
            measured,
            floor: None,
            ratio: None,
            met: bound.holds(measured, None),
            advice: String::new(),
        }
    }

    /// Beside what the floor took.
    pub(crate) fn beside(mut self, floor: Option<f64>) -> Self {
        self.floor = floor;
        let ratio = floor.filter(|floor| *floor > 0.0).map(|floor| self.measured / floor);
        self.of_floor(ratio)
    }

    /// As this multiple of the floor's: of a run of several rounds that of the middle one.
    pub(crate) fn of_floor(mut self, ratio: Option<f64>) -> Self {
        self.ratio = ratio;
        self.met = self.bound.holds(self.measured, ratio);
        self
    }

    /// What to do where it is missed.
    pub(crate) fn advice(mut self, advice: &str) -> Self {
        advice.clone_into(&mut self.advice);
        self
    }

    fn row(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(String::new, shown);
        format!(
            "| {} | {} | {} {} | {} | {} | {} | {} |",
            self.test,
            self.name,
            self.bound.text(),
            self.unit,
            shown(self.measured),
            number(self.floor),
            number(self.ratio),
            if self.met { "PASS" } else { "**FAIL**" },
        )
    }
}

impl Bound {
    fn holds(self, measured: f64, ratio: Option<f64>) -> bool {
        match self {
            Self::AtMost(most) => measured <= most,
            Self::AtLeast(least) => measured >= least,
            Self::RatioAtMost(most) => ratio.is_some_and(|ratio| ratio <= most),
            Self::RatioAtLeast(least) => ratio.is_some_and(|ratio| ratio >= least),
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(most) => format!("≤ {}", shown(most)),
            Self::AtLeast(least) => format!("≥ {}", shown(least)),
            Self::RatioAtMost(most) => format!("≤ {} × floor,", shown(most)),
            Self::RatioAtLeast(least) => format!("≥ {} × floor,", shown(least)),
        }
    }
}

/// The table of these.
pub(crate) fn table(goals: &[Goal]) -> String {
    let mut text =
        "| test | figure | target | measured | floor | ratio | |\n|---|---|--:|--:|--:|--:|---|\n".to_owned();
    for goal in goals {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", goal.row());
    }
    text
}

/// With as many digits as say something.
fn shown(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 1.0 => 2,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_was_wanted_and_what_came() {
        let goal = Goal::new("server", "p50", "ms", Bound::AtMost(100.0), 12.345).beside(Some(5.0));
        assert_eq!(goal.row(), "| server | p50 | ≤ 100 ms | 12.35 | 5 | 2.47 | PASS |");
        let goal = Goal::new("server", "success", "", Bound::AtLeast(0.995), 0.9949).beside(None);
        assert_eq!(goal.row(), "| server | success | ≥ 0.995  | 0.9949 |  |  | **FAIL** |");
        let goal = Goal::new("exact hit", "answered", "/s", Bound::RatioAtLeast(0.5), 60.0);
        assert!(!goal.met, "there is no floor yet");
        assert_eq!(
            goal.beside(Some(100.0)).row(),
            "| exact hit | answered | ≥ 0.5 × floor, /s | 60 | 100 | 0.6 | PASS |"
        );
        assert!(!Goal::new("", "", "", Bound::AtMost(1.0), f64::NAN).met, "what could not be measured is missed");
    }
}
