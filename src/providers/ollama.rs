//! Ollama's native `/api/chat`: lines of JSON, sampling under `options`, tools with arguments as objects. The canonical
//! request is put into its words in [`request`], its answers come back in OpenAI's in [`answer`].
//!
//! `keep_alive`, `think`, further `options` and whatever else OpenAI does not define are passed on.

mod answer;
mod request;

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use url::Url;

use super::reading::{self, Framing};
use super::{Call, Provider, Reply, ReplyMode, endpoint};
use crate::config::ProviderConfig;
use crate::upstream::{Credentials, Failure, Streaming, Upstream};

/// One Ollama.
pub struct Ollama {
    name: String,
    base_url: Url,
    credentials: Credentials,
    listed: Vec<String>,
    upstream: Upstream,
}

impl Ollama {
    /// Over the one client. A key is needed only where a proxy asks for one.
    pub fn new(config: &ProviderConfig, upstream: Upstream) -> Self {
        let credentials = Credentials::bearer(config.api_key.as_ref());
        let (name, base_url, listed) = (config.name.clone(), config.base_url.clone(), config.models.clone());
        Self { name, base_url, credentials, listed, upstream }
    }

    async fn list(&self) -> Result<Vec<String>, Failure> {
        #[derive(Deserialize)]
        struct Tags {
            models: Vec<Model>,
        }
        #[derive(Deserialize)]
        struct Model {
            name: String,
        }
        let url = endpoint(&self.base_url, &["api", "tags"]);
        let body = self.upstream.get(url, &self.credentials, Duration::from_secs(5)).await?;
        let tags: Tags = reading::json(&body)?;
        Ok(tags.models.into_iter().map(|model| model.name).collect())
    }
}

impl Provider for Ollama {
    fn name(&self) -> &str {
        &self.name
    }

    fn chat(&self, call: Call) -> BoxFuture<'_, Result<Reply, Failure>> {
        async move {
            let body = request::body(&self.name, &call)?;
            let url = endpoint(&self.base_url, &["api", "chat"]);
            if call.mode == ReplyMode::Whole {
                let bytes = self.upstream.post(url, &self.credentials, body).await?;
                return answer::whole(&bytes).map(|completion| Reply::Completed(Box::new(completion)));
            }
            let bytes = self.upstream.post_stream(url, &self.credentials, body, Streaming::Lines).await?;
            Ok(Reply::Stream(reading::deltas(bytes, Framing::lines(), answer::Reader::default())))
        }
        .boxed()
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        async move { if self.listed.is_empty() { self.list().await } else { Ok(self.listed.clone()) } }.boxed()
    }
}
