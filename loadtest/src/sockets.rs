//! `loadtest sockets`: thousands of sockets that say nothing, and beside them hundreds of streams.
//!
//! What an idle socket takes is the memory that all of them add, each by its share. Then each stream, on a socket of its own, is read
//! to its end; a delta's way is from the provider's write to the client's read, off one clock. The floor passes as many streams on
//! over plain HTTP, for a quarter of the time.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::child::{self, Child};
use crate::looks::{self, Look, Watched};
use crate::probe::Probe;
use crate::server::{self, Start};
use crate::socket::Socket;
use crate::timed::passed;
use crate::timed::provider::{self, Clock, Pace};
use crate::timed::reader::Reader;
use crate::trial::goal::{Bound, Goal};
use crate::trial::{Keeping, Trial, progress};

/// How long memory may take to settle after sockets were opened or closed.
const SETTLE: Duration = Duration::from_secs(3);
/// How long files may take to be closed after their clients have gone: a server may keep its calls' connections for a while.
const PATIENCE: Duration = Duration::from_mins(2);
/// So many more may be open than before: connections to its stores and its provider, which it keeps.
const KEPT: f64 = 32.0;

/// How many of which, and for how long.
#[derive(Args)]
pub(crate) struct SocketsArgs {
    /// The server under test.
    #[arg(long)]
    ish_bin: PathBuf,
    #[command(flatten)]
    keeping: Keeping,
    /// Sockets that say nothing.
    #[arg(long, default_value_t = 5_000)]
    idle: usize,
    /// Streams, each on a further socket.
    #[arg(long, default_value_t = 500)]
    streams: usize,
    /// Deltas per second of each stream.
    #[arg(long, default_value_t = 20)]
    per_second: u32,
    /// Seconds of the streams.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Milliseconds within which 99 of 100 deltas must come.
    #[arg(long, default_value_t = 50.0)]
    p99_ms: f64,
    /// Bytes that an idle socket may take.
    #[arg(long, default_value_t = 20_000.0)]
    socket_bytes: f64,
    /// Core of the server under test and of the floor.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the provider and of the clients.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

#[derive(Serialize)]
struct Measured {
    /// Before the idle sockets, with them, and after all sockets were closed.
    before: Look,
    idle: Look,
    after: Look,
    bytes_per_idle_socket: f64,
    deltas: Deltas,
    floor: Deltas,
    #[serde(skip)]
    looks: Vec<Look>,
}

/// How long deltas were on their way.
#[derive(Serialize)]
struct Deltas {
    count: u64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

/// Measures and judges.
pub(crate) async fn sockets(args: SocketsArgs) -> anyhow::Result<ExitCode> {
    ensure!(
        args.idle > 0 && args.streams > 0 && args.per_second > 0 && args.seconds > 0,
        "none of the numbers may be 0"
    );
    let sockets = args.idle + args.streams;
    let files = rlimit::increase_nofile_limit(u64::MAX)?;
    ensure!(
        files > 2 * sockets as u64 + 64,
        "{sockets} sockets need as many files, and {files} may be open: `ulimit -n`"
    );
    child::pin_this_process(args.load_core)?;
    let setup =
        json!({"idle": args.idle, "streams": args.streams, "per_second": args.per_second, "seconds": args.seconds});
    let mut trial = Trial::begin("sockets", setup);
    let measured = Box::pin(measure(&args)).await?;
    trial.targets = goals(&args, &measured);
    trial.result("sockets", &measured)?;
    trial.result("looks", &measured.looks)?;
    trial.end(&args.keeping, &[looks::memory(&measured.looks), looks::held(&measured.looks)])
}

async fn measure(args: &SocketsArgs) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let every = Duration::from_secs(1) / args.per_second;
    let pace = Pace { tokens: args.seconds * u64::from(args.per_second), every };
    let upstream = format!("http://{}", provider::serve(clock, pace).await?);
    let short = Pace { tokens: pace.tokens.div_ceil(4), every };
    let short_upstream = format!("http://{}", provider::serve(clock, short).await?);
    let proxy = Child::ours(args.server_core, &["floor", "proxy", "--upstream", &short_upstream])?;
    let floor = all_passed(args, &proxy, clock).await?;

    let (data, probe) = (TempDir::new()?, Probe::new()?);
    let settings = [("ISH_MAX_CONNECTIONS", (args.idle + args.streams + 100).to_string())];
    let start = Start {
        core: args.server_core,
        program: &args.ish_bin,
        args: &[],
        provider: &upstream,
        data: data.path(),
        settings: &settings,
    };
    let server = server::start(&start, &probe).await?;
    let watched = Watched { pid: server.pid(), base: server.url(), probe: &probe };
    let began = Instant::now();
    // What the first sockets make the server load is no socket's own.
    drop(open(&server, args.idle.min(100)).await?);
    let before = settled(&watched, began).await?;
    let idle = open(&server, args.idle).await?;
    let with_idle = settled(&watched, began).await?;
    let reading = all_read(args, &server, clock);
    let (deltas, looks) = watched.during(progress::shown("streams", Duration::from_secs(args.seconds), reading)).await;
    drop(idle);
    let after = emptied(&watched, began, before.open_files).await?;
    Ok(Measured {
        bytes_per_idle_socket: (with_idle.resident_bytes - before.resident_bytes) / args.idle as f64,
        before,
        idle: with_idle,
        after,
        deltas: Deltas::of(&deltas?),
        floor,
        looks,
    })
}

/// Sockets that are read, so that pings are answered, until the set is dropped.
async fn open(server: &Child, count: usize) -> anyhow::Result<JoinSet<()>> {
    let mut sockets = JoinSet::new();
    for number in 0..count {
        let opened = Socket::of_server(server.address()).await;
        let mut socket = opened.with_context(|| format!("socket {number}"))?;
        sockets.spawn(async move { while socket.hear().await.is_ok() {} });
    }
    Ok(sockets)
}

async fn all_read(args: &SocketsArgs, server: &Child, clock: Clock) -> anyhow::Result<Histogram<u64>> {
    let mut streams = JoinSet::new();
    for number in 0..args.streams {
        let mut socket = Reader::open(server.address()).await?;
        socket.ask(&format!("stream {number}")).await?;
        streams.spawn(socket.read_to_end(clock));
    }
    joined(streams).await
}

async fn all_passed(args: &SocketsArgs, proxy: &Child, clock: Clock) -> anyhow::Result<Deltas> {
    let mut streams = JoinSet::new();
    for number in 0..args.streams {
        streams.spawn(passed::read_to_end(proxy.address(), format!("stream {number}"), clock));
    }
    let lasts = Duration::from_secs(args.seconds) / 4;
    Ok(Deltas::of(&progress::shown("streams through the floor", lasts, joined(streams)).await?))
}

async fn joined(mut streams: JoinSet<anyhow::Result<Histogram<u64>>>) -> anyhow::Result<Histogram<u64>> {
    let mut all = Histogram::<u64>::new(3)?;
    while let Some(read) = streams.join_next().await {
        all.add(read??)?;
    }
    Ok(all)
}

async fn settled(watched: &Watched<'_>, since: Instant) -> anyhow::Result<Look> {
    tokio::time::sleep(SETTLE).await;
    watched.look(since).await.context("the server has ended")
}

/// Waits until hardly more files are open than there were.
async fn emptied(watched: &Watched<'_>, since: Instant, files: f64) -> anyhow::Result<Look> {
    let patience = Instant::now() + PATIENCE;
    loop {
        let look = settled(watched, since).await?;
        if look.open_files <= files + KEPT || Instant::now() > patience {
            return Ok(look);
        }
    }
}

fn goals(args: &SocketsArgs, measured: &Measured) -> Vec<Goal> {
    let Measured { before, after, deltas, floor, .. } = measured;
    // While streams are still being opened, memory grows as it has to.
    let (_, steady) = measured.looks.split_at(measured.looks.len() / 5);
    vec![
        Goal::new("sockets", "p99 of a delta's way", "ms", Bound::AtMost(args.p99_ms), deltas.p99_ms)
            .beside(Some(floor.p99_ms))
            .advice("deltas wait for a processor: fewer streams an instance, or another core"),
        Goal::new("sockets", "p50 of a delta's way", "ms", Bound::AtMost(args.p99_ms), deltas.p50_ms)
            .beside(Some(floor.p50_ms)),
        Goal::new(
            "sockets",
            "memory of an idle socket",
            "bytes",
            Bound::AtMost(args.socket_bytes),
            measured.bytes_per_idle_socket,
        ),
        Goal::new("sockets", "growth of memory while streams run", "of it", Bound::AtMost(0.05), looks::drift(steady)),
        Goal::new(
            "sockets",
            "files open after all have gone",
            "more",
            Bound::AtMost(KEPT),
            after.open_files - before.open_files,
        )
        .advice("sockets are not closed when their clients go"),
    ]
}

impl Deltas {
    fn of(latencies: &Histogram<u64>) -> Self {
        let ms = |us: u64| us as f64 / 1e3;
        Self {
            count: latencies.len(),
            p50_ms: ms(latencies.value_at_quantile(0.5)),
            p99_ms: ms(latencies.value_at_quantile(0.99)),
            max_ms: ms(latencies.max()),
        }
    }
}
