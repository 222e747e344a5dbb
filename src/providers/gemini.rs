//! Gemini's `generateContent` and `streamGenerateContent` (v1beta). The canonical request is put into its words in
//! [`request`], its answers come back in OpenAI's in [`answer`]. The key goes in a header, never in the address.
//!
//! The signature of the thought behind a call travels as `extra_content.google.thought_signature` of the tool call, where
//! Google's own OpenAI-compatible endpoint has it. `safetySettings`, `cachedContent`, further members of
//! `generationConfig` and whatever else OpenAI does not define are passed on.

mod answer;
mod request;

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::HeaderName;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::reading::{self, Framing};
use super::{Call, Provider, Reply, ReplyMode, endpoint};
use crate::config::ProviderConfig;
use crate::upstream::{Credentials, Failure, FailureKind, Streaming, Upstream};

/// A list of models has at most this many pages that are read.
const MAX_PAGES: usize = 10;

/// Gemini, or anything that speaks its dialect.
pub struct Gemini {
    name: String,
    base_url: Url,
    credentials: Credentials,
    listed: Vec<String>,
    upstream: Upstream,
}

impl Gemini {
    /// Over the one client.
    pub fn new(config: &ProviderConfig, upstream: Upstream) -> Self {
        let header = HeaderName::from_static("x-goog-api-key");
        let credentials = Credentials::default().with_secret(header, config.api_key.as_ref());
        let (name, base_url, listed) = (config.name.clone(), config.base_url.clone(), config.models.clone());
        Self { name, base_url, credentials, listed, upstream }
    }

    async fn list(&self) -> Result<Vec<String>, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            #[serde(default)]
            models: Vec<Model>,
            next_page_token: Option<String>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Model {
            name: String,
            #[serde(default)]
            supported_generation_methods: Vec<String>,
        }
        let (mut names, mut token) = (Vec::new(), None::<String>);
        for _ in 0..MAX_PAGES {
            let mut url = endpoint(&self.base_url, &["v1beta", "models"]);
            url.query_pairs_mut().append_pair("pageSize", "1000");
            if let Some(token) = &token {
                url.query_pairs_mut().append_pair("pageToken", token);
            }
            let body = self.upstream.get(url, &self.credentials, Duration::from_secs(5)).await.map_err(refused)?;
            let page: Page = reading::json(&body)?;
            let chats = |model: &Model| model.supported_generation_methods.iter().any(|way| way == "generateContent");
            let models = page.models.into_iter().filter(chats);
            names.extend(models.map(|model| model.name.trim_start_matches("models/").to_owned()));
            token = page.next_page_token.filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
        }
        Ok(names)
    }

    fn url(&self, model: &str, verb: &str) -> Url {
        let target = format!("{}:{verb}", model.trim_start_matches("models/"));
        endpoint(&self.base_url, &["v1beta", "models", &target])
    }
}

impl Provider for Gemini {
    fn name(&self) -> &str {
        &self.name
    }

    fn chat(&self, call: Call) -> BoxFuture<'_, Result<Reply, Failure>> {
        async move {
            let body = request::body(&self.name, &call)?;
            if call.mode == ReplyMode::Whole {
                let url = self.url(&call.model, "generateContent");
                let bytes = self.upstream.post(url, &self.credentials, body).await.map_err(refused)?;
                return answer::whole(&bytes).map(|completion| Reply::Completed(Box::new(completion)));
            }
            let mut url = self.url(&call.model, "streamGenerateContent");
            url.set_query(Some("alt=sse"));
            let bytes = self.upstream.post_stream(url, &self.credentials, body, Streaming::Events).await;
            let bytes = bytes.map_err(refused)?;
            Ok(Reply::Stream(reading::deltas(bytes, Framing::events(), answer::Reader::default())))
        }
        .boxed()
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        async move { if self.listed.is_empty() { self.list().await } else { Ok(self.listed.clone()) } }.boxed()
    }
}

/// A refusal, read in Google's form (google.rpc.Status): the wait and an unpaid bill stand in its details. Its numeric
/// code is none that OpenAI's clients could read.
fn refused(mut failure: Failure) -> Failure {
    let error = failure.error.take().unwrap_or_default();
    for detail in error.get("details").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| detail.get(name).and_then(Value::as_str);
        if let Some(seconds) = text("retryDelay").and_then(|delay| delay.strip_suffix('s')?.parse::<f64>().ok()) {
            failure.retry_after = Duration::try_from_secs_f64(seconds).ok().or(failure.retry_after);
        }
        if text("reason") == Some("BILLING_DISABLED") {
            failure.kind = FailureKind::SpendLimit;
        }
    }
    failure
}
