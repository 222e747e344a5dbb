//! `ish serve`: builds the application, says where it is, serves until a signal, drains.

use std::net::SocketAddr;

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::{Config, ProviderConfig};
use crate::telemetry;

#[derive(Debug, Args, Default)]
pub(super) struct Serve {
    /// Address to listen on, instead of server.listen.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Serve without keys on a loopback address although keys exist.
    #[arg(long)]
    local: bool,
    /// Run no tasks in this process; they are stored all the same, and `ish worker` runs them.
    #[arg(long)]
    no_workers: bool,
}

impl Serve {
    pub(super) async fn run(self, mut config: Config) -> anyhow::Result<()> {
        #[cfg(feature = "failpoints")]
        let _crash_points = fail::FailScenario::setup();
        config.server.listen = self.listen.unwrap_or(config.server.listen);
        config.server.local |= self.local;
        config.tasks.workers &= !self.no_workers;
        begin(&config)?;
        // Each socket takes a file; the soft limit of many systems is 1,024.
        if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
        let listen = config.server.listen;
        let app = App::build(config.clone()).await?;
        let listener = bind("server.listen", listen)?;
        greet(&app, &config, listener.local_addr()?);
        let drain = CancellationToken::new();
        let stopped = second_signal(drain.clone())?;
        let served = app.serve(listener, drain.cancelled_owned());
        tokio::select! {
            served = served => served.context("the listener failed")?,
            () = stopped => anyhow::bail!("stopped by a second signal; what was acknowledged is stored"),
        }
        tracing::info!("drained");
        Ok(())
    }
}

/// Logs from here on, what the configuration has to be warned of first.
pub(super) fn begin(config: &Config) -> anyhow::Result<()> {
    telemetry::install(&config.log)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// A listener with a backlog for bursts; the address may be taken over from a server that has just ended.
pub(super) fn bind(setting: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into()).with_context(|| format!("{setting} = {address} cannot be listened on"))?;
    socket.listen(4096)?;
    Ok(TcpListener::from_std(socket.into())?)
}

/// The first lines: where to go from here.
fn greet(app: &App, config: &Config, address: SocketAddr) {
    let host =
        if address.ip().is_unspecified() { format!("127.0.0.1:{}", address.port()) } else { address.to_string() };
    let shown = |provider: &ProviderConfig| match provider.kind.as_str() {
        kind if kind == provider.name => kind.to_owned(),
        kind => format!("{} ({kind})", provider.name),
    };
    let demo = "demo (built in, no key)".to_owned();
    let providers: Vec<String> = config.providers.iter().map(shown).chain([demo]).collect();
    let mode =
        if app.local { "local: no key needed, this machine only" } else { "keys: Authorization: Bearer ish_..." };
    println!("ish {} is ready", env!("CARGO_PKG_VERSION"));
    println!("  page        http://{host}/");
    println!("  OpenAI URL  http://{host}/v1");
    println!("  providers   {}", providers.join(", "));
    println!("  access      {mode}");
    println!("  data        {}", config.server.data_dir.display());
    let key = if app.local { "" } else { " -H \"Authorization: Bearer $ISH_KEY\"" };
    println!(
        "  try         curl -s http://{host}/api/chat{key} -d '{{\"message\": \"How do I undo the last git commit?\"}}'"
    );
}

/// Drains at the first signal and ends at the second. One listener hears both: two would each have to see the first one
/// before the second comes.
pub(super) fn second_signal(drain: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut heard = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(async move {
        heard().await;
        tracing::info!("draining: no new work, what runs may end; a second signal stops at once");
        drain.cancel();
        heard().await;
    })
}
