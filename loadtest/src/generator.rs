//! The load generator: how much a server takes, how fast, and whether its answers are right.
//!
//! *Closed loop*: each connection sends its next request when the last one is answered, which
//! finds the most a server can do. *Open loop*: requests are due at fixed times whether or not the
//! server keeps up, which shows the latency that users would see; a request that could not be sent
//! in time counts from the moment it was due, so a stall is not hidden (G. Tene's "coordinated
//! omission"). The server's own CPU time is read from `/proc` beside it: on a shared machine CPU
//! time per request is the steadiest of all these figures.
//!
//! It only ever talks to this machine: [`Target`] refuses every other address, and [`Plan`]'s
//! bounds keep a run finite.

mod connection;
pub mod cpu;
mod prompts;
mod reply;
mod report;
mod target;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::task::{JoinSet, LocalSet};

pub use self::prompts::{Prompts, chat, unique};
pub use self::report::{Percentiles, Report};
pub use self::target::Target;

use self::connection::Connection;
use self::report::{Span, Tally};

/// The most connections of one run.
pub const MAX_CONNECTIONS: usize = 4096;
/// The longest run.
pub const MAX_SECONDS: f64 = 600.0;
/// The most requests of one run.
pub const MAX_REQUESTS: u64 = 100_000_000;
/// What [`Plan::grace`] usually is.
pub const USUAL_GRACE: Duration = Duration::from_secs(10);

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub target: Target,
    /// What to ask.
    pub prompts: Prompts,
    /// Whether to ask for streams.
    pub stream: bool,
    /// Extra request headers.
    pub headers: Vec<(&'static str, String)>,
    /// What every reply must look like.
    pub expected: Expected,
    /// How many connections are kept open, `1..=MAX_CONNECTIONS`.
    pub connections: usize,
    /// How many requests to send at most, `1..=MAX_REQUESTS`; those of the warm-up count too.
    pub max_requests: u64,
    /// How long to send, at most [`MAX_SECONDS`].
    pub duration: Duration,
    /// How long replies under way may take after that; later ones count as broken.
    pub grace: Duration,
    /// How long to send before counting starts.
    pub warm_up: Duration,
    /// Requests per second over all connections; `None` is the closed loop.
    pub rate: Option<f64>,
    /// The process whose CPU time is read, if it is ours to see.
    pub pid: Option<u32>,
}

/// What makes a reply a good one, besides status 200.
#[derive(Clone, Debug)]
pub struct Expected {
    /// What a whole JSON reply holds.
    pub member: &'static str,
    /// The number of SSE events, `[DONE]` included.
    pub events: Option<usize>,
    /// A header and its value.
    pub header: Option<(&'static str, &'static str)>,
}

impl Default for Expected {
    fn default() -> Self {
        Self { member: "\"finish_reason\"", events: None, header: None }
    }
}

/// Runs the plan on this thread and reports.
///
/// # Errors
/// The plan is out of bounds, or no connection could be opened at all.
pub async fn run(plan: Plan) -> anyhow::Result<Report> {
    check(&plan)?;
    let run = Rc::new(Run::new(plan));
    let first = Connection::open(&run.plan).await?;
    LocalSet::new().run_until(send_all(Rc::clone(&run), first)).await;
    Ok(run.report())
}

/// Drives all connections to the end of the run.
async fn send_all(run: Rc<Run>, first: Connection) {
    let mut connections = JoinSet::new();
    connections.spawn_local(drive(Rc::clone(&run), 0, Some(first)));
    for index in 1..run.plan.connections {
        connections.spawn_local(drive(Rc::clone(&run), index, None));
    }
    let ended = async {
        tokio::time::sleep_until(run.counting_from.into()).await;
        run.cpu_before.replace(run.cpu_time());
        while connections.join_next().await.is_some() {}
    };
    let deadline = run.until + run.plan.grace;
    // On time or not: what is still under way then is counted as broken.
    let _ = tokio::time::timeout_at(deadline.into(), ended).await;
    run.tally.borrow_mut().give_up(connections.len());
    run.ended.set(Instant::now());
    run.cpu_after.replace(run.cpu_time());
}

fn check(plan: &Plan) -> anyhow::Result<()> {
    ensure!(
        (1..=MAX_REQUESTS).contains(&plan.max_requests),
        "requests must be 1 to {MAX_REQUESTS}, not {}",
        plan.max_requests
    );
    let seconds = (plan.duration + plan.warm_up).as_secs_f64();
    ensure!(
        (1..=MAX_CONNECTIONS).contains(&plan.connections),
        "connections must be 1 to {MAX_CONNECTIONS}, not {}",
        plan.connections
    );
    ensure!(seconds <= MAX_SECONDS, "a run may last {MAX_SECONDS} s, not {seconds} s");
    let rate = plan.rate.unwrap_or(1.0);
    ensure!(rate > 0.0 && rate.is_finite(), "the rate must be above 0, not {rate}");
    Ok(())
}

/// What the connections of one run share; all on one thread.
struct Run {
    plan: Plan,
    started: Instant,
    counting_from: Instant,
    until: Instant,
    ended: Cell<Instant>,
    sent: Cell<u64>,
    tally: RefCell<Tally>,
    cpu_before: RefCell<CpuTime>,
    cpu_after: RefCell<CpuTime>,
}

/// CPU time of the target so far.
#[derive(Default)]
struct CpuTime {
    total: Option<Duration>,
    by_thread: BTreeMap<String, Duration>,
}

impl Run {
    fn new(plan: Plan) -> Self {
        let started = Instant::now();
        let counting_from = started + plan.warm_up;
        Self {
            started,
            counting_from,
            until: counting_from + plan.duration,
            ended: Cell::new(started),
            sent: Cell::new(0),
            tally: RefCell::new(Tally::default()),
            cpu_before: RefCell::default(),
            cpu_after: RefCell::default(),
            plan,
        }
    }

    fn cpu_time(&self) -> CpuTime {
        let Some(pid) = self.plan.pid else { return CpuTime::default() };
        CpuTime { total: cpu::time_of(pid), by_thread: cpu::time_by_thread(pid) }
    }

    /// The number of the next request, unless the run is over.
    fn next(&self) -> Option<u64> {
        let number = self.sent.get();
        if Instant::now() >= self.until || number >= self.plan.max_requests {
            return None;
        }
        self.sent.set(number + 1);
        Some(number)
    }

    fn report(&self) -> Report {
        let elapsed = self.ended.get().saturating_duration_since(self.counting_from);
        let (before, after) = (self.cpu_before.borrow(), self.cpu_after.borrow());
        let cpu = after.total.zip(before.total).map(|(after, before)| after.saturating_sub(before));
        let since =
            |name: &str, time: Duration| time.saturating_sub(before.by_thread.get(name).copied().unwrap_or_default());
        let cpu_by_thread = after.by_thread.iter().map(|(name, time)| (name.clone(), since(name, *time))).collect();
        let span = Span { sent: self.sent.get(), elapsed, full: self.plan.duration, cpu, cpu_by_thread };
        Report::new(&self.tally.borrow(), &span)
    }
}

/// Sends on one connection until the run is over, opening it anew whenever it breaks.
async fn drive(run: Rc<Run>, index: usize, mut connection: Option<Connection>) {
    let mut pace = Pace::new(&run, index);
    while let Some(due) = pace.next_start(&run).await {
        let Some(number) = run.next() else { return };
        let outcome = exchange(&run, &mut connection, number, due).await;
        if due >= run.counting_from {
            run.tally.borrow_mut().record(outcome);
        }
    }
}

async fn exchange(run: &Run, connection: &mut Option<Connection>, number: u64, due: Instant) -> reply::Outcome {
    if connection.is_none() {
        *connection = Connection::open(&run.plan).await.ok();
    }
    let Some(open) = connection else {
        // Refused connections come back at once; without a pause they would fill the run.
        tokio::time::sleep(Duration::from_millis(5)).await;
        return reply::Outcome::Broken;
    };
    let outcome = open.exchange(&run.plan, number, due).await;
    if matches!(outcome, reply::Outcome::Broken) {
        *connection = None;
    }
    outcome
}

/// When one connection sends.
struct Pace {
    next_due: Instant,
    interval: Option<Duration>,
}

impl Pace {
    fn new(run: &Run, index: usize) -> Self {
        let connections = run.plan.connections as f64;
        let interval = run.plan.rate.map(|rate| Duration::from_secs_f64(connections / rate));
        // The connections take turns, so that arrivals are evenly spaced over all of them.
        let offset = interval.map_or(Duration::ZERO, |interval| interval.mul_f64(index as f64 / connections));
        Self { next_due: run.started + offset, interval }
    }

    /// Waits until the next request may be sent and returns the moment its latency counts from.
    async fn next_start(&mut self, run: &Run) -> Option<Instant> {
        let Some(interval) = self.interval else {
            return Some(Instant::now());
        };
        let due = self.next_due;
        self.next_due += interval;
        if due >= run.until {
            return None;
        }
        if due <= Instant::now() {
            return Some(due);
        }
        tokio::time::sleep_until(due.into()).await;
        // The timer wakes up to a millisecond late; that lateness is ours, not the server's.
        Some(Instant::now())
    }
}
