//! `ish tasks list | show | enqueue | cancel | retry | purge | pause | resume | workers | stats`.

use anyhow::Context;
use axum::http::Method;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use uuid::Uuid;

use super::console::{Console, print_list, print_object, query};
use crate::config::Config;

/// What a list of tasks shows.
const COLUMNS: &[&str] = &["id", "kind", "state", "priority", "tenant", "attempt", "run_at", "ended_at"];

/// What a list of workers shows.
const WORKER_COLUMNS: &[&str] = &["name", "running", "room", "is_draining", "started_at", "seen_at", "id"];

#[derive(Debug, Subcommand)]
pub(super) enum TasksVerb {
    /// List tasks, the latest first.
    List {
        #[command(flatten)]
        which: Which,
        /// How many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show one task, with its arguments, progress, result and failures.
    Show {
        /// The task.
        id: Uuid,
        /// Print it on one line.
        #[arg(long)]
        json: bool,
    },
    /// Have a job of this kind run.
    Enqueue(Enqueue),
    /// Cancel a task; one that runs is asked to end.
    Cancel {
        /// The task.
        id: Uuid,
    },
    /// Have a task that failed, or was cancelled, run again.
    Retry {
        /// The task.
        id: Uuid,
    },
    /// Delete tasks that have ended.
    Purge {
        #[command(flatten)]
        which: Which,
        /// All of them.
        #[arg(long)]
        all: bool,
    },
    /// Have no worker claim tasks of a kind or a queue.
    Pause(Paused),
    /// End a pause.
    Resume(Paused),
    /// Which processes run tasks, and how busy they are.
    Workers {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// How much there is to do, what is paused, which jobs are known.
    Stats {
        /// Print it on one line.
        #[arg(long)]
        json: bool,
    },
}

/// Which tasks.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// In this state: available, running, retryable, completed, cancelled, discarded.
    #[arg(long)]
    state: Option<String>,
    /// Of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Of this tenant.
    #[arg(long)]
    tenant: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Enqueue {
    /// The job.
    kind: String,
    /// Its arguments, as JSON.
    #[arg(default_value = "{}")]
    arguments: String,
    /// critical, high, normal or low.
    #[arg(long)]
    priority: Option<String>,
    /// Seconds from now.
    #[arg(long)]
    delay: Option<f64>,
    /// Whose it is; the deployment's own unless given.
    #[arg(long)]
    tenant: Option<String>,
    /// None, while another with this key waits or runs.
    #[arg(long)]
    unique: Option<String>,
    /// Once, for as long as this key is remembered.
    #[arg(long)]
    idempotency: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Paused {
    /// All of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// All of this queue.
    #[arg(long)]
    queue: Option<String>,
}

impl TasksVerb {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<()> {
        Console::with(config, async |console| self.call(console).await).await
    }

    async fn call(self, console: &Console) -> anyhow::Result<()> {
        let get = async |path: String| console.call(Method::GET, &path, None).await;
        match self {
            Self::List { which, limit, json } => {
                let listed = get(format!("/api/tasks?{}", which.query(&[("limit", limit.to_string())]))).await?;
                print_list(listed["data"].as_array().map_or(&[][..], Vec::as_slice), COLUMNS, json);
            }
            Self::Workers { json } => {
                let listed = get("/api/tasks/workers".to_owned()).await?;
                print_list(listed["data"].as_array().map_or(&[][..], Vec::as_slice), WORKER_COLUMNS, json);
            }
            Self::Show { id, json } => print_object(&get(format!("/api/tasks/{id}")).await?, json),
            Self::Stats { json } => print_object(&get("/api/tasks/stats".to_owned()).await?, json),
            Self::Enqueue(wish) => {
                let enqueued = console.call(Method::POST, "/api/tasks", Some(wish.body()?)).await?;
                let id = enqueued["id"].as_str().unwrap_or_default();
                println!("{} {id}", if enqueued["is_new"] == true { "enqueued" } else { "there is already" });
            }
            Self::Cancel { id } => {
                let task = console.call(Method::POST, &format!("/api/tasks/{id}/cancel"), None).await?;
                println!("{}", if task["state"] == "cancelled" { "cancelled" } else { "asked to end" });
            }
            Self::Retry { id } => {
                console.call(Method::POST, &format!("/api/tasks/{id}/retry"), None).await?;
                println!("it runs again");
            }
            Self::Purge { which, all } => {
                let all = all.then(|| ("all", "true".to_owned()));
                let path = format!("/api/tasks?{}", which.query(all.as_slice()));
                println!("purged {}", console.call(Method::DELETE, &path, None).await?["purged"]);
            }
            Self::Pause(what) => {
                console.call(Method::POST, "/api/tasks/pauses", Some(what.body())).await?;
                println!("paused");
            }
            Self::Resume(what) => {
                let pairs = what.body();
                let pairs = ["scope", "name"].map(|name| (name, pairs[name].as_str().unwrap_or_default().to_owned()));
                console.call(Method::DELETE, &format!("/api/tasks/pauses?{}", query(&pairs)), None).await?;
                println!("resumed");
            }
        }
        Ok(())
    }
}

impl Which {
    fn query(self, more: &[(&str, String)]) -> String {
        let given = [("state", self.state), ("kind", self.kind), ("tenant", self.tenant)];
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value?)));
        query(&given.chain(more.iter().cloned()).collect::<Vec<_>>())
    }
}

impl Enqueue {
    fn body(&self) -> anyhow::Result<Value> {
        let arguments: Value = serde_json::from_str(&self.arguments).context("the arguments are not JSON")?;
        Ok(json!({
            "kind": self.kind,
            "arguments": arguments,
            "priority": self.priority,
            "delay": self.delay,
            "tenant": self.tenant,
            "unique": self.unique,
            "idempotency": self.idempotency,
        }))
    }
}

impl Paused {
    fn body(&self) -> Value {
        match &self.kind {
            Some(kind) => json!({"scope": "kind", "name": kind}),
            None => json!({"scope": "queue", "name": self.queue}),
        }
    }
}
