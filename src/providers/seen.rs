//! What a trace shows of one call: who was asked for what, who answered, when the first token was there, what was counted. Where
//! nothing is traced, nothing is looked at.

use serde::Deserialize;
use tracing::Span;

use super::Reply;
use super::asking::Begun;
use crate::message::{Completion, FinishReason, Usage};
use crate::traces::{self, Called};
use crate::upstream::Failure;

/// The call's span, and what its answer has said of itself.
pub(super) struct Seen {
    span: Span,
    model: Option<String>,
    finish_reasons: Vec<String>,
}

/// Members of an answer, or of a stream's chunk, in OpenAI's dialect.
#[derive(Deserialize)]
struct Glance {
    model: Option<String>,
    #[serde(default)]
    choices: Vec<Chosen>,
}

#[derive(Deserialize)]
struct Chosen {
    finish_reason: Option<String>,
}

impl Seen {
    /// A call whose answer has begun.
    pub(super) fn of(span: Span, begun: &Begun) -> Self {
        let mut seen = Self { span, model: None, finish_reasons: Vec::new() };
        if seen.span.is_disabled() {
            return seen;
        }
        match begun {
            Begun::Whole(Reply::Completed(completion), _) => seen.took(completion),
            Begun::Whole(Reply::Whole(bytes), _) => seen.glance(bytes),
            Begun::Whole(..) => {}
            Begun::Stream(held, _) => {
                traces::first_token(&seen.span);
                held.iter().find_map(|delta| delta.raw.as_ref()).inspect(|chunk| seen.glance(chunk));
                // Each piece says itself how it ended.
                seen.finish_reasons.clear();
            }
            Begun::Verbatim(held, _) => {
                traces::first_token(&seen.span);
                held.first().inspect(|event| seen.glance(first_data(event)));
            }
        }
        seen
    }

    /// A piece that ends a choice.
    pub(super) fn finished(&mut self, reason: &FinishReason) {
        if !self.span.is_disabled() {
            self.finish_reasons.push(reason.as_str().to_owned());
        }
    }

    pub(super) fn failed(&self, failure: &Failure) {
        traces::failed(&self.span, failure.kind.as_str());
    }

    /// The answer is whole.
    pub(super) fn ended(self, usage: Option<Usage>, cost_usd: Option<f64>) {
        if self.span.is_disabled() {
            return;
        }
        let tokens = usage.map(|usage| (usage.input_tokens, usage.output_tokens));
        let Self { span, model, finish_reasons } = self;
        traces::called(&span, Called { tokens, model, finish_reasons, cost_usd });
    }

    fn took(&mut self, completion: &Completion) {
        self.model = Some(completion.model.clone());
        let reasons = completion.choices.iter().filter_map(|choice| choice.finish_reason.as_ref());
        self.finish_reasons = reasons.map(|reason| reason.as_str().to_owned()).collect();
    }

    fn glance(&mut self, json: &[u8]) {
        if let Ok(glance) = serde_json::from_slice::<Glance>(json) {
            self.model = glance.model;
            self.finish_reasons = glance.choices.into_iter().filter_map(|choice| choice.finish_reason).collect();
        }
    }
}

/// The data of the first of some events in one line each.
fn first_data(events: &[u8]) -> &[u8] {
    let line = events.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.strip_prefix(b"data: ").unwrap_or(line)
}
