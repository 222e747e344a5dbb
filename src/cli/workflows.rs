//! `ish workflows list | show | start | cancel | retry | definitions`.

use anyhow::Context;
use axum::http::Method;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use uuid::Uuid;

use super::console::{Console, print_list, print_object, query};
use crate::config::Config;

/// What a list of runs shows.
const COLUMNS: &[&str] = &["id", "workflow", "version", "state", "tenant", "created_at", "ended_at", "error"];

#[derive(Debug, Subcommand)]
pub(super) enum WorkflowsVerb {
    /// List runs, the latest first.
    List(List),
    /// Show one run, with its steps.
    Show {
        /// The run.
        id: Uuid,
        /// Print it on one line.
        #[arg(long)]
        json: bool,
    },
    /// Start a workflow.
    Start(Start),
    /// Have a run end, and what it has done undone.
    Cancel {
        /// The run.
        id: Uuid,
    },
    /// Have a run that failed, or was cancelled, go on.
    Retry {
        /// The run.
        id: Uuid,
    },
    /// The workflows that the server knows.
    Definitions {
        /// Print them on one line.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// In this state: running, compensating, completed, failed, cancelled, compensation_failed.
    #[arg(long)]
    state: Option<String>,
    /// Of this workflow.
    #[arg(long)]
    workflow: Option<String>,
    /// Of this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// How many.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Start {
    /// The workflow.
    name: String,
    /// Its input, as JSON.
    #[arg(default_value = "null")]
    input: String,
    /// Once, for as long as the run is kept.
    #[arg(long)]
    key: Option<String>,
    /// Whose it is; the deployment's own unless given.
    #[arg(long)]
    tenant: Option<String>,
}

impl WorkflowsVerb {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<()> {
        Console::with(config, async |console| self.call(console).await).await
    }

    async fn call(self, console: &Console) -> anyhow::Result<()> {
        let get = async |path: String| console.call(Method::GET, &path, None).await;
        match self {
            Self::List(wish) => {
                let listed = get(format!("/api/workflows?{}", wish.query())).await?;
                print_list(listed["data"].as_array().map_or(&[][..], Vec::as_slice), COLUMNS, wish.json);
            }
            Self::Show { id, json } => print_object(&get(format!("/api/workflows/{id}")).await?, json),
            Self::Definitions { json } => {
                print_object(&get("/api/workflows/definitions".to_owned()).await?["data"], json);
            }
            Self::Start(wish) => {
                let started = console.call(Method::POST, "/api/workflows", Some(wish.body()?)).await?;
                let id = started["id"].as_str().unwrap_or_default();
                println!("{} {id}", if started["is_new"] == true { "started" } else { "there is already" });
            }
            Self::Cancel { id } => {
                let run = console.call(Method::POST, &format!("/api/workflows/{id}/cancel"), None).await?;
                println!("{}", run["state"].as_str().unwrap_or_default());
            }
            Self::Retry { id } => {
                let run = console.call(Method::POST, &format!("/api/workflows/{id}/retry"), None).await?;
                println!("{}", run["state"].as_str().unwrap_or_default());
            }
        }
        Ok(())
    }
}

impl List {
    fn query(&self) -> String {
        let given = [("state", &self.state), ("workflow", &self.workflow), ("tenant", &self.tenant)];
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        query(&given.chain([("limit", self.limit.to_string())]).collect::<Vec<_>>())
    }
}

impl Start {
    fn body(&self) -> anyhow::Result<Value> {
        let input: Value = serde_json::from_str(&self.input).context("the input is not JSON")?;
        Ok(json!({"name": self.name, "input": input, "key": self.key, "tenant": self.tenant}))
    }
}
