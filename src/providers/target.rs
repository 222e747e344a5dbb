//! A target: a provider and its name for a model, with what is known of how it does. Whoever calls it holds a [`Permit`],
//! which counts it in, takes the outcome, and gives the place back when it is dropped.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Provider;
use super::behind::Standing;
use super::breaker::{Admission, Breaker, BreakerSettings, BreakerState};
use super::breakers::Breakers;
use super::pace::Pace;
use super::retry::{RetryBudget, speaks_of_health};
use crate::bucket::Ticks;
use crate::clock::Clock;
use crate::config::TargetConfig;
use crate::message::{ServedBy, Usage};
use crate::metrics::{Metrics, TargetMetrics};
use crate::prices::Prices;
use crate::upstream::{Failure, FailureKind};

/// A measure of latency that is older than this weighs no more than the next one: of a target that is seldom asked, since it
/// was slow, few calls must tell that it is so no longer.
const STALE: Duration = Duration::from_secs(10);

/// A provider and its name for a model.
pub struct Target {
    /// Who answers.
    pub provider: Arc<dyn Provider>,
    /// The model's name there.
    pub model: Arc<str>,
    /// How it does; models that the configuration does not name share their provider's, all but the breaker.
    pub health: Arc<Health>,
    /// How long calls to it may take.
    pub(super) limits: CallLimits,
}

/// How long calls to a target may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallLimits {
    /// To the first visible token of a stream.
    pub first_token: Duration,
    /// For a whole answer, where another target could be asked.
    pub whole: Duration,
}

/// What a target may be asked at once and in a minute; `None`: no bound.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bounds {
    /// Calls at a time.
    pub places: Option<usize>,
    /// Requests in a minute.
    pub requests: Option<NonZeroU32>,
    /// Tokens in a minute.
    pub tokens: Option<NonZeroU32>,
}

impl Bounds {
    /// So many places, and no rate.
    pub fn places(places: Option<usize>) -> Self {
        Self { places, ..Self::default() }
    }

    /// A target's own, with `places` where it names none.
    pub fn of(target: &TargetConfig, places: Option<usize>) -> Self {
        let own = target.max_in_flight.map(NonZeroUsize::get);
        Self { places: own.or(places), requests: target.requests_per_minute, tokens: target.tokens_per_minute }
    }
}

/// What every target's health is made of.
#[derive(Clone)]
pub(super) struct HealthParts {
    pub breaker: BreakerSettings,
    pub retry_share: f64,
    pub metrics: Arc<Metrics>,
    pub prices: Arc<Prices>,
    pub clock: Clock,
    /// The longest `Retry-After` after which it is asked all the same.
    pub max_retry_after: Duration,
}

impl Target {
    /// A place for one call, if there is one now.
    pub(super) fn admit(&self) -> Result<Permit, Refused> {
        self.health.admit(&self.model)
    }

    /// Waits for a place; for ever, if need be.
    pub(super) async fn place(&self) -> Result<Permit, Refused> {
        self.health.place(&self.model).await
    }

    /// Where it stands, if behind the others.
    pub(super) fn behind(&self) -> Option<Standing> {
        self.health.breakers.of(&self.model).behind.now(self.health.now_ms())
    }

    /// Whether it is left alone for now.
    pub(super) fn is_left_alone(&self) -> bool {
        let is_open = self.health.breakers.of(&self.model).state() == BreakerState::Open;
        is_open || self.behind().is_some_and(|standing| self.health.is_too_long(standing))
    }

    /// Its name, as what it answered is told.
    pub(super) fn named(&self) -> ServedBy {
        ServedBy { provider: Arc::clone(&self.health.provider), model: Arc::clone(&self.model) }
    }

    pub(super) fn is(&self, by: &ServedBy) -> bool {
        self.health.provider == by.provider && self.model == by.model
    }
}

/// How a target does.
pub struct Health {
    /// `provider/model`, or `provider/*`; from the configuration, so that it can be a metric's label.
    pub label: String,
    pub(super) provider: Arc<str>,
    breakers: Breakers,
    pub(super) budget: RetryBudget,
    max_in_flight: Option<usize>,
    places: Option<Arc<Semaphore>>,
    pace: Pace,
    pub(super) waiting: AtomicUsize,
    in_flight: AtomicUsize,
    /// Time to the first token, smoothed; 0: not measured.
    latency_us: AtomicU64,
    measured_ms: AtomicU64,
    series: TargetMetrics,
    parts: HealthParts,
}

/// Why a target cannot be called now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// All its places are taken.
    Full,
    /// All that its rates allow has been asked; more after this time.
    Paced { wait: Duration },
    /// Its breaker is open until this time.
    Open { until_ms: u64 },
    /// It has named a time.
    Behind(Standing),
}

/// A target's state, to be shown.
#[derive(Debug, Clone)]
pub struct TargetStatus {
    /// `provider/model`, or `provider/*`.
    pub target: String,
    /// What its breaker lets through.
    pub state: BreakerState,
    /// Calls that run.
    pub in_flight: usize,
    /// Places for calls, where they are bounded.
    pub max_in_flight: Option<usize>,
    /// Smoothed time to the first token of a stream, once measured.
    pub latency_ms: Option<f64>,
    /// Why it stands behind the others, and for how long.
    pub behind: Option<(FailureKind, Duration)>,
}

impl Health {
    /// Of a target that the configuration names.
    pub(super) fn named(provider: &str, model: &str, bounds: Bounds, parts: HealthParts) -> Arc<Self> {
        Self::new(provider, model, Breakers::one(parts.breaker), bounds, parts)
    }

    /// Of all other models of a provider.
    pub(super) fn shared(provider: &str, bounds: Bounds, parts: HealthParts) -> Arc<Self> {
        Self::new(provider, "*", Breakers::by_model(parts.breaker), bounds, parts)
    }

    fn new(provider: &str, model: &str, breakers: Breakers, bounds: Bounds, parts: HealthParts) -> Arc<Self> {
        let label = format!("{provider}/{model}");
        let series = parts.metrics.target(&label, provider);
        Arc::new(Self {
            provider: provider.into(),
            breakers,
            budget: RetryBudget::new(parts.retry_share),
            max_in_flight: bounds.places,
            places: bounds.places.map(|places| Arc::new(Semaphore::new(places))),
            pace: Pace::new(bounds.requests, bounds.tokens, &Ticks::system()),
            waiting: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            latency_us: AtomicU64::new(0),
            measured_ms: AtomicU64::new(0),
            label,
            series,
            parts,
        })
    }

    fn admit(self: &Arc<Self>, model: &str) -> Result<Permit, Refused> {
        let place = match &self.places {
            None => None,
            Some(places) => Some(Arc::clone(places).try_acquire_owned().map_err(|_| Refused::Full)?),
        };
        self.admit_with(model, place)
    }

    fn admit_with(self: &Arc<Self>, model: &str, place: Option<OwnedSemaphorePermit>) -> Result<Permit, Refused> {
        let (breaker, now_ms) = (self.breakers.of(model), self.now_ms());
        if let Some(standing) = breaker.behind.now(now_ms).filter(|standing| self.is_too_long(*standing)) {
            return Err(Refused::Behind(standing));
        }
        self.pace.take().map_err(|wait| Refused::Paced { wait })?;
        let is_probe = match breaker.admit(now_ms) {
            Admission::Pass => false,
            Admission::Probe => {
                self.moved(BreakerState::HalfOpen);
                true
            }
            Admission::Refused { until_ms } => {
                self.pace.give_back();
                return Err(Refused::Open { until_ms });
            }
        };
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.series.in_flight.inc();
        Ok(Permit {
            health: Arc::clone(self),
            breaker,
            place,
            is_probe,
            began: Instant::now(),
            first_token: None,
            is_unused: true,
            is_settled: false,
        })
    }

    async fn place(self: &Arc<Self>, model: &str) -> Result<Permit, Refused> {
        loop {
            let place = match &self.places {
                None => None,
                // The semaphore is never closed.
                Some(places) => Some(Arc::clone(places).acquire_owned().await.map_err(|_| Refused::Full)?),
            };
            match self.admit_with(model, place) {
                Err(Refused::Paced { wait }) => tokio::time::sleep(wait).await,
                admitted => return admitted,
            }
        }
    }

    /// Whether a named time is so far that nobody waits for it.
    fn is_too_long(&self, standing: Standing) -> bool {
        standing.is_named && standing.left(self.now_ms()) > self.parts.max_retry_after
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.parts.clock.steady_ms()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn latency_us(&self) -> u64 {
        self.latency_us.load(Ordering::Relaxed)
    }

    /// How it does, to be shown.
    pub fn status(&self) -> TargetStatus {
        let (latency_us, now_ms) = (self.latency_us(), self.now_ms());
        let behind = self.breakers.behind(now_ms).map(|standing| (standing.kind, standing.left(now_ms)));
        TargetStatus {
            target: self.label.clone(),
            state: self.breakers.state(),
            in_flight: self.in_flight(),
            max_in_flight: self.max_in_flight,
            latency_ms: (latency_us > 0).then_some(latency_us as f64 / 1000.0),
            behind,
        }
    }

    /// Counts what an answer has used, and what that costs, where there is a price.
    pub(super) fn used(&self, model: &str, usage: Usage) -> Option<f64> {
        self.series.input_tokens.inc_by(usage.input_tokens);
        self.series.output_tokens.inc_by(usage.output_tokens);
        self.series.input_usage.observe(usage.input_tokens as f64);
        self.series.output_usage.observe(usage.output_tokens as f64);
        self.pace.used(usage.input_tokens.saturating_add(usage.output_tokens));
        let cost_usd = self.parts.prices.cost_usd(&self.provider, model, usage);
        // What has no known price leaves no figure, not even zero.
        if let Some(cost_usd) = cost_usd {
            self.parts.metrics.provider_cost_usd.with_label_values(&[self.label.as_str()]).inc_by(cost_usd);
        }
        cost_usd
    }

    /// Sets the gauge that mirrors the breakers.
    pub(super) fn refresh_gauges(&self) {
        self.series.breaker_state.set(self.breakers.state() as i64);
    }

    /// A breaker has changed to `state`.
    fn moved(&self, state: BreakerState) {
        self.refresh_gauges();
        self.parts.metrics.breaker_transitions.with_label_values(&[self.label.as_str(), state.as_str()]).inc();
    }

    /// Works on the breaker, and counts what that changed.
    fn with_breaker(&self, breaker: &Breaker, work: impl FnOnce(&Breaker)) {
        let before = breaker.state();
        work(breaker);
        let after = breaker.state();
        if before != after {
            if after == BreakerState::Open {
                tracing::warn!(target = self.label, "a target failed too often; its breaker is open");
            }
            self.moved(after);
        }
    }

    /// Takes the time to one first token.
    pub(super) fn measure(&self, first_token: Duration) {
        let sample = u64::try_from(first_token.as_micros()).unwrap_or(u64::MAX).max(1);
        let (known, now_ms) = (self.latency_us(), self.now_ms());
        let age = Duration::from_millis(now_ms.saturating_sub(self.measured_ms.swap(now_ms, Ordering::Relaxed)));
        let part = if age < STALE { 8 } else { 2 };
        let smoothed = if known == 0 { sample } else { known - known / part + sample / part };
        self.latency_us.store(smoothed.max(1), Ordering::Relaxed);
    }
}

/// A call in flight.
pub(super) struct Permit {
    pub health: Arc<Health>,
    breaker: Arc<Breaker>,
    place: Option<OwnedSemaphorePermit>,
    is_probe: bool,
    began: Instant,
    /// When a stream's first token was there.
    first_token: Option<Instant>,
    /// No call was made: the turn that was taken of the target's rates is given back.
    is_unused: bool,
    is_settled: bool,
}

impl Permit {
    /// The call is being made.
    pub fn used(&mut self) {
        self.is_unused = false;
    }

    /// A stream's first token is there.
    pub fn first_token(&mut self) {
        let waited = self.began.elapsed();
        self.first_token = Some(self.began + waited);
        self.health.series.first_token.observe(waited.as_secs_f64());
        self.health.parts.metrics.stages.first_token.record(waited);
        self.health.measure(waited);
        self.answered();
    }

    /// It answers; a whole answer tells nothing of first tokens.
    pub fn answered(&mut self) {
        let was_probe = std::mem::take(&mut self.is_probe);
        if was_probe {
            self.health.with_breaker(&self.breaker, |breaker| breaker.began(true));
        }
    }

    /// The answer is whole.
    pub fn succeeded(&mut self) {
        self.answered();
        self.breaker.succeeded();
        self.settle("ok");
    }

    /// A stream has ended after so many tokens: how fast they came.
    pub fn paced(&self, output_tokens: u64) {
        if let (Some(first), 2..) = (self.first_token, output_tokens) {
            let mean = first.elapsed().as_secs_f64() / (output_tokens - 1) as f64;
            self.health.series.token_gap.observe(mean);
        }
    }

    /// The call failed.
    pub fn failed(&mut self, failure: &Failure) {
        let (health, now_ms) = (Arc::clone(&self.health), self.health.now_ms());
        let was_probe = std::mem::take(&mut self.is_probe);
        if speaks_of_health(failure.kind) {
            health.with_breaker(&self.breaker, |breaker| breaker.failed(was_probe, now_ms));
        } else if was_probe {
            self.breaker.abandoned();
        }
        self.breaker.behind.take(failure, now_ms);
        self.is_unused |= matches!(failure.kind, FailureKind::Full | FailureKind::Unsupported | FailureKind::Malformed);
        self.settle(failure.kind.as_str());
    }

    fn settle(&mut self, outcome: &str) {
        self.is_settled = true;
        let requests = &self.health.parts.metrics.provider_requests;
        requests.with_label_values(&[self.health.provider.as_ref(), outcome]).inc();
        if !self.is_unused {
            let took = self.began.elapsed();
            self.health.series.duration.observe(took.as_secs_f64());
            if self.first_token.is_none() {
                self.health.parts.metrics.stages.whole.record(took);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.abandoned();
        }
        if !self.is_settled {
            self.settle("abandoned");
        }
        if self.is_unused {
            self.health.pace.give_back();
        }
        self.health.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.health.series.in_flight.dec();
        drop(self.place.take());
    }
}
