//! `loadtest slow-reader`: what a socket whose reader stops costs the others.
//!
//! In each window some hundred streams run, each on a socket of its own, beside one socket with bulky streams. In windows A
//! that socket is read as fast as it comes; in windows B its reader stops once all have begun. Windows come in pairs, A with A
//! and A with B in each round, by chance ([`order`]), so that B against A stands beside A against A. The provider runs in this process and writes the time into each delta, so that a
//! delta's way is read off one clock.

mod order;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use tempfile::TempDir;

use self::order::{Coins, Kind};
use self::verdict::{Setup, Verdict, Window};
use crate::child::{self, Child};
use crate::probe::Probe;
use crate::server::{self, Start};
use crate::timed::provider::{self, Clock, Pace};
use crate::timed::reader::Reader;

/// Streams on the socket that stops.
const BULKY_STREAMS: usize = 8;

/// How many, and for how long.
#[derive(Args)]
pub(crate) struct SlowReaderArgs {
    /// The server under test.
    #[arg(long)]
    ish_bin: PathBuf,
    /// Streams that are read, each on its own socket.
    #[arg(long, default_value_t = 500)]
    streams: usize,
    /// Rounds of four windows: A beside A, and A beside B.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a window.
    #[arg(long, default_value_t = 12)]
    seconds: u64,
    /// Milliseconds between two deltas of a stream.
    #[arg(long, default_value_t = 100)]
    per_token_ms: u64,
    /// Decides the order of windows; the time of the start where it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Folder that the report goes to, named after the day.
    #[arg(long)]
    reports: Option<PathBuf>,
    /// Core of the server under test.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the provider and of the clients.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

/// Measures and prints the table.
pub(crate) async fn slow_reader(args: SlowReaderArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.rounds > 0 && args.streams > 0, "--rounds and --streams must be at least 1");
    child::pin_this_process(args.load_core)?;
    let clock = Clock::start();
    let pace =
        Pace { tokens: args.seconds * 1_000 / args.per_token_ms, every: Duration::from_millis(args.per_token_ms) };
    let address = provider::serve(clock, pace).await?;
    let data = TempDir::new()?;
    let url = format!("http://{address}");
    let start = Start {
        core: args.server_core,
        program: &args.ish_bin,
        args: &[],
        provider: &url,
        data: data.path(),
        settings: &[],
    };
    let probe = Probe::new()?;
    let server = server::start(&start, &probe).await?;
    let bench = Bench { args: &args, clock, probe: &probe, server: &server };
    // The first window meets a cold server.
    bench.window("warm", Kind::Read).await?;
    let started = jiff::Timestamp::now();
    let seed = args.seed.unwrap_or(started.as_millisecond().unsigned_abs());
    let (mut coins, mut rounds) = (Coins::new(seed), Vec::new());
    for round in 0..args.rounds {
        let [first, second] = coins.round();
        rounds.push([bench.pair(&format!("{round}a"), first).await?, bench.pair(&format!("{round}b"), second).await?]);
    }
    let setup = Setup {
        seed,
        streams: args.streams,
        bulky_streams: BULKY_STREAMS,
        seconds: args.seconds,
        per_token_ms: args.per_token_ms,
    };
    let verdict = Verdict::of(started.to_string(), setup, rounds);
    println!("{}", verdict.table());
    if let Some(folder) = &args.reports {
        eprintln!("wrote {}", verdict.keep(folder)?.display());
    }
    Ok(if verdict.is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Bench<'a> {
    args: &'a SlowReaderArgs,
    clock: Clock,
    probe: &'a Probe,
    server: &'a Child,
}

impl Bench<'_> {
    async fn pair(&self, name: &str, [one, other]: order::Pair) -> anyhow::Result<[Window; 2]> {
        let first = self.window(&format!("{name} one"), one).await?;
        let second = self.window(&format!("{name} other"), other).await?;
        eprintln!("{name}: {one:?} p99 {:.2} ms, {other:?} p99 {:.2} ms", first.p99_ms, second.p99_ms);
        Ok([first, second])
    }

    /// One window: everything is asked, then read for its time, and what the bulky socket costs is looked at.
    async fn window(&self, name: &str, kind: Kind) -> anyhow::Result<Window> {
        let rss_before = rss_bytes(self.server.pid())?;
        let mut stopped = Reader::open(self.server.address()).await?;
        for stream in 0..BULKY_STREAMS {
            stopped.ask(&format!("{name} bulky {stream}")).await?;
        }
        let mut tasks = tokio::task::JoinSet::new();
        for stream in 0..self.args.streams {
            let mut socket = Reader::open(self.server.address()).await?;
            socket.ask(&format!("{name} stream {stream}")).await?;
            tasks.spawn(socket.read_to_end(self.clock));
        }
        let bulky_reader = match kind {
            Kind::Read => Some(tokio::spawn(stopped.read_all(BULKY_STREAMS))),
            Kind::Stopped => None,
        };
        let mut held_bytes: f64 = 0.0;
        let mut latencies = Histogram::<u64>::new(3)?;
        let mut look = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                ended = tasks.join_next() => match ended {
                    Some(read) => latencies.add(read??)?,
                    None => break,
                },
                _ = look.tick() => {
                    held_bytes = held_bytes.max(self.probe.metric(&self.server.url(), "ish_ws_held_bytes").await?);
                }
            }
        }
        let rss_grown_bytes = rss_bytes(self.server.pid())? - rss_before;
        if let Some(reader) = bulky_reader {
            reader.await??;
        }
        let ms = |share: f64| latencies.value_at_quantile(share) as f64 / 1e3;
        Ok(Window { kind, p50_ms: ms(0.5), p99_ms: ms(0.99), rss_grown_bytes, held_bytes })
    }
}

fn rss_bytes(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024.0)
}
