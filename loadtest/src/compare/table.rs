//! From measurements to the table: medians over the rounds, ratios within each round.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use loadtest::generator::{Report, cpu};
use serde::Serialize;

use super::CompareArgs;
use super::cell::{Cell, Upstream, Warmed};
use super::subjects::Subjects;
use crate::child::Child;
use crate::kept::machine;
use crate::spread::Spread;

/// One cell in one round.
#[derive(Serialize)]
pub(super) struct Measurement {
    pub(super) cell: &'static str,
    pub(super) round: u32,
    /// Calls that the provider received meanwhile.
    pub(super) upstream_calls: u64,
    pub(super) report: Report,
}

/// Everything a run found out.
#[derive(Serialize)]
pub(super) struct Comparison {
    connections: usize,
    semantic_connections: usize,
    seconds: f64,
    rounds: u32,
    rate: Option<f64>,
    machine: String,
    rows: Vec<Row>,
    /// Resident megabytes after the last round.
    resident_mb: BTreeMap<&'static str, f64>,
    /// What the cache said to the paraphrases tried beforehand.
    paraphrase_verdicts: BTreeMap<String, usize>,
    measurements: Vec<Measurement>,
}

/// One cell over all rounds.
#[derive(Default, Serialize)]
pub(super) struct Row {
    pub(super) cell: &'static str,
    pub(super) floor: Option<&'static str>,
    pub(super) per_second: f64,
    pub(super) cpu_us_per_request: Option<f64>,
    pub(super) cores_used: Option<f64>,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) first_content_p50_us: Option<f64>,
    pub(super) sent: u64,
    pub(super) bad: u64,
    /// What was bad, with how often.
    pub(super) faults: BTreeMap<String, u64>,
    pub(super) upstream_calls: u64,
    pub(super) upstream_as_expected: bool,
    /// Requests per second as a share of the floor's.
    pub(super) rate_to_floor: Option<Spread>,
    /// CPU time per request as a multiple of the floor's.
    pub(super) cpu_to_floor: Option<Spread>,
    /// CPU time per request by the names of the threads that used it.
    pub(super) cpu_us_by_thread: BTreeMap<String, f64>,
}

impl Comparison {
    pub(super) fn new(
        args: &CompareArgs,
        cells: &[Cell],
        measurements: Vec<Measurement>,
        subjects: &Subjects,
        warmed: &Warmed,
    ) -> Self {
        Self {
            connections: args.connections,
            semantic_connections: args.semantic_connections,
            seconds: args.seconds,
            rounds: args.rounds,
            rate: args.rate,
            machine: machine(),
            rows: cells.iter().map(|cell| Row::new(cell, &measurements)).collect(),
            resident_mb: resident(subjects),
            paraphrase_verdicts: warmed.verdicts.clone(),
            measurements,
        }
    }

    /// Each cell over all rounds.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether every cell measured what it says.
    pub(super) fn is_sound(&self) -> bool {
        self.rows.iter().all(|row| row.bad == 0 && row.upstream_as_expected)
    }

    /// The table for people.
    pub(super) fn markdown(&self) -> String {
        let load = self.rate.map_or("closed loop".to_owned(), |rate| format!("{rate} requests/s"));
        let mut text = format!(
            "{} connections ({} for semantic hits), {load}, {} rounds of {} s, medians; ratios within a round: median (min-max)\n{}\n\n",
            self.connections, self.semantic_connections, self.rounds, self.seconds, self.machine
        );
        text.push_str("| cell | r/s | CPU µs/req | p50 µs | p99 µs | first content p50 µs | cores | upstream/req | bad | r/s to floor | CPU to floor |\n");
        text.push_str("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
        for row in &self.rows {
            text.push_str(&row.markdown());
        }
        for row in self.rows.iter().filter(|row| !row.faults.is_empty()) {
            // Writing to a string cannot fail.
            let _ = write!(text, "\nbad in {}: {:?}", row.cell, row.faults);
        }
        for row in self.rows.iter().filter(|row| row.cpu_us_by_thread.len() > 1) {
            let share = |(name, us): (&String, &f64)| format!("{name} {us:.1}");
            let shares: Vec<String> = row.cpu_us_by_thread.iter().map(share).collect();
            let _ = write!(text, "\nCPU µs/req by thread in {}: {}", row.cell, shares.join(", "));
        }
        let resident: Vec<String> = self.resident_mb.iter().map(|(name, mb)| format!("{name} {mb:.1} MB")).collect();
        let _ = write!(text, "\nresident at the end: {}\n", resident.join(", "));
        if !self.paraphrase_verdicts.is_empty() {
            let _ = writeln!(text, "paraphrases tried beforehand: {:?}", self.paraphrase_verdicts);
        }
        text
    }
}

impl Row {
    fn new(cell: &Cell, measurements: &[Measurement]) -> Self {
        let own = of_cell(measurements, cell.name);
        let figure = |figure: fn(&Report) -> Option<f64>| own.iter().filter_map(|m| figure(&m.report)).collect();
        let median_of = |each: fn(&Report) -> Option<f64>| Spread::of(figure(each)).map(|spread| spread.median);
        let ratio = |figure: fn(&Report) -> Option<f64>| {
            let floor = of_cell(measurements, cell.floor?);
            Spread::of(
                own.iter()
                    .zip(floor)
                    .filter_map(|(own, floor)| Some(figure(&own.report)? / figure(&floor.report)?))
                    .collect(),
            )
        };
        let sent = own.iter().map(|m| m.report.sent).sum();
        let upstream_calls = own.iter().map(|m| m.upstream_calls).sum();
        Self {
            cell: cell.name,
            floor: cell.floor,
            per_second: median_of(|report| Some(report.per_second)).unwrap_or(0.0),
            cpu_us_per_request: median_of(|report| report.cpu_us_per_request),
            cores_used: median_of(|report| report.cores_used),
            p50_us: median_of(|report| Some(report.total.p50_us)).unwrap_or(0.0),
            p99_us: median_of(|report| Some(report.total.p99_us)).unwrap_or(0.0),
            first_content_p50_us: median_of(|report| report.first_content.map(|first| first.p50_us)),
            sent,
            faults: faults(&own),
            bad: own.iter().map(|m| m.report.bad).sum(),
            upstream_calls,
            upstream_as_expected: upstream_calls == if cell.upstream == Upstream::Never { 0 } else { sent },
            rate_to_floor: ratio(|report| Some(report.per_second)),
            cpu_to_floor: ratio(|report| report.cpu_us_per_request),
            cpu_us_by_thread: by_thread(&own),
        }
    }

    fn markdown(&self) -> String {
        let number =
            |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
        let spread = |spread: Option<Spread>| spread.map_or("-".to_owned(), Spread::text);
        let upstream = self.upstream_calls as f64 / self.sent.max(1) as f64;
        format!(
            "| {} | {:.0} | {} | {:.0} | {:.0} | {} | {} | {upstream:.3}{} | {} | {} | {} |\n",
            self.cell,
            self.per_second,
            number(self.cpu_us_per_request, 1),
            self.p50_us,
            self.p99_us,
            number(self.first_content_p50_us, 0),
            number(self.cores_used, 2),
            if self.upstream_as_expected { "" } else { " (wrong)" },
            self.bad,
            spread(self.rate_to_floor),
            spread(self.cpu_to_floor),
        )
    }
}

/// Medians over the rounds; threads that used less than 0.1 µs a request are left out.
fn by_thread(measurements: &[&Measurement]) -> BTreeMap<String, f64> {
    let names: BTreeSet<&String> = measurements.iter().flat_map(|one| one.report.cpu_us_by_thread.keys()).collect();
    let median = |name: &String| {
        let figures = measurements.iter().filter_map(|one| one.report.cpu_us_by_thread.get(name).copied());
        Spread::of(figures.collect()).map(|spread| spread.median)
    };
    let medians = names.into_iter().filter_map(|name| Some((name.clone(), median(name)?)));
    medians.filter(|(_, us)| *us >= 0.1).collect()
}

fn faults(measurements: &[&Measurement]) -> BTreeMap<String, u64> {
    let mut faults = BTreeMap::new();
    for report in measurements.iter().map(|measurement| &measurement.report) {
        let statuses = report.wrong_statuses.iter().map(|(status, count)| (format!("status {status}"), *count));
        let replies = report.wrong_replies.iter().map(|(reply, count)| (reply.clone(), *count));
        let broken = (report.broken > 0).then(|| ("broken".to_owned(), report.broken));
        for (fault, count) in statuses.chain(replies).chain(broken) {
            *faults.entry(fault).or_default() += count;
        }
    }
    faults
}

fn of_cell<'a>(measurements: &'a [Measurement], cell: &str) -> Vec<&'a Measurement> {
    measurements.iter().filter(|measurement| measurement.cell == cell).collect()
}

fn resident(subjects: &Subjects) -> BTreeMap<&'static str, f64> {
    let named =
        [("fixed", Some(&subjects.fixed)), ("proxy", Some(&subjects.proxy)), ("server", subjects.server.as_ref())];
    let resident = |child: &Child| cpu::resident_bytes(child.pid()).map(|bytes| bytes as f64 / 1e6);
    named.into_iter().filter_map(|(name, child)| Some((name, resident(child?)?))).collect()
}
