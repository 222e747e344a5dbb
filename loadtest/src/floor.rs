//! The floors: two servers that do as little as a server of their kind can.
//!
//! [`fixed`] answers bytes that it has at hand, the limit of a perfect cache hit; [`proxy`] passes
//! a request on and streams the reply's bytes back, the limit of a gateway. Both use what the
//! server under test uses (axum, reqwest, `TCP_NODELAY` on accepted sockets), so that a ratio to
//! them speaks of that server's own work and not of its libraries.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;

use crate::provider::sample;

/// The prompt whose reply [`fixed`] gives to everybody.
const FIXED_PROMPT: &str = "what the fixed floor was asked";

/// Answers every `POST /v1/chat/completions` with the same JSON reply and every
/// `POST /stream/v1/chat/completions` with the same SSE reply, each as large as the provider's.
///
/// # Errors
/// The listener failed.
pub async fn fixed(listener: TcpListener) -> std::io::Result<()> {
    let json = Bytes::from(sample::json(FIXED_PROMPT));
    let stream = Bytes::from(sample::stream(FIXED_PROMPT));
    let router = Router::new()
        .route("/v1/chat/completions", post(answer_json).with_state(json))
        .route("/stream/v1/chat/completions", post(answer_stream).with_state(stream));
    serve(listener, router).await
}

// The request's body is taken although nobody reads it: an unread one would cost the connection.
async fn answer_json(State(reply): State<Bytes>, _request: Bytes) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], reply)
}

async fn answer_stream(State(reply): State<Bytes>, _request: Bytes) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/event-stream")], reply)
}

/// Passes every request on, as a `POST`, to `upstream` (such as `http://127.0.0.1:4000`, without a path) and the
/// reply's bytes back as they come.
///
/// # Errors
/// The HTTP client cannot be built, or the listener failed.
pub async fn proxy(listener: TcpListener, upstream: &str) -> anyhow::Result<()> {
    // Another part of the process may have chosen a TLS provider already; either will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().tcp_nodelay(true).no_proxy().build()?;
    let upstream = Upstream { client, base: upstream.trim_end_matches('/').into() };
    serve(listener, Router::new().fallback(forward).with_state(upstream)).await?;
    Ok(())
}

#[derive(Clone)]
struct Upstream {
    client: reqwest::Client,
    base: Arc<str>,
}

async fn forward(State(upstream): State<Upstream>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut request = upstream.client.post(format!("{}{}", upstream.base, uri.path())).body(body);
    for name in [header::CONTENT_TYPE, header::AUTHORIZATION] {
        if let Some(value) = headers.get(&name) {
            request = request.header(name, value);
        }
    }
    match request.send().await {
        Ok(reply) => pass_back(reply),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

fn pass_back(reply: reqwest::Response) -> Response {
    const KEPT: [HeaderName; 2] = [header::CONTENT_TYPE, header::CONTENT_LENGTH];
    let status = reply.status();
    let mut headers = HeaderMap::with_capacity(KEPT.len());
    for name in KEPT {
        if let Some(value) = reply.headers().get(&name) {
            headers.insert(name, value.clone());
        }
    }
    (status, headers, Body::from_stream(reply.bytes_stream())).into_response()
}

async fn serve(listener: TcpListener, router: Router) -> std::io::Result<()> {
    let listener = listener.tap_io(|socket| {
        // A socket that is already gone shows it when it is read.
        let _ = socket.set_nodelay(true);
    });
    axum::serve(listener, router).await
}
