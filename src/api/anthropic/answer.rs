//! A whole answer as a message of Anthropic's, and the words that a streamed one shares with it.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::api::pieces::{Piece, Pieces, arguments_object};
use crate::chat::ChatError;
use crate::clock::new_id;
use crate::message::{Completion, FinishReason, Outgoing, Usage};

/// Why the model stopped, as far as it has been told.
#[derive(Debug, Default)]
pub(super) struct Stop {
    pub reason: Option<FinishReason>,
    /// The stop sequence that it met.
    pub sequence: Option<String>,
    /// Whether it asks for tools, whatever reason the provider gave.
    pub calls: bool,
}

impl Stop {
    /// In Anthropic's words.
    pub fn word(&self) -> &str {
        match &self.reason {
            Some(FinishReason::Length) => "max_tokens",
            Some(FinishReason::ContentFilter) => "refusal",
            Some(FinishReason::Other(word)) => word,
            Some(FinishReason::ToolCalls) => "tool_use",
            Some(FinishReason::Stop) | None if self.calls => "tool_use",
            Some(FinishReason::Stop) | None if self.sequence.is_some() => "stop_sequence",
            Some(FinishReason::Stop) | None => "end_turn",
        }
    }
}

/// What a message says of itself before its content.
pub(super) fn head(model: &str) -> Outgoing {
    let mut out = Outgoing::default();
    out.put("id", format!("msg_{}", new_id().simple()));
    out.put("type", "message");
    out.put("role", "assistant");
    out.put("model", model);
    out
}

/// Anthropic counts what a prompt cache read and wrote beside the input, OpenAI within it.
pub(super) fn usage_object(usage: Usage) -> Value {
    let input_tokens = usage.input_tokens.saturating_sub(usage.cached_tokens + usage.cache_write_tokens);
    let mut object = json!({
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    });
    if usage.reasoning_tokens > 0 {
        object["output_tokens_details"] = json!({"thinking_tokens": usage.reasoning_tokens});
    }
    object
}

/// The message.
pub(super) fn whole(
    model: &str,
    completion: &Completion,
    usage: Usage,
    ish: Option<String>,
) -> Result<Outgoing, ChatError> {
    let mut blocks = Blocks::default();
    for piece in Pieces::of(completion) {
        blocks.push(piece);
    }
    let stop = std::mem::take(&mut blocks.stop);
    let mut out = head(model);
    out.put("content", blocks.written()?);
    out.put("stop_reason", stop.word());
    out.put("stop_sequence", &stop.sequence);
    out.put("usage", usage_object(usage));
    out.put_some("ish", ish.and_then(|ish| RawValue::from_string(ish).ok()));
    Ok(out)
}

/// The content, growing.
#[derive(Default)]
struct Blocks {
    blocks: Vec<Block>,
    stop: Stop,
}

enum Block {
    Text(String),
    Thinking(String),
    Signed(Map<String, Value>),
    Call { index: u64, id: String, name: String, arguments: String },
}

impl Blocks {
    fn push(&mut self, piece: Piece) {
        match (piece, self.blocks.last_mut()) {
            (Piece::Text(more), Some(Block::Text(text))) | (Piece::Reasoning(more), Some(Block::Thinking(text))) => {
                text.push_str(&more);
            }
            (Piece::Text(text), _) => self.blocks.push(Block::Text(text)),
            (Piece::Reasoning(text), _) => self.blocks.push(Block::Thinking(text)),
            (Piece::Signed(block), last) => {
                if block.get("type").is_some_and(|kind| kind == "thinking") && matches!(last, Some(Block::Thinking(_)))
                {
                    self.blocks.pop();
                }
                self.blocks.push(Block::Signed(block));
            }
            (Piece::Call { index, id, name }, _) => {
                self.stop.calls = true;
                self.blocks.push(Block::Call { index, id, name, arguments: String::new() });
            }
            (Piece::Arguments { index: wanted, text }, _) => {
                let calls = self.blocks.iter_mut().filter_map(|block| match block {
                    Block::Call { index, arguments, .. } if *index == wanted => Some(arguments),
                    _ => None,
                });
                calls.last().into_iter().for_each(|arguments| arguments.push_str(&text));
            }
            (Piece::StopSequence(text), _) => self.stop.sequence = Some(text),
            (Piece::Finish(reason), _) => self.stop.reason = Some(reason),
        }
    }

    fn written(self) -> Result<Vec<Outgoing>, ChatError> {
        self.blocks.into_iter().map(Block::written).collect()
    }
}

impl Block {
    fn written(self) -> Result<Outgoing, ChatError> {
        let mut out = Outgoing::default();
        match self {
            Self::Text(text) => {
                out.put("type", "text");
                out.put("text", text);
            }
            // Nobody signed it, and nobody but Anthropic's provider asks for a signature.
            Self::Thinking(text) => {
                out.put("type", "thinking");
                out.put("thinking", text);
                out.put("signature", "");
            }
            Self::Signed(block) => {
                for (name, value) in block {
                    out.put(&name, value);
                }
            }
            Self::Call { id, name, arguments, .. } => {
                out.put("type", "tool_use");
                out.put("id", id);
                out.put("name", &name);
                out.put("input", arguments_object(&name, arguments)?);
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(message: &Value, finish_reason: &str) -> Result<Value, String> {
        let body = json!({"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}).to_string();
        let completion = Completion::from_openai(body.as_bytes()).unwrap();
        let usage =
            Usage { input_tokens: 10, output_tokens: 5, cached_tokens: 3, cache_write_tokens: 2, reasoning_tokens: 1 };
        let message = whole("m", &completion, usage, None).map_err(|error| error.to_string())?;
        Ok(serde_json::from_slice(&message.bytes()).unwrap())
    }

    #[test]
    fn every_part_of_an_answer_has_its_block() {
        let message = json!({"role": "assistant", "content": "Let me look.", "reasoning_content": "hm",
            "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}],
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"z\":1}"}},
                {"id": "c2", "type": "function", "function": {"name": "now", "arguments": ""}}]});
        let mut told = written(&message, "tool_calls").unwrap();
        assert!(told["id"].as_str().unwrap().starts_with("msg_"));
        told["id"] = "msg_1".into();
        assert_eq!(
            told,
            json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "c1", "name": "look", "input": {"z": 1}},
                {"type": "tool_use", "id": "c2", "name": "now", "input": {}},
            ], "stop_reason": "tool_use", "stop_sequence": null, "usage": {"input_tokens": 5, "cache_read_input_tokens": 3,
                "cache_creation_input_tokens": 2, "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 1}}})
        );
    }

    #[test]
    fn reasons_to_stop_have_anthropics_words() {
        for (reason, word) in [
            ("stop", "end_turn"),
            ("length", "max_tokens"),
            ("content_filter", "refusal"),
            ("tool_calls", "tool_use"),
            ("pause_turn", "pause_turn"),
        ] {
            assert_eq!(written(&json!({"content": "x"}), reason).unwrap()["stop_reason"], word);
        }
        let told = written(&json!({"content": "x", "stop_sequence": "END"}), "stop").unwrap();
        assert_eq!((&told["stop_reason"], &told["stop_sequence"]), (&json!("stop_sequence"), &json!("END")));
    }

    #[test]
    fn arguments_that_are_no_object_are_the_providers_fault() {
        let call = json!({"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "[1"}}]});
        assert!(written(&call, "tool_calls").is_err());
    }
}
