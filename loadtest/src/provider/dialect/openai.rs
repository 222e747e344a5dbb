//! Writes an [`Answer`] in `OpenAI`'s format: one JSON object, or the data of the stream's chunks.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Event, Events};
use crate::provider::answer::{Answer, Choice, ToolCall, Usage};

/// The answer as events.
pub(super) fn events(answer: &Answer, include_usage: bool, empty_choices: bool) -> Events {
    let chunks = Chunks { answer, include_usage, empty_choices };
    let mut opening = Vec::new();
    for (index, choice) in answer.choices.iter().enumerate() {
        opening.push(chunks.role(index));
        opening.extend(choice.reasoning.iter().map(|token| chunks.reasoning(index, token)));
        for (position, call) in choice.tool_calls.iter().enumerate() {
            opening.extend(chunks.tool_call(index, position, call));
        }
    }
    let longest = answer.choices.iter().map(|choice| choice.content.len()).max().unwrap_or(0);
    let at = |position: usize| {
        let tokens = answer.choices.iter().enumerate();
        let tokens = tokens.filter_map(|(index, choice)| Some(chunks.content(index, choice.content.get(position)?)));
        tokens.map(Event::unnamed).collect()
    };
    let finish = answer.choices.iter().enumerate().map(|(index, choice)| chunks.finish(index, choice.finish_reason));
    let closing = finish.chain(include_usage.then(|| chunks.usage()));
    let error =
        br#"{"error":{"message":"the model is overloaded","type":"server_error","param":null,"code":"overloaded"}}"#;
    Events {
        opening: opening.into_iter().map(Event::unnamed).collect(),
        content: (0..longest).map(at).collect(),
        closing: closing.map(Event::unnamed).collect(),
        done: Some(Event::unnamed(b"[DONE]".to_vec())),
        error: Event::unnamed(error.to_vec()),
    }
}

/// The list of models.
pub(super) fn models(names: &[String]) -> Vec<u8> {
    let data: Vec<_> = names
        .iter()
        .map(|name| json!({ "id": name, "object": "model", "created": 1_700_000_000, "owned_by": "loadtest" }))
        .collect();
    json!({ "object": "list", "data": data }).to_string().into_bytes()
}

/// The whole answer as one `chat.completion` object.
pub(super) fn completion(answer: &Answer, choices: &[Choice]) -> Vec<u8> {
    let choices: Vec<Value> =
        choices.iter().enumerate().map(|(index, choice)| full_choice(answer, index, choice)).collect();
    let mut body = json!({
        "id": answer.id,
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.model,
        "choices": choices,
        "usage": answer.usage,
    });
    if !answer.echo.is_empty() {
        body["echo"] = Value::Object(answer.echo.clone());
    }
    body.to_string().into_bytes()
}

fn full_choice(answer: &Answer, index: usize, choice: &Choice) -> Value {
    let mut message = json!({ "role": "assistant", "content": choice.content.concat() });
    if !choice.reasoning.is_empty() {
        message["reasoning_content"] = choice.reasoning.concat().into();
    }
    if !choice.tool_calls.is_empty() {
        message["content"] = Value::Null;
        message["tool_calls"] = choice.tool_calls.iter().map(full_tool_call).collect();
    }
    let logprobs = answer.logprobs.then(|| logprobs(&choice.content));
    json!({ "index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish_reason })
}

fn full_tool_call(call: &ToolCall) -> Value {
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": call.arguments } })
}

fn logprobs(tokens: &[String]) -> Value {
    let tokens: Vec<Value> =
        tokens.iter().map(|token| json!({ "token": token, "logprob": -0.1, "top_logprobs": [] })).collect();
    json!({ "content": tokens })
}

/// Writes the chunks of one stream; all share id, time and model.
struct Chunks<'a> {
    answer: &'a Answer,
    include_usage: bool,
    empty_choices: bool,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "ChunkUsage::is_unasked")]
    usage: ChunkUsage,
    #[serde(skip_serializing_if = "Option::is_none")]
    echo: Option<&'a Map<String, Value>>,
}

/// Where usage was asked for, `OpenAI` sends it in the last chunk and `null` in all before.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum ChunkUsage {
    Unasked,
    Later,
    Now(Usage),
}

impl ChunkUsage {
    fn is_unasked(&self) -> bool {
        *self == Self::Unasked
    }
}

#[derive(Default, Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    delta: Delta<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Value>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Value>,
}

impl Chunks<'_> {
    /// The first chunk of a choice: its role, and for choice 0 the echo.
    fn role(&self, index: usize) -> Vec<u8> {
        let delta = Delta { role: Some("assistant"), content: Some(""), ..Delta::default() };
        let echo = (index == 0 && !self.answer.echo.is_empty()).then_some(&self.answer.echo);
        let choices = [ChunkChoice { index, delta, ..ChunkChoice::default() }];
        encode(&Chunk { echo, ..self.chunk(&choices) })
    }

    fn reasoning(&self, index: usize, token: &str) -> Vec<u8> {
        self.delta(index, Delta { reasoning_content: Some(token), ..Delta::default() })
    }

    fn content(&self, index: usize, token: &str) -> Vec<u8> {
        let delta = Delta { content: Some(token), ..Delta::default() };
        let logprobs = self.answer.logprobs.then(|| logprobs(&[token.to_owned()]));
        encode(&self.chunk(&[ChunkChoice { index, delta, logprobs, finish_reason: None }]))
    }

    /// A tool call: its head, then its arguments in fragments of at most eight bytes.
    fn tool_call(&self, index: usize, position: usize, call: &ToolCall) -> Vec<Vec<u8>> {
        let head = json!([{
            "index": position, "id": call.id, "type": "function",
            "function": { "name": call.name, "arguments": "" },
        }]);
        let fragments = call.arguments.as_bytes().chunks(8).map(|fragment| {
            let arguments = String::from_utf8_lossy(fragment);
            json!([{ "index": position, "function": { "arguments": arguments } }])
        });
        let parts = std::iter::once(head).chain(fragments);
        parts.map(|part| self.delta(index, Delta { tool_calls: Some(part), ..Delta::default() })).collect()
    }

    fn finish(&self, index: usize, reason: &'static str) -> Vec<u8> {
        let choice = ChunkChoice { index, finish_reason: Some(reason), ..ChunkChoice::default() };
        encode(&self.chunk(&[choice]))
    }

    /// The last chunk, without choices.
    fn usage(&self) -> Vec<u8> {
        encode(&Chunk { usage: ChunkUsage::Now(self.answer.usage), ..self.chunk(&[]) })
    }

    fn delta(&self, index: usize, delta: Delta<'_>) -> Vec<u8> {
        encode(&self.chunk(&[ChunkChoice { index, delta, ..ChunkChoice::default() }]))
    }

    fn chunk<'c>(&'c self, choices: &'c [ChunkChoice<'c>]) -> Chunk<'c> {
        Chunk {
            id: &self.answer.id,
            object: "chat.completion.chunk",
            created: self.answer.created,
            model: &self.answer.model,
            choices: if self.empty_choices { &[] } else { choices },
            usage: if self.include_usage { ChunkUsage::Later } else { ChunkUsage::Unasked },
            echo: None,
        }
    }
}

fn encode(chunk: &Chunk<'_>) -> Vec<u8> {
    serde_json::to_vec(chunk).expect("invariant: strings and numbers always serialise")
}
