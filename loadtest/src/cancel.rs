//! `loadtest cancel`: how long an upstream call outlives the client that gave it up.
//!
//! Calls are opened in each way in turn, one at a time, and given up in the middle. The provider streams slowly and runs
//! in this process, so that the client's leaving and the end in the provider's log are read off one clock. A call that
//! the provider could finish is a fault of the measurement and fails the run.

pub(crate) mod client;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use loadtest::provider::{Behaviour, Entry, Outcome, Provider, ProviderOptions, RunningProvider};
use tempfile::TempDir;
use tokio::time::timeout;

use self::client::Chat;
use crate::child::{self, Child};
use crate::probe::Probe;
use crate::server::{self, Start};

/// What the median may be.
const TARGET: Duration = Duration::from_millis(100);
/// How long any single step may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to give up, and how often.
#[derive(Args)]
pub(crate) struct CancelArgs {
    /// The server under test.
    #[arg(long)]
    ish_bin: PathBuf,
    /// Calls given up in each way.
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// Core of the server under test.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the provider and of the clients.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

/// How a client gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It closes its connection in the middle of an SSE reply.
    Sse,
    /// It closes its connection before a JSON reply has begun.
    Json,
    /// It sends a `cancel` frame on its socket in mid-stream.
    Frame,
}

impl Way {
    const ALL: [Self; 3] = [Self::Sse, Self::Json, Self::Frame];

    fn name(self) -> &'static str {
        match self {
            Self::Sse => "SSE, connection closed in mid-stream",
            Self::Json => "JSON, connection closed before the reply",
            Self::Frame => "WebSocket, `cancel` in mid-stream",
        }
    }
}

/// Measures and prints the table.
pub(crate) async fn cancel(args: CancelArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.rounds > 0, "--rounds must be at least 1");
    child::pin_this_process(args.load_core)?;
    let provider = Provider::start(slow()).await?;
    let data = TempDir::new()?;
    let address = format!("http://{}", provider.address());
    let start = Start {
        core: args.server_core,
        program: &args.ish_bin,
        args: &[],
        provider: &address,
        data: data.path(),
        settings: &[],
    };
    let server = server::start(&start, &Probe::new()?).await?;
    let taken = measure(&args, &provider, &server).await?;
    println!("{}", table(&taken, args.rounds));
    Ok(ExitCode::SUCCESS)
}

/// A provider whose answers take half a minute.
fn slow() -> ProviderOptions {
    let behaviour = Behaviour { tokens: 1_500, per_token: Duration::from_millis(20), ..Behaviour::default() };
    // Each look at the log copies it, so it is kept short.
    ProviderOptions { behaviour, log_capacity: 8, ..ProviderOptions::default() }
}

async fn measure(
    args: &CancelArgs,
    provider: &RunningProvider,
    server: &Child,
) -> anyhow::Result<Vec<(Way, Duration)>> {
    let mut chat = Chat::open(server.address()).await?;
    let mut taken = Vec::new();
    for round in 0..args.rounds {
        for way in Way::ALL {
            let prompt = format!("Tell the {round}th of the long stories that are told {way:?}-wise in the harbour");
            let given_up = give_up(way, &prompt, provider, server, &mut chat);
            let given_up = timeout(PATIENCE, given_up).await.context("it took more than 10 s");
            taken.push((way, given_up.flatten().with_context(|| format!("round {round}, {}", way.name()))?));
        }
    }
    Ok(taken)
}

/// Opens a call, gives it up in the middle, and waits for the provider to notice.
async fn give_up(
    way: Way,
    prompt: &str,
    provider: &RunningProvider,
    server: &Child,
    chat: &mut Chat,
) -> anyhow::Result<Duration> {
    let of_prompt = |log: &[Entry]| log.iter().find(|entry| asks(entry, prompt)).cloned();
    let left = match way {
        Way::Sse => {
            let reply = client::stream(server.address(), prompt).await?;
            let left = Instant::now();
            drop(reply);
            left
        }
        Way::Json => {
            let request = client::whole(server.address(), prompt).await?;
            provider.wait_for("the call", |log| of_prompt(log).is_some()).await;
            let left = Instant::now();
            drop(request);
            left
        }
        Way::Frame => {
            let stream = chat.ask(prompt).await?;
            let left = Instant::now();
            chat.cancel(&stream).await?;
            left
        }
    };
    let has_ended = |log: &[Entry]| of_prompt(log).is_some_and(|entry| entry.ended.is_some());
    let log = provider.wait_for("the end of the call", has_ended).await;
    let call = of_prompt(&log).context("the log no longer holds the call")?;
    ensure!(call.outcome == Outcome::ClientGone, "the call is {:?}", call.outcome);
    let ended = call.ended.context("the call goes on")?;
    Ok(ended.saturating_duration_since(left))
}

fn asks(entry: &Entry, prompt: &str) -> bool {
    entry.json()["messages"].as_array().and_then(|turns| turns.last()).is_some_and(|turn| turn["content"] == prompt)
}

fn table(taken: &[(Way, Duration)], rounds: usize) -> String {
    let mut text = format!("from the client's leaving to the end of the upstream call, {rounds} calls each way\n\n");
    text.push_str(
        "| given up by | median ms | p99 ms | longest ms | target: median ≤ 100 ms |\n|---|--:|--:|--:|---|\n",
    );
    for way in Way::ALL {
        let mut times: Vec<Duration> = taken.iter().filter(|(of, _)| *of == way).map(|(_, time)| *time).collect();
        times.sort_unstable();
        let (median, p99, longest) = (quantile(&times, 0.5), quantile(&times, 0.99), quantile(&times, 1.0));
        let verdict = if median <= TARGET { "met" } else { "**missed**" };
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (name, median, p99, longest) = (way.name(), ms(median), ms(p99), ms(longest));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {name} | {median:.2} | {p99:.2} | {longest:.2} | {verdict} |");
    }
    text
}

/// The smallest time that at least this share of the sorted times does not exceed.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 0.5), Duration::from_millis(100));
        assert_eq!(quantile(&times, 0.99), Duration::from_millis(198));
        assert_eq!(quantile(&times, 1.0), Duration::from_millis(200));
        assert_eq!(quantile(&times[..1], 0.5), Duration::from_millis(1));
    }
}
