//! `ish providers`: who is configured to answer, whether each does, and how its targets do in the server that runs.

use std::time::Duration;

use axum::http::Method;
use clap::Args;
use serde_json::{Value, json};
use url::Url;

use super::console::{Console, print_list};
use crate::config::{Config, ProviderConfig};
use crate::pool::Pools;
use crate::providers;
use crate::upstream::{Failure, FailureKind, Upstream};

/// Longest wait for one provider.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Providers {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

impl Providers {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<()> {
        let upstream = Upstream::new(&config.upstream, &Pools::default())?;
        let probes = config.providers.iter().map(|provider| probed(provider, &upstream));
        let mut rows = futures_util::future::join_all(probes).await;
        rows.push(json!({
            "name": "demo", "kind": "demo", "base_url": null, "has_key": false, "answers": true, "models": 1, "problem": null,
        }));
        let targets = targets(&config).await?;
        for row in &mut rows {
            let prefix = format!("{}/", row["name"].as_str().unwrap_or_default());
            let own = targets.iter().filter(|row| row["target"].as_str().is_some_and(|name| name.starts_with(&prefix)));
            row["targets"] = own.cloned().collect();
        }
        print_list(&rows, &["name", "kind", "base_url", "has_key", "answers", "models", "problem"], self.json);
        if !self.json && !targets.is_empty() {
            println!();
            print_list(
                &targets,
                &["target", "state", "in_flight", "max_in_flight", "latency_ms", "behind", "behind_ms"],
                false,
            );
        }
        Ok(())
    }
}

/// How each target does in the server that runs on the data folder; none where no server runs.
async fn targets(config: &Config) -> anyhow::Result<Vec<Value>> {
    let Some(server) = Console::of_running(config)? else { return Ok(Vec::new()) };
    let status = server.call(Method::GET, "/api/status", None).await?;
    Ok(status["targets"].as_array().cloned().unwrap_or_default())
}

/// A provider's row: it is asked for its models, also where the configuration names those to offer. One that refuses
/// answers too, and the problem says what it refuses.
async fn probed(config: &ProviderConfig, upstream: &Upstream) -> Value {
    let models = async {
        let client = providers::configured(&ProviderConfig { models: Vec::new(), ..config.clone() }, upstream);
        client.map_err(|error| Failure::new(FailureKind::Connect, error.to_string()))?.models().await
    };
    let (answers, models, problem) = match tokio::time::timeout(PATIENCE, models).await {
        Ok(Ok(models)) => (true, Some(models.len()), None),
        Ok(Err(failure)) => (failure.status.is_some(), None, Some(failure.to_string())),
        Err(_) => (false, None, Some(format!("no answer within {} s", PATIENCE.as_secs()))),
    };
    json!({
        "name": config.name,
        "kind": config.kind.as_str(),
        "base_url": shown(&config.base_url),
        "has_key": config.api_key.is_some(),
        "answers": answers,
        "models": models,
        "problem": problem,
    })
}

/// An address without the name and password that it may hold.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Only an address without a host has none to take away.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_not_shown() {
        let url = "http://name:secret@host:1/v1".parse().unwrap();
        assert_eq!(shown(&url), "http://host:1/v1");
    }
}
