//! The `loadtest` command: provider, floors, load; scenarios that are judged against targets (load, stress, endurance, sockets,
//! cache, overload); the comparison of a server with both floors, calls given up, readers that stop; several instances: many users at
//! once, and what more of them serve.
//!
//! It exits with 0 where every target was met, with 1 where one was missed, and with 2 where nothing was measured: arguments that make no
//! sense, a server that is not there.

mod bounds;
mod cache;
mod cancel;
mod child;
mod compare;
mod endurance;
mod gather;
mod kept;
mod load;
mod looks;
mod overload;
mod party;
mod probe;
mod requests;
mod run;
mod scale;
mod server;
mod slow_reader;
mod socket;
mod sockets;
mod spread;
mod stack;
mod stress;
mod timed;
mod trial;
mod users;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use loadtest::floor;
use loadtest::provider::{Behaviour, Provider, ProviderOptions};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use crate::cache::CacheArgs;
use crate::cancel::CancelArgs;
use crate::compare::CompareArgs;
use crate::endurance::EnduranceArgs;
use crate::gather::GatherArgs;
use crate::load::LoadArgs;
use crate::overload::OverloadArgs;
use crate::run::RunArgs;
use crate::scale::ScaleArgs;
use crate::slow_reader::SlowReaderArgs;
use crate::sockets::SocketsArgs;
use crate::stress::StressArgs;
use crate::users::UsersArgs;

/// Load and misbehaviour for a chat backend, on loopback addresses unless you say otherwise.
///
/// Exit status: 0, every target was met; 1, one was missed; 2, nothing was measured.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve the provider that misbehaves on request.
    Provider(ProviderArgs),
    /// Serve one of the two floors.
    Floor(FloorArgs),
    /// Send load to one URL and print the report as JSON.
    Run(RunArgs),
    /// One kind of request at a fixed rate, or from users who wait for their replies, against targets.
    Load(LoadArgs),
    /// More users step by step, until a target is missed.
    Stress(StressArgs),
    /// Everything at once for a long time, with faults, and what of it is held afterwards.
    Endurance(EnduranceArgs),
    /// Thousands of idle sockets, and hundreds of streams beside them.
    Sockets(SocketsArgs),
    /// Questions in several wordings, a few often and most rarely: what the cache answers, how fast, and how rightly.
    Cache(CacheArgs),
    /// Several times what a server can answer: what it still answers, and how it refuses the rest.
    Overload(OverloadArgs),
    /// Put the reports of scenarios together to one table.
    Gather(GatherArgs),
    /// Measure a server and both floors in one interleaved run.
    Compare(CompareArgs),
    /// Measure how soon upstream calls end that a client gives up.
    Cancel(CancelArgs),
    /// Measure what a socket whose reader stops costs the others.
    SlowReader(SlowReaderArgs),
    /// Measure what several instances add to their provider's time while many people ask over WebSockets.
    Users(UsersArgs),
    /// Measure what all of several instances serve against the first of them alone.
    Scale(ScaleArgs),
}

#[derive(Args)]
struct ProviderArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Milliseconds from the headers to the first event.
    #[arg(long, default_value_t = 0)]
    first_token_ms: u64,
    /// Milliseconds between tokens.
    #[arg(long, default_value_t = 0)]
    per_token_ms: u64,
    /// Content tokens of an answer.
    #[arg(long, default_value_t = 20)]
    tokens: usize,
    /// Requests that the log keeps.
    #[arg(long, default_value_t = 10_000)]
    log_capacity: usize,
}

#[derive(Args)]
struct FloorArgs {
    /// Which of the two.
    kind: FloorKind,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where the proxy sends requests, such as `http://127.0.0.1:4000`.
    #[arg(long, required_if_eq("kind", "proxy"), default_value = "")]
    upstream: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum FloorKind {
    /// Fixed bytes.
    Fixed,
    /// Pass everything on.
    Proxy,
}

fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    // A floor gets the runtime that servers have; the others share a core and want one thread.
    let mut builder = match verb {
        Verb::Floor(_) => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    let ran =
        builder.enable_all().build().map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(dispatch(verb)));
    ran.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

async fn dispatch(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Provider(args) => serve_provider(args).await?,
        Verb::Floor(args) => serve_floor(args).await?,
        Verb::Run(args) => return run::run(args).await,
        Verb::Load(args) => return load::load(args).await,
        Verb::Stress(args) => return stress::stress(args).await,
        Verb::Endurance(args) => return endurance::endurance(args).await,
        Verb::Sockets(args) => return sockets::sockets(args).await,
        Verb::Cache(args) => return cache::cache(args).await,
        Verb::Overload(args) => return overload::overload(args).await,
        Verb::Gather(args) => return gather::gather(&args),
        Verb::Compare(args) => return compare::compare(args).await,
        Verb::Cancel(args) => return cancel::cancel(args).await,
        Verb::SlowReader(args) => return slow_reader::slow_reader(args).await,
        Verb::Scale(args) => return scale::scale(args).await,
        Verb::Users(args) => return users::users(args).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve_provider(args: ProviderArgs) -> anyhow::Result<()> {
    let behaviour = Behaviour {
        tokens: args.tokens,
        first_token: Duration::from_millis(args.first_token_ms),
        per_token: Duration::from_millis(args.per_token_ms),
        ..Behaviour::default()
    };
    let options = ProviderOptions {
        listen: args.listen,
        behaviour,
        log_capacity: args.log_capacity,
        ..ProviderOptions::default()
    };
    let provider = Provider::start(options).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    announce(provider.address());
    Ok(provider.serve_forever().await?)
}

async fn serve_floor(args: FloorArgs) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    announce(listener.local_addr()?);
    match args.kind {
        FloorKind::Fixed => Ok(floor::fixed(listener).await?),
        FloorKind::Proxy => floor::proxy(listener, &args.upstream).await,
    }
}

/// The line by which whoever started us learns the port.
fn announce(address: SocketAddr) {
    println!("listening on http://{address}");
}
