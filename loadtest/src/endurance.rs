//! `loadtest endurance`: everything at once for a long time, with faults, and what of it the server still holds afterwards.
//!
//! Requests that have to be answered run beside ones whose answers fail at the provider in every way that it knows, callers that
//! leave in the middle, and sockets that ask and cancel. The same runs for a short while first: what the server holds once that is over
//! is what it has to come back to. Whoever runs this may besides take away what stands behind the server (`tests/soak/endurance.py`).

mod traffic;
mod trouble;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use loadtest::generator::Report;
use serde::Serialize;
use serde_json::json;

use self::traffic::Traffic;
use self::trouble::Trouble;
use crate::load;
use crate::looks::{self, Look, Watched};
use crate::party::{Party, Whom};
use crate::probe::Probe;
use crate::trial::goal::{Bound, Goal};
use crate::trial::{Keeping, Trial, progress};

/// Between two looks for whether the server has come back to what it held.
const SETTLE: Duration = Duration::from_secs(5);

/// Whom to ask for how long.
#[derive(Args)]
pub(crate) struct EnduranceArgs {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    keeping: Keeping,
    /// Seconds of the whole.
    #[arg(long, default_value_t = 1_200)]
    seconds: u64,
    /// Seconds of the same before that.
    #[arg(long, default_value_t = 120)]
    warm_up_seconds: u64,
    /// Seconds that the server may take to come back to what it held.
    #[arg(long, default_value_t = 120)]
    settle_seconds: u64,
    /// Requests per second that have to be answered.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// No failing answers, leaving callers and cancelling sockets beside them.
    #[arg(long)]
    without_faults: bool,
    /// The share of requests that must be answered as they should.
    #[arg(long, default_value_t = 0.999)]
    available: f64,
    /// The share by which memory may grow.
    #[arg(long, default_value_t = 0.05)]
    growth: f64,
    /// Decides who asks what.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

#[derive(Serialize)]
struct Measured {
    /// Before the whole and after it, with nobody there.
    before: Look,
    after: Look,
    /// What had to be answered, by what it was.
    answered: Vec<(&'static str, Report)>,
    failing: Option<Report>,
    left: u64,
    cancelled: u64,
    #[serde(skip)]
    looks: Vec<Look>,
}

/// Runs and judges.
pub(crate) async fn endurance(args: EnduranceArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.seconds > 0 && args.warm_up_seconds > 0, "--seconds and --warm-up-seconds must be at least 1");
    let probe = Probe::new()?;
    // Caches that are full soon: one that fills is no leak.
    let settings =
        [("ISH_CACHE_MEMORY_BYTES", (16 << 20_u32).to_string()), ("ISH_CACHE_INDEX_MAX_ENTRIES", "10000".to_owned())];
    let mut party = args.whom.meet(&probe, &settings).await?;
    let setup = json!({"seconds": args.seconds, "rate": args.rate, "faults": !args.without_faults, "seed": args.seed});
    let mut trial = Trial::begin("endurance", setup);
    let measured = Box::pin(measure(&args, &party, &probe)).await?;
    party.ensure_alive()?;
    trial.targets = goals(&args, &measured);
    trial.result("endurance", &measured)?;
    trial.result("looks", &measured.looks)?;
    let mut charts = vec![looks::memory(&measured.looks), looks::held(&measured.looks)];
    charts.extend(measured.answered.iter().map(|(of, report)| load::course(&format!("server, {of}"), report)));
    trial.end(&args.keeping, &charts)
}

async fn measure(args: &EnduranceArgs, party: &Party, probe: &Probe) -> anyhow::Result<Measured> {
    let pid = party.pid().context("the server's process is not known: --pid")?;
    let watched = Watched { pid, base: party.base(), probe };
    let began = Instant::now();
    let warm_up = Duration::from_secs(args.warm_up_seconds);
    let warming = all(args, party, probe, warm_up, 1);
    progress::shown("warm-up", warm_up, warming).await?;
    tokio::time::sleep(SETTLE * 2).await;
    let before = watched.look(began).await.context("the server has ended")?;
    let lasts = Duration::from_secs(args.seconds);
    let (all, looks) =
        Box::pin(watched.during(progress::shown("endurance", lasts, all(args, party, probe, lasts, 2)))).await;
    let (answered, trouble) = all?;
    let after = settled(args, &watched, &before, began).await?;
    let Trouble { failing, left, cancelled } = trouble;
    Ok(Measured { before, after, answered, failing, left, cancelled, looks })
}

/// All of it at once; `part` tells its prompts from those of another.
async fn all(
    args: &EnduranceArgs,
    party: &Party,
    probe: &Probe,
    lasts: Duration,
    part: u64,
) -> anyhow::Result<(Vec<(&'static str, Report)>, Trouble)> {
    // Two runs on one server share no prompt.
    let salt = (jiff::Timestamp::now().as_second().unsigned_abs() * 10 + part) * 100;
    let traffic = Traffic { party, rate: args.rate, lasts, seed: args.seed, salt };
    traffic.warm(probe).await?;
    if args.without_faults {
        return Ok((traffic.answered().await?, Trouble::default()));
    }
    tokio::try_join!(traffic.answered(), Trouble::make(party, lasts, salt))
}

/// Waits until the server holds no more than before, or for as long as it may take.
async fn settled(args: &EnduranceArgs, watched: &Watched<'_>, before: &Look, since: Instant) -> anyhow::Result<Look> {
    let patience = Instant::now() + Duration::from_secs(args.settle_seconds);
    loop {
        tokio::time::sleep(SETTLE).await;
        let look = watched.look(since).await.context("the server has ended")?;
        let is_back = look.open_files <= before.open_files && look.tasks.unwrap_or(0.0) <= before.tasks.unwrap_or(0.0);
        if is_back || Instant::now() > patience {
            return Ok(look);
        }
    }
}

fn goals(args: &EnduranceArgs, measured: &Measured) -> Vec<Goal> {
    let Measured { before, after, answered, looks, .. } = measured;
    let sum = |of: fn(&Report) -> u64| answered.iter().map(|(_, report)| of(report)).sum::<u64>() as f64;
    let available = sum(|report| report.good) / sum(|report| report.good + report.bad + report.unsent);
    let mut goals = vec![
        Goal::new("endurance", "answered as it should", "", Bound::AtLeast(args.available), available)
            .advice("look at `wrong_statuses` and `broken` of each kind in the report"),
        Goal::new("endurance", "growth of memory", "of it", Bound::AtMost(args.growth), looks::drift(looks))
            .advice("something is kept: compare /api/status early and late"),
        // A pool may have found that it wants a connection more.
        Goal::new(
            "endurance",
            "files open after all have gone",
            "more",
            Bound::AtMost(8.0),
            after.open_files - before.open_files,
        )
        .advice("connections are not closed"),
    ];
    if let (Some(before), Some(after)) = (before.tasks, after.tasks) {
        goals.push(
            Goal::new("endurance", "tasks left after all have gone", "more", Bound::AtMost(8.0), after - before)
                .advice("tasks outlive their callers"),
        );
    }
    goals
}
