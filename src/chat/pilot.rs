//! Flying: the task that makes an answer which several may share. It asks the provider, or reads along where another
//! instance does; and it keeps what may be kept.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tracing::Instrument;

use super::ChatService;
use super::metered::mode_under;
use super::stopped::stopped;
use crate::cache::flight::{Ending, Flight, Follow, Heard, Lead, Pilot, Turn};
use crate::cache::{Made, NotStored, Person, Query};
use crate::embedding::Embedded;
use crate::limits::Grant;
use crate::message::{Assembler, ChatRequest, Completion, ServedBy};
use crate::providers::{self, Asked, DeltaStream, Reply, ReplyMode, Route};
use crate::upstream::{Failure, FailureKind};

/// What is flown.
pub(super) struct Journey {
    pub(super) request: Arc<ChatRequest>,
    pub(super) query: Box<Query>,
    pub(super) route: Arc<Route>,
    pub(super) embedded: Option<Arc<Embedded>>,
    pub(super) made_by: Person,
}

/// A whole answer, and the provider's own bytes where it came as such.
type Answered = (Arc<Completion>, Option<Bytes>);

/// An answer, and who asked for it.
enum Landed {
    /// This instance.
    Here(Answered),
    /// Another one, which keeps it; whether it could.
    Elsewhere(Answered, bool),
}

impl ChatService {
    /// Flies: asks the provider until all is said, somebody fails, or nobody listens any more.
    pub(super) async fn pilot(&self, pilot: Pilot, journey: Journey, grant: Option<Grant>) {
        let flight = Arc::clone(&pilot.flight);
        let started = Instant::now();
        let parts = &self.inner.parts;
        // The embedding is made while the provider works, so that an answer can be matched by meaning once it is there.
        let early = journey.embedded.is_none().then(|| {
            let (cache, query) = (parts.cache.clone(), journey.query.clone());
            parts.tasks.spawn(async move { cache.embed_ahead(&query).await }.in_current_span())
        });
        let lead = OnceLock::new();
        let landed = tokio::select! {
            biased;
            landed = self.answer(&flight, &journey, grant, &lead) => landed,
            () = unwanted(&flight, &lead) => {
                lead.get().inspect(|lead| lead.let_go());
                return;
            }
            () = parts.stop.cancelled() => {
                // Those who read along elsewhere go on by themselves.
                lead.get().inspect(|lead| lead.let_go());
                Err(stopped())
            }
        };
        let embedded = journey.embedded.clone();
        let embedded = embedded.or_else(|| early.and_then(FutureExt::now_or_never).and_then(Result::ok).flatten());
        let ending = match landed {
            Ok(Landed::Here((completion, raw))) => {
                let stored = self.keep(&flight, &journey, embedded.as_deref(), &completion, started);
                Ending::Complete { completion, raw, stored }
            }
            Ok(Landed::Elsewhere((completion, raw), stored)) => Ending::Complete { completion, raw, stored },
            Err(failure) => Ending::Failed(failure),
        };
        // The entry is in L1 before the flight leaves the map: an equal request finds one or the other.
        flight.end(ending);
    }

    /// Whether the answer was put into the cache.
    fn keep(
        &self,
        flight: &Flight,
        journey: &Journey,
        embedded: Option<&Embedded>,
        completion: &Arc<Completion>,
        started: Instant,
    ) -> bool {
        let provider = flight.served.by().map_or_else(String::new, |by| by.provider.to_string());
        let made_by = journey.made_by;
        let made = Made { completion: Arc::clone(completion), provider, elapsed: started.elapsed(), made_by };
        let kept = self.inner.parts.cache.insert(&journey.query, embedded, made);
        if kept.as_ref().is_err_and(|reason| *reason == NotStored::Incomplete) {
            self.inner.parts.metrics.cache_bypass.with_label_values(&["the answer was not complete"]).inc();
        }
        kept.is_ok()
    }

    /// The answer to one of equal requests on any instance: from the provider where it is this one's turn to ask.
    async fn answer(
        &self,
        flight: &Arc<Flight>,
        journey: &Journey,
        grant: Option<Grant>,
        lead: &OnceLock<Lead>,
    ) -> Result<Landed, Failure> {
        let leases = self.inner.parts.leases.as_ref().filter(|_| journey.query.joinable);
        if let Some(leases) = leases {
            loop {
                match leases.take(journey.query.keys.exact).await {
                    Turn::Alone => break,
                    Turn::Lead(mine) => {
                        let mine = lead.get_or_init(|| mine);
                        self.tell_others(flight, mine);
                        if let Some(found) = self.stored_elsewhere(flight, journey, mine).await {
                            return Ok(found);
                        }
                        break;
                    }
                    Turn::Follow(other) => {
                        if let Some(followed) = self.read_along(flight, journey, other).await {
                            return followed;
                        }
                    }
                }
            }
        }
        self.ask_provider(flight, &journey.request, &journey.route, grant).await.map(Landed::Here)
    }

    fn tell_others(&self, flight: &Arc<Flight>, lead: &Lead) {
        let (cache, lead, flight) = (self.inner.parts.cache.clone(), lead.clone(), Arc::clone(flight));
        self.inner.parts.tasks.spawn(async move { lead.publish(flight, cache.flush()).await });
    }

    /// The answer that another instance has stored since this one looked.
    async fn stored_elsewhere(&self, flight: &Flight, journey: &Journey, lead: &Lead) -> Option<Landed> {
        if !lead.look_again || !journey.query.control.mode.reads() {
            return None;
        }
        let hit = self.inner.parts.cache.stored_anywhere(&journey.query).await?;
        let completion = Arc::clone(&hit.entry.completion);
        flight.push(completion.as_delta());
        Some(Landed::Elsewhere((completion, None), true))
    }

    /// The answer that another instance asks for; `None` where that was lost before its first piece.
    async fn read_along(
        &self,
        flight: &Flight,
        journey: &Journey,
        mut other: Follow,
    ) -> Option<Result<Landed, Failure>> {
        let mut assembler = Assembler::new(&journey.request.model);
        let mut begun = false;
        loop {
            match other.next().await {
                Heard::By(provider, model) => {
                    flight.served.answered_by(ServedBy { provider: provider.into(), model: model.into() });
                }
                Heard::Delta(delta) => {
                    begun = true;
                    assembler.push(&delta);
                    flight.push(*delta);
                }
                Heard::End { whole, stored } => {
                    self.inner.parts.metrics.flights_followed.with_label_values(&["answered"]).inc();
                    let (completion, raw) = match whole {
                        Some((completion, raw)) => (Arc::new(*completion), raw),
                        None => (Arc::new(assembler.finish()), None),
                    };
                    if !begun {
                        flight.push(completion.as_delta());
                    }
                    flight.served.settle(completion.usage, None);
                    return Some(Ok(Landed::Elsewhere((completion, raw), stored)));
                }
                Heard::Failed(failure) => {
                    self.inner.parts.metrics.flights_followed.with_label_values(&["failed"]).inc();
                    return Some(Err(failure));
                }
                Heard::Lost => {
                    self.inner.parts.metrics.flights_followed.with_label_values(&["lost"]).inc();
                    let why = "the instance that asked the provider was lost in the middle of the answer";
                    return begun.then(|| Err(Failure::new(FailureKind::Cut, why)));
                }
            }
        }
    }

    /// One upstream answer whose pieces go into the flight's log.
    async fn ask_provider(
        &self,
        flight: &Flight,
        request: &Arc<ChatRequest>,
        route: &Route,
        grant: Option<Grant>,
    ) -> Result<Answered, Failure> {
        let mode = if request.stream { ReplyMode::CountedStream } else { ReplyMode::Whole };
        let mode = mode_under(grant.as_ref(), mode);
        let mut raw = None;
        let asked = Asked { request, mode, served: &flight.served, broken: &[] };
        let completion = match self.paid_call(route, asked, grant).await? {
            Reply::Whole(bytes) => {
                let read = Completion::from_openai(&bytes);
                raw = Some(bytes);
                read.map(Arc::new).map_err(|_| {
                    Failure::new(FailureKind::Garbage, "the provider's answer is not the JSON that it should be")
                })?
            }
            Reply::Completed(completion) => Arc::new(*completion),
            Reply::Stream(deltas) => follow(flight, &request.model, deltas).await?,
            Reply::Verbatim(events) => follow(flight, &request.model, providers::deltas(events)).await?,
        };
        if mode == ReplyMode::Whole {
            flight.push(completion.as_delta());
        }
        Ok((completion, raw))
    }
}

/// Ends when nobody listens any more, on any instance.
async fn unwanted(flight: &Flight, lead: &OnceLock<Lead>) {
    flight.abandoned().await;
    if let Some(lead) = lead.get() {
        lead.unheard().await;
    }
}

/// Pushes what streams in, and adds it up.
async fn follow(flight: &Flight, model: &str, mut deltas: DeltaStream) -> Result<Arc<Completion>, Failure> {
    let mut assembler = Assembler::new(model);
    while let Some(delta) = deltas.next().await {
        let delta = delta?;
        assembler.push(&delta);
        flight.push(delta);
    }
    Ok(Arc::new(assembler.finish()))
}
