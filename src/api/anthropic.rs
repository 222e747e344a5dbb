//! Anthropic's dialect, as its Messages API of 2023-06-01 has it: a request becomes the canonical one in [`request`]; the
//! answer, from whichever provider or from the cache, is written in [`answer`] and [`stream`].

mod answer;
pub(super) mod beside;
mod block;
pub(super) mod request;
mod stream;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, http::HeaderValue};
use serde_json::json;

use super::error::AnthropicProblem;
use super::inbound::Inbound;
use super::prepared::control_headers;
use super::reply::{Begun, PROVIDER, completion, costing, opening, set_headers};
use super::streamed::{self, event_stream};
use super::{Api, body};
use crate::cache::CacheControl;
use crate::keys::Principal;
use crate::message::{ChatRequest, InvalidRequest, JsonObject};

pub(super) async fn messages(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    request: Request<Body>,
) -> Result<Response, AnthropicProblem> {
    let begun = Begun::of(&api, principal, request, Inbound::Anthropic).await?;
    let ish = begun.ish();
    let Begun { request, replay, report, source, .. } = begun;
    let mut response = if request.stream {
        let begun = opening(source, replay).await?;
        let renderer = stream::Renderer::new(&request.model, ish);
        event_stream(streamed::body(begun.events, renderer, begun.first, &report.served))
    } else {
        let (completion, usage) = completion(source).await?;
        let message = answer::whole(&request.model, &completion, usage, ish)?;
        let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        costing((json, message.bytes()).into_response(), &report)
    };
    set_headers(response.headers_mut(), &report);
    Ok(response)
}

/// Counts a prompt's tokens: those of a provider that does are named, those of nobody are an estimate.
pub(super) async fn count_tokens(State(api): State<Api>, request: Request<Body>) -> Result<Response, AnthropicProblem> {
    let (head, body) = request.into_parts();
    let bytes = body::read(body, api.0.facts.max_body_bytes).await?;
    let object = JsonObject::parse(&bytes).map_err(InvalidRequest::from)?;
    // What a message would be refused for, its count is.
    CacheControl::of_request(object.get("cache"), &control_headers(&head.headers)?)?;
    let inbound = Inbound::Anthropic;
    let beside = inbound.beside(&head.headers)?;
    let request = ChatRequest { beside, ..inbound.request(&bytes, object, &api.0.facts.default_model)? };
    let (input_tokens, by) = api.0.chat.count(Arc::new(request)).await?;
    let mut response = Json(json!({"input_tokens": input_tokens})).into_response();
    if let Some(name) = by.and_then(|name| HeaderValue::try_from(name).ok()) {
        response.headers_mut().insert(PROVIDER, name);
    }
    Ok(response)
}
