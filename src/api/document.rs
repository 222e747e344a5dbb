//! The description of every route for programs, in OpenAPI's form: `openapi.json` beside this file, kept by hand.
//! `tests/it/openapi.rs` holds it to the router, and the tests' HTTP client holds every reply to it.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

const DOCUMENT: &str = include_str!("openapi.json");

pub(super) async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], DOCUMENT).into_response()
}
