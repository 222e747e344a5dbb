//! The profiler's findings, and flame graphs on demand; only for the admin role.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;

use super::Api;
use super::address::Query;
use super::admin::admin;
use super::error::{ApiError, Problem};
use crate::keys::Principal;
use crate::message::InvalidRequest;
use crate::profiler::{MOST_SECONDS, Report};

/// Where time goes, what holds up, what to change, and how it was before.
pub(super) async fn report(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Report>, Problem> {
    admin(&principal)?;
    api.0.gauges.refresh();
    Ok(Json(api.0.profiler.report()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlameWish {
    /// How long to look.
    seconds: Option<u64>,
}

/// Looks where the processors are for so many seconds, and draws it.
pub(super) async fn flame(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Query(wish): Query<FlameWish>,
) -> Result<Response, Problem> {
    admin(&principal)?;
    let seconds = wish.seconds.unwrap_or(10);
    if !(1..=MOST_SECONDS).contains(&seconds) {
        return Err(InvalidRequest::of("seconds", format!("`seconds` takes 1 to {MOST_SECONDS}")).into());
    }
    tokio::select! {
        drawn = api.0.profiler.flame_graph(Duration::from_secs(seconds)) => Ok(picture(drawn.map_err(ApiError::from)?)),
        () = api.0.streams.draining() => {
            Err(Problem(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "draining", "the server is about to stop")))
        }
    }
}

/// The picture's own script searches and zooms; it may load nothing.
fn picture(svg: Vec<u8>) -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
    let headers = [(CONTENT_TYPE, "image/svg+xml"), (CACHE_CONTROL, "no-store"), (CONTENT_SECURITY_POLICY, policy)];
    (headers, svg).into_response()
}
