//! `ish worker`: runs the tasks of the database that servers share, until a signal.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, bail};
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::serve::{begin, bind, second_signal};
use crate::app::App;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct Worker {
    /// Address at which to answer /livez, /readyz and /metrics, instead of tasks.listen.
    #[arg(long)]
    listen: Option<SocketAddr>,
}

impl Worker {
    pub(super) async fn run(self, mut config: Config) -> anyhow::Result<()> {
        config.tasks.workers = true;
        let listen = self.listen.or(config.tasks.listen);
        // Who may ask there is decided as for a server's; where nothing listens, any address will do.
        config.server.listen = listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        begin(&config)?;
        let app = App::build(config).await?;
        let listener = listen.map(|listen| bind("tasks.listen", listen)).transpose()?;
        println!("ish {} runs tasks", env!("CARGO_PKG_VERSION"));
        if let Some(listener) = &listener {
            println!("  metrics     http://{}/metrics", listener.local_addr()?);
        }
        let drain = CancellationToken::new();
        let stopped = second_signal(drain.clone())?;
        tokio::select! {
            worked = app.work(listener, drain.cancelled_owned()) => worked.context("the listener failed")?,
            () = stopped => bail!("stopped by a second signal; others take over the tasks when their lease is over"),
        }
        tracing::info!("drained");
        Ok(())
    }
}
