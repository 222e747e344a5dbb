//! What the store holds, as it is read and shown: a conversation, a message, how far it has come.

use serde::Serialize;
use uuid::Uuid;

use crate::message::Usage;

/// A conversation as listed.
#[derive(Debug, Clone, Serialize)]
pub struct Conversation {
    /// Its identifier.
    pub id: Uuid,
    /// The first words of the first question, unless named.
    pub title: String,
    /// The model that answered last.
    pub model: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
    /// How many messages it holds, in all branches.
    pub messages: i64,
    /// The last message of the selected branch: what the next question follows.
    pub leaf: Option<Uuid>,
}

/// How far an answer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageState {
    /// All of it is here.
    Complete,
    /// It is being made.
    Streaming,
    /// A restart cut it.
    Interrupted,
    /// Its reader stopped it.
    Cancelled,
    /// The provider failed.
    Failed,
}

impl MessageState {
    /// Its name in the table and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Streaming => "streaming",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    pub(super) fn parse(word: &str) -> Self {
        match word {
            "complete" => Self::Complete,
            "streaming" => Self::Streaming,
            "interrupted" => Self::Interrupted,
            "cancelled" => Self::Cancelled,
            _ => Self::Failed,
        }
    }
}

/// A stored message.
#[derive(Debug, Clone, Serialize)]
pub struct StoredMessage {
    /// Its identifier.
    pub id: Uuid,
    /// The conversation.
    #[serde(skip)]
    pub conversation: Uuid,
    /// The message that it answers or follows.
    pub parent: Option<Uuid>,
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
    /// Reasoning text, where the provider shows it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reasoning: String,
    /// How far it has come.
    pub state: MessageState,
    /// The model asked.
    pub model: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// Tokens.
    pub usage: Option<Usage>,
    /// Where the answer came from.
    pub cache: Option<serde_json::Value>,
    /// What failed.
    pub error: Option<serde_json::Value>,
    /// The answer's stream.
    pub stream: Option<Uuid>,
    /// Its epoch.
    pub epoch: u32,
    /// The last number given.
    pub seq: u64,
    /// From the question to the end of the answer.
    pub elapsed_ms: Option<u64>,
    /// The messages beside it, itself among them, in the order of their making. Known where a branch was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub siblings: Option<Vec<Uuid>>,
}
