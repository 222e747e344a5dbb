//! Alerts over REST: as they stand, those that are over, and silence; only for the admin role.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::address::Path;
use super::admin::admin;
use super::error::{ApiError, Problem};
use super::{Api, body};
use crate::alerts::{Alert, Ended};
use crate::clock::rfc3339;
use crate::keys::Principal;
use crate::message::InvalidRequest;

/// The longest silence: a week. Whoever wants more changes the alert.
const MAX_SILENCE_S: u32 = 604_800;

/// This instance's; each speaks for itself.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let alerts = &api.0.alerts;
    Ok(Json(json!({
        "instance": api.0.facts.instance_id,
        "interval_s": alerts.interval().as_secs_f64(),
        "data": alerts.list().iter().map(shown).collect::<Vec<_>>(),
        "ended": alerts.ended().iter().map(ended).collect::<Vec<_>>(),
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WishedSilence {
    seconds: u32,
}

/// The webhook is told nothing new of it for so long.
pub(super) async fn silence(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let wish: WishedSilence = body::json(request.into_body(), api.0.facts.max_body_bytes).await?;
    if !(1..=MAX_SILENCE_S).contains(&wish.seconds) {
        let message = format!("`seconds` is {}; it takes 1 to {MAX_SILENCE_S}", wish.seconds);
        return Err(InvalidRequest::of("seconds", message).into());
    }
    silenced(&api, &name, Some(Duration::from_secs(wish.seconds.into())))
}

/// The silence is over.
pub(super) async fn unsilence(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    silenced(&api, &name, None)
}

fn silenced(api: &Api, name: &str, length: Option<Duration>) -> Result<Json<Value>, Problem> {
    let alert = api.0.alerts.silence(name, length).ok_or_else(|| Problem(ApiError::not_found("no such alert")))?;
    Ok(Json(shown(&alert)))
}

fn shown(alert: &Alert) -> Value {
    let rule = alert.rule.config();
    json!({
        "name": rule.name,
        "state": alert.state,
        "since": rfc3339(alert.since_ms),
        "metric": rule.metric,
        "value": alert.value,
        "of": alert.of,
        "worst": alert.worst,
        "comparison": rule.comparison.as_str(),
        "threshold": rule.threshold,
        "severity": rule.severity.as_str(),
        "for_s": rule.hold.as_secs_f64(),
        "window_s": rule.window.as_secs_f64(),
        "silenced_until": alert.silenced_until_ms.map(rfc3339),
        "runbook": rule.runbook,
    })
}

fn ended(ended: &Ended) -> Value {
    json!({
        "name": ended.name,
        "severity": ended.severity.as_str(),
        "fired_at": rfc3339(ended.fired_at_ms),
        "resolved_at": rfc3339(ended.resolved_at_ms),
        "worst": ended.worst,
        "threshold": ended.threshold,
    })
}
