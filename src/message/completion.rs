//! An answer, whole and in pieces: deltas as a stream brings them, the completion they add up to, and the
//! [`Assembler`] that does the adding without dropping what it does not know.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Tokens as the provider counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// Of the request's: read from the provider's own prompt cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_tokens: u64,
    /// Of the request's: written to that cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_tokens: u64,
    /// Of the answer's: spent on reasoning.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reasoning_tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Usage {
    /// Reads OpenAI's `usage` object; absent counts are 0.
    pub fn from_openai(value: &Value) -> Option<Self> {
        let count = |path: &str| value.pointer(path).and_then(Value::as_u64);
        let (input, output) = (count("/prompt_tokens"), count("/completion_tokens"));
        (input.is_some() || output.is_some()).then(|| Self {
            input_tokens: input.unwrap_or(0),
            output_tokens: output.unwrap_or(0),
            cached_tokens: count("/prompt_tokens_details/cached_tokens").unwrap_or(0),
            cache_write_tokens: count("/prompt_tokens_details/cache_write_tokens").unwrap_or(0),
            reasoning_tokens: count("/completion_tokens_details/reasoning_tokens").unwrap_or(0),
        })
    }
}

/// Why a model stopped, in OpenAI's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It had said all.
    Stop,
    /// It met a token limit: the text is cut.
    Length,
    /// It asks for tools.
    ToolCalls,
    /// The provider held text back.
    ContentFilter,
    /// A reason of the provider's own.
    #[serde(untagged)]
    Other(String),
}

impl FinishReason {
    /// Reads the provider's word.
    pub fn parse(word: &str) -> Self {
        match word {
            "stop" => Self::Stop,
            "length" => Self::Length,
            "tool_calls" | "function_call" => Self::ToolCalls,
            "content_filter" => Self::ContentFilter,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The word on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Other(word) => word,
        }
    }
}

/// One piece of a streamed answer.
#[derive(Debug, Clone, Default)]
pub struct Delta {
    /// Text of the first choice; often a few characters, sometimes none.
    pub text: String,
    /// Reasoning text of the first choice, where the provider shows it.
    pub reasoning: String,
    /// Further members of the first choice's delta in OpenAI's form, from a provider of another dialect: fragments of
    /// tool calls, signed reasoning.
    pub more: Option<Box<Map<String, Value>>>,
    /// Set on the piece that ends the first choice.
    pub finish_reason: Option<FinishReason>,
    /// Set on the piece that carries the count.
    pub usage: Option<Usage>,
    /// True for a piece that carries nothing but usage (an empty `choices`).
    pub usage_only: bool,
    /// Set when this one piece is the whole answer: what a stream's reader gets of an answer that came at once.
    pub whole: Option<Arc<Completion>>,
    /// The chunk's JSON as an OpenAI-compatible provider sent it, so that it can be passed on untouched.
    pub raw: Option<Bytes>,
}

/// One choice of a whole answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Choice {
    /// Position in the reply.
    pub index: u32,
    /// The assistant's message: role, content, tool calls and whatever else the provider put there.
    pub message: Map<String, Value>,
    /// Why it ended; `None` when the provider did not say.
    pub finish_reason: Option<FinishReason>,
    /// Log probabilities, as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Value>,
}

impl Choice {
    /// Whether the message holds an answer: content, or calls of tools and whatever else stands in its place, and no refusal
    /// (which OpenAI sends with the finish reason `stop`).
    fn answers(&self) -> bool {
        let says = |(name, value): (&String, &Value)| match value {
            Value::Null => false,
            Value::String(text) => {
                !matches!(&**name, "role" | "reasoning_content" | "reasoning") && !text.trim().is_empty()
            }
            Value::Array(list) => name != "annotations" && !list.is_empty(),
            _ => true,
        };
        let refusal = self.message.get("refusal").is_some_and(|refusal| !refusal.is_null());
        !refusal && self.message.iter().any(says)
    }
}

/// About how many bytes a value takes beside its own place.
fn heap_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(|value| size_of::<Value>() + heap_bytes(value)).sum(),
        Value::Object(members) => heap_bytes_of_members(members),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn heap_bytes_of_members(members: &Map<String, Value>) -> usize {
    // A tree's nodes are filled by about two thirds.
    const PLACE: usize = (size_of::<String>() + size_of::<Value>()) * 3 / 2;
    members.iter().map(|(name, value)| PLACE + name.len() + heap_bytes(value)).sum()
}

/// A whole answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Completion {
    /// The model's name as the provider gave it.
    pub model: String,
    /// The choices, by index.
    pub choices: Vec<Choice>,
    /// The count, where the provider gave one.
    pub usage: Option<Usage>,
    /// Further top-level members of the reply (`system_fingerprint` and the like), without `id` and `created`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

impl Completion {
    /// An answer of one choice that is plain text and complete.
    pub fn of_text(model: &str, text: &str, usage: Option<Usage>) -> Self {
        let mut message = Map::new();
        message.insert("role".to_owned(), "assistant".into());
        message.insert("content".to_owned(), text.into());
        let choice = Choice { index: 0, message, finish_reason: Some(FinishReason::Stop), logprobs: None };
        Self { model: model.to_owned(), choices: vec![choice], usage, extra: Map::new() }
    }

    /// Reads an OpenAI-shaped reply.
    ///
    /// # Errors
    /// The JSON error when the bytes are not an object with `choices` that hold messages.
    pub fn from_openai(body: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Reply {
            #[serde(default)]
            model: String,
            choices: Vec<ReplyChoice>,
            usage: Option<Value>,
            #[serde(flatten)]
            extra: Map<String, Value>,
        }
        #[derive(Deserialize)]
        struct ReplyChoice {
            #[serde(default)]
            index: u32,
            message: Map<String, Value>,
            finish_reason: Option<String>,
            logprobs: Option<Value>,
        }
        let mut reply: Reply = serde_json::from_slice(body)?;
        for own in ["id", "created", "object"] {
            reply.extra.remove(own);
        }
        let choices = reply.choices.into_iter().map(|choice| Choice {
            index: choice.index,
            message: choice.message,
            finish_reason: choice.finish_reason.as_deref().map(FinishReason::parse),
            logprobs: choice.logprobs,
        });
        let usage = reply.usage.as_ref().and_then(Usage::from_openai);
        Ok(Self { model: reply.model, choices: choices.collect(), usage, extra: reply.extra })
    }

    /// The first choice's text; empty when it has none.
    pub fn text(&self) -> &str {
        self.choices.first().and_then(|choice| choice.message.get("content")).and_then(Value::as_str).unwrap_or("")
    }

    /// The first choice's reasoning text; empty when it has none.
    pub fn reasoning(&self) -> &str {
        let message = self.choices.first().map(|choice| &choice.message);
        message.and_then(|message| message.get("reasoning_content")).and_then(Value::as_str).unwrap_or("")
    }

    /// The first choice's reason to end.
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.choices.first().and_then(|choice| choice.finish_reason.as_ref())
    }

    /// Whether every choice says something, no refusal, and ended because all was said: the only answers that may be stored.
    pub fn is_complete(&self) -> bool {
        let ended =
            |choice: &Choice| matches!(choice.finish_reason, Some(FinishReason::Stop | FinishReason::ToolCalls));
        !self.choices.is_empty() && self.choices.iter().all(|choice| ended(choice) && choice.answers())
    }

    /// About how many bytes of memory it takes.
    pub fn heap_bytes(&self) -> usize {
        let choice = |choice: &Choice| {
            heap_bytes_of_members(&choice.message)
                + choice.logprobs.as_ref().map_or(0, heap_bytes)
                + size_of::<Choice>()
        };
        self.choices.iter().map(choice).sum::<usize>() + heap_bytes_of_members(&self.extra)
    }

    /// The whole answer as one delta, for a listener that asked for a stream.
    pub fn as_delta(self: &Arc<Self>) -> Delta {
        Delta {
            whole: Some(Arc::clone(self)),
            text: self.text().to_owned(),
            reasoning: self.reasoning().to_owned(),
            finish_reason: self.finish_reason().cloned(),
            usage: self.usage,
            ..Delta::default()
        }
    }
}

/// Adds the deltas of a stream up to a [`Completion`].
#[derive(Debug, Default)]
pub struct Assembler {
    model: String,
    text: String,
    reasoning: String,
    more: Map<String, Value>,
    finish_reason: Option<FinishReason>,
    usage: Option<Usage>,
    /// Choices built from chunks that hold more than text, by index.
    rich: Vec<RichChoice>,
    extra: Map<String, Value>,
}

#[derive(Debug, Default)]
struct RichChoice {
    index: u32,
    message: Map<String, Value>,
    finish_reason: Option<FinishReason>,
    logprobs: Option<Value>,
}

impl Assembler {
    /// An assembler; `model` stands in where the chunks name none.
    pub fn new(model: &str) -> Self {
        Self { model: model.to_owned(), ..Self::default() }
    }

    /// Takes the next delta.
    pub fn push(&mut self, delta: &Delta) {
        if delta.usage.is_some() {
            self.usage = delta.usage;
        }
        match &delta.raw {
            Some(raw) => self.push_chunk(raw),
            None => {
                self.text.push_str(&delta.text);
                self.reasoning.push_str(&delta.reasoning);
                if let Some(more) = &delta.more {
                    merge_members(&mut self.more, *more.clone());
                }
                if delta.finish_reason.is_some() {
                    self.finish_reason.clone_from(&delta.finish_reason);
                }
            }
        }
    }

    /// Whether a reason to end has been seen, so that the end of the stream is no cut.
    pub fn has_ended(&self) -> bool {
        self.finish_reason.is_some() || self.rich.iter().any(|choice| choice.finish_reason.is_some())
    }

    /// The sum.
    pub fn finish(self) -> Completion {
        let mut choices: Vec<Choice> = self.rich.into_iter().map(RichChoice::finish).collect();
        if choices.is_empty() {
            let mut whole = Completion::of_text(&self.model, &self.text, self.usage);
            whole.choices[0].finish_reason = self.finish_reason;
            let message = &mut whole.choices[0].message;
            if !self.reasoning.is_empty() {
                message.insert("reasoning_content".to_owned(), self.reasoning.into());
            }
            if self.text.is_empty() && self.more.contains_key("tool_calls") {
                message.insert("content".to_owned(), Value::Null);
            }
            message.extend(self.more);
            drop_call_indexes(message);
            return whole;
        }
        choices.sort_by_key(|choice| choice.index);
        Completion { model: self.model, choices, usage: self.usage, extra: self.extra }
    }

    fn push_chunk(&mut self, raw: &[u8]) {
        let Ok(Value::Object(mut chunk)) = serde_json::from_slice(raw) else { return };
        if let Some(Value::String(model)) = chunk.remove("model") {
            self.model = model;
        }
        let choices = chunk.remove("choices");
        for own in ["id", "created", "object", "usage"] {
            chunk.remove(own);
        }
        self.extra.extend(chunk.into_iter().filter(|(_, value)| !value.is_null()));
        let Some(Value::Array(choices)) = choices else { return };
        for choice in choices {
            self.push_choice(choice);
        }
    }

    fn push_choice(&mut self, mut choice: Value) {
        let index =
            choice.get("index").and_then(Value::as_u64).and_then(|index| u32::try_from(index).ok()).unwrap_or(0);
        let place = self.rich.iter().position(|known| known.index == index).unwrap_or_else(|| {
            self.rich.push(RichChoice { index, ..RichChoice::default() });
            self.rich.len() - 1
        });
        let known = &mut self.rich[place];
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            known.finish_reason = Some(FinishReason::parse(reason));
        }
        if let Some(logprobs) = choice.get_mut("logprobs").map(Value::take).filter(|value| !value.is_null()) {
            merge(known.logprobs.get_or_insert(Value::Null), logprobs, "logprobs");
        }
        if let Some(Value::Object(delta)) = choice.get_mut("delta").map(Value::take) {
            merge_members(&mut known.message, delta);
        }
    }
}

impl RichChoice {
    fn finish(mut self) -> Choice {
        self.message.entry("role").or_insert_with(|| "assistant".into());
        self.message.entry("content").or_insert(Value::Null);
        drop_call_indexes(&mut self.message);
        Choice { index: self.index, message: self.message, finish_reason: self.finish_reason, logprobs: self.logprobs }
    }
}

/// `index` only orders fragments; a whole message does not carry it.
fn drop_call_indexes(message: &mut Map<String, Value>) {
    if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
        for call in calls.iter_mut().filter_map(Value::as_object_mut) {
            call.remove("index");
        }
    }
}

fn merge_members(members: &mut Map<String, Value>, more: Map<String, Value>) {
    for (name, value) in more {
        merge(members.entry(name.clone()).or_insert(Value::Null), value, &name);
    }
}

/// Adds a fragment to what is known: texts are joined, names replaced, lists merged by their `index` or appended.
fn merge(known: &mut Value, fragment: Value, name: &str) {
    match (&mut *known, fragment) {
        (_, Value::Null) => {}
        (Value::String(text), Value::String(more)) if !matches!(name, "role" | "id" | "type" | "name") => {
            text.push_str(&more);
        }
        (Value::Object(members), Value::Object(more)) => merge_members(members, more),
        (Value::Array(items), Value::Array(more)) => merge_items(items, more),
        (Value::Null, Value::Array(more)) => {
            let mut items = Vec::new();
            merge_items(&mut items, more);
            *known = Value::Array(items);
        }
        (_, fragment) => *known = fragment,
    }
}

fn merge_items(items: &mut Vec<Value>, more: Vec<Value>) {
    for item in more {
        let index = item.get("index").and_then(Value::as_u64);
        let same =
            items.iter_mut().find(|known| index.is_some() && known.get("index").and_then(Value::as_u64) == index);
        match same {
            Some(known) => merge(known, item, ""),
            None => items.push(item),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(json: &str) -> Delta {
        Delta { raw: Some(Bytes::copy_from_slice(json.as_bytes())), ..Delta::default() }
    }

    #[test]
    fn adds_up_text_tool_calls_and_unknown_members() {
        let mut assembler = Assembler::new("asked");
        for json in [
            r#"{"id":"1","model":"real","choices":[{"index":0,"delta":{"role":"assistant","content":"He"}}],"system_fingerprint":"fp"}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"llo","reasoning_content":"hm"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\":1}"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        ] {
            assembler.push(&chunk(json));
        }
        assert!(assembler.has_ended());
        let whole = assembler.finish();
        assert_eq!((whole.model.as_str(), whole.text(), whole.reasoning()), ("real", "Hello", "hm"));
        assert_eq!(whole.choices[0].message["tool_calls"][0]["function"]["arguments"], r#"{"a":1}"#);
        assert!(whole.choices[0].message["tool_calls"][0].get("index").is_none());
        assert_eq!(whole.extra["system_fingerprint"], "fp");
        assert!(whole.is_complete());
    }

    #[test]
    fn plain_deltas_add_up_without_raw_chunks() {
        let mut assembler = Assembler::new("demo");
        assembler.push(&Delta { text: "a".into(), ..Delta::default() });
        assert!(!assembler.has_ended());
        assembler.push(&Delta { text: "b".into(), finish_reason: Some(FinishReason::Length), ..Delta::default() });
        let whole = assembler.finish();
        assert_eq!(whole.text(), "ab");
        assert!(!whole.is_complete(), "an answer cut by its length limit must not be stored");
    }

    #[test]
    fn only_an_answer_that_says_something_and_refuses_nothing_is_complete() {
        let completion = |message: &str| {
            let body = format!(r#"{{"choices":[{{"message":{message},"finish_reason":"stop"}}]}}"#);
            Completion::from_openai(body.as_bytes()).unwrap().is_complete()
        };
        assert!(completion(r#"{"role":"assistant","content":"yes","refusal":null}"#));
        assert!(completion(r#"{"role":"assistant","content":null,"tool_calls":[{"id":"a"}]}"#));
        assert!(completion(r#"{"role":"assistant","content":null,"audio":{"data":"AA=="}}"#));
        for nothing in [
            r#"{"role":"assistant","content":null,"refusal":"I cannot help with that"}"#,
            r#"{"role":"assistant","content":"Sorry","refusal":"I cannot help with that"}"#,
            r#"{"role":"assistant","content":" \n"}"#,
            r#"{"role":"assistant","content":null,"tool_calls":[],"annotations":[]}"#,
            r#"{"role":"assistant","content":"","reasoning_content":"well, hm"}"#,
            "{}",
        ] {
            assert!(!completion(nothing), "{nothing}");
        }
    }

    #[test]
    fn memory_counts_what_is_not_text() {
        let plain = Completion::of_text("m", "abc", None).heap_bytes();
        let arguments = "x".repeat(10_000);
        let body = serde_json::json!({"choices": [
            {"message": {"tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}, "logprobs": {"content": vec![0.5; 1_000]}},
            {"message": {"content": arguments}},
        ]});
        let heavy = Completion::from_openai(body.to_string().as_bytes()).unwrap().heap_bytes();
        assert!(plain < 1_000, "{plain}");
        assert!(heavy > 20_000 + 1_000 * size_of::<Value>(), "{heavy}");
    }

    #[test]
    fn further_members_add_up_beside_plain_text() {
        let more = |json: &str| Delta { more: Some(serde_json::from_str(json).unwrap()), ..Delta::default() };
        let mut assembler = Assembler::new("claude");
        assembler.push(&more(
            r#"{"tool_calls":[{"index":0,"id":"t1","type":"function","function":{"name":"f","arguments":""}}]}"#,
        ));
        assembler.push(&more(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}"#));
        assembler.push(&Delta { finish_reason: Some(FinishReason::ToolCalls), ..Delta::default() });
        let message = assembler.finish().choices.remove(0).message;
        assert_eq!(
            Value::Object(message).to_string(),
            r#"{"content":null,"role":"assistant","tool_calls":[{"function":{"arguments":"{}","name":"f"},"id":"t1","type":"function"}]}"#
        );
    }

    #[test]
    fn reads_a_whole_reply_and_keeps_what_it_does_not_know() {
        let body = br#"{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi","annotations":[]},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1},"service_tier":"default"}"#;
        let whole = Completion::from_openai(body).unwrap();
        assert_eq!(whole.usage, Some(Usage { input_tokens: 3, output_tokens: 1, ..Usage::default() }));
        assert_eq!(whole.extra.keys().collect::<Vec<_>>(), ["service_tier"]);
        assert!(whole.choices[0].message.contains_key("annotations"));
    }
}
