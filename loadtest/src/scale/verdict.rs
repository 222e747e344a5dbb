//! What the windows say together: a table to be read, and a report to be kept.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::cell::Cell;
use crate::kept::{self, machine};
use crate::spread::Spread;
use crate::stack::CpuUse;

/// One cell on so many instances for a while.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Window {
    pub cell: Cell,
    pub instances: usize,
    pub per_second: f64,
    pub sent: u64,
    pub bad: u64,
    /// Calls that the provider had meanwhile.
    pub upstream_calls: u64,
    pub cpu: CpuUse,
}

/// The first instance alone and all of them, one right after the other, in either order.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Pair {
    pub one: Window,
    pub all: Window,
}

/// What was run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Setup {
    pub instances: usize,
    pub connections: usize,
    pub seconds: f64,
    pub rounds: u32,
    pub seed: u64,
}

/// The whole run, as it is kept.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    timestamp: String,
    setup: Setup,
    machine: String,
    rows: Vec<Row>,
    is_sound: bool,
    pairs: Vec<Pair>,
}

/// One cell over all rounds.
#[derive(Debug, Serialize)]
struct Row {
    cell: Cell,
    one_per_second: Spread,
    all_per_second: Spread,
    /// Of the same round.
    all_to_one: Spread,
    /// How busy the machine was.
    one_busy: Spread,
    all_busy: Spread,
}

impl Window {
    /// Whether it measured what it says.
    fn is_sound(&self) -> bool {
        let expected = if self.cell.asks_provider() { self.sent } else { 0 };
        self.sent > 0 && self.bad == 0 && self.upstream_calls == expected
    }
}

impl Row {
    fn of(cell: Cell, pairs: &[Pair]) -> Option<Self> {
        let of_cell = || pairs.iter().filter(|pair| pair.one.cell == cell);
        let spread = |figure: fn(&Pair) -> f64| Spread::of(of_cell().map(figure).collect());
        Some(Self {
            cell,
            one_per_second: spread(|pair| pair.one.per_second)?,
            all_per_second: spread(|pair| pair.all.per_second)?,
            all_to_one: spread(|pair| pair.all.per_second / pair.one.per_second)?,
            one_busy: spread(|pair| pair.one.cpu.machine_busy)?,
            all_busy: spread(|pair| pair.all.cpu.machine_busy)?,
        })
    }
}

impl Verdict {
    pub fn of(timestamp: String, setup: Setup, pairs: Vec<Pair>) -> Self {
        let rows = Cell::ALL.into_iter().filter_map(|cell| Row::of(cell, &pairs)).collect();
        let is_sound = pairs.iter().all(|pair| pair.one.is_sound() && pair.all.is_sound());
        Self { timestamp, setup, machine: machine(), rows, is_sound, pairs }
    }

    /// Whether every window measured what it says.
    pub fn is_sound(&self) -> bool {
        self.is_sound
    }

    pub fn table(&self) -> String {
        let Setup { instances, connections, seconds, rounds, .. } = &self.setup;
        let mut text = format!(
            "{connections} connections (closed loop), {rounds} rounds of {seconds} s, medians (lowest to highest); ratios within a round\n{}\n\n\
             | cell | r/s, one instance | r/s, {instances} instances | {instances} to one | machine busy, one and {instances} |\n|---|--:|--:|--:|--:|\n",
            self.machine
        );
        for row in &self.rows {
            let whole = |Spread { median, min, max }: Spread| format!("{median:.0} ({min:.0}-{max:.0})");
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {:.0} % and {:.0} % |",
                row.cell.name(),
                whole(row.one_per_second),
                whole(row.all_per_second),
                row.all_to_one.text(),
                row.one_busy.median * 100.0,
                row.all_busy.median * 100.0,
            );
        }
        for pair in self.pairs.iter().rev().take(Cell::ALL.len()).rev() {
            for window in [&pair.one, &pair.all] {
                let _ =
                    write!(text, "\n{} on {}, last round: {}", window.cell.name(), window.instances, window.cpu.text());
            }
        }
        for window in self.pairs.iter().flat_map(|pair| [&pair.one, &pair.all]).filter(|window| !window.is_sound()) {
            let Window { cell, instances, sent, bad, upstream_calls, .. } = window;
            let _ = write!(
                text,
                "\n**unsound**: {} on {instances}: {sent} sent, {bad} bad, {upstream_calls} calls upstream",
                cell.name()
            );
        }
        text
    }

    /// Writes the report, named after its day, into `folder`.
    pub fn keep(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        kept::keep(folder, "scale", &self.timestamp, self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn window(cell: Cell, instances: usize, per_second: f64, upstream_calls: u64) -> Window {
        let cpu = CpuUse { cores_by_process: BTreeMap::new(), machine_busy: 0.9, machine_stolen: 0.0 };
        Window { cell, instances, per_second, sent: 100, bad: 0, upstream_calls, cpu }
    }

    fn verdict(hits_asked: u64) -> Verdict {
        let pairs = [(100.0, 150.0), (200.0, 220.0), (100.0, 130.0)].map(|(one, all)| Pair {
            one: window(Cell::ExactHit, 1, one, hits_asked),
            all: window(Cell::ExactHit, 3, all, 0),
        });
        let setup = Setup { instances: 3, connections: 32, seconds: 2.0, rounds: 3, seed: 1 };
        Verdict::of("2026-11-21T10:00:00Z".to_owned(), setup, pairs.to_vec())
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let verdict = verdict(0);
        assert!(verdict.is_sound());
        let [row] = verdict.rows.as_slice() else { panic!("{:?}", verdict.rows) };
        assert!((row.all_to_one.median - 1.3).abs() < 1e-9 && (row.all_to_one.min - 1.1).abs() < 1e-9);
        let line = "| exact hit, L1 | 100 (100-200) | 150 (130-220) | 1.30 (1.10-1.50) | 90 % and 90 % |";
        assert!(verdict.table().contains(line), "{}", verdict.table());
    }

    #[test]
    fn a_hit_that_asked_the_provider_is_none() {
        let verdict = verdict(1);
        assert!(!verdict.is_sound());
        assert!(verdict.table().contains("**unsound**: exact hit, L1 on 1: 100 sent, 0 bad, 1 calls upstream"));
    }
}
