//! `loadtest stress`: more users step by step, until a target is missed.
//!
//! Each user asks so many times a second, whether or not replies come in time; beside each step the floor gets the same load for
//! a quarter of the time.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use loadtest::generator::Report;
use serde::Serialize;
use serde_json::json;

use crate::bounds::Bounds;
use crate::party::{Party, Whom};
use crate::probe::Probe;
use crate::requests::{self, Asking, Load, Requests};
use crate::trial::goal::{Bound, Goal};
use crate::trial::picture::{Axis, Chart};
use crate::trial::{Keeping, Trial, progress};

/// Whom to ask what, and how many users in which steps.
#[derive(Args)]
pub(crate) struct StressArgs {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    requests: Requests,
    #[command(flatten)]
    keeping: Keeping,
    #[command(flatten)]
    bounds: Bounds,
    /// Users that each step adds.
    #[arg(long, default_value_t = 50)]
    step_users: usize,
    /// Users of the last step; fewer within the targets are a failure.
    #[arg(long, default_value_t = 1_000)]
    users: usize,
    /// Requests per second of each user.
    #[arg(long, default_value_t = 1.0)]
    per_user: f64,
    /// Seconds of a step.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Seconds at the beginning of each step that do not count.
    #[arg(long, default_value_t = 2.0)]
    warm_up_seconds: f64,
}

/// One step.
#[derive(Debug, Serialize)]
struct Step {
    users: usize,
    within_targets: bool,
    server: Report,
    floor: Option<Report>,
}

/// Goes up until a target is missed, and judges how far that was.
pub(crate) async fn stress(args: StressArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.step_users > 0 && args.users > 0, "--step-users and --users must be at least 1");
    let probe = Probe::new()?;
    let mut asking = args.requests.read()?;
    let party = args.whom.meet(&probe, &[]).await?;
    asking.warm(&party, &probe).await?;
    let setup =
        json!({"users": args.users, "step_users": args.step_users, "per_user": args.per_user, "seconds": args.seconds});
    let mut trial = Trial::begin("stress", setup);
    let steps = climb(&args, &party, &mut asking).await?;
    trial.targets = goals(&args, &steps);
    trial.result("steps", &steps)?;
    trial.end(&args.keeping, &[rates(&steps), times(&steps)])
}

async fn climb(args: &StressArgs, party: &Party, asking: &mut Asking) -> anyhow::Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut users = 0;
    while users < args.users && steps.iter().all(|step| step.within_targets) {
        users = (users + args.step_users).min(args.users);
        let load = Load {
            connections: users,
            rate: Some(users as f64 * args.per_user),
            think: Duration::ZERO,
            warm_up: Duration::try_from_secs_f64(args.warm_up_seconds)?,
            duration: Duration::try_from_secs_f64(args.seconds)?,
        };
        let work = requests::beside_floor(asking, party, &load);
        let lasts = load.duration.mul_f64(1.25) + load.warm_up * 2;
        let (floor, server) = progress::shown(&format!("{users} users"), lasts, work).await?;
        steps.push(Step { users, within_targets: args.bounds.are_met(&server), server, floor });
    }
    Ok(steps)
}

fn goals(args: &StressArgs, steps: &[Step]) -> Vec<Goal> {
    let good = steps.iter().rev().find(|step| step.within_targets);
    let served = good.map_or(0, |step| step.users);
    let mut goals = vec![
        Goal::new("stress", "users within the targets", "users", Bound::AtLeast(args.users as f64), served as f64)
            .advice(
                "the first step beyond shows in `targets` which figure gave way; add a core or an instance for more",
            ),
    ];
    // Of the step that missed, if one did.
    if let Some(last) = steps.last() {
        goals.extend(args.bounds.goals(&format!("{} users", last.users), &last.server, last.floor.as_ref()));
    }
    goals
}

fn rates(steps: &[Step]) -> Chart {
    let line = |each: fn(&Step) -> f64| steps.iter().map(|step| (step.users as f64, each(step))).collect::<Vec<_>>();
    let chart = Chart::new("Answered", Axis::even("users"), Axis::even("replies per second"));
    let floor = steps.iter().filter_map(|step| Some((step.users as f64, step.floor.as_ref()?.per_second)));
    chart.line("server", line(|step| step.server.per_second)).line("floor", floor)
}

fn times(steps: &[Step]) -> Chart {
    let line = |each: fn(&Report) -> f64| {
        steps.iter().map(|step| (step.users as f64, each(&step.server) / 1e3)).collect::<Vec<_>>()
    };
    let chart = Chart::new("Time of a reply", Axis::even("users"), Axis::log("ms"));
    let floor = steps.iter().filter_map(|step| Some((step.users as f64, step.floor.as_ref()?.total.p99_us / 1e3)));
    let chart = chart.line("p50", line(|report| report.total.p50_us)).line("p95", line(|report| report.total.p95_us));
    chart.line("p99", line(|report| report.total.p99_us)).line("p99 of the floor", floor)
}
