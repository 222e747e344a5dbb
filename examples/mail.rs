//! The chat server with a job and a workflow of one's own: mail that stays in the box while the post office is shut. The server's API,
//! its command line and its page at `/ops` know them as they know the product's; `tests/page` looks at them there.
//!
//! `cargo run --example mail`, then `http://127.0.0.1:8080/ops/tasks`. The post office is open while there is a file `open` in the
//! data folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ish::app::{App, Program};
use ish::config::{Config, Environment};
use ish::tasks::{Backoff, Job, JobContext, JobError, Policy, Registry};
use ish::workflows::{DefinitionError, Definitions, Step, StepContext, Workflow};
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

    fn take(&self, what: &str) -> Result<(), JobError> {
        if self.is_open() {
            return Ok(());
        }
        Err(JobError::retry(format_args!("the post office is shut; {what} waits")))
    }

    /// Resolves when it opens, unless whoever waits is told to go home.
    async fn opened(&self, waiting: &JobContext) -> Result<(), JobError> {
        while !self.is_open() {
            tokio::select! {
                _ = waiting.cancelled() => return Err(JobError::fatal("went home")),
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
        Ok(())
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
        office.take(&self.to)?;
        Ok(format!("delivered to {}", self.to))
    }
}

const SOON: Backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_millis(20) };

/// Somebody who waits in front of it.
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
        office.opened(&context).await
    }
}

/// What a parcel holds.
#[derive(Debug, Serialize, Deserialize)]
struct Parcel {
    pieces: Vec<String>,
    /// Whether whoever brings it waits until the post office opens.
    #[serde(default)]
    wait: bool,
}

/// Its pieces are labelled while it is stamped; where it cannot be handed over, the stamp is given back.
fn parcel(office: &Arc<PostOffice>) -> Workflow {
    let office = Arc::clone(office);
    let once = Policy { max_attempts: 1, ..Policy::DEFAULT };
    Workflow::new("parcel", 1)
        .step(Step::new("weigh", weigh))
        .step(Step::each("label", "weigh", label))
        .step(Step::new("stamp", stamp).after(["weigh"]).undo(give_back))
        .step(
            Step::new("hand_over", move |at| hand_over(Arc::clone(&office), at)).after(["label", "stamp"]).policy(once),
        )
}

async fn weigh(context: StepContext) -> Result<Vec<String>, JobError> {
    Ok(context.input::<Parcel>()?.pieces)
}

async fn label(context: StepContext) -> Result<String, JobError> {
    Ok(format!("label of {}", context.element::<String>()?))
}

async fn stamp(context: StepContext) -> Result<String, JobError> {
    Ok(format!("stamp {}", context.key()))
}

async fn give_back(context: StepContext) -> Result<String, JobError> {
    Ok(format!("{} is unused", context.output::<String>("stamp")?))
}

async fn hand_over(office: Arc<PostOffice>, context: StepContext) -> Result<String, JobError> {
    let Parcel { pieces, wait } = context.input()?;
    if wait {
        office.opened(context.job()).await?;
    }
    office.take("the parcel")?;
    Ok(format!("{} pieces handed over", pieces.len()))
}

fn program(office: &Arc<PostOffice>) -> Result<Program, DefinitionError> {
    let jobs = Registry::new().register::<SendMail>(Arc::clone(office)).register::<QueueUp>(Arc::clone(office));
    Ok(Program { jobs, workflows: Definitions::new().with(parcel(office))? })
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::read(&Environment::of_process(), None)?;
    let office = Arc::new(PostOffice { sign: config.server.data_dir.join("open") });
    let listener = TcpListener::bind(config.server.listen).await?;
    let app = App::build_with(config, program(&office)?).await?;
    println!("the post office: http://{}/ops/tasks", listener.local_addr()?);
    app.serve(listener, async { drop(tokio::signal::ctrl_c().await) }).await?;
    Ok(())
}
