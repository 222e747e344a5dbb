//! What is seen of every request: its identifier, its time, its count, and a panic turned into a 500.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, Version};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;
use tracing::Instrument;

use super::error::{ApiError, Dialect, Unidentified};
use super::{Api, auth};
use crate::clock::new_id;
use crate::message::InvalidRequest;
use crate::metrics::Metrics;
use crate::traces;

/// The request's identifier, for handlers and logs.
#[derive(Debug, Clone)]
pub struct RequestId(pub HeaderValue);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The same where Anthropic's clients look for it.
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");

pub(super) async fn observe(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let metrics = &api.0.metrics;
    let id = request_id(&request);
    let dialect = Dialect::of_path(request.uri().path());
    let (method, version) = (method(request.method()), request.version());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
    request.extensions_mut().insert(RequestId(id.clone()));
    let in_flight = InFlight::enter(metrics);
    let span = traces::request(method, route, request.headers());
    let answered = auth::authorise(&api, request, next).instrument(span.clone());
    let mut response = match AssertUnwindSafe(answered).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            metrics.panics.inc();
            ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_error",
                "a defect of ish; the log names it by this request's id",
            )
            .respond(dialect)
        }
    };
    drop(in_flight);
    traces::answered(&span, response.status());
    let elapsed = started.elapsed();
    let status = match response.status().as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    metrics.http_requests.with_label_values(&[route, method, status]).inc();
    metrics.http_request_duration.with_label_values(&[route]).observe(elapsed.as_secs_f64());
    metrics.stages.request.record(elapsed);
    if dialect == Dialect::Anthropic {
        response.headers_mut().insert(ANTHROPIC_REQUEST_ID, id.clone());
        if let Some(error) = response.extensions_mut().remove::<Unidentified>() {
            *response.body_mut() = Body::from(error.identified(&id));
            response.headers_mut().remove(CONTENT_LENGTH);
        }
    }
    if api.0.streams.is_draining() && version < Version::HTTP_2 && response.status() != StatusCode::SWITCHING_PROTOCOLS
    {
        // Its other end shall take no next request here.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.headers_mut().insert(REQUEST_ID, id);
    if let Ok(seconds) = HeaderValue::try_from(format!("{}.{:06}", elapsed.as_secs(), elapsed.subsec_micros())) {
        response.headers_mut().insert(PROCESS_TIME, seconds);
    }
    response
}

/// One request in the gauge. A guard, since a handler is dropped where it stands when its client goes away.
struct InFlight(Arc<Metrics>);

impl InFlight {
    fn enter(metrics: &Arc<Metrics>) -> Self {
        metrics.http_in_flight.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.http_in_flight.dec();
    }
}

pub(super) async fn no_route(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(100).collect();
    ApiError::not_found(format!(
        "there is no route {path}; the page is at /, OpenAI's and Anthropic's routes are below /v1"
    ))
    .respond(Dialect::of_path(uri.path()))
}

pub(super) async fn no_method(request: Request) -> Response {
    let message = format!("{} does not answer {}", request.uri().path(), request.method());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        .respond(Dialect::of_path(request.uri().path()))
}

/// The caller's own identifier where it is a harmless one, else a new one.
fn request_id(request: &Request) -> HeaderValue {
    let given = request.headers().get(REQUEST_ID).filter(|value| {
        let bytes = value.as_bytes();
        (1..=64).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    });
    given.cloned().unwrap_or_else(|| {
        let id = new_id().simple().to_string();
        HeaderValue::try_from(id).expect("invariant: hexadecimal digits are a header value")
    })
}

/// Methods are a closed set in metrics, whatever a client sends.
fn method(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

impl From<std::str::Utf8Error> for ApiError {
    fn from(error: std::str::Utf8Error) -> Self {
        InvalidRequest { message: format!("not valid UTF-8: {error}"), param: None }.into()
    }
}
