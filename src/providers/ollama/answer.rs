//! Ollama's answers in OpenAI's words. A whole answer and a line of a stream have one form.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::clock::new_id;
use crate::message::{Choice, Completion, Delta, FinishReason, Usage};
use crate::providers::reading::{self, EventReader, Flow, call_delta, reported, tool_call};
use crate::upstream::{Failure, FailureKind};

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default)]
    model: String,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(default)]
    done: bool,
    done_reason: Option<String>,
    prompt_eval_count: Option<u64>,
    eval_count: Option<u64>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    id: Option<String>,
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize)]
struct Function<'a> {
    name: String,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

impl Line<'_> {
    fn usage(&self) -> Option<Usage> {
        let (input, output) = (self.prompt_eval_count, self.eval_count);
        (input.is_some() || output.is_some()).then(|| Usage {
            input_tokens: input.unwrap_or(0),
            output_tokens: output.unwrap_or(0),
            ..Usage::default()
        })
    }

    /// Why it ended; `None` while it has not.
    fn finish_reason(&self, has_calls: bool) -> Option<FinishReason> {
        self.done.then(|| match self.done_reason.as_deref() {
            // Earlier versions say nothing.
            None | Some("stop") if has_calls => FinishReason::ToolCalls,
            None | Some("stop") => FinishReason::Stop,
            Some(reason) => FinishReason::parse(reason),
        })
    }

    fn failure(&self) -> Option<Failure> {
        let error = self.error.as_ref()?;
        let said = error.as_str().or_else(|| error.get("message")?.as_str());
        Some(reported(said.unwrap_or("the provider reported an error in the middle of its answer"), None))
    }
}

impl ToolCall<'_> {
    /// In OpenAI's form; a call that has no id gets one, since its result is known by it.
    fn openai(self) -> Map<String, Value> {
        let id = self.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{}", new_id().simple()));
        tool_call(&id, &self.function.name, self.function.arguments.map_or("{}", RawValue::get))
    }
}

/// A whole reply.
pub(super) fn whole(bytes: &[u8]) -> Result<Completion, Failure> {
    let mut line: Line<'_> = reading::json(bytes)?;
    if let Some(failure) = line.failure() {
        return Err(failure);
    }
    let Some(message) = line.message.take() else {
        return Err(Failure::new(FailureKind::Garbage, "the provider's answer holds no message"));
    };
    let text = message.content.unwrap_or_default();
    let calls: Vec<_> = message.tool_calls.unwrap_or_default().into_iter().map(ToolCall::openai).collect();
    let mut members = Map::new();
    members.insert("role".to_owned(), "assistant".into());
    let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { text.into() };
    members.insert("content".to_owned(), content);
    if let Some(thinking) = message.thinking.filter(|thinking| !thinking.is_empty()) {
        members.insert("reasoning_content".to_owned(), thinking.into());
    }
    let finish_reason = line.finish_reason(!calls.is_empty());
    if !calls.is_empty() {
        members.insert("tool_calls".to_owned(), json!(calls));
    }
    let choice = Choice { index: 0, message: members, finish_reason, logprobs: None };
    let usage = line.usage();
    Ok(Completion { model: line.model, choices: vec![choice], usage, extra: Map::new() })
}

/// Reads a stream.
#[derive(Default)]
pub(super) struct Reader {
    calls: usize,
}

impl EventReader for Reader {
    fn read(&mut self, event: &[u8], deltas: &mut Vec<Delta>) -> Result<Flow, Failure> {
        let mut line: Line<'_> = reading::json(event)?;
        if let Some(failure) = line.failure() {
            return Err(failure);
        }
        if let Some(message) = line.message.take() {
            let delta = Delta {
                text: message.content.unwrap_or_default(),
                reasoning: message.thinking.unwrap_or_default(),
                ..Delta::default()
            };
            if !delta.text.is_empty() || !delta.reasoning.is_empty() {
                deltas.push(delta);
            }
            for call in message.tool_calls.unwrap_or_default() {
                deltas.push(call_delta(self.calls, call.openai()));
                self.calls += 1;
            }
        }
        let Some(finish_reason) = line.finish_reason(self.calls > 0) else { return Ok(Flow::GoesOn) };
        deltas.push(Delta { finish_reason: Some(finish_reason), usage: line.usage(), ..Delta::default() });
        Ok(Flow::Ends)
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
        let mut deltas = reading::deltas(bytes, Framing::lines(), Reader::default());
        let mut assembler = Assembler::new("llama");
        while let Some(delta) = deltas.next().await {
            assembler.push(&delta?);
        }
        Ok(assembler.finish())
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    const WHOLE: &str = r#"{"model":"llama","message":{"role":"assistant","content":"Let me look.","thinking":"hm",
        "tool_calls":[{"id":"c1","function":{"name":"look","arguments":{"z": 1,"a":2}}},{"id":"c2","function":{"name":"now"}}]},
        "done":true,"done_reason":"stop","prompt_eval_count":10,"eval_count":20}"#;

    const LINES: &[&str] = &[
        r#"{"model":"llama","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}"#,
        r#"{"model":"llama","message":{"role":"assistant","content":"Let me "},"done":false}"#,
        r#"{"model":"llama","message":{"role":"assistant","content":"look."},"done":false}"#,
        r#"{"model":"llama","message":{"role":"assistant","content":"","tool_calls":[{"id":"c1","function":{"name":"look","arguments":{"z": 1,"a":2}}}]},"done":false}"#,
        r#"{"model":"llama","message":{"role":"assistant","content":"","tool_calls":[{"id":"c2","function":{"name":"now"}}]},"done":false}"#,
        r#"{"model":"llama","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":10,"eval_count":20}"#,
    ];

    #[test]
    fn the_stream_adds_up_to_the_whole_answer() {
        let whole = whole(WHOLE.as_bytes()).unwrap();
        insta::assert_snapshot!(serde_json::to_string(&whole).unwrap());
        let streamed = block_on(streamed(vec![LINES.join("\n").into()])).unwrap();
        assert_eq!(serde_json::to_value(&streamed).unwrap(), serde_json::to_value(&whole).unwrap());
    }

    #[test]
    fn a_call_without_an_id_gets_one_of_its_own() {
        let json = r#"{"message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{}}},{"function":{"name":"f","arguments":{}}}]},"done":true}"#;
        let message = whole(json.as_bytes()).unwrap().choices.remove(0).message;
        let id = |place: usize| message["tool_calls"][place]["id"].as_str().unwrap().to_owned();
        assert!(id(0).starts_with("call_") && id(0) != id(1), "{message:?}");
    }

    #[test]
    fn an_error_line_and_a_missing_end_are_failures() {
        let broken = format!("{}\n{{\"error\":\"the model is gone\"}}\n", LINES[1]);
        let failure = block_on(streamed(vec![broken.into()])).unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Reported, "the model is gone"));
        let failure = block_on(streamed(vec![LINES[..5].join("\n").into()])).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Cut);
    }

    proptest! {
        #[test]
        fn never_panics_on_arbitrary_bytes(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..6)) {
            let _ = block_on(streamed(pieces.iter().cloned().map(Bytes::from).collect()));
            let _ = whole(&pieces.concat());
        }

        /// Lines left out, doubled and in any order, damaged anywhere.
        #[test]
        fn never_panics_on_damaged_lines(order in proptest::collection::vec(0..LINES.len(), 1..12), place in 0usize..2000, byte in any::<u8>()) {
            let mut bytes = order.into_iter().map(|place| LINES[place]).collect::<Vec<_>>().join("\n").into_bytes();
            let place = place % bytes.len();
            bytes[place] = byte;
            let _ = whole(&bytes);
            let _ = block_on(streamed(vec![bytes.into()]));
        }
    }
}
