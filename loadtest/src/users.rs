//! `loadtest users`: many people at once over WebSockets, and what the servers add to their provider's own time.
//!
//! Each user has a socket and a conversation, and asks at moments that are set beforehand (an open loop): a question that could
//! not be sent in time, since the answer before was late, counts from when it was due. Users join one after the other; what
//! is due before the warm-up is over does not count. Nobody asks what somebody else has asked. The servers, and what stands
//! before and behind them, are somebody else's to start (`tests/soak/instances.py`).

mod answer;
mod pools;
mod tally;
mod user;
mod verdict;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use loadtest::generator::Target;
use tokio::task::LocalSet;
use tokio::time::sleep_until;

use self::answer::Heard;
use self::tally::{Known, Tally};
use self::user::User;
use self::verdict::{Seen, Setup, Verdict};
use crate::probe::Probe;
use crate::stack::{CpuTimes, Stack};

/// More would want another scheme of addresses.
const MAX_USERS: u64 = 50_000;

/// How many, whom and how often they ask.
#[derive(Args)]
pub(crate) struct UsersArgs {
    /// Where sockets are opened, such as `http://127.0.0.1:8000/ws`; users share several evenly.
    #[arg(long = "url", required = true)]
    urls: Vec<String>,
    #[command(flatten)]
    stack: Stack,
    /// Users at once.
    #[arg(long, default_value_t = 1_000)]
    users: u64,
    /// Seconds in which they join.
    #[arg(long, default_value_t = 20.0)]
    ramp_seconds: f64,
    /// Seconds after that which do not count.
    #[arg(long, default_value_t = 20.0)]
    warm_up_seconds: f64,
    /// Seconds that count.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Milliseconds between two questions of a user, in the mean.
    #[arg(long, default_value_t = 20_000)]
    think_ms: u64,
    /// Whom they ask.
    #[arg(long, default_value = "mock")]
    model: String,
    /// Milliseconds that this model takes to its first token.
    #[arg(long)]
    first_token_ms: u64,
    /// Milliseconds that it takes for each further one.
    #[arg(long)]
    per_token_ms: u64,
    /// Decides who asks when; the time of the start where it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Folder that the report goes to, named after the model and the day.
    #[arg(long, overrides_with = "reports")]
    reports: Option<PathBuf>,
}

/// What the users of a run share; all on one thread.
struct Run {
    targets: Vec<Target>,
    key: Option<String>,
    model: String,
    users: u64,
    /// Tells this run's questions from those of others.
    salt: u64,
    think: Duration,
    ramp: Duration,
    started: Instant,
    counting_from: Instant,
    until: Instant,
    sockets_open: Cell<i64>,
    tally: RefCell<Tally>,
}

/// Runs, prints the table, and fails where a target is missed.
pub(crate) async fn users(args: UsersArgs) -> anyhow::Result<ExitCode> {
    let timestamp = jiff::Timestamp::now();
    let seed = args.seed.unwrap_or(timestamp.as_millisecond().unsigned_abs());
    let run = Rc::new(Run::new(&args, seed)?);
    let files = rlimit::increase_nofile_limit(u64::MAX)?;
    ensure!(files > args.users + 64, "{} users need as many files, and {files} may be open: `ulimit -n`", args.users);
    let probe = Probe::new()?;
    let seen = LocalSet::new().run_until(run_all(Rc::clone(&run), &args, &probe)).await?;
    let verdict = Verdict::of(timestamp.to_string(), args.setup(seed), &run.tally.borrow(), seen);
    println!("{}", verdict.table());
    if let Some(folder) = &args.reports {
        eprintln!("wrote {}", verdict.keep(folder)?.display());
    }
    Ok(if verdict.is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Lets all users live to their last answers, and looks at the servers while they count.
async fn run_all(run: Rc<Run>, args: &UsersArgs, probe: &Probe) -> anyhow::Result<Seen> {
    let lives: Vec<_> = (0..run.users)
        .map(|number| {
            let run = Rc::clone(&run);
            tokio::task::spawn_local(async move { User::new(&run, number).live().await })
        })
        .collect();
    sleep_until(run.counting_from.into()).await;
    let sockets_open = run.sockets_open.get();
    eprintln!("{sockets_open} sockets are open; counting begins");
    let before = CpuTimes::now(&args.stack);
    let pools = pools::watch(&args.stack, probe, sleep_until(run.until.into())).await?;
    let cpu = CpuTimes::now(&args.stack).since(&before);
    for life in lives {
        life.await.context("a user's task")?;
    }
    Ok(Seen { sockets_open, pools, cpu })
}

impl Run {
    fn new(args: &UsersArgs, salt: u64) -> anyhow::Result<Self> {
        ensure!((1..=MAX_USERS).contains(&args.users), "users must be 1 to {MAX_USERS}, not {}", args.users);
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds);
        let (ramp, started) = (seconds(args.ramp_seconds)?, Instant::now());
        let counting_from = started + ramp + seconds(args.warm_up_seconds)?;
        let known = Known { first_ms: args.first_token_ms, per_token_ms: args.per_token_ms };
        Ok(Self {
            targets: args.urls.iter().map(|url| Target::parse(url)).collect::<Result<_, _>>()?,
            key: args.stack.key()?,
            model: args.model.clone(),
            users: args.users,
            salt,
            think: Duration::from_millis(args.think_ms),
            ramp,
            started,
            counting_from,
            until: counting_from + seconds(args.seconds)?,
            sockets_open: Cell::new(0),
            tally: RefCell::new(Tally::new(known)),
        })
    }

    fn record(&self, due: Instant, answer: Result<Heard, String>) {
        if due >= self.counting_from {
            self.tally.borrow_mut().record(answer);
        }
    }
}

impl UsersArgs {
    fn setup(&self, seed: u64) -> Setup {
        Setup {
            model: self.model.clone(),
            users: self.users,
            instances: self.stack.instances.len(),
            ramp_s: self.ramp_seconds,
            warm_up_s: self.warm_up_seconds,
            seconds: self.seconds,
            think_ms: self.think_ms,
            provider: Known { first_ms: self.first_token_ms, per_token_ms: self.per_token_ms },
            seed,
        }
    }
}
