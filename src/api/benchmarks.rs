//! What this server's parts took when they were last measured by themselves, and the wish to measure them; only for the admin role.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Api;
use super::address::Query;
use super::admin::admin;
use super::error::Problem;
use super::tasks::shown;
use crate::keys::Principal;
use crate::message::InvalidRequest;
use crate::tasks::Filter;

/// The job that measures.
const KIND: &str = "ish.benchmark";
/// Most of one list.
const MAX: u32 = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    limit: Option<u32>,
}

/// The latest first.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let limit = wanted.limit.unwrap_or(20);
    if !(1..=MAX).contains(&limit) {
        return Err(InvalidRequest::of("limit", format!("`limit` is {limit}; it takes 1 to {MAX}")).into());
    }
    let filter = Filter { kind: Some(KIND.to_owned()), ..Filter::default() };
    let tasks = api.0.queue.list(&filter, limit).await?;
    Ok(Json(json!({"data": tasks.iter().map(shown).collect::<Vec<_>>()})))
}

/// A new one, as soon as a worker has time; 200 with the one that waits or runs already.
pub(super) async fn run(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Response, Problem> {
    admin(&principal)?;
    let nothing = RawValue::from_string("{}".to_owned()).unwrap_or_default();
    let task = api.0.jobs.task(KIND, None, &nothing)?.unique("one");
    let enqueued = api.0.queue.enqueue(task).await?;
    let status = if enqueued.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(enqueued)).into_response())
}
