//! Where an alert stands: silent, pending until it has been so for long enough, firing until it has been otherwise for long enough.
//! Times come from outside.

use serde::Serialize;

use super::figure::Finding;
use crate::config::AlertConfig;

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing is wrong, or nothing is known.
    Inactive,
    /// Something is wrong, not yet for long enough.
    Pending,
    /// It is one.
    Firing,
}

/// An alert that begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Fired,
    Resolved,
}

/// A moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Now {
    /// Shown to people.
    pub wall_ms: u64,
    /// Reckoned with.
    pub steady_ms: u64,
}

/// An alert's way.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub state: State,
    /// Since when it stands there.
    pub since: Now,
    /// When it was bad last.
    bad_at_ms: u64,
    /// The worst that was found just now, if anything was.
    pub found: Option<Finding>,
    /// The worst value since it is no longer silent.
    pub worst: Option<f64>,
}

impl Standing {
    pub fn new(now: Now) -> Self {
        Self { state: State::Inactive, since: now, bad_at_ms: 0, found: None, worst: None }
    }

    /// What was found has its consequence.
    pub fn step(&mut self, config: &AlertConfig, found: Vec<Finding>, now: Now) -> Option<Turn> {
        self.found = found.into_iter().reduce(|one, other| if is_worse(config, &other, &one) { other } else { one });
        let bad = self.found.as_ref().filter(|found| config.comparison.holds(found.value, config.threshold));
        if let Some(bad) = bad.cloned() {
            self.bad_at_ms = now.steady_ms;
            return self.worsen(config, &bad, now);
        }
        let is_over = now.steady_ms.saturating_sub(self.bad_at_ms) >= millis(config.keep);
        match self.state {
            State::Pending => self.go(State::Inactive, now),
            State::Firing if is_over => {
                self.go(State::Inactive, now);
                return Some(Turn::Resolved);
            }
            _ => {}
        }
        None
    }

    fn worsen(&mut self, config: &AlertConfig, bad: &Finding, now: Now) -> Option<Turn> {
        if self.state == State::Inactive {
            self.go(State::Pending, now);
            self.worst = None;
        }
        let is_worse = self.worst.is_none_or(|worst| is_further(config, bad.value, worst));
        self.worst = if is_worse { Some(bad.value) } else { self.worst };
        let is_time = now.steady_ms.saturating_sub(self.since.steady_ms) >= millis(config.hold);
        if self.state == State::Pending && is_time {
            self.go(State::Firing, now);
            return Some(Turn::Fired);
        }
        None
    }

    fn go(&mut self, state: State, now: Now) {
        self.state = state;
        self.since = now;
    }
}

fn is_worse(config: &AlertConfig, one: &Finding, other: &Finding) -> bool {
    is_further(config, one.value, other.value)
}

/// Whether a value is no less far on the bad side.
fn is_further(config: &AlertConfig, one: f64, other: f64) -> bool {
    config.comparison.holds(one, other)
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Comparison;

    fn config(comparison: Comparison) -> AlertConfig {
        let (hold, keep) = (Duration::from_secs(10), Duration::from_secs(5));
        AlertConfig { comparison, hold, keep, ..AlertConfig::new("a", "cpu", 0.5) }
    }

    fn at(seconds: u64) -> Now {
        Now { wall_ms: 1_000_000 + seconds * 1_000, steady_ms: seconds * 1_000 }
    }

    fn values(values: &[f64]) -> Vec<Finding> {
        values.iter().map(|value| Finding { value: *value, of: value.to_string() }).collect()
    }

    #[test]
    fn it_fires_when_it_was_so_for_long_enough_and_ends_the_same_way() {
        let (config, mut standing) = (config(Comparison::Above), Standing::new(at(0)));
        let mut step = |found: &[f64], second: u64| {
            let turn = standing.step(&config, values(found), at(second));
            (standing.state, turn, standing.since.steady_ms / 1_000)
        };
        assert_eq!(step(&[0.5], 1), (State::Inactive, None, 0), "at the threshold is not above it");
        assert_eq!(step(&[0.6], 2), (State::Pending, None, 2));
        assert_eq!(step(&[0.4], 5), (State::Inactive, None, 5), "one that passes is none");
        assert_eq!(step(&[0.6], 6), (State::Pending, None, 6));
        assert_eq!(step(&[0.9], 15), (State::Pending, None, 6));
        assert_eq!(step(&[0.7], 16), (State::Firing, Some(Turn::Fired), 16));
        assert_eq!(step(&[0.4], 18), (State::Firing, None, 16), "one good look is no end");
        assert_eq!(step(&[0.6], 20), (State::Firing, None, 16));
        assert_eq!(step(&[], 24), (State::Firing, None, 16));
        assert_eq!(step(&[], 25), (State::Inactive, Some(Turn::Resolved), 25), "what says nothing is not bad");
        assert_eq!(standing.worst, Some(0.9));
    }

    #[test]
    fn the_worst_of_several_counts_whichever_side_is_bad() {
        for (comparison, worst) in
            [(Comparison::Above, 0.9), (Comparison::AtLeast, 0.9), (Comparison::Below, 0.1), (Comparison::AtMost, 0.1)]
        {
            let mut standing = Standing::new(at(0));
            standing.step(&config(comparison), values(&[0.4, 0.1, 0.9, 0.5]), at(1));
            assert_eq!(standing.found.map(|found| found.value), Some(worst), "{comparison:?}");
            assert_eq!(standing.worst, Some(worst));
        }
    }

    #[test]
    fn without_patience_it_fires_at_once() {
        let config = AlertConfig { hold: Duration::ZERO, keep: Duration::ZERO, ..config(Comparison::Above) };
        let mut standing = Standing::new(at(0));
        assert_eq!(standing.step(&config, values(&[1.0]), at(1)), Some(Turn::Fired));
        assert_eq!(standing.step(&config, values(&[0.0]), at(2)), Some(Turn::Resolved));
    }
}
