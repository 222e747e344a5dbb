//! What the server leans on, in figures; only for the admin role.

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::Api;
use super::admin::admin;
use super::error::Problem;
use crate::keys::Principal;

/// Each pool of connections: how much of it is in use, who waits, what was made, recycled and broken since the start.
pub(super) async fn stats(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    Ok(Json(json!({"pools": api.0.pools.figures()})))
}
