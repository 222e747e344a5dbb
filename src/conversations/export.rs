//! A conversation as a file, made piece by piece: however long it is, one page of it is held at a time. JSON holds every
//! message of every branch, for programs; Markdown is one branch, for people.

use std::fmt::Write;
use std::str::FromStr;

use futures_util::Stream;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{Conversation, ConversationError, Conversations, MessageState, StoredMessage, postgres, sqlite};
use crate::db::query;
use crate::message::InvalidRequest;

/// Messages held at a time.
const PAGE: usize = 32;

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// All branches: `{"format": "ish.session", "version": 1, "session", "messages", "summaries"}`.
    Json,
    /// One branch.
    Markdown,
}

impl ExportFormat {
    /// What a file of it is called at its end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Markdown => "md",
        }
    }
}

impl FromStr for ExportFormat {
    type Err = InvalidRequest;

    fn from_str(name: &str) -> Result<Self, InvalidRequest> {
        match name {
            "json" => Ok(Self::Json),
            "markdown" => Ok(Self::Markdown),
            _ => Err(InvalidRequest::of("format", "`format` takes json and markdown")),
        }
    }
}

/// Where an export is.
enum Stage {
    Head,
    /// JSON: the last message written.
    All(Option<Uuid>),
    /// JSON: the last summary written, by its message.
    Summaries(Option<Uuid>),
    /// Markdown: what is left of the branch.
    Branch(std::vec::IntoIter<Uuid>),
    Done,
}

struct Export {
    conversations: Conversations,
    tenant: String,
    conversation: Conversation,
    leaf: Option<Uuid>,
    format: ExportFormat,
    stage: Stage,
}

impl Conversations {
    /// Begins an export; its pieces come as they are asked for. Markdown follows the branch that ends with `leaf`, or the
    /// selected one. A conversation that is deleted meanwhile ends it with an error, never as a whole file.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] also for another tenant's.
    pub async fn export(
        &self,
        tenant: &str,
        id: Uuid,
        format: ExportFormat,
        leaf: Option<Uuid>,
    ) -> Result<(Conversation, impl Stream<Item = Result<String, ConversationError>> + Send + use<>), ConversationError>
    {
        let conversation = self.get(tenant, id).await?;
        if let Some(leaf) = leaf {
            self.message_in(tenant, id, leaf).await?;
        }
        let export = Export {
            conversations: self.clone(),
            tenant: tenant.to_owned(),
            leaf: leaf.or(conversation.leaf),
            conversation: conversation.clone(),
            format,
            stage: Stage::Head,
        };
        let pieces = futures_util::stream::try_unfold(export, |mut export| async move {
            Ok(export.piece().await?.map(|piece| (piece, export)))
        });
        Ok((conversation, pieces))
    }
}

impl Export {
    async fn piece(&mut self) -> Result<Option<String>, ConversationError> {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Head => self.head().await.map(Some),
            Stage::All(last) => self.all(last).await.map(Some),
            Stage::Summaries(last) => self.summaries(last).await.map(Some),
            Stage::Branch(left) => self.branch(left).await,
            Stage::Done => Ok(None),
        }
    }

    async fn head(&mut self) -> Result<String, ConversationError> {
        if self.format == ExportFormat::Json {
            self.stage = Stage::All(None);
            let session = json!(self.conversation);
            return Ok(format!(r#"{{"format":"ish.session","version":1,"session":{session},"messages":["#));
        }
        let ids = match self.leaf {
            Some(leaf) => query!(&self.conversations.db, branch_ids(&self.tenant, self.conversation.id, leaf))?,
            None => Vec::new(),
        };
        self.stage = Stage::Branch(ids.into_iter());
        Ok(format!("# {}\n", self.conversation.title))
    }

    async fn all(&mut self, last: Option<Uuid>) -> Result<String, ConversationError> {
        let (db, id) = (&self.conversations.db, self.conversation.id);
        let messages = query!(db, messages_after(&self.tenant, id, last, PAGE))?;
        let Some(end) = messages.last() else {
            // A conversation that is gone looks like one that has ended.
            self.conversations.get(&self.tenant, id).await?;
            self.stage = Stage::Summaries(None);
            return Ok("\n],\"summaries\":[".to_owned());
        };
        self.stage = Stage::All(Some(end.id));
        Ok(rows(&messages, last.is_none()))
    }

    async fn summaries(&mut self, last: Option<Uuid>) -> Result<String, ConversationError> {
        let (db, id) = (&self.conversations.db, self.conversation.id);
        let summaries = query!(db, summaries_after(&self.tenant, id, last, PAGE))?;
        let Some(end) = summaries.last() else { return Ok("\n]}\n".to_owned()) };
        self.stage = Stage::Summaries(Some(end.message));
        Ok(rows(&summaries, last.is_none()))
    }

    async fn branch(&mut self, mut left: std::vec::IntoIter<Uuid>) -> Result<Option<String>, ConversationError> {
        let ids: Vec<Uuid> = left.by_ref().take(PAGE).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let messages = query!(&self.conversations.db, messages_by_id(&self.tenant, &ids))?;
        if messages.len() < ids.len() {
            return Err(ConversationError::NotFound("session any more"));
        }
        self.stage = Stage::Branch(left);
        Ok(Some(messages.iter().map(markdown).collect()))
    }
}

/// So many more of a list, which these may begin.
fn rows(rows: &[impl Serialize], is_first: bool) -> String {
    let mut piece = String::new();
    for (position, row) in rows.iter().enumerate() {
        piece.push_str(if position == 0 && is_first { "\n" } else { ",\n" });
        piece.push_str(&json!(row).to_string());
    }
    piece
}

/// A message under a heading that says whose it is.
fn markdown(message: &StoredMessage) -> String {
    let who = match (message.role.as_str(), &message.model) {
        ("user", _) => "You".to_owned(),
        ("system", _) => "Instructions".to_owned(),
        (_, Some(model)) => format!("Answer of {model}"),
        (_, None) => "Answer".to_owned(),
    };
    let mut text = format!("\n## {who}\n\n");
    if !message.content.is_empty() {
        let _ = writeln!(text, "{}", message.content.trim_end());
    }
    let fate = match message.state {
        MessageState::Complete => return text,
        MessageState::Streaming => "still being written",
        MessageState::Interrupted => "cut by a restart",
        MessageState::Cancelled => "stopped by its reader",
        MessageState::Failed => "failed",
    };
    let _ = writeln!(text, "\n*({fate})*");
    text
}
