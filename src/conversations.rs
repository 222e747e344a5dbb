//! Conversations and their messages: made, listed, read, deleted; a turn is begun (question and empty answer, one
//! commit), checkpointed while it streams, and finished once. REST calls them sessions.

mod export;
mod page;
mod postgres;
mod search;
mod snippet;
mod sqlite;
mod stored;
#[cfg(test)]
mod tests;
mod turn;
mod window;
mod words;

use std::time::Duration;

use uuid::Uuid;

pub use export::ExportFormat;
pub use page::{ListCursor, Page, Slice};
pub use search::{Found, Match, SearchQuery, SnippetPart};
pub use stored::{Conversation, MessageState, StoredMessage};
pub use turn::{BegunTurn, Hold, NewTurn, Orphan, Outcome, Parent, Progress};
pub use window::{History, Passage, Summary, Window};

use crate::clock::{Clock, new_id, rfc3339};
use crate::db::{Db, DbError, query};
use crate::message::{InvalidRequest, Role};
use crate::tasks::{NewTask, Queue};

/// Characters of a title that a person gives.
const MAX_TITLE: usize = 200;

/// Messages that one write deletes: each leaves the search index too, and other writes wait for it.
const DELETED_AT_ONCE: usize = 500;

/// Why a conversation could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    /// No such conversation or message for this tenant.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The request contradicts what is stored.
    #[error("{0}")]
    Conflict(String),
    /// What was asked for cannot be.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The store failed; nothing was changed.
    #[error("the conversation store failed")]
    Store(#[from] DbError),
}

/// The conversation store.
#[derive(Debug, Clone)]
pub struct Conversations {
    db: Db,
    clock: Clock,
    /// Whose the answers are that are begun here.
    owner: Uuid,
}

impl Conversations {
    /// Over `db`, whose schema is [`crate::db::MigrationSet::ISH`]; answers belong to the process `owner`.
    pub fn new(db: Db, clock: Clock, owner: Uuid) -> Self {
        Self { db, clock, owner }
    }

    /// Makes an empty conversation.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn create(&self, tenant: &str, title: Option<&str>) -> Result<Conversation, ConversationError> {
        let (id, now) = (new_id(), self.clock.now_ms());
        let title = title.map_or_else(|| "New chat".to_owned(), title_of);
        query!(&self.db, insert_conversation(tenant, id, &title, now))?;
        Ok(Conversation {
            id,
            title,
            model: None,
            created_at: rfc3339(now),
            updated_at: rfc3339(now),
            messages: 0,
            leaf: None,
        })
    }

    /// The tenant's conversations, newest first, behind the cursor's place.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn list(
        &self,
        tenant: &str,
        slice: Slice,
        after: Option<ListCursor>,
    ) -> Result<Page<Conversation>, ConversationError> {
        let mut rows = query!(&self.db, list_conversations(tenant, slice, after))?;
        let more = slice.cut(&mut rows);
        let next_cursor = more.cursor(rows.last().map(|(place, _)| place));
        let data = rows.into_iter().map(|(_, row)| row).collect();
        Ok(Page { data, next_cursor, next_offset: more.next_offset() })
    }

    /// The tenant's conversations whose title or messages hold what is looked for, best first. The order has no cursors.
    ///
    /// # Errors
    /// [`ConversationError::Invalid`] for a query that looks for too much, [`ConversationError::Store`], also with
    /// [`DbError::TooLong`].
    pub async fn search(
        &self,
        tenant: &str,
        query: &SearchQuery,
        slice: Slice,
    ) -> Result<Page<Found>, ConversationError> {
        query.check()?;
        let mut data = query!(&self.db, search(tenant, query, slice))?;
        let more = slice.cut(&mut data);
        Ok(Page { data, next_cursor: None, next_offset: more.next_offset() })
    }

    /// Gives a conversation another title. Its place in the list stays.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] also for another tenant's, [`ConversationError::Invalid`] for an empty title or one
    /// of more than 200 characters.
    pub async fn rename(&self, tenant: &str, id: Uuid, title: &str) -> Result<(), ConversationError> {
        let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        if !(1..=MAX_TITLE).contains(&title.chars().count()) {
            let fault = format!("`title` takes 1 to {MAX_TITLE} characters");
            return Err(InvalidRequest::of("title", fault).into());
        }
        if query!(&self.db, rename_conversation(tenant, id, title))? {
            Ok(())
        } else {
            Err(ConversationError::NotFound("session"))
        }
    }

    /// One conversation.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] also for another tenant's.
    pub async fn get(&self, tenant: &str, id: Uuid) -> Result<Conversation, ConversationError> {
        query!(&self.db, conversation(tenant, id))?.ok_or(ConversationError::NotFound("session"))
    }

    /// Deletes a conversation with its messages. Of a long one the messages go first, a part at a time, so that others
    /// write meanwhile; dropping the future leaves what was not deleted yet.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] also for another tenant's.
    pub async fn delete(&self, tenant: &str, id: Uuid) -> Result<(), ConversationError> {
        while self.get(tenant, id).await?.messages > DELETED_AT_ONCE as i64 {
            query!(&self.db, delete_newest_messages(tenant, id, DELETED_AT_ONCE))?;
        }
        if query!(&self.db, delete_conversation(tenant, id))? {
            Ok(())
        } else {
            Err(ConversationError::NotFound("session"))
        }
    }

    /// The last messages before `before`, of all branches, oldest first; the cursor leads further back.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] also for another tenant's.
    pub async fn messages(
        &self,
        tenant: &str,
        id: Uuid,
        slice: Slice,
        before: Option<Uuid>,
    ) -> Result<Page<StoredMessage>, ConversationError> {
        let rows = query!(&self.db, messages(tenant, id, slice, before))?;
        self.newest_page(tenant, id, slice, rows).await
    }

    /// As [`Conversations::messages`], of one branch: the one that ends with `leaf`, or the selected one. Each message
    /// knows what stands beside it.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] also for another tenant's.
    pub async fn branch(
        &self,
        tenant: &str,
        id: Uuid,
        leaf: Option<Uuid>,
        slice: Slice,
        before: Option<Uuid>,
    ) -> Result<Page<StoredMessage>, ConversationError> {
        let rows = query!(&self.db, branch(tenant, id, leaf, slice, before))?;
        if let (true, Some(leaf)) = (rows.is_empty(), leaf) {
            self.message_in(tenant, id, leaf).await?;
        }
        self.newest_page(tenant, id, slice, rows).await
    }

    /// A page from rows that came with the last first. Only where none came is it asked whether there could be any: an
    /// opened conversation is one read.
    async fn newest_page(
        &self,
        tenant: &str,
        id: Uuid,
        slice: Slice,
        mut rows: Vec<StoredMessage>,
    ) -> Result<Page<StoredMessage>, ConversationError> {
        if rows.is_empty() {
            self.get(tenant, id).await?;
        }
        let more = slice.cut(&mut rows);
        rows.reverse();
        let next_cursor = more.cursor(rows.first().map(|row| row.id));
        Ok(Page { data: rows, next_cursor, next_offset: more.next_offset() })
    }

    /// Selects the branch that goes through `message`, to the end that was written last: the next question follows that.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] also for a message of another conversation.
    pub async fn select(&self, tenant: &str, id: Uuid, message: Uuid) -> Result<(), ConversationError> {
        let leaf = query!(&self.db, newest_below(tenant, id, message))?;
        let leaf = leaf.ok_or(ConversationError::NotFound("message in this session"))?;
        Ok(query!(&self.db, select(tenant, id, leaf))?)
    }

    /// A message, if it is one of this conversation's.
    async fn message_in(
        &self,
        tenant: &str,
        conversation: Uuid,
        message: Uuid,
    ) -> Result<StoredMessage, ConversationError> {
        let found = query!(&self.db, message(tenant, message))?;
        let found = found.filter(|found| found.conversation == conversation);
        found.ok_or(ConversationError::NotFound("message in this session"))
    }

    /// One message.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] also for another tenant's.
    pub async fn message(&self, tenant: &str, id: Uuid) -> Result<StoredMessage, ConversationError> {
        query!(&self.db, message(tenant, id))?.ok_or(ConversationError::NotFound("message"))
    }

    /// The message whose answer is `stream`.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] also for another tenant's.
    pub async fn message_of_stream(&self, tenant: &str, stream: Uuid) -> Result<StoredMessage, ConversationError> {
        query!(&self.db, message_of_stream(tenant, stream))?.ok_or(ConversationError::NotFound("stream"))
    }

    /// The explanation recorded with an answer, as JSON text.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] when there is none.
    pub async fn explanation(&self, tenant: &str, message: Uuid) -> Result<String, ConversationError> {
        query!(&self.db, explanation(tenant, message))?.ok_or(ConversationError::NotFound("explanation"))
    }

    /// Stores a question and its empty answer in one commit. The same `client_id` again finds the first turn.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`] for a conversation of another tenant or a parent of another conversation,
    /// [`ConversationError::Conflict`] for instructions to a conversation that has begun, and for a question that would
    /// follow a question.
    pub async fn begin(&self, tenant: &str, turn: NewTurn) -> Result<BegunTurn, ConversationError> {
        if let Some(id) = turn.conversation {
            self.check_place(tenant, id, &turn).await?;
        }
        let title = title_of(&turn.content);
        let begun = query!(&self.db, begin_turn(tenant.to_owned(), turn, title, self.owner, self.clock.now_ms()))?;
        begun.ok_or(ConversationError::NotFound("session"))
    }

    /// Whether a turn fits its conversation. One that is only to follow what was selected last always does.
    async fn check_place(&self, tenant: &str, id: Uuid, turn: &NewTurn) -> Result<(), ConversationError> {
        if turn.system.is_some() && self.get(tenant, id).await?.messages > 0 {
            let fault = "`system` can only be given with the first message of a session";
            return Err(ConversationError::Conflict(fault.to_owned()));
        }
        if let Parent::Message(parent) = turn.parent {
            self.get(tenant, id).await?;
            if self.message_in(tenant, id, parent).await?.role == Role::User.as_str() {
                let fault = "`parent_id` names a question; a question follows an answer";
                return Err(ConversationError::Conflict(fault.to_owned()));
            }
        }
        Ok(())
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
        let (tenant, model, now) = (tenant.to_owned(), model.to_owned(), self.clock.now_ms());
        Ok(query!(&self.db, begin_reply(tenant, begun, client_id, model, self.owner, now))?)
    }

    /// Saves how far an answer has come, as long as it belongs to this process.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn checkpoint(&self, tenant: &str, reply: Uuid, progress: Progress) -> Result<Hold, ConversationError> {
        Ok(query!(&self.db, checkpoint(tenant, reply, self.owner, progress))?)
    }

    /// Saves how an answer ended, as long as it belongs to this process; false where it does not, or is gone. An answer
    /// that has ended already stays as it is.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn finish(&self, tenant: &str, reply: Uuid, outcome: Outcome) -> Result<bool, ConversationError> {
        Ok(query!(&self.db, finish(tenant, reply, self.owner, outcome, None, self.clock.now_ms()))?)
    }

    /// The same, and enqueues what is to follow, in one commit: there is a task exactly if the answer has ended.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn finish_and_enqueue(
        &self,
        tenant: &str,
        reply: Uuid,
        outcome: Outcome,
        (queue, task): (&Queue, NewTask),
    ) -> Result<bool, ConversationError> {
        let (follows, now) = (Some((queue.clone(), task)), self.clock.now_ms());
        let has_ended = query!(&self.db, finish(tenant, reply, self.owner, outcome, follows, now))?;
        if has_ended {
            queue.wake();
        }
        Ok(has_ended)
    }

    /// Takes over unfinished answers, of any tenant, whose owner is dead: on a server one that has given no sign of life
    /// for `lease`, on a file any other. Each begins its next epoch, and its old owner can save nothing more.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn claim(&self, lease: Duration, limit: usize) -> Result<Vec<Orphan>, ConversationError> {
        Ok(query!(&self.db, claim(self.owner, lease, limit))?)
    }

    /// Saves how far an answer has come, and gives it up: whoever claims first has it. False where it did not belong to
    /// this process.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn release(&self, tenant: &str, reply: Uuid, progress: Progress) -> Result<bool, ConversationError> {
        Ok(query!(&self.db, release(tenant, reply, self.owner, progress))?)
    }

    /// Asks an answer's owner, whoever it is, to end it. False where it is not being made.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn want_cancel(&self, tenant: &str, stream: Uuid) -> Result<bool, ConversationError> {
        Ok(query!(&self.db, want_cancel(tenant, stream))?)
    }

    /// The answers of this process that somebody asked to end.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn cancels(&self) -> Result<Vec<Uuid>, ConversationError> {
        Ok(query!(&self.db, cancels(self.owner))?)
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// [`ConversationError::Store`].
    pub async fn check(&self) -> Result<(), ConversationError> {
        Ok(self.db.check().await?)
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
