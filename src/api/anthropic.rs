//! Anthropic's dialect, as its Messages API of 2023-06-01 has it: a request becomes the canonical one in [`request`]; the
//! answer, from whichever provider or from the cache, is written in [`answer`] and [`stream`].

mod answer;
mod block;
pub(super) mod request;
mod stream;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Extension, http::HeaderValue};

use super::Api;
use super::error::AnthropicProblem;
use super::inbound::Inbound;
use super::reply::{Begun, completion, opening, set_headers};
use super::streamed::{body, event_stream};
use crate::keys::Principal;

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
        event_stream(body(begun.events, renderer, begun.first))
    } else {
        let (completion, usage) = completion(source).await?;
        let message = answer::whole(&request.model, &completion, usage, ish)?;
        ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], message.bytes()).into_response()
    };
    set_headers(response.headers_mut(), &report);
    Ok(response)
}
