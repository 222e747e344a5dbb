//! The task that makes one answer: asks, numbers, checkpoints, commits the end, and then says so.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::ending::{ErrorFacts, Terminal, facts, interrupted, store_failed};
use super::log::LiveStream;
use super::watch::Watch;
use super::{Streams, mirror};
use crate::cache::CacheControl;
use crate::chat::{Answer, Ask, Broken, CacheReport, Event};
use crate::conversations::{Hold, MessageState, Outcome, Progress};
use crate::jobs::Summarise;
use crate::keys::Principal;
use crate::limits::Pass;
use crate::message::{FinishReason, Usage};
use crate::tasks::NewTask;
use crate::traces;
use crate::upstream::Failure;

/// Between two tries to store an end.
const STORE_AGAIN: Duration = Duration::from_secs(1);

/// How an answer came to its end.
enum Ended {
    Complete {
        finish_reason: Option<FinishReason>,
        usage: Option<Usage>,
        stored: bool,
        report: CacheReport,
    },
    Failed {
        facts: ErrorFacts,
        report: Option<CacheReport>,
    },
    Cancelled,
    Stopped,
    /// Another instance has it.
    Lost,
}

/// What was learned on the way to an answer.
#[derive(Default)]
struct Learned {
    /// How it was decided where it comes from, as JSON.
    explanation: Option<String>,
    /// Whether its branch has outgrown the window.
    is_summary_due: bool,
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
    let place = order.place.take();
    let parts = &streams.inner.parts;
    parts.metrics.streams_running.inc();
    let started = Instant::now();
    let model = order.model.clone();
    let (key, tenant, user) = (order.principal.key, order.principal.tenant.clone(), order.principal.user);
    let mut learned = Learned::default();
    let ended = tokio::select! {
        biased;
        () = live.cancel.cancelled() => Ended::Cancelled,
        () = live.lost.cancelled() => Ended::Lost,
        () = parts.stop.cancelled() => Ended::Stopped,
        ended = make(&streams, &live, order, &mut learned) => ended,
    };
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let summarise = Summarise { message: live.begun.reply, model: model.clone(), key, tenant, user };
    let follows = learned.is_summary_due.then(|| summarise.task(live.begun.conversation, &live.tenant));
    let is_ours = end(&streams, &live, ended, (model, elapsed_ms, learned.explanation), follows).await;
    parts.metrics.streams_running.dec();
    drop(place);
    if !is_ours {
        parts.metrics.streams_lost.inc();
        mirror::follow(streams, live).await;
    }
}

/// Stores the end, and says it; false where the answer is another instance's by now, who will say it.
async fn end(
    streams: &Streams,
    live: &Arc<LiveStream>,
    ended: Ended,
    (model, elapsed_ms, explanation): (String, u64, Option<String>),
    follows: Option<NewTask>,
) -> bool {
    let is_ours = match ended {
        Ended::Lost => false,
        Ended::Stopped if streams.has_others() => hand_over(streams, live).await,
        ended => {
            let (outcome, terminal) = conclude(live, ended, model, elapsed_ms, explanation);
            commit(streams, live, (outcome, terminal), follows).await
        }
    };
    let mut running = streams.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
    running.remove(&live.begun.stream);
    if !is_ours {
        let mut mirrors = streams.inner.mirrors.lock().unwrap_or_else(PoisonError::into_inner);
        mirrors.insert(live.begun.stream, Arc::clone(live));
    }
    is_ours
}

/// Makes the end durable, and only then says it; a store that fails is said instead.
async fn commit(
    streams: &Streams,
    live: &Arc<LiveStream>,
    (outcome, terminal): (Outcome, Terminal),
    follows: Option<NewTask>,
) -> bool {
    let mut state = outcome.state;
    let (reply, parts) = (live.begun.reply, &streams.inner.parts);
    let begun = Instant::now();
    let finished = match follows.filter(|_| state == MessageState::Complete) {
        Some(task) => {
            let follows = (&parts.queue, task);
            parts.conversations.finish_and_enqueue(&live.tenant, reply, outcome.clone(), follows).await
        }
        None => parts.conversations.finish(&live.tenant, reply, outcome.clone()).await,
    };
    parts.metrics.stages.store_answer.record(begun.elapsed());
    let terminal = match finished {
        Ok(true) => terminal,
        Ok(false) => return false,
        Err(error) => {
            tracing::error!(%error, %reply, "the end of an answer could not be stored");
            let facts = store_failed(live.len() > 0);
            let error = serde_json::to_string(&facts).ok();
            state = MessageState::Failed;
            let failed = Outcome { state, error, ..outcome };
            parts.tasks.spawn(finish_later(streams.clone(), Arc::clone(live), failed));
            Terminal::Error(facts)
        }
    };
    parts.metrics.streams_ended.with_label_values(&[state.as_str()]).inc();
    streams.inner.ended.keep(live);
    live.end(terminal);
    true
}

/// Stores what was said of an answer whose end could not be stored, once the store is back: it would be unfinished as long
/// as this instance lives.
async fn finish_later(streams: Streams, live: Arc<LiveStream>, failed: Outcome) {
    let parts = &streams.inner.parts;
    loop {
        tokio::select! {
            () = tokio::time::sleep(STORE_AGAIN) => {}
            () = parts.stop.cancelled() => return,
        }
        // Another's by now, or ended after all: it stays as it is.
        if parts.conversations.finish(&live.tenant, live.begun.reply, failed.clone()).await.is_ok() {
            return;
        }
    }
}

/// Gives up what this instance has no more time for: another goes on with it, and its readers find it there.
async fn hand_over(streams: &Streams, live: &Arc<LiveStream>) -> bool {
    let reply = live.begun.reply;
    match streams.inner.parts.conversations.release(&live.tenant, reply, live.progress()).await {
        Ok(false) => return false,
        Ok(true) => {}
        // The others take it over once this instance is dead to them.
        Err(error) => tracing::warn!(%error, %reply, "an answer could not be handed over"),
    }
    live.leave();
    true
}

/// Asks, and writes the pieces into the log.
async fn make(streams: &Streams, live: &Arc<LiveStream>, order: Order, learned: &mut Learned) -> Ended {
    let replay = order.control.replay;
    let ask = match prepare(streams, live, order, learned).await {
        Ok(ask) => ask,
        Err(facts) => return Ended::Failed { facts, report: None },
    };
    let answer = match streams.inner.parts.chat.respond(ask.clone()).await {
        Ok(answer) => answer,
        Err(failure) => return Ended::Failed { facts: facts(&failure), report: None },
    };
    let Answer { mut report, explanation: explained, source } = answer;
    learned.explanation = explained.and_then(|explained| serde_json::to_string(&explained).ok());
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
                    // The epoch is durable before it is said: whoever takes the answer over begins one that nobody has seen.
                    match watch.begin_epoch().await {
                        Ok(Hold::Lost) => return Ended::Lost,
                        Ok(_) => live.restart(answer.report.json(None)),
                        Err(error) => {
                            tracing::error!(%error, "an answer could not be begun again");
                            return Ended::Failed { facts: store_failed(true), report: Some(report) };
                        }
                    }
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
async fn prepare(
    streams: &Streams,
    live: &LiveStream,
    mut order: Order,
    learned: &mut Learned,
) -> Result<Ask, ErrorFacts> {
    let parts = &streams.inner.parts;
    let refused = |code: &str, error: &dyn std::error::Error| ErrorFacts {
        code: code.to_owned(),
        message: error.to_string(),
        retryable: false,
        partial: false,
        retry_after_ms: None,
    };
    let history = parts.conversations.history(&live.tenant, live.begun.message, parts.window).await;
    let history = history.map_err(|error| ErrorFacts { retryable: true, ..refused("store_failed", &error) })?;
    order.params.insert("stream".to_owned(), true.into());
    let request = history.request(&order.model, &order.params);
    let request = request.map_err(|error| refused("invalid_request_error", &error))?;
    learned.is_summary_due = history.is_summary_due;
    Ok(Ask { request: Arc::new(request), principal: order.principal, control: order.control, explain: true })
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
        elapsed_ms: Some(elapsed_ms),
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
        Ended::Stopped | Ended::Lost => {
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
            traces::failed(&tracing::Span::current(), &facts.code);
            Terminal::Error(facts)
        }
    };
    (outcome, terminal)
}
