//! Anthropic's Messages API (version 2023-06-01). The canonical request is put into its words in [`request`], its answers
//! come back in OpenAI's in [`answer`].
//!
//! Beyond OpenAI's own members, an assistant's message carries `reasoning_content` and `thinking_blocks`, the latter signed
//! by Anthropic and sent back as they came; `cache_control` on messages, parts and tools is passed on, as are `thinking`,
//! `top_k` and whatever else OpenAI does not define.

mod answer;
mod request;

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::HeaderName;
use serde::Deserialize;
use url::Url;

use super::reading::{self, Framing};
use super::{Call, Provider, Reply, ReplyMode, endpoint};
use crate::config::ProviderConfig;
use crate::message::Dialect;
use crate::upstream::{Credentials, Failure, Streaming, Upstream};

/// A list of models has at most this many pages that are read.
const MAX_PAGES: usize = 10;

/// Anthropic, or anything that speaks its dialect.
pub struct Anthropic {
    name: String,
    base_url: Url,
    credentials: Credentials,
    listed: Vec<String>,
    upstream: Upstream,
}

impl Anthropic {
    /// Over the one client.
    pub fn new(config: &ProviderConfig, upstream: Upstream) -> Self {
        let credentials = Credentials::default()
            .with("anthropic-version", "2023-06-01")
            .with_secret(HeaderName::from_static("x-api-key"), config.api_key.as_ref());
        let (name, base_url, listed) = (config.name.clone(), config.base_url.clone(), config.models.clone());
        Self { name, base_url, credentials, listed, upstream }
    }

    /// With what the caller said beside the body, if this is its dialect too.
    fn credentials_of(&self, call: &Call) -> Credentials {
        let beside = call.request.beside.iter().filter(|_| call.request.dialect == Dialect::Anthropic);
        beside.fold(self.credentials.clone(), |all, (name, value)| all.with_value(name, value))
    }

    async fn list(&self) -> Result<Vec<String>, Failure> {
        #[derive(Deserialize)]
        struct Page {
            data: Vec<Model>,
            #[serde(default)]
            has_more: bool,
            last_id: Option<String>,
        }
        #[derive(Deserialize)]
        struct Model {
            id: String,
        }
        let (mut names, mut after) = (Vec::new(), None::<String>);
        for _ in 0..MAX_PAGES {
            let mut url = endpoint(&self.base_url, &["v1", "models"]);
            url.query_pairs_mut().append_pair("limit", "1000");
            if let Some(after) = &after {
                url.query_pairs_mut().append_pair("after_id", after);
            }
            let body = self.upstream.get(url, &self.credentials, Duration::from_secs(5)).await?;
            let page: Page = reading::json(&body)?;
            names.extend(page.data.into_iter().map(|model| model.id));
            after = page.last_id.filter(|_| page.has_more);
            if after.is_none() {
                break;
            }
        }
        Ok(names)
    }
}

impl Provider for Anthropic {
    fn name(&self) -> &str {
        &self.name
    }

    fn chat(&self, call: Call) -> BoxFuture<'_, Result<Reply, Failure>> {
        async move {
            let body = request::body(&self.name, &call)?;
            let credentials = &self.credentials_of(&call);
            let url = endpoint(&self.base_url, &["v1", "messages"]);
            if call.mode == ReplyMode::Whole {
                let bytes = self.upstream.post(url, credentials, body).await?;
                return answer::whole(&bytes).map(|completion| Reply::Completed(Box::new(completion)));
            }
            let bytes = self.upstream.post_stream(url, credentials, body, Streaming::Events).await?;
            Ok(Reply::Stream(reading::deltas(bytes, Framing::events(), answer::Reader::default())))
        }
        .boxed()
    }

    fn count(&self, call: Call) -> BoxFuture<'_, Result<Option<u64>, Failure>> {
        #[derive(Deserialize)]
        struct Counted {
            input_tokens: u64,
        }
        async move {
            let body = request::counted(&self.name, &call)?;
            let url = endpoint(&self.base_url, &["v1", "messages", "count_tokens"]);
            let bytes = self.upstream.post(url, &self.credentials_of(&call), body).await?;
            reading::json::<Counted>(&bytes).map(|counted| Some(counted.input_tokens))
        }
        .boxed()
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        async move { if self.listed.is_empty() { self.list().await } else { Ok(self.listed.clone()) } }.boxed()
    }
}
