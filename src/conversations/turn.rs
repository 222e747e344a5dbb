//! A turn on its way into the store: the question with its empty answer, and how the answer ended.

use uuid::Uuid;

use super::{MessageState, StoredMessage};
use crate::message::Usage;

/// What a question follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Parent {
    /// The end of the selected branch.
    #[default]
    Selected,
    /// Nothing but the conversation's instructions: a first question.
    Start,
    /// This answer.
    Message(Uuid),
}

/// A question to be stored, with its empty answer.
#[derive(Debug, Clone, Default)]
pub struct NewTurn {
    /// The conversation; `None`: a new one.
    pub conversation: Option<Uuid>,
    /// What it follows. Where that has been followed before, a branch begins.
    pub parent: Parent,
    /// The client's own name for this send.
    pub client_id: Option<String>,
    /// The question.
    pub content: String,
    /// Instructions; only with a new conversation.
    pub system: Option<String>,
    /// The model that will answer; `streams` decides it.
    pub model: String,
}

/// A turn that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BegunTurn {
    /// Its conversation.
    pub conversation: Uuid,
    /// The question.
    pub message: Uuid,
    /// The answer's message.
    pub reply: Uuid,
    /// The answer's stream.
    pub stream: Uuid,
    /// True when the same `client_id` had begun it before.
    pub duplicate: bool,
}

/// How far an answer has come.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Its text so far.
    pub content: String,
    /// Its reasoning text so far.
    pub reasoning: String,
    /// The last number given.
    pub seq: u64,
    /// Its epoch: more than 1 where it was begun again.
    pub epoch: u32,
}

/// How an answer ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its last state.
    pub state: MessageState,
    /// The whole text.
    pub content: String,
    /// The whole reasoning text.
    pub reasoning: String,
    /// Its epoch: more than 1 where it was begun again.
    pub epoch: u32,
    /// The last number given.
    pub seq: u64,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// Tokens.
    pub usage: Option<Usage>,
    /// Where it came from, as JSON.
    pub cache: Option<String>,
    /// How that was decided, as JSON.
    pub explanation: Option<String>,
    /// What failed, as JSON.
    pub error: Option<String>,
    /// From the question to the end, where that is known.
    pub elapsed_ms: Option<u64>,
}

/// What an owner learns of its unfinished answer when it saves that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It is still its own.
    Kept,
    /// It is, and a reader wishes it to end.
    Cancelled,
    /// It is another's now, or is gone: nothing was saved.
    Lost,
}

impl Hold {
    /// By the row that was saved, if one was: whether its end is wished.
    pub(super) fn of(cancel_wanted: Option<bool>) -> Self {
        match cancel_wanted {
            Some(false) => Self::Kept,
            Some(true) => Self::Cancelled,
            None => Self::Lost,
        }
    }
}

/// An unfinished answer whose owner was dead, under its new epoch.
#[derive(Debug, Clone)]
pub struct Orphan {
    /// Whose conversation it belongs to.
    pub tenant: String,
    /// The answer, as far as it was saved.
    pub message: StoredMessage,
    /// Whether a reader wishes it to end.
    pub is_cancelled: bool,
}

impl Orphan {
    /// How it ends where nobody goes on with it: with what was saved.
    pub fn interrupted(&self) -> Outcome {
        let StoredMessage { content, reasoning, epoch, seq, .. } = &self.message;
        let state = if self.is_cancelled { MessageState::Cancelled } else { MessageState::Interrupted };
        Outcome {
            state,
            content: content.clone(),
            reasoning: reasoning.clone(),
            epoch: *epoch,
            seq: *seq,
            finish_reason: None,
            usage: None,
            cache: None,
            explanation: None,
            error: None,
            elapsed_ms: None,
        }
    }
}
