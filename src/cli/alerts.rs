//! `ish alerts list | ended | silence | unsilence`.

use anyhow::Context;
use axum::http::Method;
use clap::Subcommand;
use serde_json::{Value, json};

use super::console::{Console, print_list};
use crate::config::Config;

/// What a list shows.
const COLUMNS: &[&str] =
    &["name", "state", "since", "value", "of", "comparison", "threshold", "severity", "silenced_until"];

#[derive(Debug, Subcommand)]
pub(super) enum AlertsVerb {
    /// All of them as they stand, the firing ones first.
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Those that are over, the latest first.
    Ended {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Have nobody told of an alert for a while.
    Silence {
        /// The alert.
        name: String,
        /// For so many seconds, a week at most.
        #[arg(default_value_t = 3_600)]
        seconds: u32,
    },
    /// End that.
    Unsilence {
        /// The alert.
        name: String,
    },
}

impl AlertsVerb {
    /// Alerts are those of a process: without one there are none to ask for.
    pub(super) async fn run(self, config: Config) -> anyhow::Result<()> {
        let console = Console::of_running(&config)?;
        self.call(&console.context("no server runs on this data folder: alerts are those of a running one")?).await
    }

    async fn call(self, console: &Console) -> anyhow::Result<()> {
        match self {
            Self::List { json } => {
                let mut alerts = listed(console, "data").await?;
                alerts.sort_by_key(|alert| rank(alert["state"].as_str().unwrap_or_default()));
                print_list(&alerts, COLUMNS, json);
            }
            Self::Ended { json } => {
                let columns = ["name", "severity", "fired_at", "resolved_at", "worst", "threshold"];
                print_list(&listed(console, "ended").await?, &columns, json);
            }
            Self::Silence { name, seconds } => {
                let path = format!("/api/alerts/{name}/silence");
                let alert = console.call(Method::POST, &path, Some(json!({"seconds": seconds}))).await?;
                println!("silent until {}", alert["silenced_until"].as_str().unwrap_or_default());
            }
            Self::Unsilence { name } => {
                let alert = console.call(Method::DELETE, &format!("/api/alerts/{name}/silence"), None).await?;
                println!("{}", alert["state"].as_str().unwrap_or_default());
            }
        }
        Ok(())
    }
}

async fn listed(console: &Console, member: &str) -> anyhow::Result<Vec<Value>> {
    let mut answer = console.call(Method::GET, "/api/alerts", None).await?;
    Ok(answer[member].as_array_mut().map(std::mem::take).unwrap_or_default())
}

fn rank(state: &str) -> usize {
    ["firing", "pending"].iter().position(|known| *known == state).unwrap_or(2)
}
