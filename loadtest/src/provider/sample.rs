//! Replies of the provider as plain bytes, for whoever needs bodies of the right size and shape.

use super::answer::Answer;
use super::behaviour::Behaviour;
use super::dialect::Dialect;
use super::request::ChatRequest;
use super::script::{self, Script, Step};

/// The JSON reply to a conversation of this one user message.
pub fn json(prompt: &str) -> Vec<u8> {
    bytes(script::json(Dialect::OpenAi, &answer(prompt), &Behaviour::default()))
}

/// The SSE reply to a conversation of this one user message, all events together.
pub fn stream(prompt: &str) -> Vec<u8> {
    bytes(script::stream(Dialect::OpenAi, &answer(prompt), &Behaviour::default(), false))
}

fn answer(prompt: &str) -> Answer {
    Answer::new(ChatRequest::of_prompt(prompt), &Behaviour::default(), 1)
}

fn bytes(script: Script) -> Vec<u8> {
    let mut all = Vec::new();
    for step in script.steps {
        if let Step::Send { bytes, .. } = step {
            all.extend_from_slice(&bytes);
        }
    }
    all
}
