//! Single requests beside the load: is it up, what did the cache say, how many calls arrived.

use std::time::Duration;

use anyhow::{Context, ensure};
use loadtest::generator;
use loadtest::provider::Counts;

/// A client for single requests.
pub(crate) struct Probe(reqwest::Client);

impl Probe {
    pub(crate) fn new() -> anyhow::Result<Self> {
        // An error means that a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self(reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?))
    }

    /// Whether `GET /livez` answers 200.
    pub(crate) async fn is_live(&self, base: &str) -> bool {
        let reply = self.0.get(format!("{base}/livez")).send().await;
        reply.is_ok_and(|reply| reply.status().is_success())
    }

    /// The provider's totals.
    pub(crate) async fn counts(&self, provider: &str) -> anyhow::Result<Counts> {
        let reply = self.0.get(format!("{provider}/_counts")).send().await?;
        Ok(serde_json::from_slice(&reply.bytes().await?)?)
    }

    /// The server's metrics, as text.
    pub(crate) async fn metrics(&self, base: &str) -> anyhow::Result<String> {
        Ok(self.0.get(format!("{base}/metrics")).send().await?.error_for_status()?.text().await?)
    }

    /// The value of a metric without labels.
    pub(crate) async fn metric(&self, base: &str, name: &str) -> anyhow::Result<f64> {
        let text = self.metrics(base).await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("/metrics has no {name}"))?.parse()?)
    }

    /// Asks one prompt with this key, reads the whole reply and returns its `x-ish-cache` header.
    pub(crate) async fn ask(&self, base: &str, key: &str, prompt: &str) -> anyhow::Result<String> {
        let request = self.0.post(format!("{base}/v1/chat/completions"));
        let request = request.header("content-type", "application/json").bearer_auth(key);
        let reply = request.body(generator::chat(prompt, false)).send().await?;
        let status = reply.status();
        let header = reply.headers().get("x-ish-cache").cloned();
        let body = reply.bytes().await?;
        ensure!(status.is_success(), "{prompt:?} was answered {status}: {}", String::from_utf8_lossy(&body));
        let header = header.context("a reply without x-ish-cache")?;
        Ok(header.to_str()?.to_owned())
    }
}
