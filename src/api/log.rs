//! What this process logs, changed while it runs; only for the admin role.

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};

use super::admin::admin;
use super::error::Problem;
use super::{Api, body};
use crate::keys::Principal;
use crate::message::InvalidRequest;
use crate::telemetry;

/// The filter of the log, per module.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    /// In tracing's syntax; null where the log is not this program's own.
    filter: Option<String>,
}

pub(super) async fn read(Extension(principal): Extension<Principal>) -> Result<Json<Log>, Problem> {
    admin(&principal)?;
    Ok(Json(Log { filter: telemetry::filter() }))
}

/// Until the process ends, and for this instance alone: what is to stay stands in the settings.
pub(super) async fn change(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    request: Request<Body>,
) -> Result<Json<Log>, Problem> {
    admin(&principal)?;
    let wish: Log = body::json(request.into_body(), api.0.facts.max_body_bytes).await?;
    let filter =
        wish.filter.ok_or_else(|| InvalidRequest::of("filter", "`filter` is required: info,ish::cache=debug"))?;
    telemetry::change_filter(&filter).map_err(|error| InvalidRequest::of("filter", error.to_string()))?;
    tracing::info!(filter, "the log's filter was changed");
    read(Extension(principal)).await
}
