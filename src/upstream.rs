//! The one pooled HTTP client, and everything between a request to a provider and its reply's bytes: timeouts for
//! connect, first token, silence and the whole, keep-alive, and failures by kind.

mod connects;
mod failure;
mod refusal;
mod timed;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use url::Url;

use crate::clock::Clock;
use crate::config::{Timeouts, UpstreamConfig};
use crate::pool::{Gate, Permit, Pools};
use connects::Connects;
pub use failure::{Deadline, Failure, FailureKind, timed_out};
use timed::Timed;

/// What a provider wants to read in every request's head: its key, its version. Made once; keys are never shown.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    headers: HeaderMap,
}

impl Credentials {
    /// `Authorization: Bearer`, where there is a key.
    pub fn bearer(key: Option<&SecretString>) -> Self {
        let bearer = key.map(|key| SecretString::from(format!("Bearer {}", key.expose_secret())));
        Self::default().with_secret(AUTHORIZATION, bearer.as_ref())
    }

    /// The same with a key in a header of the provider's own; a key that no header can hold is left out.
    #[must_use]
    pub fn with_secret(mut self, name: HeaderName, key: Option<&SecretString>) -> Self {
        if let Some(mut value) = key.and_then(|key| HeaderValue::try_from(key.expose_secret()).ok()) {
            value.set_sensitive(true);
            self.headers.insert(name, value);
        }
        self
    }

    /// The same with a header that is no secret.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// The same with a value that a caller chose; one that no header can hold is left out.
    #[must_use]
    pub fn with_value(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::try_from(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

/// How a stream's events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streaming {
    /// Server-sent events.
    Events,
    /// One JSON object a line.
    Lines,
}

impl Streaming {
    fn content_type(self) -> &'static str {
        match self {
            Self::Events => "text/event-stream",
            Self::Lines => "application/x-ndjson",
        }
    }
}

/// The client could not be made.
pub type ClientError = reqwest::Error;

/// The pooled client.
#[derive(Debug, Clone)]
pub struct Upstream {
    client: reqwest::Client,
    config: UpstreamConfig,
    /// Before every call to a provider.
    gate: Gate,
}

/// The largest JSON reply that is read.
const MAX_REPLY_BYTES: usize = 32 * 1024 * 1024;

/// The longest stream: some three hundred thousand tokens in OpenAI's chunks.
const MAX_STREAM_BYTES: usize = 64 * 1024 * 1024;

/// The largest error body that is read.
const MAX_ERROR_BYTES: usize = 64 * 1024;

impl Upstream {
    /// Makes the client. It installs `ring` as the process's TLS provider, unless a program around this library has
    /// installed one. Its connections stand behind a gate of `pools`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(config: &UpstreamConfig, pools: &Pools) -> Result<Self, ClientError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let gate = pools.gate("http", config.max_connections, config.total_timeout.saturating_mul(2));
        Ok(Self { client: client(config, &gate)?, config: config.clone(), gate })
    }

    /// The same with a provider's own timeouts. Connections are shared, unless connecting has a time of its own.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn with(&self, own: &Timeouts) -> Result<Self, ClientError> {
        let config = self.config.with(own);
        let client = if own.connect.is_some() { client(&config, &self.gate)? } else { self.client.clone() };
        Ok(Self { client, config, gate: self.gate.clone() })
    }

    /// Posts JSON and reads the whole reply.
    ///
    /// # Errors
    /// [`Failure`] by kind.
    pub async fn post(&self, url: Url, credentials: &Credentials, body: Bytes) -> Result<Bytes, Failure> {
        let _permit = self.enter("a whole answer").await?;
        let whole = async {
            let response = self.send(self.client.post(url).body(body), credentials, "application/json").await?;
            // A page in an answer's place, such as a proxy's, is none, whatever it holds.
            if !content_type(&response).is_none_or(|kind| kind.contains("json")) {
                return Err(mistyped(&response, "a JSON reply"));
            }
            read_limited(response, MAX_REPLY_BYTES).await
        };
        within(self.config.total_timeout, Deadline::Total, whole).await
    }

    /// Gets a whole JSON reply.
    ///
    /// # Errors
    /// [`Failure`] by kind.
    pub async fn get(&self, url: Url, credentials: &Credentials, limit: Duration) -> Result<Bytes, Failure> {
        let _permit = self.enter("a list of models").await?;
        let whole = async {
            let response = self.send(self.client.get(url), credentials, "application/json").await?;
            read_limited(response, MAX_REPLY_BYTES).await
        };
        within(limit, Deadline::Total, whole).await
    }

    /// Posts JSON and returns the reply's bytes as they come, each wait under its deadline.
    ///
    /// # Errors
    /// [`Failure`] by kind; the stream ends after its first failure.
    pub async fn post_stream(
        &self,
        url: Url,
        credentials: &Credentials,
        body: Bytes,
        streaming: Streaming,
    ) -> Result<impl Stream<Item = Result<Bytes, Failure>> + Send + use<>, Failure> {
        let permit = self.enter("a stream").await?;
        let end = Instant::now() + self.config.total_timeout;
        let request = self.client.post(url).body(body);
        let wanted = streaming.content_type();
        let first_token = self.config.first_token_timeout;
        let response = within(first_token, Deadline::FirstToken, self.send(request, credentials, wanted)).await?;
        if !content_type(&response).is_some_and(|kind| kind.starts_with(wanted)) {
            return Err(mistyped(&response, "a stream"));
        }
        let bytes = response.bytes_stream();
        Ok(Timed::new(bytes, first_token, self.config.idle_timeout, end, MAX_STREAM_BYTES).holding(permit))
    }

    /// The right to one connection, for as long as its reply is read.
    async fn enter(&self, what: &'static str) -> Result<Permit, Failure> {
        let deadline = Instant::now() + self.config.acquire_timeout;
        let full = || Failure::new(FailureKind::Full, "every connection to the providers stayed in use");
        self.gate.enter(what, deadline).await.ok_or_else(full)
    }

    /// Posts JSON to who is told something, as a webhook is: the status of the reply, whatever it says. It stands before no gate, since what is
    /// told may be that the providers' is full.
    ///
    /// # Errors
    /// [`Failure`] when there is no reply in time.
    pub async fn tell(
        &self,
        url: Url,
        credentials: &Credentials,
        body: Bytes,
        limit: Duration,
    ) -> Result<u16, Failure> {
        let request = self.client.post(url).headers(credentials.headers.clone());
        let request = request.header(CONTENT_TYPE, "application/json").body(body);
        let whole = async { request.send().await.map_err(|error| failure_of(&error)) };
        Ok(within(limit, Deadline::Total, whole).await?.status().as_u16())
    }

    /// One request of our own command line to our own server: status and body, whatever they are.
    ///
    /// # Errors
    /// [`Failure`] when there is no whole reply.
    pub async fn exchange(
        &self,
        method: http::Method,
        url: Url,
        key: &SecretString,
        body: Bytes,
    ) -> Result<(u16, Bytes), Failure> {
        let request = self
            .client
            .request(method, url)
            .header(CONTENT_TYPE, "application/json")
            .bearer_auth(key.expose_secret())
            .body(body);
        let response = request.send().await.map_err(|error| failure_of(&error))?;
        let status = response.status().as_u16();
        Ok((status, read_limited(response, MAX_REPLY_BYTES).await?))
    }

    /// As [`Upstream::exchange`], of a file that need not fit into memory: its body as it comes.
    ///
    /// # Errors
    /// [`Failure`] when there is no reply; the body's own when it breaks off.
    pub async fn download(
        &self,
        url: Url,
        key: &SecretString,
    ) -> Result<(u16, impl Stream<Item = Result<Bytes, Failure>> + Send + use<>), Failure> {
        let request = self.client.get(url).bearer_auth(key.expose_secret());
        let response = request.send().await.map_err(|error| failure_of(&error))?;
        let cut = |_| Failure::new(FailureKind::Cut, "the connection to the server ended in the middle of the file");
        Ok((response.status().as_u16(), response.bytes_stream().map(move |piece| piece.map_err(cut))))
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        credentials: &Credentials,
        accept: &'static str,
    ) -> Result<reqwest::Response, Failure> {
        let mut headers = credentials.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let response = request.headers(headers).send().await.map_err(|error| failure_of(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }
}

fn client(config: &UpstreamConfig, gate: &Gate) -> Result<reqwest::Client, ClientError> {
    reqwest::Client::builder()
        .connect_timeout(config.connect_timeout)
        .pool_max_idle_per_host(config.max_connections.get())
        .pool_idle_timeout(Duration::from_secs(90))
        .connector_layer(Connects(gate.clone()))
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        // A redirect could send the key elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("ish/", env!("CARGO_PKG_VERSION")))
        .build()
}

async fn within<T>(
    limit: Duration,
    deadline: Deadline,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(timed_out(deadline)))
}

fn failure_of(error: &reqwest::Error) -> Failure {
    if error.is_connect() && error.is_timeout() {
        return timed_out(Deadline::Connect);
    }
    if error.is_connect() {
        return Failure::new(FailureKind::Connect, "the provider could not be reached");
    }
    Failure::new(FailureKind::Cut, "the connection to the provider ended before its answer")
}

/// Reads at most `limit` bytes of a body.
async fn read_limited(response: reqwest::Response, limit: usize) -> Result<Bytes, Failure> {
    let mut chunks = response.bytes_stream();
    let cut = |_| Failure::new(FailureKind::Cut, "the connection to the provider ended in the middle of its answer");
    let Some(first) = chunks.next().await else { return Ok(Bytes::new()) };
    let first = first.map_err(cut)?;
    let Some(second) = chunks.next().await else { return Ok(first) };
    let mut whole = Vec::from(first);
    whole.extend_from_slice(&second.map_err(cut)?);
    while let Some(chunk) = chunks.next().await {
        whole.extend_from_slice(&chunk.map_err(cut)?);
        if whole.len() > limit {
            return Err(Failure::new(
                FailureKind::Garbage,
                format!("the provider's answer is larger than {limit} bytes"),
            ));
        }
    }
    Ok(Bytes::from(whole))
}

fn content_type(response: &reqwest::Response) -> Option<&str> {
    response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok())
}

fn mistyped(response: &reqwest::Response, wanted: &str) -> Failure {
    let kind = content_type(response).unwrap_or_default();
    Failure::new(FailureKind::Garbage, format!("the provider answered with content type {kind:?} in place of {wanted}"))
}

/// A reply with an error status, by kind.
async fn refusal(response: reqwest::Response) -> Failure {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = tokio::time::timeout(Duration::from_secs(5), read_limited(response, MAX_ERROR_BYTES)).await;
    let body = body.ok().and_then(Result::ok).unwrap_or_default();
    refusal::refusal(status, &headers, &body, Clock::system().now_ms())
}
