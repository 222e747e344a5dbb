//! What the users found: a table to be read, and a report to be kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::pools::PoolUse;
use super::tally::{Known, Quantiles, Tally};
use crate::kept::{self, machine, word};
use crate::stack::CpuUse;

/// How many users there were, and how they asked.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Setup {
    pub model: String,
    pub users: u64,
    pub instances: usize,
    pub ramp_s: f64,
    pub warm_up_s: f64,
    pub seconds: f64,
    pub think_ms: u64,
    pub provider: Known,
    pub seed: u64,
}

/// The whole run, as it is kept.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    timestamp: String,
    setup: Setup,
    machine: String,
    /// Sockets that were open when counting began.
    sockets_open: i64,
    sockets_lost: u64,
    asked: u64,
    good: u64,
    failures: BTreeMap<String, u64>,
    /// Good answers by what the cache said.
    by_cache: BTreeMap<String, u64>,
    asked_per_second: f64,
    output_tokens: u64,
    /// From the moment that a question was due, in milliseconds.
    ack_ms: Quantiles,
    first_delta_ms: Quantiles,
    whole_ms: Quantiles,
    /// The same, less what the provider takes by itself.
    added_to_first_delta_ms: Quantiles,
    added_to_whole_ms: Quantiles,
    pools: Vec<PoolUse>,
    cpu: CpuUse,
    targets: Vec<Target>,
}

/// One thing that must hold.
#[derive(Debug, Serialize)]
struct Target {
    what: String,
    value: f64,
    must_be: String,
    is_met: bool,
}

/// What was seen beside the answers.
pub(super) struct Seen {
    pub sockets_open: i64,
    pub pools: Vec<PoolUse>,
    pub cpu: CpuUse,
}

impl Verdict {
    pub fn of(timestamp: String, setup: Setup, tally: &Tally, seen: Seen) -> Self {
        let (first, whole) = (tally.added_first.quantiles(), tally.added_whole.quantiles());
        Self {
            timestamp,
            machine: machine(),
            sockets_open: seen.sockets_open,
            sockets_lost: tally.sockets_lost,
            asked: tally.asked(),
            good: tally.good,
            failures: tally.failures.clone(),
            by_cache: tally.by_cache.clone(),
            asked_per_second: tally.asked() as f64 / setup.seconds,
            output_tokens: tally.output_tokens,
            ack_ms: tally.ack.quantiles(),
            first_delta_ms: tally.first.quantiles(),
            whole_ms: tally.whole.quantiles(),
            added_to_first_delta_ms: first,
            added_to_whole_ms: whole,
            targets: targets(tally, first, whole, &seen.pools),
            pools: seen.pools,
            cpu: seen.cpu,
            setup,
        }
    }

    pub fn is_met(&self) -> bool {
        self.targets.iter().all(|target| target.is_met)
    }

    pub fn table(&self) -> String {
        let Setup { model, users, instances, think_ms, seconds, provider, .. } = &self.setup;
        let mut text = format!(
            "{users} users on {instances} instances ask `{model}` (first token after {} ms, {} ms between tokens), each about every {think_ms} ms, \
             for {seconds:.0} s: {} questions, {:.1} a second; {} sockets open, {} lost\n{}\n{}\n\n",
            provider.first_ms,
            provider.per_token_ms,
            self.asked,
            self.asked_per_second,
            self.sockets_open,
            self.sockets_lost,
            self.machine,
            self.cpu.text(),
        );
        text.push_str(
            "| ms from when it was due | p50 | p90 | p95 | p99 | p99.9 | most |\n|---|--:|--:|--:|--:|--:|--:|\n",
        );
        for (what, at) in [
            ("acknowledged", self.ack_ms),
            ("first delta", self.first_delta_ms),
            ("whole answer", self.whole_ms),
            ("added to the first delta", self.added_to_first_delta_ms),
            ("added to the whole answer", self.added_to_whole_ms),
        ] {
            let Quantiles { p50, p90, p95, p99, p99_9, max } = at;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {what} | {p50:.1} | {p90:.1} | {p95:.1} | {p99:.1} | {p99_9:.1} | {max:.1} |");
        }
        text.push_str("\n| pool | limit | most in use | mean | most waiting | acquired | timeouts |\n|---|--:|--:|--:|--:|--:|--:|\n");
        for pool in &self.pools {
            let PoolUse {
                instance,
                pool,
                limit,
                peak_in_use,
                mean_in_use,
                peak_waiting,
                acquired,
                acquire_timeouts,
                ..
            } = pool;
            let _ = writeln!(
                text,
                "| {instance} {pool} | {limit} | {peak_in_use} | {mean_in_use:.1} | {peak_waiting} | {acquired} | {acquire_timeouts} |"
            );
        }
        let _ = writeln!(
            text,
            "\ngood answers by what the cache said: {:?}; failures: {:?}\n",
            self.by_cache, self.failures
        );
        text.push_str("| target | is | must be | |\n|---|--:|--:|---|\n");
        for Target { what, value, must_be, is_met } in &self.targets {
            let _ = writeln!(text, "| {what} | {value:.2} | {must_be} | {} |", word(*is_met));
        }
        text
    }

    /// Writes the report, named after the model and its day, into `folder`.
    pub fn keep(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let of = format!("users-{}", self.setup.model.replace('/', "-"));
        kept::keep(folder, &of, &self.timestamp, self)
    }
}

fn targets(tally: &Tally, first: Quantiles, whole: Quantiles, pools: &[PoolUse]) -> Vec<Target> {
    let below = |what: &str, value: f64, bound: f64| Target {
        what: what.to_owned(),
        value,
        must_be: format!("< {bound}"),
        is_met: value < bound,
    };
    // Of no question at all none was answered.
    let success = 100.0 * tally.good as f64 / tally.asked().max(1) as f64;
    let answered =
        Target { what: "answered, %".to_owned(), value: success, must_be: "> 99.5".to_owned(), is_met: success > 99.5 };
    let peak = pools.iter().map(|pool| 100.0 * pool.peak()).fold(0.0, f64::max);
    vec![
        answered,
        below("added to the first delta, p95 ms", first.p95, 50.0),
        below("added to the first delta, p99 ms", first.p99, 100.0),
        below("added to the whole answer, p95 ms", whole.p95, 50.0),
        below("added to the whole answer, p99 ms", whole.p99, 100.0),
        below("most of a pool in use, %", peak, 80.0),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::answer::Heard;
    use super::*;

    fn verdict(added_ms: u64, failures: u64, in_use: f64) -> Verdict {
        let mut tally = Tally::new(Known { first_ms: 100, per_token_ms: 10 });
        for _ in 0..1_000 - failures {
            tally.record(Ok(Heard {
                conversation: String::new(),
                ack: Duration::from_millis(3),
                first: Duration::from_millis(104),
                whole: Duration::from_millis(200 + added_ms),
                output_tokens: 11,
                cache: "miss".to_owned(),
            }));
        }
        for _ in 0..failures {
            tally.record(Err("no end in time".to_owned()));
        }
        let pool = PoolUse { limit: 50.0, peak_in_use: in_use, ..PoolUse::default() };
        let cpu = CpuUse { cores_by_process: BTreeMap::new(), machine_busy: 0.5, machine_stolen: 0.0 };
        let setup = Setup {
            model: "openai/mock".to_owned(),
            users: 1_000,
            instances: 2,
            ramp_s: 1.0,
            warm_up_s: 1.0,
            seconds: 10.0,
            think_ms: 20_000,
            provider: Known { first_ms: 100, per_token_ms: 10 },
            seed: 1,
        };
        let seen = Seen { sockets_open: 1_000, pools: vec![pool], cpu };
        Verdict::of("2026-11-21T10:00:00Z".to_owned(), setup, &tally, seen)
    }

    #[test]
    fn each_target_can_be_missed() {
        let met = verdict(20, 0, 10.0);
        assert!(met.is_met(), "{}", met.table());
        assert!(met.table().contains("| answered, % | 100.00 | > 99.5 | met |"), "{}", met.table());
        assert!(!verdict(60, 0, 10.0).is_met());
        assert!(!verdict(20, 5, 10.0).is_met(), "99.5 % is not more than 99.5 %");
        assert!(verdict(20, 4, 10.0).is_met());
        assert!(!verdict(20, 0, 40.0).is_met());
    }

    #[test]
    fn a_run_without_questions_meets_nothing() {
        assert!(!verdict(20, 1_000, 1.0).is_met());
    }

    #[test]
    fn a_report_is_named_after_its_model_and_day() {
        let folder = tempfile::tempdir().unwrap();
        let path = verdict(20, 0, 10.0).keep(folder.path()).unwrap();
        assert_eq!(path.file_name().unwrap(), "users-openai-mock-2026-11-21.json");
        let kept: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!((&kept["asked"], &kept["targets"][0]["is_met"]), (&1_000.into(), &true.into()));
    }
}
