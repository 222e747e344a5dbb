//! The chat page and that of operations, embedded: no build step, no other host, a strict policy against scripts that are not ours.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};

use super::address::Path;
use super::observe;

const POLICY: &str = "default-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

macro_rules! files {
    ($($path:literal: $kind:literal),* $(,)?) => {
        &[$(($path, $kind, include_bytes!(concat!("../../web/", $path)))),*]
    };
}

/// Path, content type, bytes.
const FILES: &[(&str, &str, &[u8])] = files![
    "app.css": "text/css; charset=utf-8",
    "favicon.svg": "image/svg+xml",
    "icons.svg": "image/svg+xml",
    "index.html": "text/html; charset=utf-8",
    "js/answer-view.js": "text/javascript; charset=utf-8",
    "js/answers.js": "text/javascript; charset=utf-8",
    "js/api.js": "text/javascript; charset=utf-8",
    "js/app.js": "text/javascript; charset=utf-8",
    "js/badge.js": "text/javascript; charset=utf-8",
    "js/composer.js": "text/javascript; charset=utf-8",
    "js/confirm.js": "text/javascript; charset=utf-8",
    "js/connection-line.js": "text/javascript; charset=utf-8",
    "js/conversation-list.js": "text/javascript; charset=utf-8",
    "js/element.js": "text/javascript; charset=utf-8",
    "js/exact.js": "text/javascript; charset=utf-8",
    "js/examples.js": "text/javascript; charset=utf-8",
    "js/inline.js": "text/javascript; charset=utf-8",
    "js/login.js": "text/javascript; charset=utf-8",
    "js/markdown.js": "text/javascript; charset=utf-8",
    "js/menu.js": "text/javascript; charset=utf-8",
    "js/model-picker.js": "text/javascript; charset=utf-8",
    "js/ops/crew.js": "text/javascript; charset=utf-8",
    "js/ops/enqueue.js": "text/javascript; charset=utf-8",
    "js/ops/field-form.js": "text/javascript; charset=utf-8",
    "js/ops/figures.js": "text/javascript; charset=utf-8",
    "js/ops/graph.js": "text/javascript; charset=utf-8",
    "js/ops/keep.js": "text/javascript; charset=utf-8",
    "js/ops/layers.js": "text/javascript; charset=utf-8",
    "js/ops/live.js": "text/javascript; charset=utf-8",
    "js/ops/page.js": "text/javascript; charset=utf-8",
    "js/ops/pages.js": "text/javascript; charset=utf-8",
    "js/ops/run-row.js": "text/javascript; charset=utf-8",
    "js/ops/run-view.js": "text/javascript; charset=utf-8",
    "js/ops/state.js": "text/javascript; charset=utf-8",
    "js/ops/step-view.js": "text/javascript; charset=utf-8",
    "js/ops/task-drawer.js": "text/javascript; charset=utf-8",
    "js/ops/task-list.js": "text/javascript; charset=utf-8",
    "js/ops/task-row.js": "text/javascript; charset=utf-8",
    "js/ops/tasks-page.js": "text/javascript; charset=utf-8",
    "js/ops/times.js": "text/javascript; charset=utf-8",
    "js/ops/values.js": "text/javascript; charset=utf-8",
    "js/ops/workflows-page.js": "text/javascript; charset=utf-8",
    "js/question-view.js": "text/javascript; charset=utf-8",
    "js/search.js": "text/javascript; charset=utf-8",
    "js/siblings.js": "text/javascript; charset=utf-8",
    "js/sidebar.js": "text/javascript; charset=utf-8",
    "js/socket.js": "text/javascript; charset=utf-8",
    "js/theme.js": "text/javascript; charset=utf-8",
    "js/transcript.js": "text/javascript; charset=utf-8",
    "js/units.js": "text/javascript; charset=utf-8",
    "js/why.js": "text/javascript; charset=utf-8",
    "ops.css": "text/css; charset=utf-8",
    "ops.html": "text/html; charset=utf-8",
];

pub(super) async fn index(headers: HeaderMap) -> Response {
    serve("index.html", &headers).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

/// Its first part. A path from where the browser is: a proxy may have put something before ours.
pub(super) async fn to_operations() -> Redirect {
    Redirect::temporary("ops/tasks")
}

/// Who may see what is decided by what it asks for: the page itself is the same for everybody.
pub(super) async fn operations(headers: HeaderMap) -> Response {
    serve("ops.html", &headers).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

pub(super) async fn file(Path(path): Path<String>, uri: Uri, headers: HeaderMap) -> Response {
    match serve(&path, &headers) {
        Some(response) => response,
        None => observe::no_route(uri).await,
    }
}

fn serve(path: &str, headers: &HeaderMap) -> Option<Response> {
    let (_, kind, bytes) = FILES.iter().find(|(known, _, _)| *known == path)?;
    let tag = HeaderValue::try_from(format!("\"{}\"", &blake3::hash(bytes).to_hex()[..16])).ok()?;
    let unchanged = headers.get(IF_NONE_MATCH) == Some(&tag);
    let mut response = if unchanged { StatusCode::NOT_MODIFIED.into_response() } else { (*bytes).into_response() };
    let set = response.headers_mut();
    set.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    set.insert(ETAG, tag);
    set.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    set.insert(HeaderName::from_static("content-security-policy"), HeaderValue::from_static(POLICY));
    set.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    set.insert(HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer"));
    Some(response)
}
