//! Whether the server lives, is ready, and what it is; and its metrics.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::Api;
use super::error::{ApiError, Problem};
use crate::chat::TargetStatus;
use crate::clock::rfc3339;
use crate::keys::Principal;

pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Ready once the store answers and no drain has begun; the index fills behind.
pub(super) async fn readyz(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    if api.0.streams.is_draining() {
        return Err(Problem(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "draining", "the server is about to stop")));
    }
    api.0.conversations.check().await?;
    Ok(Json(json!({"ready": true, "index_loaded": api.0.chat.cache().index_loaded()})))
}

pub(super) async fn status(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    let facts = &api.0.facts;
    let router = api.0.chat.router();
    let models = router.models().await;
    let of = |provider: &str| {
        models.iter().filter(|model| model.provider == provider).map(|model| model.id.clone()).collect::<Vec<_>>()
    };
    let providers: Vec<Value> =
        router.provider_names().iter().map(|name| json!({"name": name, "models": of(name)})).collect();
    let targets: Vec<Value> = router.targets().iter().map(target).collect();
    // What the cache holds tells what others have asked.
    let cache = match api.0.chat.viewer(&principal, None) {
        Some(_) => None,
        None => Some(api.0.chat.cache().figures().await?),
    };
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "instance": facts.instance_id,
        "mode": if api.0.access.local { "local" } else { "keys" },
        "started_at": rfc3339(facts.started_ms),
        "providers": providers,
        "targets": targets,
        "default_model": facts.default_model,
        "embedder": api.0.chat.cache().embeddings().id().as_str(),
        "streams": api.0.streams.running(),
        "flights": api.0.chat.flights(),
        "draining": api.0.streams.is_draining(),
        "cache": cache,
        "redis": api.0.redis.as_ref().map(|redis| if redis.is_up() { "up" } else { "away" }),
    })))
}

fn target(target: &TargetStatus) -> Value {
    json!({
        "target": target.target,
        "state": target.state.as_str(),
        "in_flight": target.in_flight,
        "max_in_flight": target.max_in_flight,
        "latency_ms": target.latency_ms,
        "behind": target.behind.map(|(kind, _)| kind.as_str()),
        "behind_ms": target.behind.map(|(_, left)| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
    })
}

pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    if !api.0.facts.serve_metrics {
        return Err(Problem(ApiError::not_found("metrics are switched off (server.metrics)")));
    }
    api.0.gauges.refresh();
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.0.metrics.text()).into_response())
}
