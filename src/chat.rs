//! The use case on one screen: look an earlier answer up, else join an equal request in flight, else ask a provider and
//! keep what may be kept.

mod events;
mod first_touch;
mod metered;
mod pilot;
mod report;
mod stopped;

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub use events::{Event, Events, Whole};
pub use first_touch::Veiled;
pub use report::{CacheReport, CacheStatus, Saved};

use metered::mode_under;
use pilot::Journey;
use stopped::stopped;

pub use crate::providers::{Broken, TargetStatus, VerbatimStream};

use crate::cache::flight::{Leases, Listener, Seat};
use crate::cache::{Asker, CacheControl, Explanation, Flights, Hit, Lookup, Mode, Person, Plan, Query, SemanticCache};
use crate::clock::Clock;
use crate::embedding::Embedded;
use crate::keys::Principal;
use crate::limits::{Grant, Limits, Need, Refusal};
use crate::message::{ChatRequest, Served};
use crate::metrics::Metrics;
use crate::prices::Prices;
use crate::providers::{self, Asked, Call, Remedy, Reply, ReplyMode, Route, Router, UnknownModel};
use crate::upstream::Failure;

/// A question with all that its answer depends on.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The request.
    pub request: Arc<ChatRequest>,
    /// Who asks.
    pub principal: Principal,
    /// The caller's wishes about caching.
    pub control: CacheControl,
    /// Whether the look-up is to be explained.
    pub explain: bool,
}

/// An answer, begun.
pub struct Answer {
    /// Where it comes from.
    pub report: CacheReport,
    /// The look-up's explanation, where it was asked for.
    pub explanation: Option<Box<Explanation>>,
    /// The answer itself.
    pub source: Source,
}

/// Where an answer's content comes from.
pub enum Source {
    /// A cached answer.
    Cached(Hit),
    /// A cached answer that reads as a new one.
    Veiled(Veiled),
    /// An upstream call that others may share.
    Flight(Listener),
    /// An upstream call of this caller alone.
    Direct(Reply),
}

impl Source {
    /// The answer as bytes in OpenAI's dialect that can go to its clients untouched.
    ///
    /// # Errors
    /// Itself, where it does not come so.
    pub fn into_verbatim(self) -> Result<VerbatimStream, Self> {
        match self {
            Self::Direct(Reply::Verbatim(events)) => Ok(events),
            other => Err(other),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// No provider knows the model.
    #[error(transparent)]
    UnknownModel(#[from] UnknownModel),
    /// The provider failed.
    #[error("the provider failed")]
    Upstream(#[from] Failure),
    /// The caller may not use what the answer would cost.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The caller wanted a cached answer or none.
    #[error("no cached answer fits, and the request asked for nothing else")]
    OnlyIfCached,
}

impl ChatError {
    /// The stable word in error bodies and frames.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownModel(_) => "model_not_found",
            Self::OnlyIfCached => "not_cached",
            Self::Refused(refusal) => refusal.code(),
            Self::Upstream(failure) => failure.kind.code(),
        }
    }
}

/// What the service is made of.
pub struct ChatParts {
    /// The cache.
    pub cache: SemanticCache,
    /// Model names to providers.
    pub router: Arc<Router>,
    /// What callers may use.
    pub limits: Limits,
    /// Who of several instances makes a call.
    pub leases: Option<Leases>,
    /// Where flights run.
    pub tasks: TaskTracker,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// Cancelled when what still runs must end.
    pub stop: CancellationToken,
    /// What tokens cost.
    pub prices: Arc<Prices>,
    /// Its time.
    pub clock: Clock,
}

struct Inner {
    parts: ChatParts,
    flights: Flights,
}

/// Who asks, as the cache sees it.
pub fn asker(principal: &Principal) -> Asker<'_> {
    Asker { tenant: &principal.tenant, user: principal.user }
}

/// The service. Cloning is cheap.
#[derive(Clone)]
pub struct ChatService {
    inner: Arc<Inner>,
}

impl ChatService {
    /// Over its parts.
    pub fn new(parts: ChatParts) -> Self {
        Self { inner: Arc::new(Inner { parts, flights: Flights::default() }) }
    }

    /// Answers a question. Dropping the answer is leaving it: the upstream call ends with its last listener.
    ///
    /// # Errors
    /// [`ChatError`]; failures after the answer has begun come inside it.
    pub async fn respond(&self, ask: Ask) -> Result<Answer, ChatError> {
        let plan = self.inner.parts.cache.plan(&ask.request, asker(&ask.principal), ask.control.clone());
        self.respond_planned(ask, &plan).await
    }

    /// As [`ChatService::respond`], with the cache's plan made before.
    ///
    /// # Errors
    /// As [`ChatService::respond`].
    pub async fn respond_planned(&self, ask: Ask, plan: &Plan) -> Result<Answer, ChatError> {
        let started = Instant::now();
        let cache = &self.inner.parts.cache;
        let mut explanation = ask.explain.then(|| Box::new(cache.explanation(plan)));
        let query = match plan {
            Plan::Use(query) => query,
            Plan::Bypass { reason, .. } => return self.pass_through(ask, reason, explanation, started).await,
        };
        let mut embedded = None;
        if query.control.mode.reads() {
            let found = cache.lookup(query, explanation.as_deref_mut()).await;
            self.inner.parts.metrics.stages.lookup.record(started.elapsed());
            match found {
                Lookup::Hit(hit) => return self.found(hit, &ask, query, explanation, started),
                Lookup::Miss(found) => embedded = found,
            }
        }
        if query.control.mode == Mode::Only {
            return Err(ChatError::OnlyIfCached);
        }
        let route = self.inner.parts.router.route(&ask.request.model).await?;
        if !query.control.mode.writes() {
            return self.unstored(ask, query, &route, explanation, started).await;
        }
        let (status, listener) = match self.board(&ask, query, route, embedded).await? {
            Boarding::Aboard(status, listener) => (status, listener),
            Boarding::Landed(hit) => {
                if let Some(explanation) = &mut explanation {
                    explanation.land(hit.how);
                }
                return self.found(hit, &ask, query, explanation, started);
            }
        };
        if let (CacheStatus::Collapsed, Some(explanation)) = (status, &mut explanation) {
            explanation.join_flight();
        }
        let report = self.missed(status, &ask, query, &mut explanation, started).by(listener.served());
        Ok(Answer { report, explanation, source: Source::Flight(listener) })
    }

    /// Begins an answer again elsewhere, after one that had begun failed: by a target that is none of `broken`, and for this
    /// caller alone, so that it is never stored. `None` where nobody else can answer.
    pub async fn respond_elsewhere(&self, ask: &Ask, broken: &[Broken]) -> Option<Answer> {
        if broken.last().is_none_or(|broken| providers::remedy(broken.kind, None) == Remedy::Nothing) {
            return None;
        }
        let (served, started) = (Served::default(), Instant::now());
        let route = self.inner.parts.router.route(&ask.request.model).await.ok()?;
        if !route.has_others(broken) {
            return None;
        }
        let grant = self.admit(ask, &route, &served).await.ok()?;
        let asked = Asked { request: &ask.request, mode: ReplyMode::CountedStream, served: &served, broken };
        let reply = self.paid_call(&route, asked, grant).await.ok()?;
        let report =
            self.report(CacheReport::bypass("the provider changed after the first token"), started).by(&served);
        Some(Answer { report, explanation: None, source: Source::Direct(reply) })
    }

    /// How many tokens of input a prompt is, and who counted them: the provider that would be asked first, where it does,
    /// else nobody, and they are an estimate.
    ///
    /// # Errors
    /// [`ChatError`] for a model that nobody knows, and for a provider that was asked and failed.
    pub async fn count(&self, request: Arc<ChatRequest>) -> Result<(u64, Option<String>), ChatError> {
        let route = self.inner.parts.router.route(&request.model).await?;
        let target = route.first();
        let estimate = Need::of(&request).input_tokens;
        let call = Call { request, model: target.model.to_string(), mode: ReplyMode::Whole, served: Served::default() };
        let counted = target.provider.count(call).await?;
        let by = counted.map(|_| target.provider.name().to_owned());
        Ok((counted.unwrap_or(estimate), by))
    }

    /// How many upstream calls can be joined now.
    pub fn flights(&self) -> usize {
        self.inner.flights.len()
    }

    /// Sets the gauges that mirror figures kept in the flights, the cache and the router.
    pub fn refresh_gauges(&self) {
        self.inner.parts.metrics.flights.set(self.flights() as i64);
        self.router().refresh_gauges();
        self.cache().refresh_gauges();
    }

    /// The cache.
    pub fn cache(&self) -> &SemanticCache {
        &self.inner.parts.cache
    }

    /// The models.
    pub fn router(&self) -> &Router {
        &self.inner.parts.router
    }

    fn hit_report(&self, hit: &Hit, model: &str, started: Instant) -> CacheReport {
        let metrics = &self.inner.parts.metrics;
        let usage = hit.entry.completion.usage;
        // By the name that was asked for, else by who had answered.
        let (prices, made_by) = (&self.inner.parts.prices, &hit.entry.completion.model);
        let usd = |usage| prices.public_cost_usd(model, usage).or(prices.cost_usd(&hit.entry.provider, made_by, usage));
        let saved = Saved { usage, ms: hit.entry.elapsed_ms, usd: usage.and_then(usd) };
        if let Some(usage) = usage {
            metrics.saved_tokens.with_label_values(&["input"]).inc_by(usage.input_tokens);
            metrics.saved_tokens.with_label_values(&["output"]).inc_by(usage.output_tokens);
        }
        metrics.saved_seconds.inc_by(saved.ms as f64 / 1000.0);
        metrics.saved_usd.inc_by(saved.usd.unwrap_or(0.0));
        let report = CacheReport::hit(hit, saved, self.inner.parts.clock.now_ms()).looked_up(started);
        self.report(report, started)
    }

    /// A request that the cache has nothing to do with: the provider's reply goes straight to the caller.
    async fn pass_through(
        &self,
        ask: Ask,
        reason: &'static str,
        explanation: Option<Box<Explanation>>,
        started: Instant,
    ) -> Result<Answer, ChatError> {
        if ask.control.mode == Mode::Only {
            return Err(ChatError::OnlyIfCached);
        }
        self.inner.parts.metrics.cache_bypass.with_label_values(&[reason]).inc();
        let route = self.inner.parts.router.route(&ask.request.model).await?;
        let (reply, served) = self.ask_directly(&ask, &route, direct_mode(&ask.request)).await?;
        let report = self.report(CacheReport::bypass(reason), started).by(&served);
        Ok(Answer { report, explanation, source: Source::Direct(reply) })
    }

    /// A miss that the caller wants kept from the cache.
    async fn unstored(
        &self,
        ask: Ask,
        query: &Query,
        route: &Arc<Route>,
        mut explanation: Option<Box<Explanation>>,
        started: Instant,
    ) -> Result<Answer, ChatError> {
        let report = self.missed(CacheStatus::Miss, &ask, query, &mut explanation, started);
        let (reply, served) = self.ask_directly(&ask, route, direct_mode(&ask.request)).await?;
        let report = report.by(&served);
        Ok(Answer { report, explanation, source: Source::Direct(reply) })
    }

    fn report(&self, report: CacheReport, started: Instant) -> CacheReport {
        let metrics = &self.inner.parts.metrics;
        let (how, tier) =
            (report.how.map_or("none", |how| how.as_str()), report.tier.map_or("none", |tier| tier.as_str()));
        metrics.chat_answers.with_label_values(&[report.status.as_str(), how, tier]).inc();
        let took = started.elapsed();
        metrics.chat_duration.with_label_values(&[report.status.as_str()]).observe(took.as_secs_f64());
        metrics.stages.question.record(took);
        report
    }

    /// Joins the flight of an equal request, or opens one.
    fn fly(
        &self,
        ask: &Ask,
        query: Box<Query>,
        route: Arc<Route>,
        embedded: Option<Arc<Embedded>>,
        (grant, served): (Option<Grant>, Served),
    ) -> Boarding {
        let metrics = &self.inner.parts.metrics;
        let (pilot, listener) = if query.joinable {
            match self.inner.flights.join_or_open(query.keys.exact, served) {
                Seat::Joined(listener) => {
                    metrics.flights_joined.inc();
                    return Boarding::Aboard(CacheStatus::Collapsed, listener);
                }
                Seat::Opened(pilot, listener) => {
                    // Between the look-up and now another flight may have landed: its answer is in L1 already.
                    if let Some(hit) = self.cache().stored_meanwhile(&query) {
                        pilot.flight.land(Arc::clone(&hit.entry.completion));
                        return Boarding::Landed(hit);
                    }
                    (pilot, listener)
                }
            }
        } else {
            self.inner.flights.open_alone(served)
        };
        let made_by = Person::of(ask.principal.key, ask.principal.called(ask.request.user.as_deref()).as_deref());
        let journey = Journey { request: Arc::clone(&ask.request), query, route, embedded, made_by };
        let service = self.clone();
        let flown = async move { service.pilot(pilot, journey, grant).await };
        self.inner.parts.tasks.spawn(flown.in_current_span());
        Boarding::Aboard(CacheStatus::Miss, listener)
    }

    /// One upstream answer for this caller alone.
    async fn ask_directly(&self, ask: &Ask, route: &Arc<Route>, mode: ReplyMode) -> Result<(Reply, Served), ChatError> {
        let served = Served::default();
        let grant = self.admit(ask, route, &served).await?;
        let mode = mode_under(grant.as_ref(), mode);
        let asked = Asked { request: &ask.request, mode, served: &served, broken: &[] };
        let stop = &self.inner.parts.stop;
        let reply = stop.run_until_cancelled(self.paid_call(route, asked, grant)).await.ok_or_else(stopped)??;
        Ok((stopped::or_stopped(reply, stop), served))
    }
}

/// How a request that was missed in the cache gets its answer.
enum Boarding {
    /// From a flight.
    Aboard(CacheStatus, Listener),
    /// From the cache after all.
    Landed(Hit),
}

fn direct_mode(request: &ChatRequest) -> ReplyMode {
    if request.stream { ReplyMode::Stream } else { ReplyMode::Whole }
}
