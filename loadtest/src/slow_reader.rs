//! `loadtest slow-reader`: what a socket whose reader stops costs the others.
//!
//! In each window some hundred streams run, each on a socket of its own, beside one socket with bulky streams. In windows A
//! that socket is read as fast as it comes; in windows B its reader stops once all have begun. Windows come as A A B, so that
//! B against A stands beside A against A. The provider runs in this process and writes the time into each delta, so that a
//! delta's way is read off one clock.

mod provider;
mod reader;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use tempfile::TempDir;

use self::provider::{Clock, Pace};
use self::reader::{Reading, Socket};
use crate::child::{self, Child};
use crate::probe::Probe;
use crate::server::{self, Start};

/// What p99 may grow to, where it does not stay within the spread.
const TARGET: f64 = 1.10;
/// Streams on the socket that stops.
const BULKY_STREAMS: usize = 8;
/// What the server holds in front of a socket, and one frame of these streams beside it.
const HELD_BOUND_BYTES: f64 = 256.0 * 1024.0 + 32.0 * 1024.0;

/// How many, and for how long.
#[derive(Args)]
pub(crate) struct SlowReaderArgs {
    /// The server under test.
    #[arg(long)]
    ish_bin: PathBuf,
    /// Streams that are read, each on its own socket.
    #[arg(long, default_value_t = 500)]
    streams: usize,
    /// Triples of windows A A B.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a window.
    #[arg(long, default_value_t = 12)]
    seconds: u64,
    /// Milliseconds between two deltas of a stream.
    #[arg(long, default_value_t = 100)]
    per_token_ms: u64,
    /// Core of the server under test.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the provider and of the clients.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

/// What one window showed.
struct Window {
    p50_ms: f64,
    p99_ms: f64,
    rss_grown_bytes: f64,
    held_bytes: f64,
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
    let start = Start { core: args.server_core, program: &args.ish_bin, args: &[], provider: &url, data: data.path() };
    let probe = Probe::new()?;
    let server = server::start(&start, &probe).await?;
    let bench = Bench { args: &args, clock, probe: &probe, server: &server };
    // The first window meets a cold server.
    bench.window("warm", Reading::On).await?;
    let mut triples = Vec::new();
    for round in 0..args.rounds {
        let first = bench.window(&format!("{round}a"), Reading::On).await?;
        let second = bench.window(&format!("{round}b"), Reading::On).await?;
        let stopped = bench.window(&format!("{round}c"), Reading::Stopped).await?;
        eprintln!("round {round}: p99 {:.2}, {:.2}, {:.2} ms", first.p99_ms, second.p99_ms, stopped.p99_ms);
        triples.push([first, second, stopped]);
    }
    let (text, is_met) = table(&args, &triples);
    println!("{text}");
    Ok(if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Bench<'a> {
    args: &'a SlowReaderArgs,
    clock: Clock,
    probe: &'a Probe,
    server: &'a Child,
}

impl Bench<'_> {
    /// One window: everything is asked, then read for its time, and what the bulky socket costs is looked at.
    async fn window(&self, name: &str, bulky: Reading) -> anyhow::Result<Window> {
        let rss_before = rss_bytes(self.server.pid())?;
        let mut stopped = Socket::open(self.server.address()).await?;
        for stream in 0..BULKY_STREAMS {
            stopped.ask(&format!("{name} bulky {stream}")).await?;
        }
        let mut tasks = tokio::task::JoinSet::new();
        for stream in 0..self.args.streams {
            let mut socket = Socket::open(self.server.address()).await?;
            socket.ask(&format!("{name} stream {stream}")).await?;
            tasks.spawn(socket.read_to_end(self.clock));
        }
        let bulky_reader = match bulky {
            Reading::On => Some(tokio::spawn(stopped.read_all(BULKY_STREAMS))),
            Reading::Stopped => None,
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
        Ok(Window { p50_ms: ms(0.5), p99_ms: ms(0.99), rss_grown_bytes, held_bytes })
    }
}

fn rss_bytes(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024.0)
}

fn table(args: &SlowReaderArgs, triples: &[[Window; 3]]) -> (String, bool) {
    let mut text = format!(
        "{} streams of a delta each {} ms on sockets of their own, beside one socket with {BULKY_STREAMS} bulky streams; windows of {} s\n\n\
         | round | A p99 ms | A again | reader stopped | A/A | stopped/A | RSS grown A / A / stopped MiB | held bytes, most |\n\
         |--:|--:|--:|--:|--:|--:|--:|--:|\n",
        args.streams, args.per_token_ms, args.seconds
    );
    let (mut spreads, mut ratios, mut held): (Vec<f64>, Vec<f64>, f64) = (Vec::new(), Vec::new(), 0.0);
    for (round, [first, second, stopped]) in triples.iter().enumerate() {
        let (spread, ratio) = (second.p99_ms / first.p99_ms, stopped.p99_ms * 2.0 / (first.p99_ms + second.p99_ms));
        let mib = |window: &Window| window.rss_grown_bytes / 1024.0 / 1024.0;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {:.2} | {:.2} | {:.2} | {spread:.2} | {ratio:.2} | {:.1} / {:.1} / {:.1} | {:.0} |",
            round + 1,
            first.p99_ms,
            second.p99_ms,
            stopped.p99_ms,
            mib(first),
            mib(second),
            mib(stopped),
            stopped.held_bytes
        );
        spreads.push(if spread < 1.0 { 1.0 / spread } else { spread });
        ratios.push(ratio);
        held = held.max(stopped.held_bytes);
    }
    let p50 = median(triples.iter().map(|[first, ..]| first.p50_ms).collect());
    let (ratio, spread) = (median(ratios), median(spreads));
    let (is_even, is_bounded) = (ratio <= TARGET.max(spread), held <= HELD_BOUND_BYTES);
    let word = |met: bool| if met { "met" } else { "**missed**" };
    let _ = write!(
        text,
        "\nmedian stopped/A {ratio:.2}, median A/A, either way, {spread:.2} (target ≤ {TARGET:.2} or within the spread: {}); p50 of A {p50:.2} ms; \
         held at most {held:.0} bytes (bound {HELD_BOUND_BYTES:.0}: {})",
        word(is_even),
        word(is_bounded)
    );
    (text, is_even && is_bounded)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_a_value_that_was_measured() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![7.0]) - 7.0).abs() < f64::EPSILON);
    }
}
