//! `loadtest run`: load on one URL.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use loadtest::generator::{self, Plan, Prompts, Target};

/// What to send where.
#[derive(Args)]
pub(crate) struct RunArgs {
    /// A chat completions URL on a loopback address.
    #[arg(long)]
    url: String,
    /// Connections kept open.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Requests sent at most.
    #[arg(long, default_value_t = generator::MAX_REQUESTS)]
    requests: u64,
    /// How long to count.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How long to send before counting.
    #[arg(long, default_value_t = 0.5)]
    warm_up_seconds: f64,
    /// Requests per second (open loop); without it as many as get answered (closed loop).
    #[arg(long)]
    rate: Option<f64>,
    /// Ask for streams.
    #[arg(long)]
    stream: bool,
    /// Send this file's bytes as the body.
    #[arg(long, conflicts_with = "unique")]
    body_file: Option<PathBuf>,
    /// Make every prompt a new one.
    #[arg(long)]
    unique: bool,
    /// The process whose CPU time is measured.
    #[arg(long)]
    pid: Option<u32>,
}

/// Runs and prints the report as JSON; fails if a reply was not as expected.
pub(crate) async fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let plan = Plan {
        stream: args.stream,
        connections: args.connections,
        max_requests: args.requests,
        warm_up: Duration::try_from_secs_f64(args.warm_up_seconds)?,
        rate: args.rate,
        pid: args.pid,
        ..Plan::new(Target::parse(&args.url)?, prompts(&args)?, Duration::try_from_secs_f64(args.seconds)?)
    };
    let report = generator::run(plan).await?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(if report.bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn prompts(args: &RunArgs) -> anyhow::Result<Prompts> {
    if args.unique {
        return Ok(Prompts::Unique { salt: u64::from(std::process::id()) });
    }
    let Some(path) = &args.body_file else {
        return Ok(Prompts::Body(generator::chat("What is the capital of France?", args.stream)));
    };
    let body = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Prompts::Body(body.into()))
}
