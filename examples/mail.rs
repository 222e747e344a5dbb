//! The chat server with a job of one's own: mail that stays in the box while the post office is shut. The server's API, its command
//! line and the page at `/ops/tasks` know the job as they know the product's; `tests/page` looks at it there.
//!
//! `cargo run --example mail`, then `http://127.0.0.1:8080/ops/tasks`. The post office is open while there is a file `open` in the
//! data folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ish::app::{App, Program};
use ish::config::{Config, Environment};
use ish::tasks::{Backoff, Job, JobContext, JobError, Policy, Registry};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// Where letters go.
struct PostOffice {
    sign: PathBuf,
}

impl PostOffice {
    fn is_open(&self) -> bool {
        self.sign.exists()
    }
}

/// A letter, tried twice.
#[derive(Debug, Serialize, Deserialize)]
struct SendMail {
    to: String,
    #[serde(default)]
    text: String,
}

impl Job for SendMail {
    const KIND: &'static str = "send_mail";
    const VERSION: u16 = 1;
    const POLICY: Policy = Policy { queue: "mail", max_attempts: 2, backoff: SOON, ..Policy::DEFAULT };
    type State = PostOffice;
    type Output = String;

    async fn run(self, office: Arc<PostOffice>, _: JobContext) -> Result<String, JobError> {
        if !office.is_open() {
            return Err(std::io::Error::other(format!("the post office is shut; {} waits", self.to)).into());
        }
        Ok(format!("delivered to {}", self.to))
    }
}

const SOON: Backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_millis(20) };

/// Somebody who waits in front of it, and goes away when told to.
#[derive(Debug, Serialize, Deserialize)]
struct QueueUp {
    #[serde(default)]
    ahead: u32,
}

impl Job for QueueUp {
    const KIND: &'static str = "queue_up";
    const VERSION: u16 = 1;
    const POLICY: Policy = Policy { queue: "mail", ..Policy::DEFAULT };
    type State = PostOffice;
    type Output = ();

    async fn run(self, office: Arc<PostOffice>, context: JobContext) -> Result<(), JobError> {
        context.progress(&format!("{} ahead", self.ahead));
        while !office.is_open() {
            tokio::select! {
                _ = context.cancelled() => return Err(JobError::fatal("went home")),
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::read(&Environment::of_process(), None)?;
    let office = Arc::new(PostOffice { sign: config.server.data_dir.join("open") });
    let jobs = Registry::new().register::<SendMail>(Arc::clone(&office)).register::<QueueUp>(office);
    let listener = TcpListener::bind(config.server.listen).await?;
    let app = App::build_with(config, Program { jobs, ..Program::default() }).await?;
    println!("the post office: http://{}/ops/tasks", listener.local_addr()?);
    app.serve(listener, async { drop(tokio::signal::ctrl_c().await) }).await?;
    Ok(())
}
