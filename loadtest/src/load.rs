//! `loadtest load`: one kind of request at a fixed rate (an open loop), or from users who wait for their replies (a closed one).

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use loadtest::generator::Report;
use serde_json::json;

use crate::bounds::Bounds;
use crate::party::Whom;
use crate::probe::Probe;
use crate::requests::{self, Load, Requests};
use crate::trial::goal::{Bound, Goal};
use crate::trial::picture::{Axis, Chart};
use crate::trial::{Keeping, Trial, progress};

/// Whom to ask what, and how much.
#[derive(Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    requests: Requests,
    #[command(flatten)]
    keeping: Keeping,
    #[command(flatten)]
    bounds: Bounds,
    /// Users at once, each with a connection.
    #[arg(long, default_value_t = 100)]
    users: usize,
    /// Requests per second of all users together, whether or not replies come in time.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Each user asks when the last reply has come instead.
    #[arg(long, conflicts_with = "rate")]
    closed: bool,
    /// Milliseconds between a reply and the same user's next request.
    #[arg(long, default_value_t = 0, requires = "closed")]
    think_ms: u64,
    /// Seconds that count.
    #[arg(long, default_value_t = 300.0)]
    seconds: f64,
    /// Seconds before that.
    #[arg(long, default_value_t = 5.0)]
    warm_up_seconds: f64,
    /// Of the one core of a server that is started here, how much it may use at a fixed rate.
    #[arg(long, default_value_t = 0.7)]
    cores: f64,
}

/// Measures and judges.
pub(crate) async fn load(args: LoadArgs) -> anyhow::Result<ExitCode> {
    let probe = Probe::new()?;
    let mut asking = args.requests.read()?;
    let party = args.whom.meet(&probe, &[]).await?;
    asking.warm(&party, &probe).await?;
    let load = Load {
        connections: args.users,
        rate: (!args.closed).then_some(args.rate),
        think: Duration::from_millis(args.think_ms),
        warm_up: Duration::try_from_secs_f64(args.warm_up_seconds)?,
        duration: Duration::try_from_secs_f64(args.seconds)?,
    };
    let mut trial = Trial::begin("load", setup(&args, &load));
    let quarter = if asking.floor(&party).is_some() { load.duration / 4 + load.warm_up } else { Duration::ZERO };
    let work = requests::beside_floor(&mut asking, &party, &load);
    let (floor, report) = progress::shown("load", quarter + load.warm_up + load.duration, work).await?;
    trial.targets = goals(&args, &report, floor.as_ref());
    trial.result("server", &report)?;
    let mut charts = vec![quantiles(&report, floor.as_ref()), course("server", &report)];
    if let Some(floor) = &floor {
        trial.result("floor", floor)?;
        charts.push(course("floor", floor));
    }
    trial.end(&args.keeping, &charts)
}

fn setup(args: &LoadArgs, load: &Load) -> serde_json::Value {
    json!({
        "users": args.users,
        "rate": load.rate,
        "think_ms": args.think_ms,
        "seconds": args.seconds,
        "provider": {"first_token_ms": args.whom.first_token_ms, "per_token_ms": args.whom.per_token_ms, "tokens": args.whom.tokens},
    })
}

fn goals(args: &LoadArgs, report: &Report, floor: Option<&Report>) -> Vec<Goal> {
    let mut goals = args.bounds.goals("load", report, floor);
    if let Some(floor) = floor.filter(|_| args.requests.is_passing()) {
        goals.extend(added(report, floor));
    }
    if args.closed {
        return goals;
    }
    // A few of the last second are still under way at its end.
    let rate = Goal::new("load", "answered per second", "/s", Bound::AtLeast(0.99 * args.rate), report.per_second);
    goals.push(
        rate.beside(floor.map(|floor| floor.per_second))
            .advice("more than this server can answer: `loadtest stress` finds how much"),
    );
    if let Some(cores) = report.cores_used.filter(|_| args.whom.is_ours()) {
        goals.push(
            Goal::new("load", "processors used", "cores", Bound::AtMost(args.cores), cores)
                .advice("add a core or an instance"),
        );
    }
    goals
}

/// What the server takes beyond the floor, where it only passes on.
fn added(report: &Report, floor: &Report) -> Vec<Goal> {
    let added = |name: &str, most: f64, us: f64| Goal::new("load", name, "ms", Bound::AtMost(most), us / 1e3);
    let mut goals = vec![
        added("added to the floor's p50", 0.3, report.total.p50_us - floor.total.p50_us),
        added("added to the floor's p99", 2.0, report.total.p99_us - floor.total.p99_us),
    ];
    if let (Some(own), Some(floor)) = (report.first_content, floor.first_content) {
        goals.push(added("added to the floor's first token, p50", 0.3, own.p50_us - floor.p50_us));
    }
    goals
}

/// Which share of the replies came within which time.
pub(crate) fn quantiles(report: &Report, floor: Option<&Report>) -> Chart {
    // The share that came later, so that each further nine is as wide as the one before.
    let points = |report: &Report| -> Vec<(f64, f64)> {
        report.quantiles.iter().map(|[share, us]| (1.0 / (1.0 - share).max(1e-5), us / 1e3)).collect()
    };
    let chart = Chart::new("Time of a reply", Axis::log("one of so many replies came later"), Axis::log("ms"));
    let chart = chart.line("server", points(report));
    match floor {
        Some(floor) => chart.line("floor", points(floor)),
        None => chart,
    }
}

/// Replies per second while the run lasted.
pub(crate) fn course(of: &str, report: &Report) -> Chart {
    let line = |each: fn(&loadtest::generator::Moment) -> f64| -> Vec<(f64, f64)> {
        report.course.iter().map(|moment| (moment.at_s, each(moment))).collect()
    };
    let chart = Chart::new(&format!("Replies of the {of}"), Axis::even("seconds"), Axis::even("replies per second"));
    let chart = chart.line("good", line(|moment| moment.good_per_second));
    let chart = chart.line("refused", line(|moment| moment.refused_per_second));
    chart.line("bad", line(|moment| moment.bad_per_second))
}
