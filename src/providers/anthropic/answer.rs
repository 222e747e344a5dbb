//! Anthropic's answers in OpenAI's words: content blocks become text, `reasoning_content`, `thinking_blocks` and
//! `tool_calls`; stop reasons become finish reasons; the prompt cache's counts are part of the input's.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::message::{Choice, Completion, Delta, FinishReason, Usage};
use crate::providers::reading::{self, EventReader, Flow, call_delta, more, tool_call};
use crate::upstream::{Failure, FailureKind};

#[derive(Deserialize, Default, Clone, Copy)]
struct Counted {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize, Default, Clone, Copy)]
struct OutputDetails {
    thinking_tokens: Option<u64>,
}

impl Counted {
    /// What is told later stands, the rest stays.
    fn update(&mut self, newer: Self) {
        self.input_tokens = newer.input_tokens.or(self.input_tokens);
        self.output_tokens = newer.output_tokens.or(self.output_tokens);
        self.cache_read_input_tokens = newer.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation_input_tokens = newer.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.output_tokens_details = newer.output_tokens_details.or(self.output_tokens_details);
    }

    /// Anthropic counts what its cache read and wrote beside the input, OpenAI within it.
    fn usage(&self) -> Option<Usage> {
        if self.input_tokens.is_none() && self.output_tokens.is_none() {
            return None;
        }
        let cached_tokens = self.cache_read_input_tokens.unwrap_or(0);
        let cache_write_tokens = self.cache_creation_input_tokens.unwrap_or(0);
        Some(Usage {
            input_tokens: self.input_tokens.unwrap_or(0) + cached_tokens + cache_write_tokens,
            output_tokens: self.output_tokens.unwrap_or(0),
            cached_tokens,
            cache_write_tokens,
            reasoning_tokens: self.output_tokens_details.and_then(|details| details.thinking_tokens).unwrap_or(0),
        })
    }
}

fn finish_reason(stop_reason: &str) -> FinishReason {
    match stop_reason {
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::ContentFilter,
        other => FinishReason::Other(other.to_owned()),
    }
}

#[derive(Deserialize, Default)]
struct Block<'a> {
    #[serde(default)]
    r#type: Cow<'a, str>,
    text: Option<String>,
    thinking: Option<String>,
    id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

/// A whole reply.
pub(super) fn whole(bytes: &[u8]) -> Result<Completion, Failure> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(default)]
        model: String,
        #[serde(borrow)]
        content: Vec<&'a RawValue>,
        stop_reason: Option<String>,
        stop_sequence: Option<String>,
        usage: Option<Counted>,
    }
    let message: Message<'_> = reading::json(bytes)?;
    let (mut text, mut reasoning) = (String::new(), String::new());
    let (mut signed, mut calls) = (Vec::<Value>::new(), Vec::new());
    for raw in message.content {
        let block: Block<'_> = reading::json(raw.get().as_bytes())?;
        match block.r#type.as_ref() {
            "text" => text.push_str(&block.text.unwrap_or_default()),
            "thinking" | "redacted_thinking" => {
                reasoning.push_str(&block.thinking.unwrap_or_default());
                signed.push(reading::json(raw.get().as_bytes())?);
            }
            "tool_use" => {
                let arguments = block.input.map_or("{}", RawValue::get);
                calls.push(tool_call(&block.id.unwrap_or_default(), &block.name.unwrap_or_default(), arguments));
            }
            _ => {}
        }
    }
    let mut members = Map::new();
    members.insert("role".to_owned(), "assistant".into());
    let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { text.into() };
    members.insert("content".to_owned(), content);
    if !reasoning.is_empty() {
        members.insert("reasoning_content".to_owned(), reasoning.into());
    }
    if !signed.is_empty() {
        members.insert("thinking_blocks".to_owned(), signed.into());
    }
    if !calls.is_empty() {
        members.insert("tool_calls".to_owned(), json!(calls));
    }
    if let Some(text) = message.stop_sequence {
        members.insert("stop_sequence".to_owned(), text.into());
    }
    let finish_reason = message.stop_reason.as_deref().map(finish_reason);
    let choice = Choice { index: 0, message: members, finish_reason, logprobs: None };
    let usage = message.usage.and_then(|counted| counted.usage());
    Ok(Completion { model: message.model, choices: vec![choice], usage, extra: Map::new() })
}

#[derive(Deserialize)]
struct Event<'a> {
    r#type: Cow<'a, str>,
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delta: Option<EventDelta<'a>>,
    message: Option<Begun>,
    usage: Option<Counted>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Begun {
    usage: Option<Counted>,
}

#[derive(Deserialize, Default)]
struct EventDelta<'a> {
    #[serde(default)]
    r#type: Cow<'a, str>,
    text: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    partial_json: Option<String>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
}

/// A content block that is being written.
enum Open {
    /// A tool call: its place among the calls, and whether any argument has come.
    Call { place: usize, has_arguments: bool },
    /// Reasoning, to be handed out once it is signed.
    Thinking { text: String, signature: String },
}

/// Reads a stream.
#[derive(Default)]
pub(super) struct Reader {
    counted: Counted,
    calls: usize,
    open: HashMap<u64, Open>,
}

impl EventReader for Reader {
    fn read(&mut self, event: &[u8], deltas: &mut Vec<Delta>) -> Result<Flow, Failure> {
        let event: Event<'_> = reading::json(event)?;
        match event.r#type.as_ref() {
            "message_start" => self.counted.update(event.message.and_then(|begun| begun.usage).unwrap_or_default()),
            "content_block_start" => {
                if let Some(raw) = event.content_block {
                    self.begin(event.index, raw, deltas)?;
                }
            }
            "content_block_delta" => {
                if let Some(delta) = event.delta {
                    self.grow(event.index, delta, deltas);
                }
            }
            "content_block_stop" => self.end(event.index, deltas),
            "message_delta" => {
                self.counted.update(event.usage.unwrap_or_default());
                let delta = event.delta.unwrap_or_default();
                deltas.extend(delta.stop_sequence.map(|text| more("stop_sequence", text.into())));
                let reason = delta.stop_reason;
                let finish_reason = reason.as_deref().map(finish_reason);
                deltas.push(Delta { finish_reason, usage: self.counted.usage(), ..Delta::default() });
            }
            "message_stop" => return Ok(Flow::Ends),
            "error" => return Err(failed(event.error)),
            // `ping`, and whatever comes to be said later.
            _ => {}
        }
        Ok(Flow::GoesOn)
    }
}

impl Reader {
    fn begin(&mut self, index: u64, raw: &RawValue, deltas: &mut Vec<Delta>) -> Result<(), Failure> {
        let block: Block<'_> = reading::json(raw.get().as_bytes())?;
        match block.r#type.as_ref() {
            "text" => deltas.extend(block.text.filter(|text| !text.is_empty()).map(text)),
            "thinking" => {
                let text = block.thinking.unwrap_or_default();
                self.open.insert(index, Open::Thinking { text, signature: String::new() });
            }
            "redacted_thinking" => {
                let block: Value = reading::json(raw.get().as_bytes())?;
                deltas.push(more("thinking_blocks", json!([block])));
            }
            "tool_use" => {
                let arguments = block.input.map(RawValue::get).filter(|input| input.len() > 2).unwrap_or_default();
                let head = tool_call(&block.id.unwrap_or_default(), &block.name.unwrap_or_default(), arguments);
                deltas.push(call_delta(self.calls, head));
                self.open.insert(index, Open::Call { place: self.calls, has_arguments: !arguments.is_empty() });
                self.calls += 1;
            }
            _ => {}
        }
        Ok(())
    }

    fn grow(&mut self, index: u64, delta: EventDelta<'_>, deltas: &mut Vec<Delta>) {
        match (delta.r#type.as_ref(), self.open.get_mut(&index)) {
            ("text_delta", _) => deltas.extend(delta.text.map(text)),
            ("thinking_delta", open) => {
                let piece = delta.thinking.unwrap_or_default();
                if let Some(Open::Thinking { text, .. }) = open {
                    text.push_str(&piece);
                }
                deltas.push(Delta { reasoning: piece, ..Delta::default() });
            }
            ("signature_delta", Some(Open::Thinking { signature, .. })) => {
                signature.push_str(&delta.signature.unwrap_or_default());
            }
            ("input_json_delta", Some(Open::Call { place, has_arguments })) => {
                let piece = delta.partial_json.unwrap_or_default();
                if !piece.is_empty() {
                    *has_arguments = true;
                    deltas.push(arguments(*place, &piece));
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, index: u64, deltas: &mut Vec<Delta>) {
        match self.open.remove(&index) {
            // A call without arguments has an empty object of them, which OpenAI's clients want to read.
            Some(Open::Call { place, has_arguments: false }) => deltas.push(arguments(place, "{}")),
            Some(Open::Thinking { text, signature }) => {
                let block = json!({"type": "thinking", "thinking": text, "signature": signature});
                deltas.push(more("thinking_blocks", json!([block])));
            }
            _ => {}
        }
    }
}

fn text(text: String) -> Delta {
    Delta { text, ..Delta::default() }
}

fn arguments(place: usize, piece: &str) -> Delta {
    let function = json!({"arguments": piece});
    call_delta(place, std::iter::once(("function".to_owned(), function)).collect())
}

fn failed(error: Option<Value>) -> Failure {
    let error = error.unwrap_or_default();
    let message = error.get("message").and_then(Value::as_str);
    let message = message.unwrap_or("the provider reported an error in the middle of its answer").to_owned();
    let kind = match error.get("type").and_then(Value::as_str) {
        Some("overloaded_error") => FailureKind::Overloaded,
        Some("rate_limit_error") => FailureKind::RateLimited,
        _ => FailureKind::Reported,
    };
    Failure { error: Some(error), ..Failure::new(kind, message) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::StreamExt;
    use proptest::prelude::*;

    use super::*;
    use crate::message::Assembler;
    use crate::providers::reading::Framing;

    async fn streamed(pieces: Vec<Bytes>) -> Result<Completion, Failure> {
        let bytes = futures_util::stream::iter(pieces.into_iter().map(Ok));
        let mut deltas = reading::deltas(bytes, Framing::events(), Reader::default());
        let mut assembler = Assembler::new("claude");
        while let Some(delta) = deltas.next().await {
            assembler.push(&delta?);
        }
        Ok(assembler.finish())
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    const WHOLE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[
        {"type":"thinking","thinking":"hm","signature":"sig"},{"type":"redacted_thinking","data":"xyz"},
        {"type":"text","text":"Let me look."},
        {"type":"tool_use","id":"toolu_1","name":"look","input":{"z": 1,"a":2}},{"type":"tool_use","id":"toolu_2","name":"now","input":{}}],
        "stop_reason":"tool_use","stop_sequence":null,
        "usage":{"input_tokens":10,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"output_tokens":20,"output_tokens_details":{"thinking_tokens":2}}}"#;

    const EVENTS: &[&str] = &[
        r#"{"type":"message_start","message":{"id":"msg_1","model":"claude","content":[],"usage":{"input_tokens":10,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"sig"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"xyz"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Let me "}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"look."}}"#,
        r#"{"type":"content_block_stop","index":2}"#,
        r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_1","name":"look","input":{}}}"#,
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"z\": 1,"}}"#,
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"\"a\":2}"}}"#,
        r#"{"type":"content_block_stop","index":3}"#,
        r#"{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"toolu_2","name":"now","input":{}}}"#,
        r#"{"type":"content_block_stop","index":4}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":20,"output_tokens_details":{"thinking_tokens":2}}}"#,
        r#"{"type":"message_stop"}"#,
    ];

    fn sse(events: &[&str]) -> String {
        events.iter().map(|event| format!("event: x\ndata: {event}\n\n")).collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_whole_answer_keeps_every_part() {
        let whole = whole(WHOLE.as_bytes()).unwrap();
        insta::assert_snapshot!(serde_json::to_string(&whole).unwrap());
    }

    #[test]
    fn the_stream_adds_up_to_the_whole_answer() {
        let streamed = block_on(streamed(vec![sse(EVENTS).into()])).unwrap();
        let whole = whole(WHOLE.as_bytes()).unwrap();
        assert_eq!(serde_json::to_value(&streamed).unwrap(), serde_json::to_value(&whole).unwrap());
    }

    #[test]
    fn stop_reasons_have_openais_names() {
        let named = ["end_turn", "stop_sequence", "max_tokens", "tool_use", "refusal", "pause_turn"].map(finish_reason);
        let named: Vec<&str> = named.iter().map(FinishReason::as_str).collect();
        assert_eq!(named, ["stop", "stop", "length", "tool_calls", "content_filter", "pause_turn"]);
    }

    #[test]
    fn an_error_after_the_beginning_is_a_failure_by_its_kind() {
        let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        let failure = block_on(streamed(vec![sse(&[EVENTS[0], overloaded]).into()])).unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Overloaded, "Overloaded"));
        let failure = block_on(streamed(vec![sse(&EVENTS[..12]).into()])).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Cut);
    }

    proptest! {
        #[test]
        fn never_panics_on_arbitrary_bytes(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..6)) {
            let _ = block_on(streamed(pieces.into_iter().map(Bytes::from).collect()));
        }

        /// Events left out, doubled and in any order, and cut anywhere.
        #[test]
        fn never_panics_on_events_out_of_order(order in proptest::collection::vec(0..EVENTS.len(), 0..30), cut in 0usize..4000) {
            let events: Vec<&str> = order.into_iter().map(|place| EVENTS[place]).collect();
            let mut bytes = Bytes::from(sse(&events));
            let rest = bytes.split_off(cut.min(bytes.len()));
            let _ = block_on(streamed(vec![bytes, rest]));
        }

        #[test]
        fn a_whole_answer_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), place in 0usize..400, byte in any::<u8>()) {
            let _ = whole(&bytes);
            let mut damaged = WHOLE.as_bytes().to_vec();
            let place = place % damaged.len();
            damaged[place] = byte;
            let _ = whole(&damaged);
        }
    }
}
