//! Work in the background over REST: enqueued by kind, listed, looked at, cancelled, begun again, purged, paused; only for the
//! admin role.

use std::num::NonZeroU16;
use std::time::Duration;

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
use super::whole::whole;
use super::{Api, body};
use crate::keys::Principal;
use crate::message::InvalidRequest;
use crate::tasks::{Filter, NewTask, Pause, Priority, State as TaskState, Stats, Task};

/// Most tasks of one list.
const MAX_TASKS: u32 = 500;

/// Ten years.
const LONGEST_DELAY_S: f64 = 315_360_000.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WishedTask {
    kind: String,
    /// Of the arguments; the job's own where it is not said.
    #[serde(default, deserialize_with = "whole")]
    version: Option<u16>,
    arguments: Box<RawValue>,
    priority: Option<Priority>,
    /// Seconds from now.
    delay: Option<f64>,
    tenant: Option<String>,
    queue: Option<String>,
    unique: Option<String>,
    idempotency: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    max_attempts: Option<NonZeroU16>,
}

impl WishedTask {
    fn applied_to(self, mut task: NewTask) -> Result<NewTask, InvalidRequest> {
        if let Some(seconds) = self.delay {
            if !(0.0..=LONGEST_DELAY_S).contains(&seconds) {
                return Err(InvalidRequest::of("delay", "`delay` takes seconds, from 0 to ten years"));
            }
            task = task.delay(Duration::from_secs_f64(seconds));
        }
        if let Some(priority) = self.priority {
            task = task.priority(priority);
        }
        if let Some(tenant) = self.tenant {
            task = task.tenant(tenant);
        }
        if let Some(queue) = self.queue {
            task = task.queue(queue);
        }
        if let Some(key) = self.unique {
            task = task.unique(key);
        }
        if let Some(key) = self.idempotency {
            task = task.idempotency(key);
        }
        if let Some(attempts) = self.max_attempts {
            task = task.max_attempts(attempts.get());
        }
        Ok(task)
    }
}

/// A new task; 200 with the one that is there, where a key stands for one.
pub(super) async fn enqueue(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    admin(&principal)?;
    let wish: WishedTask = body::json(request.into_body(), api.0.facts.max_body_bytes).await?;
    let task = api.0.jobs.task(&wish.kind, wish.version, &wish.arguments)?;
    let enqueued = api.0.queue.enqueue(wish.applied_to(task)?).await?;
    let status = if enqueued.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(enqueued)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    state: Option<TaskState>,
    kind: Option<String>,
    tenant: Option<String>,
    before: Option<Uuid>,
    limit: Option<u32>,
    all: Option<bool>,
}

impl Wanted {
    fn filter(self) -> Filter {
        Filter { state: self.state, kind: self.kind, tenant: self.tenant, before: self.before }
    }
}

/// The latest first; `before` is the last one's identifier, to go on.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let limit = wanted.limit.unwrap_or(50);
    if !(1..=MAX_TASKS).contains(&limit) {
        return Err(InvalidRequest::of("limit", format!("`limit` is {limit}; it takes 1 to {MAX_TASKS}")).into());
    }
    let tasks = api.0.queue.list(&wanted.filter(), limit).await?;
    Ok(Json(json!({"data": tasks.iter().map(shown).collect::<Vec<_>>()})))
}

/// Deletes what has ended: of a state, a kind, a tenant, or all of it.
pub(super) async fn purge(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let is_narrow = wanted.state.is_some() || wanted.kind.is_some() || wanted.tenant.is_some();
    if is_narrow == wanted.all.unwrap_or(false) || wanted.limit.is_some() {
        let message = "name some of state, kind and tenant, or all=true".to_owned();
        return Err(InvalidRequest { message, param: None }.into());
    }
    let purged = api.0.queue.purge(&wanted.filter()).await?;
    Ok(Json(json!({"purged": purged})))
}

/// How much there is to do, what is paused, what is known.
pub(super) async fn stats(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let (stats, pauses) = (api.0.queue.stats().await?, api.0.queue.pauses().await?);
    let kinds: Vec<_> = api.0.jobs.kinds().collect();
    let Stats { waiting, states, kinds: by_kind } = stats;
    Ok(Json(json!({"waiting": waiting, "states": states, "by_kind": by_kind, "pauses": pauses, "kinds": kinds})))
}

/// Which processes run tasks.
pub(super) async fn workers(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let workers = api.0.queue.workers().await?;
    let shown = |worker| with_times(worker, &["started_at", "seen_at"]);
    Ok(Json(json!({"data": workers.iter().map(shown).collect::<Vec<_>>()})))
}

pub(super) async fn read(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    Ok(Json(shown(&api.0.queue.task(uuid(&id)?).await?)))
}

pub(super) async fn cancel(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let id = uuid(&id)?;
    api.0.queue.cancel(id).await?;
    Ok(Json(shown(&api.0.queue.task(id).await?)))
}

pub(super) async fn retry(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let id = uuid(&id)?;
    let attempts = api.0.jobs.attempts(&api.0.queue.task(id).await?.kind);
    api.0.queue.retry(id, attempts).await?;
    Ok(Json(shown(&api.0.queue.task(id).await?)))
}

pub(super) async fn pause(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    request: Request<Body>,
) -> Result<StatusCode, Problem> {
    admin(&principal)?;
    let what: Pause = body::json(request.into_body(), api.0.facts.max_body_bytes).await?;
    api.0.queue.pause(&what).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a pause; one that there is not has ended.
pub(super) async fn resume(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Query(what): Query<Pause>,
) -> Result<StatusCode, Problem> {
    admin(&principal)?;
    api.0.queue.resume(&what).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A task with its times as all others here.
pub(super) fn shown(task: &Task) -> Value {
    with_times(task, &["run_at", "enqueued_at", "started_at", "ended_at"])
}
