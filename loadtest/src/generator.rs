//! The load generator: how much a server takes, how fast, and whether its answers are right.
//!
//! *Closed loop*: each connection sends its next request when the last one is answered, which
//! finds the most a server can do. *Open loop*: requests are due at fixed times whether or not the
//! server keeps up, which shows the latency that users would see; a request that could not be sent
//! in time counts from the moment it was due, so a stall is not hidden (G. Tene's "coordinated
//! omission"), and one that was due and never sent is told. The server's own CPU time is read from `/proc` beside it: on a shared machine CPU
//! time per request is the steadiest of all these figures.
//!
//! It talks to this machine: [`Target::parse`] refuses every other address, [`Target::anywhere`] is for who may load another
//! host; and [`Plan`]'s bounds keep a run finite.

mod chance;
mod connection;
mod course;
pub mod cpu;
mod mix;
mod prompts;
mod reply;
mod report;
mod schedule;
mod target;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use http::Method;
use tokio::task::{JoinSet, LocalSet};

pub use self::chance::Chance;
pub use self::course::Moment;
pub use self::mix::Mix;
pub use self::prompts::{Prompts, chat, unique};
pub use self::report::{Percentiles, Refused, Report};
pub use self::target::Target;

use self::connection::Connection;
use self::course::Course;
use self::report::{Span, Tally};
use self::schedule::Schedule;

/// The most connections of one run.
pub const MAX_CONNECTIONS: usize = 4096;
/// The longest run.
pub const MAX_SECONDS: f64 = 7_200.0;
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
    /// How: `POST` where there is a body to be sent.
    pub method: Method,
    /// Whether to ask for streams.
    pub stream: bool,
    /// Extra request headers, names in small letters; a later one takes an earlier one's place.
    pub headers: Vec<(Cow<'static, str>, String)>,
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
    /// How long each connection of a closed loop thinks between a reply and its next request.
    pub think: Duration,
    /// The process whose CPU time is read, if it is ours to see.
    pub pid: Option<u32>,
}

impl Plan {
    /// `POST` requests for JSON replies in a closed loop over one connection; the rest is as it usually is.
    pub fn new(target: Target, prompts: Prompts, duration: Duration) -> Self {
        Self {
            target,
            prompts,
            method: Method::POST,
            stream: false,
            headers: Vec::new(),
            expected: Expected::default(),
            connections: 1,
            max_requests: MAX_REQUESTS,
            duration,
            grace: USUAL_GRACE,
            warm_up: Duration::ZERO,
            rate: None,
            think: Duration::ZERO,
            pid: None,
        }
    }
}

/// What makes a reply a good one, besides a status of success.
#[derive(Clone, Debug)]
pub struct Expected {
    /// What a whole JSON reply holds; `None`: any body is good.
    pub member: Option<&'static str>,
    /// The number of SSE events, `[DONE]` included.
    pub events: Option<usize>,
    /// A header and its value.
    pub header: Option<(&'static str, &'static str)>,
    /// A header by whose values replies are told apart.
    pub kinds: Option<&'static str>,
}

impl Default for Expected {
    fn default() -> Self {
        Self { member: Some("\"finish_reason\""), events: None, header: None, kinds: None }
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
    connections.spawn_local(drive(Rc::clone(&run), Some(first)));
    for _ in 1..run.plan.connections {
        connections.spawn_local(drive(Rc::clone(&run), None));
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
    counting_from: Instant,
    until: Instant,
    ended: Cell<Instant>,
    sent: Cell<u64>,
    /// Of an open loop.
    schedule: Option<Schedule>,
    tally: RefCell<Tally>,
    course: RefCell<Course>,
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
        let until = counting_from + plan.duration;
        Self {
            counting_from,
            until,
            schedule: plan.rate.map(|rate| Schedule::new(started, until, rate)),
            course: RefCell::new(Course::new(counting_from, plan.duration)),
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

    /// Waits until the next request may be sent and returns the moment its latency counts from.
    async fn next_start(&self) -> Option<Instant> {
        match &self.schedule {
            Some(schedule) => schedule.next().await,
            None => Some(Instant::now()),
        }
    }

    fn record(&self, due: Instant, outcome: &reply::Outcome) {
        if due >= self.counting_from {
            self.course.borrow_mut().record(outcome);
            self.tally.borrow_mut().record(outcome);
        }
    }

    /// Requests of an open loop that were due and never sent, since no connection was free in time.
    fn unsent(&self) -> u64 {
        let has_all = self.sent.get() < self.plan.max_requests;
        self.schedule.as_ref().filter(|_| has_all).map_or(0, |schedule| schedule.unsent_since(self.counting_from))
    }

    fn report(&self) -> Report {
        let elapsed = self.ended.get().saturating_duration_since(self.counting_from);
        let (before, after) = (self.cpu_before.borrow(), self.cpu_after.borrow());
        let cpu = after.total.zip(before.total).map(|(after, before)| after.saturating_sub(before));
        let since =
            |name: &str, time: Duration| time.saturating_sub(before.by_thread.get(name).copied().unwrap_or_default());
        let cpu_by_thread = after.by_thread.iter().map(|(name, time)| (name.clone(), since(name, *time))).collect();
        self.course.borrow_mut().close();
        let unsent = self.unsent();
        let span = Span { sent: self.sent.get(), unsent, elapsed, full: self.plan.duration, cpu, cpu_by_thread };
        Report::new(&self.tally.borrow(), &span, self.course.borrow().moments())
    }
}

/// Sends on one connection until the run is over, opening it anew whenever it breaks.
async fn drive(run: Rc<Run>, mut connection: Option<Connection>) {
    while let Some(due) = run.next_start().await {
        let Some(number) = run.next() else {
            run.schedule.as_ref().inspect(|schedule| schedule.give_back());
            return;
        };
        let outcome = exchange(&run, &mut connection, number, due).await;
        run.record(due, &outcome);
        if !run.plan.think.is_zero() {
            tokio::time::sleep(run.plan.think).await;
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
