//! An OpenAI-compatible embedder elsewhere. It gives no word vectors, so that matching runs at `strict`.

use std::time::Duration;

use futures_util::FutureExt;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{EmbedError, EmbedFuture, Embedded, Embedder, EmbedderId, Embedding, WordVectors};
use crate::config::RemoteEmbedderConfig;
use crate::services::Part;
use crate::upstream::{Credentials, Upstream};

/// The remote embedder.
pub struct Remote {
    id: EmbedderId,
    url: Url,
    config: RemoteEmbedderConfig,
    credentials: Credentials,
    upstream: Upstream,
    part: Part,
}

impl Remote {
    /// Over the one client.
    pub fn new(config: RemoteEmbedderConfig, upstream: Upstream) -> Self {
        let mut url = config.base_url.clone();
        url.set_path(&format!("{}/embeddings", config.base_url.path().trim_end_matches('/')));
        let credentials = Credentials::bearer(config.api_key.as_ref());
        Self {
            id: EmbedderId::new(format!("remote:{}", config.model)),
            url,
            config,
            credentials,
            upstream,
            part: Part::new("embedder"),
        }
    }

    /// Whether it answered when it was first needed, and again whenever it has failed, for a registry.
    pub fn part(&self) -> Part {
        self.part.clone()
    }

    /// Calls it, and notes whether it answers within the limit.
    async fn answered(&self, texts: Vec<String>, limit: Duration) -> Result<Vec<Embedded>, EmbedError> {
        let start = (!self.part.is_initialized()).then(|| self.part.start());
        let called = tokio::time::timeout(limit, self.call(texts)).await.unwrap_or(Err(EmbedError::Busy));
        match (&called, start) {
            (Ok(_), Some(start)) => start.ready(),
            (Err(error), start) => start.unwrap_or_else(|| self.part.start()).failed(error),
            (Ok(_), None) => {}
        }
        called
    }

    async fn call(&self, texts: Vec<String>) -> Result<Vec<Embedded>, EmbedError> {
        #[derive(Deserialize)]
        struct Reply {
            data: Vec<Item>,
        }
        #[derive(Deserialize)]
        struct Item {
            index: usize,
            embedding: Vec<f32>,
        }
        let body = json!({"model": self.config.model, "input": texts, "encoding_format": "float"}).to_string();
        let bytes = self
            .upstream
            .post(self.url.clone(), &self.credentials, body.into())
            .await
            .map_err(|failure| EmbedError::Failed(failure.into()))?;
        let mut reply: Reply = serde_json::from_slice(&bytes).map_err(|error| EmbedError::Failed(error.into()))?;
        reply.data.sort_by_key(|item| item.index);
        if reply.data.len() != texts.len() {
            return Err(EmbedError::Failed(
                format!("{} texts were sent, {} vectors came back", texts.len(), reply.data.len()).into(),
            ));
        }
        reply
            .data
            .iter()
            .map(|item| {
                let embedding = Embedding::new(&item.embedding).map_err(|error| EmbedError::Failed(error.into()))?;
                Ok(Embedded { embedding, words: WordVectors::default(), truncated: false, tokens: 0 })
            })
            .collect()
    }
}

impl Embedder for Remote {
    fn id(&self) -> &EmbedderId {
        &self.id
    }

    fn embed(&self, texts: Vec<String>, patience: Option<Duration>) -> EmbedFuture<'_> {
        // A queue elsewhere cannot be seen: the patience of a look-up bounds the whole call, with time for the network.
        let limit = patience.map_or(Duration::from_mins(1), |patience| patience.max(Duration::from_millis(500)));
        self.answered(texts, limit).boxed()
    }
}
