//! `loadtest compare`: a server and both floors, measured in one interleaved run.
//!
//! The server under test and the floors share one core, one at a time; provider and load share
//! another. Every round measures every cell once, and a cell is compared with its floor *of the
//! same round*, so that what else the machine does falls on both. A cell counts only if it
//! measured what it says: the cache header of every reply and the provider's own count of calls
//! must agree with the cell, else the run fails.
//!
//! What the server must offer: `GET /livez`; `POST /v1/chat/completions` on `ISH_LISTEN`; a
//! provider named by `OPENAI_BASE_URL`; the request header `x-ish-cache: off`; and in replies
//! `x-ish-cache: HIT|NORMALIZED_HIT|SEMANTIC_HIT|MISS|BYPASS`.

mod cell;
mod goals;
mod subjects;
mod table;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use loadtest::generator::{self, cpu};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use self::cell::{Cell, Warmed};
use self::subjects::Subjects;
use self::table::{Comparison, Measurement};
use crate::child;
use crate::probe::Probe;
use crate::trial::{Keeping, Trial};

/// How to compare.
#[derive(Args, Clone)]
pub(crate) struct CompareArgs {
    /// The server under test; without it only the floors are measured.
    #[arg(long)]
    ish_bin: Option<PathBuf>,
    /// Arguments for it.
    #[arg(long, value_delimiter = ' ', allow_hyphen_values = true)]
    ish_args: Vec<String>,
    /// Connections of every cell.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Connections of the cells that embed every prompt. More than the embedder's queue admits would be answered as
    /// misses, which are counted as bad here.
    #[arg(long, default_value_t = 4)]
    semantic_connections: usize,
    /// How long each cell lasts in each round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How long each cell runs before counting.
    #[arg(long, default_value_t = 0.3)]
    warm_up_seconds: f64,
    /// How often every cell is measured.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Requests per second of every cell (open loop); without it the closed loop.
    #[arg(long)]
    rate: Option<f64>,
    /// Measure only cells whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Pairs `prompt<TAB>paraphrase`, one a line, instead of the built-in ones.
    #[arg(long)]
    paraphrases: Option<PathBuf>,
    /// Core of the server under test and of the floors.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the provider and of the load.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Where to write everything measured, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    keeping: Keeping,
}

/// Measures, prints the tables, and fails if any cell was not what it says or missed its target.
pub(crate) async fn compare(args: CompareArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.rounds > 0, "--rounds must be at least 1");
    let mut terminate = signal(SignalKind::terminate())?;
    // Whichever branch wins, the children end with the future of the first one.
    let comparison = tokio::select! {
        comparison = measure(&args) => comparison?,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    };
    println!("{}", comparison.markdown());
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_vec_pretty(&comparison)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let setup =
        json!({"connections": args.connections, "rounds": args.rounds, "seconds": args.seconds, "rate": args.rate});
    let mut trial = Trial::begin("compare", setup);
    trial.targets = goals::of(comparison.rows());
    trial.result("cells", &comparison.rows())?;
    let judged = trial.end_unpictured(&args.keeping)?;
    ensure!(comparison.is_sound(), "a cell did not measure what it says: its column `bad` or `upstream/req` shows it");
    Ok(judged)
}

async fn measure(args: &CompareArgs) -> anyhow::Result<Comparison> {
    child::pin_this_process(args.load_core)?;
    let probe = Probe::new()?;
    let subjects = Subjects::start(args, &probe).await?;
    let warmed = warm(args, &probe, &subjects).await?;
    let cells = cell::all(&subjects, &warmed);
    let wanted = |cell: &Cell| args.only.as_ref().is_none_or(|only| cell.name.contains(only.as_str()));
    let cells: Vec<Cell> = cells.into_iter().filter(wanted).collect();
    let mut measurements = Vec::new();
    for round in 0..args.rounds {
        for cell in &cells {
            eprintln!("round {} of {}: {}", round + 1, args.rounds, cell.name);
            measurements.push(measure_cell(args, &probe, &subjects, cell, round).await?);
        }
    }
    Ok(Comparison::new(args, &cells, measurements, &subjects, &warmed))
}

/// Brings the server's cache into the state that the hit cells expect.
async fn warm(args: &CompareArgs, probe: &Probe, subjects: &Subjects) -> anyhow::Result<Warmed> {
    let Some(server) = &subjects.server else {
        return Ok(Warmed::default());
    };
    cell::warm(&cell::paraphrases(args.paraphrases.as_deref())?, probe, &server.url()).await
}

async fn measure_cell(
    args: &CompareArgs,
    probe: &Probe,
    subjects: &Subjects,
    cell: &Cell,
    round: u32,
) -> anyhow::Result<Measurement> {
    let before = probe.counts(&subjects.provider.url()).await?;
    let plan = cell.plan(args, subjects, round)?;
    let report = generator::run(plan).await.with_context(|| format!("cell {}", cell.name))?;
    let after = probe.counts(&subjects.provider.url()).await?;
    settle(subjects).await;
    Ok(Measurement { cell: cell.name, round, upstream_calls: after.chat - before.chat, report })
}

/// Waits, ten seconds at most, until the server has done what it does after its replies (embedding and storing new
/// entries, say): the next cell must not pay for the last one.
async fn settle(subjects: &Subjects) {
    const LOOK: Duration = Duration::from_millis(50);
    let Some(server) = &subjects.server else { return };
    let mut before = cpu::time_of(server.pid());
    for _ in 0..200 {
        tokio::time::sleep(LOOK).await;
        let after = cpu::time_of(server.pid());
        let used = after.zip(before).map(|(after, before)| after.saturating_sub(before));
        if used.is_none_or(|used| used < LOOK / 20) {
            return;
        }
        before = after;
    }
}
