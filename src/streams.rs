//! Answers that live: each answer to a stored question is a task of its own that outlives the socket it was asked on.
//! It numbers its deltas, keeps them for listeners that come late or come back, checkpoints the text, commits the end,
//! and only then says so.

mod afterlife;
mod ending;
mod log;
mod mirror;
mod redis;
mod relay;
mod run;
mod subscription;
mod takeover;
mod watch;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use self::redis::Tails;
use afterlife::Afterlife;
pub use ending::{ErrorFacts, Terminal, interrupted, stored_terminal};
pub use log::{LiveStream, PIECE_BYTES, Piece};
use run::Order;
pub use subscription::Subscription;

use crate::cache::CacheControl;
use crate::chat::{ChatError, ChatService};
use crate::conversations::{BegunTurn, ConversationError, Conversations, MessageState, NewTurn, StoredMessage, Window};
use crate::db::DbError;
use crate::keys::Principal;
use crate::limits::Pass;
use crate::message::{ChatRequest, InvalidRequest};
use crate::metrics::Metrics;
use crate::tasks::Queue;

/// Where an answer is.
pub enum Found {
    /// In memory, or being made elsewhere: it can be listened to.
    Live(Subscription),
    /// It has ended, and left memory.
    Stored(Box<StoredMessage>),
}

/// Why a question was not taken; nothing of it was stored.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The conversation.
    #[error(transparent)]
    Conversation(#[from] ConversationError),
    /// The request.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The model.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The server is about to stop.
    #[error("the server is about to stop")]
    Draining,
}

/// A question to be stored and answered.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The stored part, but for its model.
    pub turn: NewTurn,
    /// The model; `None`: the conversation's, or the default one.
    pub model: Option<String>,
    /// `temperature` and the like, as JSON members.
    pub params: serde_json::Map<String, serde_json::Value>,
    /// The caller's wishes about caching.
    pub control: CacheControl,
}

/// An answer that was stored before and is to be made again.
#[derive(Debug, Clone)]
pub struct Again {
    /// The old answer.
    pub message: Uuid,
    /// The client's own name for this wish.
    pub client_id: Option<String>,
    /// The model; `None`: the old answer's.
    pub model: Option<String>,
    /// `temperature` and the like, as JSON members.
    pub params: serde_json::Map<String, serde_json::Value>,
    /// The caller's wishes about caching.
    pub control: CacheControl,
}

/// What the streams are made of.
pub struct StreamParts {
    /// Who answers.
    pub chat: ChatService,
    /// Where questions and answers are kept.
    pub conversations: Conversations,
    /// Where the answers run.
    pub tasks: TaskTracker,
    /// Cancelled when what still runs must end.
    pub stop: CancellationToken,
    /// Where they count.
    pub metrics: Arc<Metrics>,
    /// The model of a new conversation that names none.
    pub default_model: String,
    /// What of a conversation is sent along.
    pub window: Window,
    /// Where summaries of what is not are asked for.
    pub queue: Queue,
    /// How long an answer goes on that nobody listens to.
    pub detach_limit: Duration,
    /// Bytes of ended answers that may be in memory.
    pub replay_bytes: usize,
    /// Where instances tell each other of their answers, besides the store.
    pub tails: Option<Tails>,
}

struct Inner {
    parts: StreamParts,
    running: Mutex<HashMap<Uuid, Arc<LiveStream>>>,
    ended: Afterlife,
    /// Those of other instances that somebody here listens to.
    mirrors: Mutex<HashMap<Uuid, Arc<LiveStream>>>,
    /// How many other instances there are.
    others: AtomicU64,
    draining: CancellationToken,
    /// Held for reading from before a turn is stored until its answer is open.
    opening: tokio::sync::RwLock<()>,
}

/// All answers of this process. Cloning is cheap.
#[derive(Clone)]
pub struct Streams {
    inner: Arc<Inner>,
}

impl Streams {
    /// Over its parts.
    pub fn new(parts: StreamParts) -> Self {
        let ended = Afterlife::new(parts.replay_bytes, Arc::clone(&parts.metrics));
        let inner = Inner {
            parts,
            running: Mutex::default(),
            ended,
            mirrors: Mutex::default(),
            others: AtomicU64::new(0),
            draining: CancellationToken::new(),
            opening: tokio::sync::RwLock::default(),
        };
        let streams = Self { inner: Arc::new(inner) };
        let parts = &streams.inner.parts;
        if let Some(tails) = parts.tails.clone() {
            parts.tasks.spawn(relay::attend(streams.clone(), tails));
        }
        streams
    }

    /// Stores a question and begins its answer, which keeps its `place` in work until it has ended, whoever listens. Once
    /// this returns, the question is durable.
    ///
    /// # Errors
    /// [`SendError`]; nothing was stored then.
    pub async fn send(
        &self,
        principal: &Principal,
        question: Question,
        place: Option<Pass>,
    ) -> Result<BegunTurn, SendError> {
        let (space, conversation) = (principal.space(), question.turn.conversation);
        let model = match &question.model {
            Some(named) => named.clone(),
            None => self.usual_model(&space, conversation).await?,
        };
        self.check(&question, &model).await?;
        let Question { turn, params, control, .. } = question;
        let turn = NewTurn { model, ..turn };
        let order = Order { principal: principal.clone(), model: turn.model.clone(), params, control, place };
        let (conversations, space) = (self.inner.parts.conversations.clone(), principal.space());
        let content = turn.content.clone();
        let begun = self.begin(order, async move { conversations.begin(&space, turn).await }).await?;
        if begun.duplicate {
            let earlier = self.inner.parts.conversations.message(&principal.space(), begun.message).await?;
            same_wish(earlier.content == content)?;
        }
        Ok(begun)
    }

    /// Begins a further answer to a question that has one, with a `place` as [`Streams::send`].
    ///
    /// # Errors
    /// [`SendError`]; nothing was stored then.
    pub async fn regenerate(
        &self,
        principal: &Principal,
        again: Again,
        place: Option<Pass>,
    ) -> Result<BegunTurn, SendError> {
        self.may_begin()?;
        let Again { message, client_id, model, params, control } = again;
        let model = match model {
            Some(named) => named,
            None => self.model_of_answer(&principal.space(), message).await?,
        };
        self.inner.parts.chat.router().route(&model).await.map_err(ChatError::from)?;
        let order = Order { principal: principal.clone(), model: model.clone(), params, control, place };
        let (conversations, space) = (self.inner.parts.conversations.clone(), principal.space());
        let store = async move { conversations.begin_again(&space, message, client_id, &model).await };
        let begun = self.begin(order, store).await?;
        if begun.duplicate {
            let old = self.inner.parts.conversations.message(&principal.space(), message).await?;
            same_wish(old.parent == Some(begun.message))?;
        }
        Ok(begun)
    }

    /// The model that a conversation was last answered by.
    async fn usual_model(&self, tenant: &str, conversation: Option<Uuid>) -> Result<String, SendError> {
        let known = match conversation {
            Some(id) => self.inner.parts.conversations.get(tenant, id).await?.model,
            None => None,
        };
        Ok(known.unwrap_or_else(|| self.inner.parts.default_model.clone()))
    }

    async fn model_of_answer(&self, tenant: &str, message: Uuid) -> Result<String, SendError> {
        let answer = self.inner.parts.conversations.message(tenant, message).await?;
        Ok(answer.model.unwrap_or_else(|| self.inner.parts.default_model.clone()))
    }

    /// Stores a turn and opens its answer in a task of its own: a caller that goes away between the two must not leave
    /// a question in the store that nobody answers.
    async fn begin(
        &self,
        order: Order,
        store: impl Future<Output = Result<BegunTurn, ConversationError>> + Send + 'static,
    ) -> Result<BegunTurn, SendError> {
        let streams = self.clone();
        let begun = self.inner.parts.tasks.spawn(async move {
            let opening = streams.inner.opening.read().await;
            let begun = store.await?;
            if !begun.duplicate {
                streams.open(begun, order);
                return Ok(begun);
            }
            drop(opening);
            // The first of its name may have been committed in the same group, and not have been opened yet.
            drop(streams.inner.opening.write().await);
            Ok(begun)
        });
        begun.await.unwrap_or(Err(SendError::Conversation(ConversationError::Store(DbError::Closed))))
    }

    /// Listens to an answer from behind `after`; `None` when it is not in memory.
    pub fn subscribe(&self, tenant: &str, stream: Uuid, after: u64) -> Option<Subscription> {
        let live = self.find(tenant, stream)?;
        Some(live.subscribe(after))
    }

    /// Looks for an answer wherever it is, and listens to it from behind `after` unless it has ended.
    ///
    /// # Errors
    /// [`ConversationError::NotFound`], also for another tenant's; [`ConversationError::Store`].
    pub async fn seek(&self, tenant: &str, stream: Uuid, after: u64) -> Result<Found, ConversationError> {
        if let Some(subscription) = self.subscribe(tenant, stream, after) {
            return Ok(Found::Live(subscription));
        }
        let message = self.inner.parts.conversations.message_of_stream(tenant, stream).await?;
        // It may have been begun here meanwhile.
        if let Some(subscription) = self.subscribe(tenant, stream, after) {
            return Ok(Found::Live(subscription));
        }
        if message.state != MessageState::Streaming {
            return Ok(Found::Stored(Box::new(message)));
        }
        Ok(Found::Live(self.mirror(tenant, stream, &message).subscribe(after)))
    }

    /// What another instance makes, for those who listen here.
    fn mirror(&self, tenant: &str, stream: Uuid, message: &StoredMessage) -> Arc<LiveStream> {
        let mut mirrors = self.inner.mirrors.lock().unwrap_or_else(PoisonError::into_inner);
        let live = mirrors.entry(stream).or_insert_with(|| {
            let live = LiveStream::stored(tenant.to_owned(), message);
            self.inner.parts.tasks.spawn(mirror::follow(self.clone(), Arc::clone(&live)));
            live
        });
        Arc::clone(live)
    }

    /// How many answers of other instances are followed.
    fn mirrored(&self) -> usize {
        self.inner.mirrors.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Forgets another's answer that nobody listens to any more.
    fn forget_deserted(&self, live: &Arc<LiveStream>) -> bool {
        let mut mirrors = self.inner.mirrors.lock().unwrap_or_else(PoisonError::into_inner);
        // Besides the map and the two of its task, whoever is about to listen holds it already.
        let is_deserted = live.listeners() == 0 && Arc::strong_count(live) == 3;
        is_deserted && mirrors.remove(&live.begun.stream).is_some()
    }

    /// Ends an answer at its reader's wish. False when it is not running.
    pub fn cancel(&self, tenant: &str, stream: Uuid) -> bool {
        let running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(live) = running.get(&stream).filter(|live| live.tenant == tenant) else { return false };
        live.cancel.cancel();
        true
    }

    /// Ends the running answers of a conversation, which is about to be deleted.
    pub fn cancel_conversation(&self, tenant: &str, conversation: Uuid) {
        let running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        for live in running.values().filter(|live| live.tenant == tenant && live.begun.conversation == conversation) {
            live.cancel.cancel();
        }
    }

    /// Says that the server is about to stop: who asks over a socket is to go elsewhere. Running answers go on, and what was
    /// on its way here is taken until the stop.
    pub fn drain(&self) {
        self.inner.draining.cancel();
    }

    /// Whether a drain has begun.
    pub fn is_draining(&self) -> bool {
        self.inner.draining.is_cancelled()
    }

    /// The answers that are being made.
    fn lives(&self) -> Vec<Arc<LiveStream>> {
        let running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.values().map(Arc::clone).collect()
    }

    /// How many answers are being made.
    pub fn running(&self) -> usize {
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Resolves when a drain begins.
    pub async fn draining(&self) {
        self.inner.draining.cancelled().await;
    }

    fn find(&self, tenant: &str, stream: Uuid) -> Option<Arc<LiveStream>> {
        let running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).get(&stream).cloned();
        let mirrored = || self.inner.mirrors.lock().unwrap_or_else(PoisonError::into_inner).get(&stream).cloned();
        let found = running.or_else(|| self.inner.ended.get(stream)).or_else(mirrored);
        found.filter(|live| live.tenant == tenant)
    }

    /// Everything that could make the answer impossible is refused before the question is stored.
    async fn check(&self, question: &Question, model: &str) -> Result<(), SendError> {
        self.may_begin()?;
        if question.turn.content.trim().is_empty() {
            return Err(InvalidRequest::of("content", "`content` must not be empty").into());
        }
        ChatRequest::build(model, &[(crate::message::Role::User, &question.turn.content)], &question.params)?;
        self.inner.parts.chat.router().route(model).await.map_err(ChatError::from)?;
        Ok(())
    }

    /// What is begun after the stop would only be cut.
    fn may_begin(&self) -> Result<(), SendError> {
        if self.inner.parts.stop.is_cancelled() { Err(SendError::Draining) } else { Ok(()) }
    }

    fn open(&self, begun: BegunTurn, order: Order) {
        let live = LiveStream::new(order.principal.space(), begun);
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner).insert(begun.stream, Arc::clone(&live));
        self.inner.parts.tasks.spawn(run::run(self.clone(), live, order));
    }
}

/// A name stands for one wish: under another one, the first one's answer would be taken for its own.
fn same_wish(is_same: bool) -> Result<(), SendError> {
    if is_same {
        return Ok(());
    }
    let message = "the `id` was taken for another question: choose one that is new for each";
    Err(ConversationError::Conflict(message.to_owned()).into())
}
