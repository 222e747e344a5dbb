//! OpenAI's Responses API, as far as it can be had without keeping anything: each request brings all that was said, and
//! what would need an earlier one is refused by name. Its errors are those of OpenAI's other routes.

mod item;
mod output;
pub(super) mod request;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Request};
use axum::response::{IntoResponse, Response};

use super::Api;
use super::error::OpenAiProblem;
use super::inbound::Inbound;
use super::reply::{Begun, completion, costing, opening, set_headers};
use super::streamed::{body, event_stream};
use crate::keys::Principal;
use output::Output;

pub(super) async fn responses(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    request: Request<Body>,
) -> Result<Response, OpenAiProblem> {
    let (head, sent) = request.into_parts();
    let bytes = super::body::read(sent, api.0.facts.max_body_bytes).await?;
    let begun = Begun::of_bytes(&api, principal, &head.headers, bytes.clone(), Inbound::Responses).await?;
    let ish = begun.ish();
    let Begun { request, replay, report, source, .. } = begun;
    let output = Output::new(&request.model, request::echo(&bytes), ish);
    let mut response = if request.stream {
        let begun = opening(source, replay).await?;
        event_stream(body(begun.events, output, begun.first, &report.served))
    } else {
        let (completion, usage) = completion(source).await?;
        let whole = output.whole(&completion, usage).bytes();
        let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        costing((json, whole).into_response(), &report)
    };
    set_headers(response.headers_mut(), &report);
    Ok(response)
}
