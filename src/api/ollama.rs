//! Ollama's dialect: `POST /api/chat` with `messages`, the list of models, and what is known of one. Its clients and our own simplest one share
//! that path, and are told apart by what they say: `messages`, or a `message`.

mod answer;
mod pending;
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

use super::error::{ApiError, Dialect, OllamaProblem};
use super::inbound::Inbound;
use super::node::Node;
use super::reply::{Begun, completion, costing, opening, set_headers};
use super::streamed::body;
use super::{Api, simple};
use crate::chat::ChatError;
use crate::clock::rfc3339;
use crate::keys::Principal;
use crate::message::{InvalidRequest, JsonFault, JsonObject};

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
    match is_conversation(&bytes) {
        Ok(true) => {
            let answered = answer(&api, principal, &head.headers, bytes).await;
            return answered.unwrap_or_else(|error| error.respond(Dialect::Ollama));
        }
        Ok(false) => {}
        Err(fault) => return ApiError::from(InvalidRequest::from(fault)).respond(Dialect::Either),
    }
    match simple::chat(&api, &principal, &head, &bytes).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => error.respond(Dialect::Either),
    }
}

fn is_conversation(body: &[u8]) -> Result<bool, JsonFault> {
    Ok(JsonObject::parse(body)?.members().any(|(name, _)| name == "messages"))
}

async fn answer(api: &Api, principal: Principal, headers: &HeaderMap, bytes: Bytes) -> Result<Response, ApiError> {
    let started = Instant::now();
    let begun = Begun::of_bytes(api, principal, headers, bytes, Inbound::Ollama).await?;
    let ish = begun.ish();
    let Begun { request, replay, report, source, .. } = begun;
    let mut response = if request.stream {
        let begun = opening(source, replay).await?;
        let renderer = stream::Renderer::new(&request.model, ish, started);
        let lines = Response::new(body(begun.events, renderer, begun.first, &report.served));
        typed(lines, "application/x-ndjson")
    } else {
        let (completion, usage) = completion(source).await?;
        let line = answer::whole(&request.model, &completion, usage, ish, started.elapsed())?;
        costing(typed(line.bytes().into_response(), "application/json"), &report)
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
        let details = details(&model.provider);
        json!({"name": model.id, "model": model.id, "modified_at": since, "size": 0, "digest": "", "details": details})
    });
    Json(json!({"models": models.collect::<Vec<_>>()}))
}

/// What is known of a model, which is little: who has it, and that it answers.
pub(super) async fn show(State(api): State<Api>, request: Request<Body>) -> Result<Json<Value>, OllamaProblem> {
    let bytes = super::body::read(request.into_body(), api.0.facts.max_body_bytes).await?;
    let root = Node::root(JsonObject::parse(&bytes).map_err(InvalidRequest::from)?);
    root.only(&["model", "name", "verbose", "system", "options"])?;
    root.read::<bool>("verbose", "a boolean")?;
    // The older name of the member.
    let older: Option<String> = root.read("name", "a string")?;
    let model = root.read::<String>("model", "a string")?.or(older).filter(|model| !model.is_empty());
    let model = model.ok_or_else(|| root.missing("model", "the name of a model; GET /api/tags lists them"))?;
    let route = api.0.chat.router().route(&model).await.map_err(ChatError::from)?;
    let details = details(route.first().provider.name());
    let since = rfc3339(api.0.facts.started_ms);
    Ok(Json(json!({"modified_at": since, "details": details, "model_info": {}, "capabilities": ["completion"]})))
}

/// Of a model of this provider; what nobody here knows is empty.
fn details(provider: &str) -> Value {
    json!({"format": "", "family": provider, "families": [provider], "parameter_size": "", "quantization_level": ""})
}

pub(super) async fn version() -> Json<Value> {
    Json(json!({"version": FOLLOWED}))
}
