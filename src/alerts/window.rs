//! What a term says over a window: how much more a counter has counted, what a histogram has observed meanwhile, what a gauge is.

use std::collections::{BTreeMap, VecDeque};

use super::term::Levels;
use crate::metrics::Amount;

/// Into how many steps a window is divided at most: as many levels are remembered.
const STEPS: u64 = 60;

/// A term's levels of late.
#[derive(Debug)]
pub(super) struct Window {
    length_ms: u64,
    /// Oldest first. The first is as old as the window, or the oldest there is.
    past: VecDeque<(u64, Levels)>,
    latest: (u64, Levels),
}

/// What one group says over the window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// A gauge's value, a counter's events in a second, a histogram's quantile.
    pub value: Option<f64>,
    /// What was counted or observed.
    pub events: Option<f64>,
}

impl Window {
    pub fn new(length_ms: u64, now_ms: u64, levels: Levels) -> Self {
        Self { length_ms, past: VecDeque::new(), latest: (now_ms, levels) }
    }

    /// Time has gone on; `now_ms` never goes back.
    pub fn note(&mut self, now_ms: u64, levels: Levels) {
        let (at_ms, before) = std::mem::replace(&mut self.latest, (now_ms, levels));
        let is_step = self.past.back().is_none_or(|(last_ms, _)| at_ms - last_ms >= self.length_ms / STEPS);
        if is_step {
            self.past.push_back((at_ms, before));
        }
        while self.past.get(1).is_some_and(|(at_ms, _)| now_ms - at_ms >= self.length_ms) {
            self.past.pop_front();
        }
    }

    /// What each group says; nothing of counters and histograms before time has gone on.
    pub fn measured(&self, quantile: Option<f64>) -> BTreeMap<String, Measured> {
        let base = self.past.front();
        let (now_ms, levels) = &self.latest;
        let elapsed_s = base.map_or(0, |(at_ms, _)| now_ms - at_ms) as f64 / 1_000.0;
        let of_group = |(group, level): (&String, &Amount)| {
            let before = base.and_then(|(_, levels)| levels.get(group));
            Some((group.clone(), grown(level, before, elapsed_s, quantile)?))
        };
        levels.iter().filter_map(of_group).collect()
    }
}

/// A series that was not there before was at zero.
fn grown(level: &Amount, before: Option<&Amount>, elapsed_s: f64, quantile: Option<f64>) -> Option<Measured> {
    match level {
        Amount::Gauge(value) => Some(Measured { value: Some(*value), events: None }),
        _ if elapsed_s == 0.0 => None,
        Amount::Counter(sum) => {
            let before = if let Some(Amount::Counter(before)) = before { *before } else { 0.0 };
            let events = (sum - before).max(0.0);
            Some(Measured { value: Some(events / elapsed_s), events: Some(events) })
        }
        Amount::Histogram(buckets) => {
            let before = if let Some(Amount::Histogram(before)) = before { before.as_slice() } else { &[] };
            let was = |place: usize| before.get(place).map_or(0, |(_, count)| *count);
            let grown: Vec<(f64, f64)> = (0..)
                .zip(buckets)
                .map(|(place, (bound, count))| (*bound, count.saturating_sub(was(place)) as f64))
                .collect();
            let events = grown.last().map_or(0.0, |(_, count)| *count);
            Some(Measured { value: quantile.and_then(|quantile| below(&grown, quantile)), events: Some(events) })
        }
    }
}

/// Below which value this part of what was observed lies, as Prometheus reckons it: evenly within a bucket, and at the last bound for
/// what lies above all; `None` where nothing was observed.
fn below(buckets: &[(f64, f64)], quantile: f64) -> Option<f64> {
    let all = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
    let rank = quantile * all;
    let place = buckets.iter().position(|(_, count)| *count >= rank)?;
    let (lower, under) = if place == 0 { (0.0, 0.0) } else { buckets[place - 1] };
    let (upper, within) = buckets[place];
    if upper.is_infinite() {
        return Some(lower);
    }
    Some(lower + (upper - lower) * (rank - under) / (within - under).max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(sum: f64) -> Levels {
        Levels::from([(String::new(), Amount::Counter(sum))])
    }

    fn rate(window: &Window) -> Option<Measured> {
        window.measured(None).get("").copied()
    }

    #[test]
    fn a_counter_is_what_it_has_grown_by() {
        let mut window = Window::new(60_000, 0, counted(100.0));
        assert_eq!(rate(&window), None, "no time has gone on");
        window.note(10_000, counted(120.0));
        assert_eq!(rate(&window), Some(Measured { value: Some(2.0), events: Some(20.0) }));
        for tick in 2..=12 {
            window.note(tick * 10_000, counted(120.0));
        }
        assert_eq!(rate(&window), Some(Measured { value: Some(0.0), events: Some(0.0) }), "it is over");
        window.note(1_120_000, counted(1_120.0));
        assert_eq!(rate(&window), Some(Measured { value: Some(1.0), events: Some(1_000.0) }), "one long step");
    }

    #[test]
    fn a_series_that_is_new_began_at_zero() {
        let mut window = Window::new(60_000, 0, Levels::new());
        window.note(1_000, counted(5.0));
        assert_eq!(rate(&window).unwrap().events, Some(5.0));
    }

    #[test]
    fn a_quantile_is_of_what_came_within_the_window() {
        let buckets = |counts: [u64; 4]| {
            let bounds = [0.1, 0.5, 1.0, f64::INFINITY];
            Levels::from([(String::new(), Amount::Histogram(bounds.into_iter().zip(counts).collect()))])
        };
        let mut window = Window::new(60_000, 0, buckets([1_000, 1_000, 1_000, 1_000]));
        window.note(1_000, buckets([1_000, 1_000, 1_000, 1_000]));
        let p95 = |window: &Window| window.measured(Some(0.95))[""];
        assert_eq!(p95(&window), Measured { value: None, events: Some(0.0) });
        window.note(2_000, buckets([1_000, 1_100, 1_100, 1_100]));
        assert_eq!(p95(&window), Measured { value: Some(0.1 + 0.4 * 0.95), events: Some(100.0) });
        window.note(3_000, buckets([1_000, 1_000, 1_000, 2_000]));
        assert_eq!(p95(&window).value, Some(1.0), "above all bounds is at the last one");
    }

    proptest! {
        #[test]
        fn it_remembers_no_more_than_its_steps_and_reaches_as_far_as_it_should(
            length_ms in 1_u64..100_000,
            gaps in proptest::collection::vec(1_u64..5_000, 1..400),
        ) {
            let mut window = Window::new(length_ms, 0, counted(0.0));
            let mut now_ms = 0;
            for gap in &gaps {
                now_ms += gap;
                window.note(now_ms, counted(now_ms as f64));
            }
            prop_assert!(window.past.len() as u64 <= STEPS + 2, "{}", window.past.len());
            let covered = now_ms - window.past[0].0;
            prop_assert!(covered >= length_ms.min(now_ms), "{covered} of {length_ms}");
            let longest = gaps.iter().max().unwrap();
            prop_assert!(covered <= length_ms + length_ms / STEPS + 2 * longest);
            prop_assert!((rate(&window).unwrap().value.unwrap() - 1_000.0).abs() < 1e-6);
        }
    }
}
