//! OpenAI's dialect: chat completions and models. What we do not use passes through untouched, both ways.

use std::fmt::Write;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Request};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::address::Path;
use super::error::OpenAiProblem;
use super::inbound::Inbound;
use super::reply::{Begun, costing, set_headers};
use super::{Api, openai_replay, openai_stream};
use crate::cache::Replay;
use crate::chat::{CacheReport, ChatService, Source, Whole};
use crate::clock::{Clock, new_id};
use crate::keys::Principal;
use crate::message::{Completion, Usage};

pub(super) async fn chat_completions(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    request: Request<Body>,
) -> Result<Response, OpenAiProblem> {
    let begun = Begun::of(&api, principal, request, Inbound::OpenAi).await?;
    let Begun { request, replay, report, source, .. } = begun;
    let model = request.model.clone();
    let mut response = if request.stream {
        match source.into_verbatim() {
            Ok(events) => openai_stream::pass(events, report.served.clone()).await?,
            Err(Source::Cached(hit)) if replay == Replay::Whole => {
                openai_replay::stream(&hit, &report, &model, request.include_usage)
            }
            Err(source) => {
                let ish = if let Source::Cached(hit) = &source { Some(openai_replay::ish(hit, &report)) } else { None };
                let events = source.into_events(replay);
                openai_stream::respond(events, ish, model, request.include_usage, &report.served).await?
            }
        }
    } else {
        let answer = source.into_whole().await.map_err(crate::chat::ChatError::from)?;
        let _timing = api.0.metrics.stages.render.glance();
        costing(whole(answer, &report), &report)
    };
    set_headers(response.headers_mut(), &report);
    Ok(response)
}

pub(super) async fn models(State(chat): State<ChatService>) -> Json<Value> {
    let listed = chat.router().models().await;
    let own = std::iter::once(model_object(super::embeddings::MODEL, "ish"));
    let data: Vec<Value> = listed.iter().map(|model| model_object(&model.id, &model.provider)).chain(own).collect();
    Json(json!({"object": "list", "data": data}))
}

pub(super) async fn model(
    State(chat): State<ChatService>,
    Path(model): Path<String>,
) -> Result<Json<Value>, OpenAiProblem> {
    if model == super::embeddings::MODEL {
        return Ok(Json(model_object(&model, "ish")));
    }
    let route = chat.router().route(&model).await.map_err(crate::chat::ChatError::from)?;
    Ok(Json(model_object(&model, route.first().provider.name())))
}

fn model_object(id: &str, owner: &str) -> Value {
    json!({"id": id, "object": "model", "created": 0, "owned_by": owner})
}

/// A whole reply.
fn whole(whole: Whole, report: &CacheReport) -> Response {
    let bytes = match whole {
        Whole::Raw(bytes) => bytes,
        Whole::Completion(completion) => {
            let middle = middle(&completion, completion.usage.unwrap_or_default());
            spliced(&middle, "}")
        }
        Whole::Cached(hit) => openai_replay::whole(&hit, report),
    };
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes).into_response()
}

/// Everything between `created` and the object's end.
pub(super) fn middle(completion: &Completion, usage: Usage) -> Bytes {
    let choices: Vec<Value> = completion
        .choices
        .iter()
        .map(|choice| {
            json!({
                "index": choice.index,
                "message": choice.message,
                "logprobs": choice.logprobs,
                "finish_reason": choice.finish_reason.as_ref().map(crate::message::FinishReason::as_str),
            })
        })
        .collect();
    let mut members: Map<String, Value> = completion.extra.clone();
    members.insert("model".to_owned(), completion.model.as_str().into());
    members.insert("choices".to_owned(), choices.into());
    members.insert("usage".to_owned(), usage_object(usage));
    let text = Value::Object(members).to_string();
    Bytes::from(format!(",{}", &text[1..text.len() - 1]))
}

/// OpenAI's `usage` object.
pub(super) fn usage_object(usage: Usage) -> Value {
    let mut object = json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    });
    if usage.cached_tokens > 0 || usage.cache_write_tokens > 0 {
        object["prompt_tokens_details"] =
            json!({"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens});
    }
    if usage.reasoning_tokens > 0 {
        object["completion_tokens_details"] = json!({"reasoning_tokens": usage.reasoning_tokens});
    }
    object
}

pub(super) fn spliced(middle: &[u8], end: &str) -> Bytes {
    let mut out = String::with_capacity(96 + end.len());
    let _ = write!(
        out,
        "{{\"id\":\"chatcmpl-{}\",\"object\":\"chat.completion\",\"created\":{}",
        new_id().simple(),
        now_s()
    );
    let mut bytes = Vec::with_capacity(out.len() + middle.len() + end.len());
    bytes.extend_from_slice(out.as_bytes());
    bytes.extend_from_slice(middle);
    bytes.extend_from_slice(end.as_bytes());
    bytes.into()
}

pub(super) fn now_s() -> i64 {
    i64::try_from(Clock::system().now_ms() / 1000).unwrap_or(i64::MAX)
}
