//! Gemini's answers in OpenAI's words. A whole answer and an event of a stream have one form.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::clock::new_id;
use crate::message::{Choice, Completion, Delta, FinishReason, Usage};
use crate::providers::reading::{self, EventReader, Flow, call_delta, more, reported, tool_call};
use crate::upstream::{Failure, FailureKind};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(borrow, default)]
    candidates: Vec<Candidate<'a>>,
    prompt_feedback: Option<Feedback>,
    usage_metadata: Option<Counted>,
    #[serde(default)]
    model_version: String,
    error: Option<Reported>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow, default)]
    content: Option<Content<'a>>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    parts: Vec<Part<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    text: Option<String>,
    #[serde(default)]
    thought: bool,
    thought_signature: Option<String>,
    #[serde(borrow)]
    function_call: Option<FunctionCall<'a>>,
    inline_data: Option<InlineData>,
}

#[derive(Deserialize)]
struct FunctionCall<'a> {
    id: Option<String>,
    name: String,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InlineData {
    mime_type: String,
    data: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    block_reason: Option<String>,
}

#[derive(Deserialize)]
struct Reported {
    code: Option<u16>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the wire format's own names")]
struct Counted {
    prompt_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
}

impl Counted {
    /// Gemini counts thoughts beside the answer, OpenAI within it.
    fn usage(&self) -> Usage {
        let reasoning_tokens = self.thoughts_token_count.unwrap_or(0);
        Usage {
            input_tokens: self.prompt_token_count.unwrap_or(0) + self.tool_use_prompt_token_count.unwrap_or(0),
            output_tokens: self.candidates_token_count.unwrap_or(0) + reasoning_tokens,
            cached_tokens: self.cached_content_token_count.unwrap_or(0),
            cache_write_tokens: 0,
            reasoning_tokens,
        }
    }
}

impl Answer<'_> {
    fn failure(&self) -> Option<Failure> {
        let error = self.error.as_ref()?;
        let said = error.message.as_deref();
        let kind = match error.code {
            Some(429) => FailureKind::RateLimited,
            Some(503) => FailureKind::Overloaded,
            _ => FailureKind::Reported,
        };
        let failure = reported(said.unwrap_or("the provider reported an error in the middle of its answer"), None);
        Some(Failure { kind, ..failure })
    }

    /// The prompt itself was refused: there is no candidate then.
    fn is_blocked(&self) -> bool {
        self.candidates.is_empty() && self.prompt_feedback.as_ref().is_some_and(|told| told.block_reason.is_some())
    }
}

fn finish_reason(reason: &str, has_calls: bool) -> FinishReason {
    match reason {
        "STOP" if has_calls => FinishReason::ToolCalls,
        "STOP" => FinishReason::Stop,
        "MAX_TOKENS" => FinishReason::Length,
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => FinishReason::ContentFilter,
        other => FinishReason::Other(other.to_ascii_lowercase()),
    }
}

/// A part in OpenAI's words.
enum Said {
    Text(String),
    Reasoning(String),
    Call(Map<String, Value>),
    /// An image, in the form that `images` of a message has with other gateways.
    Image(Value),
    Nothing,
}

fn said(part: Part<'_>) -> Said {
    if let Some(call) = part.function_call {
        // A call that has no id gets one, since its result is known by it.
        let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{}", new_id().simple()));
        let mut members = tool_call(&id, &call.name, call.args.map_or("{}", RawValue::get));
        if let Some(signature) = part.thought_signature {
            members.insert("extra_content".to_owned(), json!({"google": {"thought_signature": signature}}));
        }
        return Said::Call(members);
    }
    if let Some(image) = part.inline_data {
        let url = format!("data:{};base64,{}", image.mime_type, image.data);
        return Said::Image(json!({"type": "image_url", "image_url": {"url": url}}));
    }
    match part.text {
        Some(text) if part.thought => Said::Reasoning(text),
        Some(text) => Said::Text(text),
        None => Said::Nothing,
    }
}

/// A whole reply.
pub(super) fn whole(bytes: &[u8]) -> Result<Completion, Failure> {
    let answer: Answer<'_> = reading::json(bytes)?;
    if let Some(failure) = answer.failure() {
        return Err(failure);
    }
    let usage = answer.usage_metadata.as_ref().map(Counted::usage);
    if answer.is_blocked() {
        let mut blocked = Completion::of_text(&answer.model_version, "", usage);
        blocked.choices[0].finish_reason = Some(FinishReason::ContentFilter);
        return Ok(blocked);
    }
    if answer.candidates.is_empty() {
        return Err(Failure::new(FailureKind::Garbage, "the provider's answer holds no candidate"));
    }
    let mut choices: Vec<Choice> = answer.candidates.into_iter().map(choice).collect();
    choices.sort_by_key(|choice| choice.index);
    Ok(Completion { model: answer.model_version, choices, usage, extra: Map::new() })
}

fn choice(candidate: Candidate<'_>) -> Choice {
    let (mut text, mut reasoning) = (String::new(), String::new());
    let (mut calls, mut images) = (Vec::new(), Vec::new());
    for part in candidate.content.map(|content| content.parts).unwrap_or_default() {
        match said(part) {
            Said::Text(piece) => text.push_str(&piece),
            Said::Reasoning(piece) => reasoning.push_str(&piece),
            Said::Call(call) => calls.push(call),
            Said::Image(image) => images.push(image),
            Said::Nothing => {}
        }
    }
    let finish_reason = candidate.finish_reason.map(|reason| finish_reason(&reason, !calls.is_empty()));
    let mut message = Map::new();
    message.insert("role".to_owned(), "assistant".into());
    let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { text.into() };
    message.insert("content".to_owned(), content);
    if !reasoning.is_empty() {
        message.insert("reasoning_content".to_owned(), reasoning.into());
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), json!(calls));
    }
    if !images.is_empty() {
        message.insert("images".to_owned(), json!(images));
    }
    Choice { index: candidate.index, message, finish_reason, logprobs: None }
}

/// Reads a stream. It has no last event of its own: it ends with its bytes.
#[derive(Default)]
pub(super) struct Reader {
    calls: usize,
}

impl EventReader for Reader {
    fn read(&mut self, event: &[u8], deltas: &mut Vec<Delta>) -> Result<Flow, Failure> {
        let answer: Answer<'_> = reading::json(event)?;
        if let Some(failure) = answer.failure() {
            return Err(failure);
        }
        let usage = answer.usage_metadata.as_ref().map(Counted::usage);
        if answer.is_blocked() {
            deltas.push(Delta { finish_reason: Some(FinishReason::ContentFilter), usage, ..Delta::default() });
            return Ok(Flow::Ends);
        }
        let Some(candidate) = answer.candidates.into_iter().find(|candidate| candidate.index == 0) else {
            return Ok(Flow::GoesOn);
        };
        for part in candidate.content.map(|content| content.parts).unwrap_or_default() {
            match said(part) {
                Said::Text(text) if !text.is_empty() => deltas.push(Delta { text, ..Delta::default() }),
                Said::Reasoning(reasoning) => deltas.push(Delta { reasoning, ..Delta::default() }),
                Said::Call(call) => {
                    deltas.push(call_delta(self.calls, call));
                    self.calls += 1;
                }
                Said::Image(image) => deltas.push(more("images", json!([image]))),
                Said::Text(_) | Said::Nothing => {}
            }
        }
        if let Some(reason) = candidate.finish_reason {
            let finish_reason = Some(finish_reason(&reason, self.calls > 0));
            deltas.push(Delta { finish_reason, usage, ..Delta::default() });
        }
        Ok(Flow::GoesOn)
    }
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
        let mut assembler = Assembler::new("gemini");
        while let Some(delta) = deltas.next().await {
            assembler.push(&delta?);
        }
        Ok(assembler.finish())
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    const WHOLE: &str = r#"{"candidates":[{"content":{"role":"model","parts":[
        {"text":"hm","thought":true},{"text":"Let me look."},
        {"functionCall":{"id":"c1","name":"look","args":{"z": 1,"a":2}},"thoughtSignature":"sig"},{"functionCall":{"id":"c2","name":"now"}},
        {"inlineData":{"mimeType":"image/png","data":"AAAA"}}]},"finishReason":"STOP","index":0}],
        "usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":18,"thoughtsTokenCount":2,"cachedContentTokenCount":4,"totalTokenCount":30},
        "modelVersion":"gemini","responseId":"r"}"#;

    const EVENTS: &[&str] = &[
        r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"hm","thought":true}]}}],"usageMetadata":{"promptTokenCount":10},"modelVersion":"gemini"}"#,
        r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"Let me "}]},"index":0}]}"#,
        r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"look."}]},"index":0}]}"#,
        r#"{"candidates":[{"content":{"role":"model","parts":[{"functionCall":{"id":"c1","name":"look","args":{"z": 1,"a":2}},"thoughtSignature":"sig"},{"functionCall":{"id":"c2","name":"now"}}]},"index":0}]}"#,
        r#"{"candidates":[{"content":{"role":"model","parts":[{"inlineData":{"mimeType":"image/png","data":"AAAA"}}]},"index":0}]}"#,
        r#"{"candidates":[{"content":{"role":"model","parts":[{"text":""}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":18,"thoughtsTokenCount":2,"cachedContentTokenCount":4}}"#,
    ];

    fn sse(events: &[&str]) -> String {
        events.iter().map(|event| format!("data: {event}\r\n\r\n")).collect::<Vec<_>>().concat()
    }

    #[test]
    fn the_stream_adds_up_to_the_whole_answer() {
        let whole = whole(WHOLE.as_bytes()).unwrap();
        insta::assert_snapshot!(serde_json::to_string(&whole).unwrap());
        let streamed = block_on(streamed(vec![sse(EVENTS).into()])).unwrap();
        assert_eq!(serde_json::to_value(&streamed).unwrap(), serde_json::to_value(&whole).unwrap());
    }

    #[test]
    fn a_refused_prompt_is_a_filtered_answer() {
        let blocked = r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":3}}"#;
        let whole = whole(blocked.as_bytes()).unwrap();
        let streamed = block_on(streamed(vec![sse(&[blocked]).into()])).unwrap();
        for answer in [whole, streamed] {
            assert_eq!((answer.finish_reason(), answer.text()), (Some(&FinishReason::ContentFilter), ""));
            assert_eq!(answer.usage.unwrap().input_tokens, 3);
        }
    }

    #[test]
    fn finish_reasons_have_openais_names() {
        let names = ["STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "MALFORMED_FUNCTION_CALL"];
        let named = names.map(|reason| finish_reason(reason, false).as_str().to_owned());
        assert_eq!(named, ["stop", "length", "content_filter", "content_filter", "malformed_function_call"]);
        assert_eq!(finish_reason("STOP", true), FinishReason::ToolCalls);
    }

    #[test]
    fn an_error_event_and_a_missing_end_are_failures() {
        let error = r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#;
        let failure = block_on(streamed(vec![sse(&[EVENTS[1], error]).into()])).unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Overloaded, "The model is overloaded."));
        let failure = block_on(streamed(vec![sse(&EVENTS[..3]).into()])).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Cut);
    }

    proptest! {
        #[test]
        fn never_panics_on_arbitrary_bytes(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..6)) {
            let _ = block_on(streamed(pieces.iter().cloned().map(Bytes::from).collect()));
            let _ = whole(&pieces.concat());
        }

        /// Events left out, doubled and in any order, damaged anywhere.
        #[test]
        fn never_panics_on_damaged_events(order in proptest::collection::vec(0..EVENTS.len(), 1..12), place in 0usize..3000, byte in any::<u8>()) {
            let events: Vec<&str> = order.into_iter().map(|place| EVENTS[place]).collect();
            let mut bytes = sse(&events).into_bytes();
            let place = place % bytes.len();
            bytes[place] = byte;
            let _ = whole(&bytes);
            let _ = block_on(streamed(vec![bytes.into()]));
        }
    }
}
