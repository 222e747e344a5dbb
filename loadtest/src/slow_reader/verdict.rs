//! What the windows say together: a table to be read, and a report to be kept.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::order::Kind;
use crate::kept::{self, word};

/// What p99 may grow to, where it does not stay within the spread.
const TARGET: f64 = 1.10;
/// What the server holds in front of a socket, and one frame of these streams beside it.
const HELD_BOUND_BYTES: f64 = 256.0 * 1024.0 + 32.0 * 1024.0;

/// What one window showed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Window {
    pub kind: Kind,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub rss_grown_bytes: f64,
    pub held_bytes: f64,
}

/// The two pairs of a round, in the order in which they were.
pub(super) type Round = [[Window; 2]; 2];

/// What was run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Setup {
    pub seed: u64,
    pub streams: usize,
    pub bulky_streams: usize,
    pub seconds: u64,
    pub per_token_ms: u64,
}

/// The whole run, as it is kept.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    timestamp: String,
    setup: Setup,
    rounds: Vec<Round>,
    /// The second of two like windows against the first, either way, and against its own the window whose reader stopped.
    alike: Vec<f64>,
    stopped: Vec<f64>,
    median_alike: f64,
    median_stopped: f64,
    target: f64,
    held_bytes: f64,
    held_bound_bytes: f64,
    is_met: bool,
}

impl Verdict {
    pub fn of(timestamp: String, setup: Setup, rounds: Vec<Round>) -> Self {
        let (mut alike, mut stopped, mut held_bytes) = (Vec::new(), Vec::new(), 0.0_f64);
        for [one, other] in rounds.iter().flatten() {
            held_bytes = held_bytes.max(one.held_bytes).max(other.held_bytes);
            let ratio = other.p99_ms / one.p99_ms;
            match (one.kind, other.kind) {
                (Kind::Stopped, _) => stopped.push(1.0 / ratio),
                (_, Kind::Stopped) => stopped.push(ratio),
                _ => alike.push(ratio.max(1.0 / ratio)),
            }
        }
        let (median_alike, median_stopped) = (median(&alike), median(&stopped));
        let is_met = median_stopped <= TARGET.max(median_alike) && held_bytes <= HELD_BOUND_BYTES;
        Self {
            timestamp,
            setup,
            rounds,
            alike,
            stopped,
            median_alike,
            median_stopped,
            target: TARGET,
            held_bytes,
            held_bound_bytes: HELD_BOUND_BYTES,
            is_met,
        }
    }

    pub fn is_met(&self) -> bool {
        self.is_met
    }

    pub fn table(&self) -> String {
        let Setup { seed, streams, bulky_streams, seconds, per_token_ms } = &self.setup;
        let mut text = format!(
            "{streams} streams of a delta each {per_token_ms} ms on sockets of their own, beside one socket with {bulky_streams} \
             bulky streams; windows of {seconds} s, in the order of seed {seed}\n\n\
             | round | windows, p99 ms | again/read | stopped/read | RSS grown, most, MiB | held bytes, most |\n\
             |--:|---|--:|--:|--:|--:|\n"
        );
        for (number, round) in self.rounds.iter().enumerate() {
            let windows = round.as_flattened();
            let shown = |window: &Window| {
                let kind = if window.kind == Kind::Read { "read" } else { "stopped" };
                format!("{kind} {:.2}", window.p99_ms)
            };
            let most = |of: fn(&Window) -> f64| windows.iter().map(of).fold(0.0, f64::max);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {:.2} | {:.2} | {:.1} | {:.0} |",
                number + 1,
                windows.iter().map(shown).collect::<Vec<_>>().join(", "),
                self.alike[number],
                self.stopped[number],
                most(|window| window.rss_grown_bytes) / 1024.0 / 1024.0,
                most(|window| window.held_bytes)
            );
        }
        let _ = write!(
            text,
            "\nmedian stopped/read {:.2}, median again/read, either way, {:.2} (target ≤ {TARGET:.2} or within the spread: {}); \
             held at most {:.0} bytes (bound {HELD_BOUND_BYTES:.0}: {})",
            self.median_stopped,
            self.median_alike,
            word(self.median_stopped <= TARGET.max(self.median_alike)),
            self.held_bytes,
            word(self.held_bytes <= HELD_BOUND_BYTES)
        );
        text
    }

    /// Writes the report, named after its day, into `folder`.
    pub fn keep(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        kept::keep(folder, "slow-reader", &self.timestamp, self)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kind: Kind, p99_ms: f64) -> Window {
        Window { kind, p50_ms: 1.0, p99_ms, rss_grown_bytes: 0.0, held_bytes: 1_000.0 }
    }

    fn verdict(stopped_ms: f64) -> Verdict {
        let alike = [window(Kind::Read, 10.0), window(Kind::Read, 9.0)];
        let rivals = [window(Kind::Stopped, stopped_ms), window(Kind::Read, 10.0)];
        let setup = Setup { seed: 1, streams: 500, bulky_streams: 8, seconds: 12, per_token_ms: 100 };
        Verdict::of("2026-11-21T10:00:00Z".to_owned(), setup, vec![[rivals, alike]])
    }

    #[test]
    fn each_window_is_compared_with_the_one_beside_it() {
        let met = verdict(11.0);
        assert!((met.median_stopped - 1.1).abs() < 1e-9 && (met.median_alike - 10.0 / 9.0).abs() < 1e-9);
        assert!(met.is_met());
        assert!(!verdict(11.2).is_met(), "beyond the target and the spread");
        assert!(
            met.table().contains("| 1 | stopped 11.00, read 10.00, read 10.00, read 9.00 | 1.11 | 1.10 |"),
            "{}",
            met.table()
        );
    }

    #[test]
    fn a_report_is_named_after_its_day_and_holds_every_window() {
        let folder = tempfile::tempdir().unwrap();
        let path = verdict(11.0).keep(folder.path()).unwrap();
        assert_eq!(path.file_name().unwrap(), "slow-reader-2026-11-21.json");
        let kept: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!((&kept["setup"]["seed"], &kept["is_met"]), (&1.into(), &true.into()));
        assert_eq!(kept["rounds"][0][0][0]["kind"], "stopped");
    }

    #[test]
    fn a_median_is_a_value_that_was_measured() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[7.0]) - 7.0).abs() < f64::EPSILON);
    }
}
