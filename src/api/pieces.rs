//! An answer in pieces that every dialect but OpenAI's is written from, whether it comes as OpenAI's chunks, as another
//! provider's deltas, or whole.

use std::collections::HashSet;

use memchr::memmem;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::chat::ChatError;
use crate::clock::new_id;
use crate::message::{Completion, Delta, FinishReason};
use crate::upstream::{Failure, FailureKind};

/// A piece.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    /// Text of the answer.
    Text(String),
    /// Text of the reasoning before it.
    Reasoning(String),
    /// A block of reasoning as Anthropic signed it. Its text came as [`Piece::Reasoning`].
    Signed(Map<String, Value>),
    /// A call of a function begins.
    Call { index: u64, id: String, name: String },
    /// A fragment of a call's arguments.
    Arguments { index: u64, text: String },
    /// The stop sequence that ended the answer.
    StopSequence(String),
    /// Why it ended.
    Finish(FinishReason),
}

/// Reads them from an answer's deltas, in order.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    begun: HashSet<u64>,
}

impl Pieces {
    /// All of a whole answer's.
    pub fn of(completion: &Completion) -> Vec<Piece> {
        let mut pieces = Vec::new();
        Self::default().whole(completion, &mut pieces);
        pieces
    }

    /// Those of one delta.
    pub fn read(&mut self, delta: &Delta) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if let Some(whole) = &delta.whole {
            self.whole(whole, &mut pieces);
            return pieces;
        }
        if let Some(members) = delta.raw.as_deref().filter(|raw| is_rich(raw)).and_then(first_choice) {
            self.members(members, &mut pieces);
        } else {
            pieces.extend((!delta.reasoning.is_empty()).then(|| Piece::Reasoning(delta.reasoning.clone())));
            pieces.extend((!delta.text.is_empty()).then(|| Piece::Text(delta.text.clone())));
        }
        if let Some(more) = &delta.more {
            self.members(*more.clone(), &mut pieces);
        }
        pieces.extend(delta.finish_reason.clone().map(Piece::Finish));
        pieces
    }

    fn whole(&mut self, completion: &Completion, pieces: &mut Vec<Piece>) {
        let Some(choice) = completion.choices.first() else { return };
        let mut message = choice.message.clone();
        if let Some(Value::Array(blocks)) = message.get("thinking_blocks")
            && !blocks.is_empty()
        {
            // Each block's own text, so that each is signed for itself.
            let texts = blocks.iter().map(|block| block["thinking"].as_str().unwrap_or_default().to_owned());
            let texts: Vec<String> = texts.collect();
            let Some(Value::Array(blocks)) = message.remove("thinking_blocks") else { return };
            message.remove("reasoning_content");
            for (text, block) in texts.into_iter().zip(blocks) {
                pieces.extend((!text.is_empty()).then_some(Piece::Reasoning(text)));
                pieces.extend(signed(block));
            }
        }
        self.members(message, pieces);
        pieces.extend(choice.finish_reason.clone().map(Piece::Finish));
    }

    /// The members of a message, or of a delta of one.
    fn members(&mut self, mut members: Map<String, Value>, pieces: &mut Vec<Piece>) {
        let mut text = |name: &str| match members.remove(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        let reasoning = text("reasoning_content").or_else(|| text("reasoning"));
        let (said, refused, stop) = (text("content"), text("refusal"), text("stop_sequence"));
        pieces.extend(reasoning.map(Piece::Reasoning));
        if let Some(Value::Array(blocks)) = members.remove("thinking_blocks") {
            pieces.extend(blocks.into_iter().filter_map(signed));
        }
        pieces.extend(said.map(Piece::Text));
        pieces.extend(refused.map(Piece::Text));
        if let Some(Value::Array(calls)) = members.remove("tool_calls") {
            for (place, call) in calls.iter().enumerate() {
                self.call(place as u64, call, pieces);
            }
        }
        pieces.extend(stop.map(Piece::StopSequence));
    }

    fn call(&mut self, place: u64, call: &Value, pieces: &mut Vec<Piece>) {
        let index = call.get("index").and_then(Value::as_u64).unwrap_or(place);
        if self.begun.insert(index) {
            let id = call["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
            let id = id.unwrap_or_else(|| format!("call_{}", new_id().simple()));
            let name = call["function"]["name"].as_str().unwrap_or_default().to_owned();
            pieces.push(Piece::Call { index, id, name });
        }
        if let Some(text) = call["function"]["arguments"].as_str().filter(|text| !text.is_empty()) {
            pieces.push(Piece::Arguments { index, text: text.to_owned() });
        }
    }
}

/// Whether a chunk may hold more than text and reasoning, which were read from it before.
fn is_rich(raw: &[u8]) -> bool {
    ["\"tool_calls\"", "\"refusal\"", "\"thinking_blocks\""]
        .iter()
        .any(|name| memmem::find(raw, name.as_bytes()).is_some())
}

fn first_choice(raw: &[u8]) -> Option<Map<String, Value>> {
    let mut chunk: Value = serde_json::from_slice(raw).ok()?;
    let choices = chunk.get_mut("choices")?.as_array_mut()?;
    let first = choices.iter_mut().find(|choice| choice["index"].as_u64().unwrap_or(0) == 0)?;
    match first.get_mut("delta")?.take() {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

fn signed(block: Value) -> Option<Piece> {
    match block {
        Value::Object(block) => Some(Piece::Signed(block)),
        _ => None,
    }
}

/// The arguments of a call as the object that they must be.
pub(super) fn arguments_object(name: &str, arguments: String) -> Result<Box<RawValue>, ChatError> {
    let text = if arguments.trim().is_empty() { "{}".to_owned() } else { arguments };
    let input = RawValue::from_string(text).ok().filter(|raw| raw.get().trim_start().starts_with('{'));
    input.ok_or_else(|| {
        let message = format!("the model's arguments for `{name}` are not the JSON object that they should be");
        Failure::new(FailureKind::Garbage, message).into()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::message::Assembler;

    fn chunk(delta: &Value) -> Delta {
        let raw = json!({"choices": [{"index": 0, "delta": delta}]}).to_string();
        Delta { raw: Some(Bytes::from(raw)), ..Delta::default() }
    }

    /// What the pieces say: text, reasoning, and each call's id, name and arguments.
    fn told(pieces: &[Piece]) -> (String, String, Vec<(String, String, String)>) {
        let (mut text, mut reasoning, mut calls) = (String::new(), String::new(), Vec::new());
        let mut places = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Reasoning(piece) => reasoning.push_str(piece),
                Piece::Call { index, id, name } => {
                    places.push(*index);
                    calls.push((id.clone(), name.clone(), String::new()));
                }
                Piece::Arguments { index, text } => {
                    calls[places.iter().position(|place| place == index).unwrap()].2.push_str(text);
                }
                Piece::Signed(_) | Piece::StopSequence(_) | Piece::Finish(_) => {}
            }
        }
        (text, reasoning, calls)
    }

    #[test]
    fn a_repeated_name_begins_no_second_call() {
        let mut pieces = Pieces::default();
        let fragment = |arguments: &str| {
            chunk(&json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": arguments}}]}))
        };
        let all = [pieces.read(&fragment("{\"a\"")), pieces.read(&fragment(":1}"))].concat();
        assert_eq!(told(&all).2, [("c".to_owned(), "f".to_owned(), "{\"a\":1}".to_owned())]);
    }

    #[test]
    fn each_signed_block_of_a_whole_answer_follows_its_own_text() {
        let message = json!({"role": "assistant", "content": "x", "reasoning_content": "ab", "thinking_blocks": [
            {"type": "thinking", "thinking": "a", "signature": "1"}, {"type": "redacted_thinking", "data": "r"},
            {"type": "thinking", "thinking": "b", "signature": "2"}]});
        let body = json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).to_string();
        let pieces = Pieces::of(&Completion::from_openai(body.as_bytes()).unwrap());
        let kinds: Vec<&str> = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Reasoning(text) => text,
                Piece::Signed(block) => block["type"].as_str().unwrap(),
                Piece::Text(_) => "text",
                _ => "end",
            })
            .collect();
        assert_eq!(kinds, ["a", "thinking", "redacted_thinking", "b", "thinking", "text", "end"]);
    }

    proptest! {
        /// However an answer is cut into chunks, its pieces say what the assembled whole says.
        #[test]
        fn pieces_of_chunks_and_of_the_whole_say_the_same(
            texts in proptest::collection::vec(".{0,6}", 0..5),
            thoughts in proptest::collection::vec(".{0,6}", 0..3),
            calls in proptest::collection::vec(proptest::collection::vec("[a-z\"{}:]{0,5}", 0..4), 0..3),
        ) {
            let mut chunks: Vec<Delta> = Vec::new();
            let spoken = |name: &str, text: &String| {
                let delta = chunk(&json!({name: text}));
                if name == "content" { Delta { text: text.clone(), ..delta } } else { Delta { reasoning: text.clone(), ..delta } }
            };
            chunks.extend(thoughts.iter().map(|text| spoken("reasoning_content", text)));
            chunks.extend(texts.iter().map(|text| spoken("content", text)));
            for (index, fragments) in calls.iter().enumerate() {
                let head = json!({"index": index, "id": format!("c{index}"), "type": "function", "function": {"name": "f", "arguments": ""}});
                chunks.push(chunk(&json!({"tool_calls": [head]})));
                for fragment in fragments {
                    chunks.push(chunk(&json!({"tool_calls": [{"index": index, "function": {"arguments": fragment}}]})));
                }
            }
            let mut assembler = Assembler::new("m");
            let mut pieces = Pieces::default();
            let mut streamed = Vec::new();
            for delta in &chunks {
                assembler.push(delta);
                streamed.extend(pieces.read(delta));
            }
            let completion = Arc::new(assembler.finish());
            prop_assert_eq!(told(&streamed), told(&Pieces::of(&completion)));
            prop_assert_eq!(told(&Pieces::default().read(&completion.as_delta())), told(&streamed));
        }

        #[test]
        fn never_panics_on_arbitrary_chunks(text in r#"\{"choices":\[\{"delta":\{"(tool_calls|refusal)":.{0,40}"#) {
            let delta = Delta { raw: Some(Bytes::from(text)), ..Delta::default() };
            let _ = Pieces::default().read(&delta);
        }
    }
}
