//! What stands between who asks and what they ask for: their rates, a place in work, and the headers that tell how much
//! is left, in OpenAI's words. Only what makes work counts: questions, answers, embeddings, explanations, searches; reading what
//! is there does not.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;

use super::Api;
use super::error::{ApiError, Dialect};
use super::peer::ClientAddress;
use crate::keys::Principal;
use crate::limits::{Level, Pass, Refusal};

/// Limit, what remains, until all is there again.
const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];

const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// Runs a request that its caller may make, else refuses it before its body is read.
pub(super) async fn run(api: &Api, mut request: Request, next: Next) -> Response {
    let principal = request.extensions().get::<Principal>().filter(|_| is_work(request.method(), request.uri()));
    let Some(principal) = principal.cloned() else { return next.run(request).await };
    let dialect = Dialect::of_path(request.uri().path());
    let mut response = match enter(api, &principal).await {
        Ok(pass) => {
            // A stored answer goes on without its request.
            if let Some(pass) = pass.as_ref().filter(|_| !request.uri().path().starts_with("/v1/")) {
                request.extensions_mut().insert(pass.clone());
            }
            held(next.run(request).await, pass)
        }
        Err(refusal) => ApiError::from(refusal).respond(dialect),
    };
    set_headers(api, &principal, response.headers_mut());
    response
}

/// Takes one request of a client address, whoever it is: also keys that are guessed cost something. Pages, health,
/// metrics and administration stay reachable.
pub(super) fn take_address(api: &Api, client: ClientAddress, path: &str) -> Result<(), ApiError> {
    let is_open = path.starts_with("/api/admin/") || path == "/api/status";
    let counts = path.starts_with("/v1/") || path.starts_with("/api/") || path == "/ws";
    if counts && !is_open {
        api.0.limits.take_address(client.0)?;
    }
    Ok(())
}

/// Whether a request counts: it asks for an answer or for embeddings, has the cache look for an answer or take one out, or
/// searches.
fn is_work(method: &Method, uri: &Uri) -> bool {
    let path = uri.path();
    let asks = path.starts_with("/v1/") || path == "/api/chat";
    let stores = path.starts_with("/api/sessions/") && path.ends_with("/messages");
    let looks = matches!(path, "/api/cache/explain" | "/api/cache/feedback");
    let is_search = |query: &str| query.split('&').any(|pair| pair.starts_with("q="));
    match *method {
        Method::POST => asks || stores || looks,
        Method::GET => path == "/api/sessions" && uri.query().is_some_and(is_search),
        _ => false,
    }
}

/// The rate first: who is refused by that does not wait for a place.
async fn enter(api: &Api, principal: &Principal) -> Result<Option<Pass>, Refusal> {
    api.0.limits.take_request(principal).await?;
    api.0.limits.enter().await
}

/// Keeps a place in work until the response is done: one that streams is in work until its end.
fn held(response: Response, pass: Option<Pass>) -> Response {
    let Some(pass) = pass.filter(|_| response.body().size_hint().exact().is_none()) else { return response };
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            // The place goes with the body.
            let _held = &pass;
            frame
        }))
    })
}

/// OpenAI's headers, for each limit that there is.
fn set_headers(api: &Api, principal: &Principal, headers: &mut HeaderMap) {
    let Some(standing) = api.0.limits.standing(principal) else { return };
    for (names, level) in [(REQUESTS, standing.requests), (TOKENS, standing.tokens)] {
        if let Some(Level { limit, remaining, reset }) = level {
            let [limit_name, remaining_name, reset_name] = names;
            headers.insert(limit_name, HeaderValue::from(limit));
            headers.insert(remaining_name, HeaderValue::from(remaining));
            if let Ok(reset) = HeaderValue::try_from(in_words(reset)) {
                headers.insert(reset_name, reset);
            }
        }
    }
}

/// A time as OpenAI writes it: `12ms`, `1.5s`, `6m0s`, `1h0m0s`; never shorter than it is.
fn in_words(time: Duration) -> String {
    let ms = time.as_nanos().div_ceil(1_000_000);
    if ms < 1_000 {
        return format!("{ms}ms");
    }
    let (minutes, ms) = (ms / 60_000, ms % 60_000);
    let fraction = format!("{:03}", ms % 1_000);
    let fraction = fraction.trim_end_matches('0');
    let seconds = if fraction.is_empty() { format!("{}s", ms / 1_000) } else { format!("{}.{fraction}s", ms / 1_000) };
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_openai_does() {
        for (ms, written) in [
            (0, "0ms"),
            (12, "12ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (20_050, "20.05s"),
            (60_000, "1m0s"),
            (360_000, "6m0s"),
            (3_600_000, "1h0m0s"),
            (3_725_000, "1h2m5s"),
        ] {
            assert_eq!(in_words(Duration::from_millis(ms)), written);
        }
        assert_eq!(in_words(Duration::from_nanos(1)), "1ms");
    }

    #[test]
    fn only_what_makes_work_counts() {
        let counts = |method: Method, uri: &'static str| is_work(&method, &Uri::from_static(uri));
        for uri in [
            "/v1/chat/completions",
            "/v1/embeddings",
            "/v1/messages",
            "/api/chat",
            "/api/sessions/x/messages",
            "/api/cache/explain",
            "/api/cache/feedback",
        ] {
            assert!(counts(Method::POST, uri), "{uri}");
            assert!(!counts(Method::GET, uri), "{uri}");
        }
        for uri in ["/api/sessions", "/api/admin/keys", "/metrics", "/"] {
            assert!(!counts(Method::POST, uri), "{uri}");
        }
        for uri in ["/api/sessions?q=moon", "/api/sessions?limit=1&q="] {
            assert!(counts(Method::GET, uri), "{uri}");
        }
        for uri in ["/api/sessions", "/api/sessions?limit=1", "/api/sessions?fields=q", "/api/cache/entries?q=x"] {
            assert!(!counts(Method::GET, uri), "{uri}");
        }
    }
}
