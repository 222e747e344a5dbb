//! OpenAI's dialect: chat completions and models. What we do not use passes through untouched, both ways.

use std::fmt::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::address::Path;
use super::error::OpenAiProblem;
use super::{Api, body, openai_replay, openai_stream};
use crate::cache::{How, Replay};
use crate::chat::{Answer, Ask, CacheReport, CacheStatus, ChatService, Source, Whole};
use crate::clock::{Clock, new_id};
use crate::keys::Principal;
use crate::message::{Completion, Usage};

pub(super) async fn chat_completions(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    request: Request<Body>,
) -> Result<Response, OpenAiProblem> {
    let (head, body) = request.into_parts();
    let bytes = body::read(body, api.0.facts.max_body_bytes).await?;
    let prepared =
        api.0.prepared.prepare(&api.0.chat, &principal, &head.headers, &bytes, &api.0.facts.default_model)?;
    let request = &prepared.request;
    let (stream, include_usage, model) = (request.stream, request.include_usage, request.model.clone());
    let (control, replay) = (prepared.control.clone(), prepared.control.replay);
    let ask = Ask { request: Arc::clone(request), principal, control, explain: false };
    let answer = api.0.chat.respond_planned(ask, &prepared.plan).await?;
    let Answer { report, source, .. } = answer;
    let mut response = if stream {
        match source.into_verbatim() {
            Ok(events) => openai_stream::pass(events).await?,
            Err(Source::Cached(hit)) if replay == Replay::Whole => {
                openai_replay::stream(&hit, &report, &model, include_usage)
            }
            Err(source) => {
                let ish = if let Source::Cached(hit) = &source { Some(openai_replay::ish(hit, &report)) } else { None };
                openai_stream::respond(source.into_events(replay), ish, model, include_usage).await?
            }
        }
    } else {
        whole(source.into_whole().await.map_err(crate::chat::ChatError::from)?, &report)
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

/// The word of the flat header.
fn flat_status(report: &CacheReport) -> &'static str {
    match (report.status, report.how) {
        (CacheStatus::Hit, Some(How::Semantic)) => "SEMANTIC_HIT",
        (CacheStatus::Hit, Some(How::Normalized)) => "NORMALIZED_HIT",
        (CacheStatus::Hit, _) => "HIT",
        (CacheStatus::Miss, _) => "MISS",
        (CacheStatus::Bypass, _) => "BYPASS",
        (CacheStatus::Collapsed, _) => "COALESCED",
    }
}

/// RFC 9211's `Cache-Status`, the flat headers, `Age` and `Server-Timing`.
pub(super) fn set_headers(headers: &mut HeaderMap, report: &CacheReport) {
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    let key = report.key.map(crate::cache::scope::Digest::short);
    let mut status = String::from("ish");
    let _ = match report.status {
        CacheStatus::Hit => write!(status, "; hit; ttl={}", report.ttl_s.unwrap_or(0)),
        CacheStatus::Miss => write!(status, "; fwd=miss"),
        CacheStatus::Bypass => write!(status, "; fwd=bypass"),
        CacheStatus::Collapsed => write!(status, "; fwd=miss; collapsed"),
    };
    if let Some(key) = &key {
        let _ = write!(status, "; key=\"{key}\"");
    }
    if let (Some(how), Some(tier)) = (report.how, report.tier) {
        let _ = write!(status, "; detail={}-{}", how.as_str(), tier.as_str());
    }
    set("cache-status", status);
    if let Some(lookup_us) = report.lookup.map(|lookup| lookup.as_micros()) {
        set("server-timing", format!("cache;dur={}.{:03}", lookup_us / 1000, lookup_us % 1000));
    }
    if let Some(key) = key {
        set("x-ish-cache-key", report.key.map_or(key, |key| key.to_string()));
    }
    if let Some(tier) = report.tier {
        set("x-ish-cache-tier", tier.as_str().to_owned());
    }
    if let Some(by) = report.served.by() {
        set("x-ish-provider", by.provider.to_string());
    }
    if let Some(cost_usd) = report.served.cost_usd() {
        set("x-ish-cost-usd", cost_usd.to_string());
    }
    if let Some(similarity) = report.similarity {
        set("x-ish-cache-similarity", format!("{similarity:.4}"));
    }
    headers.insert(HeaderName::from_static("x-ish-cache"), HeaderValue::from_static(flat_status(report)));
    // Intermediaries must not cache what we cache by meaning.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(age) = report.age_s {
        headers.insert(AGE, HeaderValue::from(age));
    }
}
