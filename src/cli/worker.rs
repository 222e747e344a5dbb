//! `ish worker`: runs the tasks of the database that servers share, until a signal.

use anyhow::bail;
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::serve::{begin, second_signal};
use crate::app::App;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct Worker {}

impl Worker {
    pub(super) async fn run(self, mut config: Config) -> anyhow::Result<()> {
        config.tasks.workers = true;
        // Nothing listens: any address will do.
        config.server.listen = ([127, 0, 0, 1], 0).into();
        begin(&config)?;
        let app = App::build(config).await?;
        println!("ish {} runs tasks", env!("CARGO_PKG_VERSION"));
        let drain = CancellationToken::new();
        let stopped = second_signal(drain.clone())?;
        tokio::select! {
            () = app.work(drain.cancelled_owned()) => {}
            () = stopped => bail!("stopped by a second signal; others take over the tasks when their lease is over"),
        }
        tracing::info!("drained");
        Ok(())
    }
}
