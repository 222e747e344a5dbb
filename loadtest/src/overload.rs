//! `loadtest overload`: several times what a server can answer.
//!
//! First the most that it answers is found (a closed loop with as many connections as may be in work); then requests come at a
//! multiple of that, whether or not replies come in time. What is beyond has to be refused, soon, and with the time to come back;
//! what is answered has to stay near the most; memory has to stay flat. A cache that fills is no leak: it is kept so small that it is
//! full before the count begins.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use loadtest::generator::{self, MAX_CONNECTIONS, Report};
use serde_json::json;

use crate::load;
use crate::looks::{self, Look, Watched};
use crate::party::{Party, Whom};
use crate::probe::Probe;
use crate::requests::{Asking, Load, Requests};
use crate::trial::goal::{Bound, Goal};
use crate::trial::{Keeping, Trial, progress};

/// Whom to ask how much too much.
#[derive(Args)]
pub(crate) struct OverloadArgs {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    requests: Requests,
    #[command(flatten)]
    keeping: Keeping,
    /// How many times the most that it answers.
    #[arg(long, default_value_t = 3.0)]
    factor: f64,
    /// Requests that a server that is started here has in work at once; the same number of connections finds the most.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Requests that wait for that, at most.
    #[arg(long, default_value_t = 32)]
    waiting: usize,
    /// Milliseconds that they wait at most.
    #[arg(long, default_value_t = 50)]
    wait_ms: u64,
    /// Seconds in which the most is found.
    #[arg(long, default_value_t = 30.0)]
    peak_seconds: f64,
    /// Seconds of overload.
    #[arg(long, default_value_t = 600.0)]
    seconds: f64,
    /// Seconds of overload before those that count.
    #[arg(long, default_value_t = 10.0)]
    warm_up_seconds: f64,
}

/// What was measured.
struct Measured {
    floor: Option<Report>,
    peak: Report,
    over: Report,
    looks: Vec<Look>,
}

/// Finds the most, asks for more, and judges.
pub(crate) async fn overload(args: OverloadArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.factor >= 1.0, "--factor must be at least 1");
    let probe = Probe::new()?;
    let mut asking = args.requests.read()?;
    let party = args.whom.meet(&probe, &settings(&args)).await?;
    asking.warm(&party, &probe).await?;
    let setup = json!({
        "factor": args.factor, "in_flight": args.in_flight, "waiting": args.waiting, "wait_ms": args.wait_ms, "seconds": args.seconds,
    });
    let mut trial = Trial::begin("overload", setup);
    let measured = measure(&args, &mut asking, &party, &probe).await?;
    trial.targets = goals(&measured);
    trial.result("peak", &measured.peak)?;
    trial.result("overload", &measured.over)?;
    trial.result("looks", &measured.looks)?;
    if let Some(floor) = &measured.floor {
        trial.result("floor", floor)?;
    }
    trial.end(&args.keeping, &[load::course("server", &measured.over), looks::memory(&measured.looks)])
}

fn settings(args: &OverloadArgs) -> Vec<(&'static str, String)> {
    vec![
        ("ISH_MAX_IN_FLIGHT", args.in_flight.to_string()),
        ("ISH_MAX_WAITING", args.waiting.to_string()),
        ("ISH_MAX_WAIT", format!("{:.3}", args.wait_ms as f64 / 1e3)),
        ("ISH_CACHE_MEMORY_BYTES", (16 << 20_u32).to_string()),
        ("ISH_CACHE_INDEX_MAX_ENTRIES", "10000".to_owned()),
    ]
}

async fn measure(args: &OverloadArgs, asking: &mut Asking, party: &Party, probe: &Probe) -> anyhow::Result<Measured> {
    let (peak_for, over_for) =
        (Duration::try_from_secs_f64(args.peak_seconds)?, Duration::try_from_secs_f64(args.seconds)?);
    let all_out = Load {
        connections: args.in_flight,
        rate: None,
        think: Duration::ZERO,
        warm_up: peak_for / 10,
        duration: peak_for,
    };
    let floor = match asking.floor(party) {
        Some(target) => {
            let short = Load { duration: peak_for / 4, ..all_out };
            Some(generator::run(asking.on(target, &short)).await.context("the floor")?)
        }
        None => None,
    };
    let finding = generator::run(asking.plan(party, &all_out));
    let peak = progress::shown("the most", peak_for + all_out.warm_up, finding).await?;
    ensure!(peak.good > 0, "nothing was answered: {:?}", peak.wrong_statuses);
    let load = Load {
        // Those in work, those that wait, and those that are on their way to be refused.
        connections: (4 * (args.in_flight + args.waiting)).min(MAX_CONNECTIONS),
        rate: Some(args.factor * peak.per_second),
        warm_up: Duration::try_from_secs_f64(args.warm_up_seconds)?,
        duration: over_for,
        ..all_out
    };
    let asked = generator::run(asking.plan(party, &load));
    let shown = progress::shown("overload", load.warm_up + over_for, asked);
    let (over, looks) = match party.pid() {
        Some(pid) => Watched { pid, base: party.base(), probe }.during(shown).await,
        None => (shown.await, Vec::new()),
    };
    // Those of the warm-up do not count.
    let looks = looks.into_iter().filter(|look| look.at_s >= args.warm_up_seconds).collect();
    Ok(Measured { floor, peak, over: over?, looks })
}

fn goals(measured: &Measured) -> Vec<Goal> {
    let Measured { floor, peak, over, looks } = measured;
    let refused = over.refused.as_ref();
    let count = refused.map_or(0, |refused| refused.count);
    let all = (over.good + over.bad + over.unsent).max(1) as f64;
    let goodput = over.per_second / peak.per_second;
    let mut goals = vec![
        Goal::new("overload", "answered, of the most that is answered", "", Bound::AtLeast(0.9), goodput)
            .advice("refusing costs too much, or too much is let in: lower limits.max_in_flight"),
        Goal::new(
            "overload",
            "neither answered nor refused",
            "of all",
            Bound::AtMost(0.005),
            (all - over.good as f64 - count as f64) / all,
        )
        .advice("look at `wrong_statuses`, `broken` and `unsent` in the report"),
        Goal::new(
            "overload",
            "refusals without retry-after",
            "",
            Bound::AtMost(0.0),
            refused.map_or(0.0, |refused| refused.without_retry_after as f64),
        ),
        Goal::new(
            "overload",
            "p99 of a refusal",
            "ms",
            Bound::AtMost(100.0),
            refused.map_or(f64::NAN, |refused| refused.total.p99_us / 1e3),
        )
        .advice("who waits is refused late: lower limits.max_wait and limits.max_waiting"),
        Goal::new("overload", "most answered per second", "/s", Bound::AtLeast(1.0), peak.per_second)
            .beside(floor.as_ref().map(|floor| floor.per_second)),
    ];
    if !looks.is_empty() {
        goals.push(
            Goal::new("overload", "growth of memory", "of it", Bound::AtMost(0.05), looks::drift(looks))
                .advice("something is kept for what is refused, or a cache was not full yet"),
        );
    }
    goals
}
