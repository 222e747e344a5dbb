//! A cached answer in OpenAI's dialect: bytes built at its first replay, with what changes from one to the next spliced in.

use std::fmt::Write;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::openai::{middle, now_s, spliced, usage_object};
use super::streamed::event_stream;
use crate::cache::Hit;
use crate::cache::entry::ReplyTemplates;
use crate::chat::CacheReport;
use crate::clock::new_id;
use crate::message::{Choice, FinishReason, Usage};

/// A whole reply: what the answer was, a usage of zero, and beside it what was saved.
pub(super) fn whole(hit: &Hit, report: &CacheReport) -> Bytes {
    let templates = templates(hit);
    spliced(&templates.json, &format!(",\"ish\":{}}}", ish(hit, report)))
}

/// The reply as a stream that comes at once.
pub(super) fn stream(hit: &Hit, report: &CacheReport, model: &str, include_usage: bool) -> Response {
    let templates = templates(hit);
    let id = new_id().simple();
    let created = now_s();
    let model = Value::from(model).to_string();
    let mut out = String::with_capacity(templates.chunks.iter().map(|chunk| chunk.len() + 160).sum::<usize>() + 640);
    let mut chunk = |rest: &str, more: &str| {
        let _ = write!(
            out,
            "data: {{\"id\":\"chatcmpl-{id}\",\"object\":\"chat.completion.chunk\",\"created\":{created},\"model\":{model},{rest}{more}}}\n\n"
        );
    };
    let mut more = format!(",\"ish\":{}", ish(hit, report));
    for choices in &templates.chunks {
        chunk(choices, &std::mem::take(&mut more));
    }
    if include_usage {
        chunk("\"choices\":[],\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0,\"total_tokens\":0}", "");
    }
    out.push_str("data: [DONE]\n\n");
    event_stream(Body::from(out))
}

/// The extension object in bodies and first chunks of cached answers.
pub(super) fn ish(hit: &Hit, report: &CacheReport) -> String {
    let number = |value: Option<u64>| value.map_or_else(|| "null".to_owned(), |value| value.to_string());
    format!(
        "{{\"cache\":{{\"status\":\"hit\",\"how\":\"{}\",\"tier\":\"{}\",\"similarity\":{},\"key\":\"{}\",\"age_s\":{},\
         \"ttl_s\":{},\"saved_ms\":{},\"saved_usage\":{}}}}}",
        hit.how.as_str(),
        hit.tier.as_str(),
        report.similarity.map_or_else(|| "null".to_owned(), |similarity| format!("{similarity:.4}")),
        hit.entry.key,
        number(report.age_s),
        number(report.ttl_s),
        hit.entry.elapsed_ms,
        templates(hit).saved_usage,
    )
}

fn templates(hit: &Hit) -> &ReplyTemplates {
    hit.entry.templates.get_or_init(|| {
        let completion = &hit.entry.completion;
        ReplyTemplates {
            json: middle(completion, Usage::default()),
            chunks: completion.choices.iter().flat_map(chunks).collect(),
            saved_usage: completion.usage.map_or_else(|| "null".to_owned(), |usage| usage_object(usage).to_string()),
        }
    })
}

/// A choice as the `choices` of two chunks: its whole message, and its end.
pub(super) fn chunks(choice: &Choice) -> [String; 2] {
    let mut message = choice.message.clone();
    if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
        for (index, call) in calls.iter_mut().enumerate() {
            if let Value::Object(members) = call {
                members.insert("index".to_owned(), index.into());
            }
        }
    }
    let reason = choice.finish_reason.as_ref().unwrap_or(&FinishReason::Stop);
    [
        choices(choice.index, &message, None, choice.logprobs.as_ref()),
        choices(choice.index, &Map::new(), Some(reason), None),
    ]
}

/// The `choices` member of a chunk with one choice.
pub(super) fn choices(
    index: u32,
    delta: &Map<String, Value>,
    finish_reason: Option<&FinishReason>,
    logprobs: Option<&Value>,
) -> String {
    let choice = json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason.map(FinishReason::as_str)});
    format!("\"choices\":[{choice}]")
}
