//! `loadtest cache`: questions as people ask them, a few often and most rarely, in several wordings; what the cache answers, how
//! fast, and whether that is an answer to what was asked.
//!
//! The provider of the test answers each wording of a question differently, so that an answer shows which wording it was given to:
//! one to another wording of the same question is good, one to another question is wrong.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use loadtest::generator::{self, Expected, Mix, Plan, Prompts, Report, Target};
use serde_json::json;

use crate::load;
use crate::party::{Floor, Whom};
use crate::probe::Probe;
use crate::trial::goal::{Bound, Goal};
use crate::trial::picture::{Axis, Chart};
use crate::trial::{Keeping, Trial, progress};

/// Whom to ask which questions.
#[derive(Args)]
pub(crate) struct CacheArgs {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    keeping: Keeping,
    /// Questions, one a line, the most frequent first, with their wordings separated by tabs; without it a small set of our own.
    #[arg(long)]
    questions: Option<PathBuf>,
    /// How much rarer each question is than the one before: the n-th is asked `n^-exponent` times as often as the first.
    #[arg(long, default_value_t = 1.0)]
    exponent: f64,
    /// Decides who asks what.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Requests per second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Connections.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Seconds that count.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Seconds before that, in which the cache learns.
    #[arg(long, default_value_t = 10.0)]
    warm_up_seconds: f64,
    /// The share of look-ups that must be answered from the cache.
    #[arg(long, default_value_t = 0.5)]
    hits: f64,
    /// The share of look-ups that may be answered by meaning with the answer to another question.
    #[arg(long, default_value_t = 0.005)]
    wrong: f64,
    /// File that holds a key of the server's; local mode needs none.
    #[arg(long)]
    key_file: Option<PathBuf>,
}

/// What the cache says of a reply, in `x-ish-cache`.
const HITS: [&str; 3] = ["HIT", "NORMALIZED_HIT", "SEMANTIC_HIT"];

/// Asks and judges.
pub(crate) async fn cache(args: CacheArgs) -> anyhow::Result<ExitCode> {
    let probe = Probe::new()?;
    let mix = Arc::new(args.mix()?);
    let party = args.whom.meet(&probe, &[]).await?;
    let setup = json!({
        "questions": mix.wordings().count(), "wordings": mix.wordings().map(<[String]>::len).sum::<usize>(),
        "exponent": args.exponent, "seed": args.seed, "rate": args.rate, "seconds": args.seconds,
    });
    let mut trial = Trial::begin("cache", setup);
    let floor = match party.floor(Floor::Fixed, false) {
        Some(target) => {
            let plan = args.plan(target, &mix)?;
            // The floor gives everybody one answer.
            let prompts = Prompts::Unique { salt: args.seed };
            let plan = Plan {
                prompts,
                expected: Expected::default(),
                duration: plan.duration / 4,
                warm_up: Duration::ZERO,
                ..plan
            };
            Some(generator::run(plan).await.context("the floor")?)
        }
        None => None,
    };
    let plan = Plan { pid: party.pid(), ..args.plan(party.target().clone(), &mix)? };
    let lasts = plan.warm_up + plan.duration;
    let report = progress::shown("cache", lasts, generator::run(plan)).await?;
    trial.targets = goals(&args, &report, floor.as_ref());
    trial.result("server", &report)?;
    if let Some(floor) = &floor {
        trial.result("floor", floor)?;
    }
    trial.end(&args.keeping, &[kinds(&report), load::quantiles(&report, floor.as_ref())])
}

impl CacheArgs {
    fn mix(&self) -> anyhow::Result<Mix> {
        let lines = match &self.questions {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
            None => include_str!("../data/questions.tsv").to_owned(),
        };
        Mix::read(&lines, self.exponent, self.seed)
    }

    fn plan(&self, target: Target, mix: &Arc<Mix>) -> anyhow::Result<Plan> {
        let key = match &self.key_file {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
            None => "loadtest".to_owned(),
        };
        let duration = Duration::try_from_secs_f64(self.seconds)?;
        Ok(Plan {
            headers: vec![("authorization".into(), format!("Bearer {}", key.trim()))],
            expected: Expected { kinds: Some("x-ish-cache"), ..Expected::default() },
            connections: self.connections,
            warm_up: Duration::try_from_secs_f64(self.warm_up_seconds)?,
            rate: Some(self.rate),
            ..Plan::new(target, Prompts::Mixed(Arc::clone(mix)), duration)
        })
    }
}

fn goals(args: &CacheArgs, report: &Report, floor: Option<&Report>) -> Vec<Goal> {
    let all = (report.good + report.bad + report.unsent).max(1) as f64;
    let hits: u64 = HITS.iter().filter_map(|kind| report.kinds.get(*kind)).map(|kind| kind.count).sum();
    let wrong_by = |by: &str| {
        let wrong = report.wrong_replies.iter().filter(|(reason, _)| reason.starts_with(&format!("{by}:")));
        wrong.map(|(_, count)| *count).sum::<u64>() as f64
    };
    let wrong_texts = wrong_by("HIT") + wrong_by("NORMALIZED_HIT") + wrong_by("MISS");
    let (p50, p99) = (floor.map(|floor| floor.total.p50_us / 1e3), floor.map(|floor| floor.total.p99_us / 1e3));
    let ms = |kind: &str, of: fn(&generator::Percentiles) -> f64| {
        report.kinds.get(kind).map_or(f64::NAN, |kind| of(&kind.total) / 1e3)
    };
    vec![
        Goal::new("cache", "answered from the cache", "of all", Bound::AtLeast(args.hits), hits as f64 / all)
            .advice("cache.preset decides how much is matched by meaning; `cache explain` says why a question missed"),
        Goal::new("cache", "wrong by meaning", "of all", Bound::AtMost(args.wrong), wrong_by("SEMANTIC_HIT") / all)
            .advice("set cache.preset to strict, and report wrong answers as feedback"),
        Goal::new("cache", "wrong by text", "", Bound::AtMost(0.0), wrong_texts),
        Goal::new("exact hit", "p50", "ms", Bound::AtMost(1.0), ms("HIT", |times| times.p50_us)).beside(p50),
        Goal::new("exact hit", "p99", "ms", Bound::AtMost(10.0), ms("HIT", |times| times.p99_us)).beside(p99),
        Goal::new("semantic hit", "p50", "ms", Bound::AtMost(10.0), ms("SEMANTIC_HIT", |times| times.p50_us))
            .beside(p50),
        Goal::new("cache", "answered as it should", "", Bound::AtLeast(0.995), report.success()),
    ]
}

/// How long each kind of answer takes.
fn kinds(report: &Report) -> Chart {
    let chart = Chart::new(
        "Time of a reply by what the cache said",
        Axis::even("replies of 100 that were faster"),
        Axis::log("ms"),
    );
    report.kinds.iter().fold(chart, |chart, (name, kind)| {
        let times = &kind.total;
        let points = [
            (50.0, times.p50_us),
            (90.0, times.p90_us),
            (95.0, times.p95_us),
            (99.0, times.p99_us),
            (100.0, times.max_us),
        ];
        chart.line(&format!("{name} ({})", kind.count), points.map(|(share, us)| (share, us / 1e3)))
    })
}
