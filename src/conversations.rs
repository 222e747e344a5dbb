//! Conversations and their messages: made, listed, read, deleted; a turn is begun (question and empty answer, one
//! commit), checkpointed while it streams, and finished once. REST calls them sessions.

mod page;
mod sqlite;
mod stored;
mod turn;

use uuid::Uuid;

pub use page::Page;
pub use stored::{Conversation, MessageState, StoredMessage};
pub use turn::{BegunTurn, NewTurn, Outcome};

use crate::clock::{Clock, new_id, rfc3339};
use crate::db::{Db, DbError};
use crate::message::Role;

/// Why a conversation could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    /// No such conversation or message for this tenant.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The request contradicts what is stored.
    #[error("{0}")]
    Conflict(String),
    /// The store failed; nothing was changed.
    #[error("the conversation store failed")]
    Store(#[from] DbError),
}

/// The conversation store.
#[derive(Debug, Clone)]
pub struct Conversations {
    db: Db,
    clock: Clock,
}

impl Conversations {
    /// Over `db`, whose schema is [`crate::db::MigrationSet::ISH`].
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock }
    }

    /// Makes an empty conversation.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn create(&self, tenant: &str, title: Option<&str>) -> Result<Conversation, ConversationError> {
        let (id, now) = (new_id(), self.clock.now_ms());
        let title = title.map_or_else(|| "New chat".to_owned(), title_of);
        sqlite::insert_conversation(&self.db, tenant, id, &title, now).await?;
        Ok(Conversation { id, title, model: None, created_at: rfc3339(now), updated_at: rfc3339(now), messages: 0 })
    }

    /// The tenant's conversations, newest first, from `cursor` on.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn list(
        &self,
        tenant: &str,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<Conversation>, ConversationError> {
        let after = cursor.and_then(|cursor| {
            let (time, id) = cursor.split_once('.')?;
            Some((time.parse::<u64>().ok()?, id.parse::<Uuid>().ok()?))
        });
        let mut rows = sqlite::list_conversations(&self.db, tenant, limit + 1, after).await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(|(time, row)| format!("{time}.{}", row.id));
        Ok(Page { data: rows.into_iter().map(|(_, row)| row).collect(), next_cursor })
    }

    /// One conversation.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] also for another tenant's.
    pub async fn get(&self, tenant: &str, id: Uuid) -> Result<Conversation, ConversationError> {
        sqlite::conversation(&self.db, tenant, id).await?.ok_or(ConversationError::NotFound("session"))
    }

    /// Deletes a conversation with its messages.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] also for another tenant's.
    pub async fn delete(&self, tenant: &str, id: Uuid) -> Result<(), ConversationError> {
        if sqlite::delete_conversation(&self.db, tenant, id).await? {
            Ok(())
        } else {
            Err(ConversationError::NotFound("session"))
        }
    }

    /// The last `limit` messages before `before`, oldest first; the cursor leads further back.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] also for another tenant's.
    pub async fn messages(
        &self,
        tenant: &str,
        id: Uuid,
        limit: usize,
        before: Option<Uuid>,
    ) -> Result<Page<StoredMessage>, ConversationError> {
        self.get(tenant, id).await?;
        let mut rows = sqlite::messages(&self.db, tenant, id, limit + 1, before).await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        rows.reverse();
        let next_cursor = rows.first().filter(|_| more).map(|row| row.id.to_string());
        Ok(Page { data: rows, next_cursor })
    }

    /// One message.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] also for another tenant's.
    pub async fn message(&self, tenant: &str, id: Uuid) -> Result<StoredMessage, ConversationError> {
        sqlite::message(&self.db, tenant, id).await?.ok_or(ConversationError::NotFound("message"))
    }

    /// The message whose answer is `stream`.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] also for another tenant's.
    pub async fn message_of_stream(&self, tenant: &str, stream: Uuid) -> Result<StoredMessage, ConversationError> {
        sqlite::message_of_stream(&self.db, tenant, stream).await?.ok_or(ConversationError::NotFound("stream"))
    }

    /// The explanation recorded with an answer, as JSON text.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] when there is none.
    pub async fn explanation(&self, tenant: &str, message: Uuid) -> Result<String, ConversationError> {
        sqlite::explanation(&self.db, tenant, message).await?.ok_or(ConversationError::NotFound("explanation"))
    }

    /// Stores a question and its empty answer in one commit. The same `client_id` again finds the first turn.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] for a conversation of another tenant, [`ConversationError::Conflict`] for
    /// instructions to a conversation that has begun.
    pub async fn begin(&self, tenant: &str, turn: NewTurn) -> Result<BegunTurn, ConversationError> {
        if let Some(id) = turn.conversation {
            let known = self.get(tenant, id).await?;
            if turn.system.is_some() && known.messages > 0 {
                return Err(ConversationError::Conflict(
                    "`system` can only be given with the first message of a session".to_owned(),
                ));
            }
        }
        let title = title_of(&turn.content);
        Ok(sqlite::begin_turn(&self.db, tenant.to_owned(), turn, title, self.clock.now_ms()).await?)
    }

    /// Stores a further, empty answer to the question that `answer` answered.
    ///
    /// # Errors
    /// [`ConversationError::Conflict`] when `answer` is no assistant's message.
    pub async fn begin_again(
        &self,
        tenant: &str,
        answer: Uuid,
        client_id: Option<String>,
        model: &str,
    ) -> Result<BegunTurn, ConversationError> {
        let old = self.message(tenant, answer).await?;
        let (Some(question), true) = (old.parent, old.role == Role::Assistant.as_str()) else {
            return Err(ConversationError::Conflict("only an assistant's message can be made again".to_owned()));
        };
        let begun = BegunTurn {
            conversation: old.conversation,
            message: question,
            reply: new_id(),
            stream: new_id(),
            duplicate: false,
        };
        Ok(sqlite::begin_reply(&self.db, tenant.to_owned(), begun, client_id, model.to_owned(), self.clock.now_ms())
            .await?)
    }

    /// The turns that lead to `message`, oldest first, itself last: instructions always, then at most `window` others.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn history(
        &self,
        tenant: &str,
        message: Uuid,
        window: usize,
    ) -> Result<Vec<(Role, String)>, ConversationError> {
        Ok(sqlite::history(&self.db, tenant, message, window).await?)
    }

    /// Saves how far an answer has come.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn checkpoint(
        &self,
        reply: Uuid,
        content: String,
        reasoning: String,
        seq: u64,
    ) -> Result<(), ConversationError> {
        Ok(sqlite::checkpoint(&self.db, reply, content, reasoning, seq).await?)
    }

    /// Saves how an answer ended. An answer that has ended already stays as it is.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn finish(&self, reply: Uuid, outcome: Outcome) -> Result<(), ConversationError> {
        Ok(sqlite::finish(&self.db, reply, outcome, self.clock.now_ms()).await?)
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn check(&self) -> Result<(), ConversationError> {
        Ok(sqlite::check(&self.db).await?)
    }

    /// Marks the answers that a restart cut; returns how many there were. Called once, before the first request.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn interrupt_unfinished(&self) -> Result<u64, ConversationError> {
        Ok(sqlite::interrupt_unfinished(&self.db).await?)
    }
}

/// The first words of a question, at most 60 characters.
fn title_of(content: &str) -> String {
    let line = content.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None if line.is_empty() => "New chat".to_owned(),
        None => line,
    }
}
