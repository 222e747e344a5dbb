//! What the provider says: a text that depends on the conversation alone.
//!
//! The first token is `A` and the conversation's 64-bit FNV-1a fingerprint in hexadecimal, so two
//! different prompts have different answers and a test can tell which prompt an answer belongs to.
//! The other tokens are plain words chosen by the same fingerprint.

use serde::Serialize;
use serde_json::{Map, Value};

use super::behaviour::{Behaviour, Fault};
use super::request::ChatRequest;

const WORDS: [&str; 16] = [
    "amber", "birch", "copper", "delta", "ember", "fjord", "garnet", "harbor", "indigo", "juniper", "kelp", "lunar",
    "maple", "nectar", "opal", "quartz",
];

/// An answer before it is written as JSON or as events.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) id: String,
    /// Unix seconds; counts up from a fixed moment, so that runs are alike.
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) choices: Vec<Choice>,
    pub(super) usage: Usage,
    pub(super) logprobs: bool,
    /// The request's parameters, for the reply's `echo`.
    pub(super) echo: Map<String, Value>,
}

/// One of the `n` alternatives.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) reasoning: Vec<String>,
    pub(super) content: Vec<String>,
    pub(super) tool_calls: Vec<ToolCall>,
    pub(super) finish_reason: &'static str,
}

/// A function call that the answer asks for.
#[derive(Debug)]
pub(super) struct ToolCall {
    pub(super) id: String,
    pub(super) name: String,
    /// A JSON object, as text.
    pub(super) arguments: String,
}

/// Token counts; a prompt token is a word of the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the wire format's own names")]
pub(super) struct Usage {
    pub(super) prompt_tokens: usize,
    pub(super) completion_tokens: usize,
    total_tokens: usize,
}

impl Answer {
    /// The answer to this request, the provider's request number `id`.
    pub(super) fn new(request: ChatRequest, behaviour: &Behaviour, id: u64) -> Self {
        let turns = request.turns.iter().map(|turn| (turn.role.as_str(), turn.text.as_str()));
        let fingerprint = fingerprint(turns);
        let choices: Vec<Choice> = (0..request.choices as u64)
            .map(|index| choice(&request, behaviour, fingerprint.wrapping_add(index), id))
            .collect();
        let prompt_tokens = request.turns.iter().map(|turn| turn.text.split_whitespace().count()).sum();
        Self {
            id: format!("chatcmpl-mock-{id}"),
            created: 1_700_000_000 + id,
            usage: Usage::new(prompt_tokens, &choices),
            model: request.model,
            choices,
            logprobs: request.logprobs,
            echo: request.parameters,
        }
    }
}

impl Usage {
    fn new(prompt_tokens: usize, choices: &[Choice]) -> Self {
        let spoken = |choice: &Choice| choice.reasoning.len() + choice.content.len() + choice.tool_calls.len();
        let completion_tokens = choices.iter().map(spoken).sum();
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}

/// The text that the default behaviour answers to a conversation of this one user message.
pub fn answer_to(prompt: &str) -> String {
    answer_to_conversation([("user", prompt)], Behaviour::default().tokens)
}

/// The text of `tokens` tokens for a conversation given as (role, text) pairs.
pub fn answer_to_conversation<'a>(turns: impl IntoIterator<Item = (&'a str, &'a str)>, tokens: usize) -> String {
    content(fingerprint(turns), tokens).concat()
}

fn choice(request: &ChatRequest, behaviour: &Behaviour, fingerprint: u64, id: u64) -> Choice {
    let reasoning = words(fingerprint.rotate_left(32)).take(behaviour.reasoning_tokens).collect();
    if behaviour.tool_calls > 0 && !request.tools.is_empty() && request.ends_with_user() {
        let tool_calls = (0..behaviour.tool_calls).map(|index| tool_call(request, fingerprint, id, index)).collect();
        return Choice { reasoning, content: Vec::new(), tool_calls, finish_reason: "tool_calls" };
    }
    let wanted = behaviour.tokens;
    let tokens = request.max_tokens.map_or(wanted, |max| max.min(wanted));
    let mut content = content(fingerprint, tokens);
    if let Some(first) = content.first_mut() {
        shape_first_token(first, behaviour, id);
    }
    Choice { reasoning, content, tool_calls: Vec::new(), finish_reason: finish_reason(behaviour, tokens < wanted) }
}

fn shape_first_token(first: &mut String, behaviour: &Behaviour, id: u64) {
    if behaviour.vary {
        first.push('-');
        first.push_str(&id.to_string());
    }
    if let Some(Fault::Huge { bytes }) = behaviour.fault {
        first.push_str(&"x".repeat(bytes.saturating_sub(first.len())));
    }
}

fn finish_reason(behaviour: &Behaviour, truncated: bool) -> &'static str {
    match behaviour.fault {
        Some(Fault::ContentFilter) => "content_filter",
        Some(Fault::Length) => "length",
        _ if truncated => "length",
        _ => "stop",
    }
}

fn tool_call(request: &ChatRequest, fingerprint: u64, id: u64, index: usize) -> ToolCall {
    ToolCall {
        id: format!("call_mock_{id}_{index}"),
        name: request.tools[index % request.tools.len()].clone(),
        arguments: format!(r#"{{"query":"{fingerprint:016x}","number":{index}}}"#),
    }
}

fn content(fingerprint: u64, tokens: usize) -> Vec<String> {
    std::iter::once(format!("A{fingerprint:016x}")).chain(words(fingerprint)).take(tokens).collect()
}

/// Words without end, each with a leading space as tokenizers have it (xorshift64).
fn words(fingerprint: u64) -> impl Iterator<Item = String> {
    let mut state = fingerprint | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!(" {}", WORDS[(state >> 60) as usize])
    })
}

fn fingerprint<'a>(turns: impl IntoIterator<Item = (&'a str, &'a str)>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for (role, text) in turns {
        // 0xff occurs in no UTF-8 text, so the parts cannot run into one another.
        for byte in role.bytes().chain([0xff]).chain(text.bytes()).chain([0xff]) {
            hash = fnv1a(hash, byte);
        }
    }
    hash
}

/// One step of FNV-1a, 64 bits.
pub(super) fn fnv1a(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_conversations_have_different_answers() {
        let texts = [
            answer_to("what is rust"),
            answer_to("what is rust?"),
            answer_to_conversation([("system", "be brief"), ("user", "what is rust")], 20),
            answer_to_conversation([("user", "what is"), ("user", " rust")], 20),
        ];
        for (index, text) in texts.iter().enumerate() {
            assert!(!texts[..index].contains(text), "{text}");
        }
    }

    #[test]
    fn an_answer_has_the_tokens_asked_for() {
        assert_eq!(answer_to("x").split(' ').count(), 20);
        assert_eq!(answer_to_conversation([("user", "x")], 0), "");
    }
}
