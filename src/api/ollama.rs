//! Ollama's dialect: `POST /api/chat` with `messages`, and the list of models. Its clients and our own simplest one share
//! that path, and are told apart by what they say: `messages`, or a `message`.

mod answer;
pub(super) mod request;
mod stream;

use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Request};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use serde_json::{Value, json};

use super::error::{ApiError, Dialect};
use super::inbound::Inbound;
use super::reply::{Begun, completion, opening, set_headers};
use super::streamed::body;
use super::{Api, simple};
use crate::clock::rfc3339;
use crate::keys::Principal;
use crate::message::JsonObject;

/// What clients that ask for a version are told: recent enough for what is offered here, not compared with that release.
const FOLLOWED: &str = "0.12.6";

pub(super) async fn chat(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    request: Request<Body>,
) -> Response {
    let (head, body) = request.into_parts();
    let bytes = match super::body::read(body, api.0.facts.max_body_bytes).await {
        Ok(bytes) => bytes,
        Err(error) => return error.respond(Dialect::Either),
    };
    if is_conversation(&bytes) {
        let answered = answer(&api, principal, &head.headers, bytes).await;
        return answered.unwrap_or_else(|error| error.respond(Dialect::Ollama));
    }
    match simple::chat(&api, &principal, head.extensions.get().cloned(), &bytes).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => error.respond(Dialect::Either),
    }
}

fn is_conversation(body: &[u8]) -> bool {
    JsonObject::parse(body).is_ok_and(|object| object.members().any(|(name, _)| name == "messages"))
}

async fn answer(api: &Api, principal: Principal, headers: &HeaderMap, bytes: Bytes) -> Result<Response, ApiError> {
    let started = Instant::now();
    let begun = Begun::of_bytes(api, principal, headers, bytes, Inbound::Ollama).await?;
    let ish = begun.ish();
    let Begun { request, replay, report, source, .. } = begun;
    let mut response = if request.stream {
        let begun = opening(source, replay).await?;
        let renderer = stream::Renderer::new(&request.model, ish, started);
        let lines = Response::new(body(begun.events, renderer, begun.first));
        typed(lines, "application/x-ndjson")
    } else {
        let (completion, usage) = completion(source).await?;
        let line = answer::whole(&request.model, &completion, usage, ish, started.elapsed())?;
        typed(line.bytes().into_response(), "application/json")
    };
    set_headers(response.headers_mut(), &report);
    Ok(response)
}

fn typed(mut response: Response, kind: &'static str) -> Response {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

pub(super) async fn tags(State(api): State<Api>) -> Json<Value> {
    let listed = api.0.chat.router().models().await;
    let since = rfc3339(api.0.facts.started_ms);
    let models = listed.iter().map(|model| {
        let details = json!({"format": "", "family": model.provider, "families": [model.provider], "parameter_size": "", "quantization_level": ""});
        json!({"name": model.id, "model": model.id, "modified_at": since, "size": 0, "digest": "", "details": details})
    });
    Json(json!({"models": models.collect::<Vec<_>>()}))
}

pub(super) async fn version() -> Json<Value> {
    Json(json!({"version": FOLLOWED}))
}
