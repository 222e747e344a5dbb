//! What the server leans on, in figures, and whether it is well; only for the admin role.

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::Api;
use super::admin::admin;
use super::error::Problem;
use crate::keys::Principal;

/// Each pool of connections: how much of it is in use, who waits, what was made, recycled and broken since the start; and each part
/// that comes up by itself: whether it has, and how long that took. Looking starts none.
pub(super) async fn stats(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    Ok(Json(json!({"pools": api.0.pools.figures(), "services": api.0.services.parts()})))
}

/// Whether each of them does what it is for, with what it last failed of. An answer is 200 also where something is not: who asks
/// wants to know what; for machines there is `/readyz`.
pub(super) async fn health(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let services = api.0.services.health().await;
    let healthy = services.iter().all(|service| service.healthy);
    Ok(Json(json!({"healthy": healthy, "services": services})))
}
