//! A request whose client spoke another dialect than the provider does. What only the client's dialect has is put into
//! words that the provider's has too, left out where it is a hint, and refused by name where an answer without it would
//! be another one. Between equals, and from OpenAI's clients, all of it is passed on: they mean the provider they name.
//! docs/http.md has the table.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::canonical::Addressee;
use crate::message::{ChatRequest, Dialect, JsonObject, Outgoing};
use crate::upstream::{Failure, FailureKind};

/// Marks for Anthropic's prompt cache, what it signed, whether a tool failed, and the order of its blocks.
const OF_MESSAGES: &[&str] = &["block_order", "cache_control", "is_error", "thinking_blocks"];

/// Options of Ollama's that say how a model is run there rather than what it answers.
const OF_RUNNERS: &[&str] = &[
    "draft_num_predict",
    "f16_kv",
    "logits_all",
    "low_vram",
    "main_gpu",
    "mirostat_eta",
    "mirostat_tau",
    "num_batch",
    "num_ctx",
    "num_gpu",
    "num_keep",
    "num_thread",
    "numa",
    "penalize_newline",
    "use_mlock",
    "use_mmap",
    "vocab_only",
];

/// Options that shape an answer, each with what leaves it as it is.
const SHAPING: &[(&str, f64)] =
    &[("mirostat", 0.0), ("repeat_last_n", 0.0), ("repeat_penalty", 1.0), ("tfs_z", 1.0), ("typical_p", 1.0)];

/// The request's body as a provider of the dialect `target` may have it.
pub(super) fn fitted(request: &ChatRequest, target: Dialect, to: Addressee<'_>) -> Result<Bytes, Failure> {
    if matches!(request.dialect, Dialect::OpenAi) || request.dialect == target {
        return Ok(request.body.clone());
    }
    let object = read(&request.body)?;
    let mut out = Outgoing::default();
    for (name, raw) in object.members() {
        match (request.dialect, name) {
            (Dialect::Anthropic, "messages") if target == Dialect::OpenAi => {
                out.put(name, each(raw, bare_message));
            }
            (Dialect::Anthropic, "tools") if target == Dialect::OpenAi => {
                out.put(name, each(raw, unmarked));
            }
            (Dialect::Anthropic, "thinking") => out.put_some("reasoning_effort", effort(raw)),
            (Dialect::Anthropic, "inference_geo") if raw.get() != "\"global\"" => {
                return Err(to.lacks(name, "no say in where an answer is made"));
            }
            (Dialect::Anthropic, "output_config") => only_hints(to, raw, name, &["task_budget"])?,
            (Dialect::Anthropic, "cache_control" | "context_management" | "inference_geo" | "speed")
            | (Dialect::Ollama, "keep_alive" | "shift" | "truncate") => {}
            (Dialect::Ollama, "options") => options(to, raw)?,
            _ => out.put(name, raw),
        }
    }
    Ok(out.bytes())
}

fn read(body: &[u8]) -> Result<JsonObject<'_>, Failure> {
    JsonObject::parse(body).map_err(|fault| Failure::new(FailureKind::Malformed, fault.to_string()))
}

/// The objects of an array that we wrote, each changed.
fn each(array: &RawValue, change: fn(&JsonObject<'_>) -> Outgoing) -> Vec<Outgoing> {
    let objects: Vec<JsonObject<'_>> = serde_json::from_str(array.get()).unwrap_or_default();
    objects.iter().map(change).collect()
}

/// A message without what only Anthropic reads. Its reasoning stays where nobody signed it: it came from a provider that
/// says its own in the clear, and wants it back.
fn bare_message(message: &JsonObject<'_>) -> Outgoing {
    let is_signed = message.get("thinking_blocks").is_some();
    let mut out = Outgoing::default();
    for (name, raw) in message.members() {
        match name {
            "content" | "tool_calls" if raw.get().starts_with('[') => out.put(name, each(raw, unmarked)),
            "reasoning_content" if is_signed => {}
            _ if OF_MESSAGES.contains(&name) => {}
            _ => out.put(name, raw),
        }
    }
    out
}

fn unmarked(object: &JsonObject<'_>) -> Outgoing {
    let mut out = Outgoing::default();
    object.members().filter(|(name, _)| *name != "cache_control").for_each(|(name, raw)| out.put(name, raw));
    out
}

/// How much Anthropic's client lets the model think, as an effort. What the model decides itself, and what it does not do
/// unless asked, need not be said.
fn effort(thinking: &RawValue) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Thinking {
        budget_tokens: Option<f64>,
    }
    let budget = serde_json::from_str::<Thinking>(thinking.get()).ok()?.budget_tokens?;
    Some(match budget {
        ..=4_096.0 => "low",
        ..=16_384.0 => "medium",
        _ => "high",
    })
}

/// Refuses an object's first member that is more than a hint.
fn only_hints(to: Addressee<'_>, raw: &RawValue, param: &str, hints: &[&str]) -> Result<(), Failure> {
    let object = JsonObject::of(raw).map_err(|_| to.cannot_read(param, "an object"))?;
    match object.members().find(|(name, _)| !hints.contains(name)) {
        Some((name, _)) => Err(to.lacks(&format!("{param}.{name}"), "no such parameter, and it would be lost")),
        None => Ok(()),
    }
}

/// Options that only Ollama has.
fn options(to: Addressee<'_>, raw: &RawValue) -> Result<(), Failure> {
    let object = JsonObject::of(raw).map_err(|_| to.cannot_read("options", "an object"))?;
    for (name, value) in object.members().filter(|(name, _)| !OF_RUNNERS.contains(name)) {
        let idle = SHAPING.iter().find(|(known, _)| *known == name).map(|(_, idle)| *idle);
        let given: Option<f64> = serde_json::from_str(value.get()).ok();
        if idle.is_none() || given != idle {
            return Err(to.lacks(&format!("options.{name}"), "no such option, and it would be lost"));
        }
    }
    Ok(())
}
