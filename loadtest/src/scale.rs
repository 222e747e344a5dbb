//! `loadtest scale`: what several instances serve, against the first of them alone, on one machine.
//!
//! All of them run the whole time, on one Postgres and one Redis; in each round each kind of request is sent to the first alone
//! and to all, one right after the other, in an order that a seed tosses. They are somebody else's to start
//! (`tests/soak/instances.py`), and everything, this load too, shares the machine's cores.

mod cell;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use futures_util::future::try_join_all;
use loadtest::generator::{self, Chance};

use self::cell::{Asking, Cell};
use self::verdict::{Pair, Setup, Verdict, Window};
use crate::probe::Probe;
use crate::stack::{CpuTimes, Stack};

/// What to ask of whom.
#[derive(Args)]
pub(crate) struct ScaleArgs {
    #[command(flatten)]
    stack: Stack,
    /// Their provider (`loadtest provider`), whose count shows what was asked of it.
    #[arg(long)]
    provider: String,
    /// Connections, over all instances that are asked.
    #[arg(long, default_value_t = 33)]
    connections: usize,
    /// How long each window lasts.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How long each window runs before counting.
    #[arg(long, default_value_t = 0.5)]
    warm_up_seconds: f64,
    /// How often everything is measured.
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Decides the order of windows; the time of the start where it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Folder that the report goes to, named after the day.
    #[arg(long, overrides_with = "reports")]
    reports: Option<PathBuf>,
}

/// Measures, prints the table, and fails where a window was not what it says.
pub(crate) async fn scale(args: ScaleArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.rounds > 0, "--rounds must be at least 1");
    ensure!(args.stack.instances.len() > 1, "one --instance has nothing to be compared with");
    let timestamp = jiff::Timestamp::now();
    let seed = args.seed.unwrap_or(timestamp.as_millisecond().unsigned_abs());
    let pairs = measure(&args, seed).await?;
    let setup = Setup {
        instances: args.stack.instances.len(),
        connections: args.connections,
        seconds: args.seconds,
        rounds: args.rounds,
        seed,
    };
    let verdict = Verdict::of(timestamp.to_string(), setup, pairs);
    println!("{}", verdict.table());
    if let Some(folder) = &args.reports {
        eprintln!("wrote {}", verdict.keep(folder)?.display());
    }
    Ok(if verdict.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: &ScaleArgs, seed: u64) -> anyhow::Result<Vec<Pair>> {
    let asking = Asking {
        // Local mode takes any.
        key: args.stack.key()?.unwrap_or_else(|| "loadtest".to_owned()),
        // Windows count up from it, and do not reach another run's.
        salt: seed * 1_000,
        duration: Duration::try_from_secs_f64(args.seconds)?,
        warm_up: Duration::try_from_secs_f64(args.warm_up_seconds)?,
    };
    let probe = Probe::new()?;
    for (_, base) in &args.stack.instances {
        cell::warm(&asking, &probe, base).await?;
    }
    let mut bench = Bench { args, asking, probe, windows: 0 };
    let (mut chance, mut pairs) = (Chance::new(seed), Vec::new());
    for round in 1..=args.rounds {
        for cell in Cell::ALL {
            let pair = bench.pair(cell, chance.toss()).await?;
            eprintln!(
                "round {round}: {}: {:.0}/s on one, {:.0}/s on all",
                cell.name(),
                pair.one.per_second,
                pair.all.per_second
            );
            pairs.push(pair);
        }
    }
    Ok(pairs)
}

struct Bench<'a> {
    args: &'a ScaleArgs,
    asking: Asking,
    probe: Probe,
    windows: u64,
}

impl Bench<'_> {
    async fn pair(&mut self, cell: Cell, one_first: bool) -> anyhow::Result<Pair> {
        let all = self.args.stack.instances.len();
        let first = self.window(cell, if one_first { 1 } else { all }).await?;
        let second = self.window(cell, if one_first { all } else { 1 }).await?;
        let (one, all) = if one_first { (first, second) } else { (second, first) };
        Ok(Pair { one, all })
    }

    /// So many of the instances share the connections for a window.
    async fn window(&mut self, cell: Cell, instances: usize) -> anyhow::Result<Window> {
        let stack = &self.args.stack;
        let mut plans = Vec::new();
        for (place, (name, base)) in stack.instances.iter().take(instances).enumerate() {
            let connections =
                self.args.connections / instances + usize::from(place < self.args.connections % instances);
            self.windows += 1;
            plans.push(cell.plan(&self.asking, base, stack.pid(name), connections, self.windows)?);
        }
        let (calls_before, before) = (self.probe.counts(&self.args.provider).await?.chat, CpuTimes::now(stack));
        let reports = try_join_all(plans.into_iter().map(generator::run)).await.with_context(|| cell.name())?;
        let cpu = CpuTimes::now(stack).since(&before);
        let upstream_calls = self.probe.counts(&self.args.provider).await?.chat - calls_before;
        Ok(Window {
            cell,
            instances,
            per_second: reports.iter().map(|report| report.per_second).sum(),
            sent: reports.iter().map(|report| report.sent).sum(),
            bad: reports.iter().map(|report| report.bad).sum(),
            upstream_calls,
            cpu,
        })
    }
}
