//! A whole answer as Ollama's one object, and the lines that a streamed one shares with it.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::api::pieces::{Piece, Pieces, arguments_object};
use crate::chat::ChatError;
use crate::clock::{Clock, rfc3339};
use crate::message::{Completion, FinishReason, Outgoing, Usage};

/// A call whose arguments are still coming.
pub(super) struct Call {
    pub id: String,
    pub name: String,
    pub arguments: String,
}

impl Call {
    /// As Ollama has it, where arguments are an object.
    pub fn written(self) -> Result<Outgoing, ChatError> {
        let mut function = Outgoing::default();
        function.put("arguments", arguments_object(&self.name, self.arguments)?);
        function.put("name", self.name);
        let mut out = Outgoing::default();
        out.put("id", self.id);
        out.put("function", function);
        Ok(out)
    }
}

/// What a message of the assistant holds.
pub(super) fn message(content: &str, thinking: &str, calls: Vec<Outgoing>) -> Outgoing {
    let mut out = Outgoing::default();
    out.put("role", "assistant");
    out.put("content", content);
    out.put_some("thinking", (!thinking.is_empty()).then_some(thinking));
    out.put_some("tool_calls", (!calls.is_empty()).then_some(calls));
    out
}

/// A line of an answer that goes on.
pub(super) fn line(model: &str, message: Outgoing) -> Outgoing {
    let mut out = Outgoing::default();
    out.put("model", model);
    out.put("created_at", rfc3339(Clock::system().now_ms()));
    out.put("message", message);
    out
}

/// How an answer ended, and what it took.
pub(super) struct Finish {
    pub reason: Option<FinishReason>,
    pub usage: Usage,
    /// Until the first piece.
    pub first: Duration,
    /// Altogether.
    pub total: Duration,
}

impl Finish {
    /// Makes `line` the last one.
    pub fn end(&self, line: &mut Outgoing, ish: Option<String>) {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        line.put("done", true);
        line.put("done_reason", done_reason(self.reason.as_ref()));
        line.put("total_duration", nanoseconds(self.total));
        line.put("load_duration", 0);
        line.put("prompt_eval_count", self.usage.input_tokens);
        line.put("prompt_eval_duration", nanoseconds(self.first));
        line.put("eval_count", self.usage.output_tokens);
        line.put("eval_duration", nanoseconds(self.total.saturating_sub(self.first)));
        line.put_some("ish", ish.and_then(|ish| RawValue::from_string(ish).ok()));
    }
}

/// An answer that asks for tools has stopped, there.
fn done_reason(reason: Option<&FinishReason>) -> &str {
    match reason {
        None | Some(FinishReason::Stop | FinishReason::ToolCalls) => "stop",
        Some(reason) => reason.as_str(),
    }
}

/// The whole answer.
pub(super) fn whole(
    model: &str,
    completion: &Completion,
    usage: Usage,
    ish: Option<String>,
    total: Duration,
) -> Result<Outgoing, ChatError> {
    let (mut text, mut thinking, mut reason) = (String::new(), String::new(), None);
    let mut calls: Vec<(u64, Call)> = Vec::new();
    for piece in Pieces::of(completion) {
        match piece {
            Piece::Text(more) => text.push_str(&more),
            Piece::Reasoning(more) => thinking.push_str(&more),
            Piece::Call { index, id, name } => calls.push((index, Call { id, name, arguments: String::new() })),
            Piece::Arguments { index, text } => {
                if let Some((_, call)) = calls.iter_mut().find(|(known, _)| *known == index) {
                    call.arguments.push_str(&text);
                }
            }
            Piece::Finish(told) => reason = Some(told),
            Piece::Signed(_) | Piece::StopSequence(_) => {}
        }
    }
    let calls = calls.into_iter().map(|(_, call)| call.written()).collect::<Result<_, _>>()?;
    let mut out = line(model, message(&text, &thinking, calls));
    Finish { reason, usage, first: Duration::ZERO, total }.end(&mut out, ish);
    Ok(out)
}
