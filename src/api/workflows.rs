//! Workflows over REST: started by name, listed, looked at, cancelled, begun again; only for the admin role.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use super::address::{Path, Query};
use super::admin::admin;
use super::conversations::uuid;
use super::error::Problem;
use super::times::with_times;
use super::{Api, body};
use crate::keys::Principal;
use crate::message::InvalidRequest;
use crate::workflows::{NewRun, Run, RunFilter, RunState};

/// Most runs of one list.
const MAX_RUNS: u32 = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WishedRun {
    /// The workflow.
    name: String,
    input: Box<RawValue>,
    key: Option<String>,
    tenant: Option<String>,
}

/// A new run; 200 with the one that is there, where the key stands for one.
pub(super) async fn start(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    admin(&principal)?;
    let wish: WishedRun = body::json(request.into_body(), api.0.facts.max_body_bytes).await?;
    let mut run = NewRun::new(wish.name, &wish.input);
    if let Some(key) = wish.key {
        run = run.key(key);
    }
    if let Some(tenant) = wish.tenant {
        run = run.tenant(tenant);
    }
    let started = api.0.workflows.start(run).await?;
    let status = if started.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(started)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    state: Option<RunState>,
    workflow: Option<String>,
    tenant: Option<String>,
    before: Option<Uuid>,
    limit: Option<u32>,
}

/// The latest first; `before` is the last one's identifier, to go on.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let limit = wanted.limit.unwrap_or(50);
    if !(1..=MAX_RUNS).contains(&limit) {
        return Err(InvalidRequest::of("limit", format!("`limit` is {limit}; it takes 1 to {MAX_RUNS}")).into());
    }
    let Wanted { state, workflow, tenant, before, .. } = wanted;
    let runs = api.0.workflows.list(&RunFilter { state, workflow, tenant, before }, limit).await?;
    Ok(Json(json!({"data": runs.iter().map(shown).collect::<Vec<_>>()})))
}

pub(super) async fn definitions(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    Ok(Json(json!({"data": api.0.workflows.shapes()})))
}

pub(super) async fn read(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    Ok(Json(shown(&api.0.workflows.run(uuid(&id)?).await?)))
}

pub(super) async fn cancel(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let id = uuid(&id)?;
    api.0.workflows.cancel(id).await?;
    Ok(Json(shown(&api.0.workflows.run(id).await?)))
}

pub(super) async fn retry(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let id = uuid(&id)?;
    api.0.workflows.retry(id).await?;
    Ok(Json(shown(&api.0.workflows.run(id).await?)))
}

/// A run with its times as all others here.
fn shown(run: &Run) -> Value {
    let steps: Vec<_> = run.steps.iter().map(|step| with_times(step, &["started_at", "ended_at"])).collect();
    let mut shown = with_times(run, &["created_at", "ended_at"]);
    shown["steps"] = Value::Array(steps);
    shown
}
