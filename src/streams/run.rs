//! The task that makes one answer: asks, numbers, checkpoints, commits the end, and then says so.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Streams;
use super::log::{ErrorFacts, LiveStream, Terminal};
use crate::cache::CacheControl;
use crate::chat::{Answer, Ask, Broken, CacheReport, ChatError, Event};
use crate::conversations::{MessageState, Outcome, Progress};
use crate::keys::Principal;
use crate::limits::Pass;
use crate::message::{ChatRequest, FinishReason, Role, Usage};
use crate::upstream::Failure;

/// The text is saved at least this often while it grows, or after this many bytes.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
const CHECKPOINT_BYTES: usize = 2 * 1024;

/// How an answer came to its end.
enum Ended {
    Complete { finish_reason: Option<FinishReason>, usage: Option<Usage>, stored: bool, report: CacheReport },
    Failed { facts: ErrorFacts, report: Option<CacheReport> },
    Cancelled,
    Stopped,
}

/// What an answer is asked with, besides its conversation.
pub(super) struct Order {
    pub principal: Principal,
    pub model: String,
    pub params: serde_json::Map<String, Value>,
    pub control: CacheControl,
    pub place: Option<Pass>,
}

pub(super) async fn run(streams: Streams, live: Arc<LiveStream>, mut order: Order) {
    let _place = order.place.take();
    let parts = &streams.inner.parts;
    parts.metrics.streams_running.inc();
    let started = Instant::now();
    let model = order.model.clone();
    let mut explanation = None;
    let ended = tokio::select! {
        biased;
        () = live.cancel.cancelled() => Ended::Cancelled,
        () = parts.stop.cancelled() => Ended::Stopped,
        ended = make(&streams, &live, order, &mut explanation) => ended,
    };
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (outcome, terminal) = conclude(&live, ended, model, elapsed_ms, explanation);
    let reply = live.begun.reply;
    // The end is said only once it is durable; a store that fails is said instead.
    let finished = parts.conversations.finish(&live.tenant, reply, outcome).await;
    streams.inner.ended.keep(&live);
    match finished {
        Ok(()) => live.end(terminal),
        Err(error) => {
            tracing::error!(%error, %reply, "the end of an answer could not be stored");
            let facts = ErrorFacts {
                code: "store_failed".to_owned(),
                message: "the answer could not be stored".to_owned(),
                retryable: true,
                partial: live.len() > 0,
                retry_after_ms: None,
            };
            live.end(Terminal::Error(facts));
        }
    }
    streams.inner.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&live.begun.stream);
    parts.metrics.streams_running.dec();
}

/// Asks, and writes the pieces into the log.
async fn make(streams: &Streams, live: &Arc<LiveStream>, order: Order, explanation: &mut Option<String>) -> Ended {
    let replay = order.control.replay;
    let ask = match prepare(streams, live, order).await {
        Ok(ask) => ask,
        Err(facts) => return Ended::Failed { facts, report: None },
    };
    let answer = match streams.inner.parts.chat.respond(ask.clone()).await {
        Ok(answer) => answer,
        Err(failure) => return Ended::Failed { facts: facts(&failure), report: None },
    };
    let Answer { mut report, explanation: explained, source } = answer;
    *explanation = explained.and_then(|explained| serde_json::to_string(&explained).ok());
    live.set_origin(report.json(None));
    let mut events = source.into_events(replay);
    let mut watch = Watch::new(streams, live);
    let mut broken = Vec::new();
    loop {
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            () = watch.tick() => {
                if watch.is_deserted() {
                    return Ended::Cancelled;
                }
                continue;
            }
        };
        match event {
            Some(Event::Delta(delta)) => {
                live.push(&delta.text, &delta.reasoning);
                watch.grown();
            }
            Some(Event::End { finish_reason, usage, stored }) => {
                return Ended::Complete { finish_reason, usage, stored, report };
            }
            Some(Event::Failed(failure)) => {
                // After the first token another provider begins anew, and the reader is told: never two answers as one.
                broken.extend(report.served.by().map(|by| Broken { by: by.clone(), kind: failure.kind }));
                if let Some(answer) = streams.inner.parts.chat.respond_elsewhere(&ask, &broken).await {
                    live.restart(answer.report.json(None));
                    watch.restarted();
                    (report, events) = (answer.report, answer.source.into_events(replay));
                    continue;
                }
                return Ended::Failed { facts: facts(&failure.into()), report: Some(report) };
            }
            None => {
                let failure = Failure::new(crate::upstream::FailureKind::Cut, "the answer ended without its end");
                return Ended::Failed { facts: facts(&failure.into()), report: Some(report) };
            }
        }
    }
}

/// The request: the question with its history window.
async fn prepare(streams: &Streams, live: &LiveStream, mut order: Order) -> Result<Ask, ErrorFacts> {
    let parts = &streams.inner.parts;
    let refused = |code: &str, error: &dyn std::error::Error| ErrorFacts {
        code: code.to_owned(),
        message: error.to_string(),
        retryable: false,
        partial: false,
        retry_after_ms: None,
    };
    let history = parts.conversations.history(&live.tenant, live.begun.message, parts.history_window).await;
    let history = history.map_err(|error| ErrorFacts { retryable: true, ..refused("store_failed", &error) })?;
    order.params.insert("stream".to_owned(), true.into());
    let turns = from_a_question(&history);
    let request = ChatRequest::build(&order.model, &turns, &order.params)
        .map_err(|error| refused("invalid_request_error", &error))?;
    Ok(Ask { request: Arc::new(request), principal: order.principal, control: order.control, explain: true })
}

/// The turns to send: a window may begin in the middle of an exchange, and providers want a user's turn first.
fn from_a_question(history: &[(Role, String)]) -> Vec<(Role, &str)> {
    let mut begun = false;
    let sent = history.iter().filter(|(role, _)| {
        begun |= *role == Role::User;
        begun || *role == Role::System
    });
    sent.map(|(role, text)| (*role, text.as_str())).collect()
}

/// Saves the growing text, and notices when nobody has listened for too long.
struct Watch<'a> {
    streams: &'a Streams,
    live: &'a Arc<LiveStream>,
    saved_bytes: usize,
    saving: Option<JoinHandle<()>>,
    next: Instant,
    listened: Instant,
}

impl<'a> Watch<'a> {
    fn new(streams: &'a Streams, live: &'a Arc<LiveStream>) -> Self {
        let now = Instant::now();
        Self { streams, live, saved_bytes: 0, saving: None, next: now + CHECKPOINT_EVERY, listened: now }
    }

    async fn tick(&mut self) {
        tokio::time::sleep_until(self.next).await;
        self.save();
    }

    /// What was saved is void; the next look saves what there is then.
    fn restarted(&mut self) {
        self.saved_bytes = 0;
    }

    fn grown(&mut self) {
        if self.live.len() - self.saved_bytes >= CHECKPOINT_BYTES.max(self.saved_bytes / 8)
            || Instant::now() >= self.next
        {
            self.save();
        }
    }

    /// Saves in the background, one at a time: each writes the whole text. A late checkpoint cannot overwrite the end, which
    /// leaves the state it asks for.
    fn save(&mut self) {
        self.next = Instant::now() + CHECKPOINT_EVERY;
        if self.live.listeners() > 0 {
            self.listened = Instant::now();
        }
        if self.live.len() == self.saved_bytes || self.saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
            return;
        }
        self.saved_bytes = self.live.len();
        let (conversations, live) = (self.streams.inner.parts.conversations.clone(), Arc::clone(self.live));
        self.saving = Some(self.streams.inner.parts.tasks.spawn(async move {
            if let Err(error) = conversations.checkpoint(&live.tenant, live.begun.reply, live.progress()).await {
                tracing::warn!(%error, "a checkpoint could not be stored; the next one holds it too");
            }
        }));
    }

    fn is_deserted(&self) -> bool {
        self.listened.elapsed() >= self.streams.inner.parts.detach_limit
    }
}

/// What is stored about the end, and what is said about it.
fn conclude(
    live: &LiveStream,
    ended: Ended,
    model: String,
    elapsed_ms: u64,
    explanation: Option<String>,
) -> (Outcome, Terminal) {
    let Progress { content, reasoning, seq, epoch } = live.progress();
    let text_blake3 = blake3::hash(content.as_bytes()).to_hex().to_string();
    let partial = !content.is_empty();
    let mut outcome = Outcome {
        state: MessageState::Complete,
        content,
        reasoning,
        epoch,
        seq,
        finish_reason: None,
        usage: None,
        cache: None,
        explanation,
        error: None,
        elapsed_ms,
    };
    let terminal = match ended {
        Ended::Complete { finish_reason, usage, stored, report } => {
            let cache = report.json(Some(stored));
            outcome.finish_reason = finish_reason.as_ref().map(|reason| reason.as_str().to_owned());
            outcome.usage = usage;
            outcome.cache = Some(cache.to_string());
            Terminal::Done {
                finish_reason: outcome.finish_reason.clone(),
                usage,
                cache,
                model,
                elapsed_ms,
                text_blake3,
            }
        }
        Ended::Cancelled => {
            outcome.state = MessageState::Cancelled;
            Terminal::Cancelled { text_blake3 }
        }
        Ended::Stopped => {
            outcome.state = MessageState::Interrupted;
            Terminal::Error(interrupted(partial))
        }
        Ended::Failed { facts, report } => {
            let facts = ErrorFacts { partial, ..facts };
            outcome.state = MessageState::Failed;
            outcome.cache = report.map(|report| report.json(Some(false)).to_string());
            outcome.error = serde_json::to_string(&facts).ok();
            // Not its message: providers quote prompts, and keys, in theirs.
            tracing::warn!(code = facts.code, partial, "an answer failed");
            Terminal::Error(facts)
        }
    };
    (outcome, terminal)
}

/// The end of an answer that a restart cut.
pub(super) fn interrupted(partial: bool) -> ErrorFacts {
    ErrorFacts {
        code: "interrupted".to_owned(),
        message: "the server stopped in the middle of this answer".to_owned(),
        retryable: true,
        partial,
        retry_after_ms: None,
    }
}

fn facts(error: &ChatError) -> ErrorFacts {
    let (message, retryable, retry_after) = match error {
        ChatError::Upstream(failure) => (failure.to_string(), failure.kind.is_retryable(), failure.retry_after),
        ChatError::Refused(refusal) => (refusal.to_string(), refusal.is_retryable(), refusal.retry_after()),
        _ => (error.to_string(), false, None),
    };
    ErrorFacts {
        code: error.code().to_owned(),
        message,
        retryable,
        partial: false,
        retry_after_ms: retry_after.and_then(|wait| u64::try_from(wait.as_millis()).ok()),
    }
}

/// The recorded end of an answer that has left memory, from its stored message.
pub fn stored_terminal(message: &crate::conversations::StoredMessage) -> Option<Terminal> {
    let text_blake3 = blake3::hash(message.content.as_bytes()).to_hex().to_string();
    let partial = !message.content.is_empty();
    Some(match message.state {
        MessageState::Streaming => return None,
        MessageState::Complete => Terminal::Done {
            finish_reason: message.finish_reason.clone(),
            usage: message.usage,
            cache: message.cache.clone().unwrap_or(Value::Null),
            model: message.model.clone().unwrap_or_default(),
            elapsed_ms: message.elapsed_ms.unwrap_or_default(),
            text_blake3,
        },
        MessageState::Cancelled => Terminal::Cancelled { text_blake3 },
        MessageState::Interrupted => Terminal::Error(interrupted(partial)),
        MessageState::Failed => {
            let said = |name: &str| message.error.as_ref().and_then(|error| error.get(name));
            let text = |name: &str| said(name).and_then(Value::as_str).map(str::to_owned);
            Terminal::Error(ErrorFacts {
                code: text("code").unwrap_or_else(|| "upstream_error".to_owned()),
                message: text("message").unwrap_or_default(),
                retryable: said("retryable").and_then(Value::as_bool).unwrap_or(false),
                partial,
                retry_after_ms: None,
            })
        }
    })
}
