//! One request's way over its route: the first target that can be called, then the others, then again those that may do
//! better next time, all of it before the first visible token.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select_ok;
use tokio::time::Instant;
use tracing::Instrument;

use super::attended::{Attended, Running, first_token};
use super::retry::{Remedy, backoff, hope, remedy};
use super::route::{NoneFree, Route};
use super::seen::Seen;
use super::target::{Permit, Target};
use super::{Call, Reply, ReplyMode, Router, whole};
use crate::clock::jitter;
use crate::message::{ChatRequest, Served, ServedBy, Usage};
use crate::traces;
use crate::upstream::{Deadline, Failure, FailureKind, timed_out};

/// A request to be answered by one of a route's targets.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What is asked.
    pub request: &'a Arc<ChatRequest>,
    /// How the answer is wanted.
    pub mode: ReplyMode,
    /// Filled with who answers, and what it takes.
    pub served: &'a Served,
    /// Who is not to be asked: they broke off in the middle of their answers.
    pub broken: &'a [Broken],
}

/// Who broke off in the middle of an answer.
#[derive(Debug, Clone)]
pub struct Broken {
    /// Who.
    pub by: ServedBy,
    /// How.
    pub kind: FailureKind,
}

/// An attempt that came to nothing; the failure itself is told once no other follows.
#[derive(Debug)]
pub struct Lost {
    /// Who was asked.
    pub by: ServedBy,
    /// How it failed.
    pub kind: FailureKind,
    /// What the provider had counted by then.
    pub usage: Option<Usage>,
}

/// A target's turn: it has a place for a call that has not been made. Dropping it gives the place back.
pub struct Turn {
    index: usize,
    permit: Permit,
}

/// A target that has failed this request.
struct Tried {
    index: usize,
    kind: FailureKind,
    /// When it may be asked again, if at all.
    ready: Option<Instant>,
}

/// One request on its way over its route, in steps, so that whoever pays for them can look at each: a turn, then an
/// attempt, until one is answered or there is no further turn.
pub struct Way<'a> {
    router: &'a Router,
    route: &'a Route,
    asked: Asked<'a>,
    tried: Vec<Tried>,
    retries: u32,
    /// Of the failures, the last of those that leave the most hope.
    best: Option<Failure>,
    /// Whether nothing can remedy the last failure.
    is_over: bool,
    /// No call begins after this.
    end: Instant,
}

impl Router {
    /// Answers a request by the first target that can, up to its first visible token; what comes after that comes inside
    /// the reply. Dropping the future, or the reply, ends the work upstream.
    ///
    /// # Errors
    /// The [`Failure`] that leaves the most hope, of several the last.
    pub async fn ask(&self, route: &Route, asked: Asked<'_>) -> Result<Reply, Failure> {
        let mut way = self.way(route, asked);
        loop {
            let turn = way.next().await?;
            if let Ok(reply) = way.attempt(turn).await {
                return Ok(reply);
            }
        }
    }

    /// The same in steps.
    pub fn way<'a>(&'a self, route: &'a Route, asked: Asked<'a>) -> Way<'a> {
        let end = Instant::now() + self.total;
        let broken = asked.broken.iter().flat_map(|broken| {
            let indexes = (0..route.len()).filter(|index| route.target(*index).is(&broken.by));
            indexes.map(|index| Tried { index, kind: broken.kind, ready: None })
        });
        let tried = broken.collect();
        Way { router: self, route, asked, tried, retries: 0, best: None, is_over: false, end }
    }
}

impl Way<'_> {
    /// The next target to call: a new one, else one that is to be asked again, waited for where that must be.
    ///
    /// # Errors
    /// The most hopeful [`Failure`], where no attempt may follow.
    pub async fn next(&mut self) -> Result<Turn, Failure> {
        if self.is_over {
            return Err(self.give_up());
        }
        let (index, permit) = match self.route.pick(jitter, |index| self.is_new(index)) {
            Ok(picked) => picked,
            // Who was not asked yet is waited for, unless one that was may do better next time.
            Err(none) if self.is_hopeful() || (self.best.is_some() && !none.is_anyone()) => return self.again().await,
            Err(none) => self.wait(none).await?,
        };
        permit.health.budget.request(permit.health.now_ms());
        if let Some(from) = self.tried.last() {
            let when = if self.best.is_some() { "before_first_token" } else { "after_first_token" };
            let labels = [self.route.target(from.index).health.label.as_str(), from.kind.as_str(), when];
            self.router.metrics.provider_fallbacks.with_label_values(&labels).inc();
        }
        Ok(Turn { index, permit })
    }

    /// Calls the target, up to its answer's first visible token.
    ///
    /// # Errors
    /// [`Lost`]; [`Way::next`] tells what follows.
    pub async fn attempt(&mut self, turn: Turn) -> Result<Reply, Lost> {
        let Turn { index, permit } = turn;
        let target = self.route.target(index);
        let limit = self.whole_limit(index);
        match self.router.attempt(target, permit, self.asked, limit).await {
            Ok(reply) => Ok(reply),
            Err(failure) => {
                let lost = Lost { by: target.named(), kind: failure.kind, usage: self.asked.served.usage() };
                self.failed(index, failure);
                Err(lost)
            }
        }
    }

    /// Makes no further attempt, and says how those that were made failed.
    pub fn give_up(&mut self) -> Failure {
        self.best.take().unwrap_or_else(|| Failure::new(FailureKind::Unavailable, "no other target can be asked"))
    }

    fn is_new(&self, index: usize) -> bool {
        self.tried.iter().all(|tried| tried.index != index)
    }

    /// Takes a failure; one that nothing can remedy is the end.
    fn failed(&mut self, index: usize, failure: Failure) {
        let remedy = remedy(failure.kind, failure.status);
        self.is_over = remedy == Remedy::Nothing;
        let wait = failure.retry_after.unwrap_or_default();
        let is_near = wait <= self.router.routing.max_retry_after;
        let ready = (remedy == Remedy::Retry && is_near).then(|| Instant::now() + wait);
        self.tried.push(Tried { index, kind: failure.kind, ready });
        if self.best.as_ref().is_none_or(|best| hope(best.kind) <= hope(failure.kind)) {
            self.best = Some(failure);
        }
    }

    fn is_hopeful(&self) -> bool {
        self.best.as_ref().is_some_and(|best| best.kind.is_retryable())
    }

    /// How long a whole answer is waited for: it shows no sign of life until it is there, so that one that hangs would keep
    /// the others from being asked. With no other there is no such bound.
    fn whole_limit(&self, index: usize) -> Option<Duration> {
        let is_other = |other: usize| other != index && self.is_new(other) && !self.route.target(other).is_left_alone();
        let has_other = self.asked.mode == ReplyMode::Whole && (0..self.route.len()).any(is_other);
        has_other.then(|| self.route.target(index).limits.whole)
    }

    /// Waits, and asks the target again that may be asked soonest, if the budget has a retry left.
    async fn again(&mut self) -> Result<Turn, Failure> {
        let routing = &self.router.routing;
        let soonest = (0..self.tried.len())
            .filter_map(|at| Some((self.tried[at].ready?, at)))
            .min()
            .filter(|_| self.retries < routing.max_retries);
        let Some((ready, at)) = soonest else { return Err(self.give_up()) };
        let wait = backoff(routing.backoff, routing.max_backoff, self.retries, jitter());
        // Those who were told the same time do not come back at the same time.
        let start = ready.max(Instant::now()) + wait;
        let target = self.route.target(self.tried[at].index);
        if start >= self.end || !self.router.may_retry(target) {
            return Err(self.give_up());
        }
        tokio::time::sleep_until(start).await;
        // Others may have found out meanwhile that it is not well, or have taken its last place.
        let Ok(permit) = target.admit() else { return Err(self.give_up()) };
        let Tried { index, kind, .. } = self.tried.swap_remove(at);
        let labels = [target.health.label.as_str(), kind.as_str()];
        self.router.metrics.provider_retries.with_label_values(&labels).inc();
        self.retries += 1;
        Ok(Turn { index, permit })
    }

    /// Waits for a place at one of the full targets: so long, and so many at a time.
    async fn wait(&self, none: NoneFree) -> Result<(usize, Permit), Failure> {
        let (router, route) = (self.router, self.route);
        let targets: Vec<usize> = (0..route.len()).filter(|index| self.is_new(*index)).collect();
        let first = targets.first().filter(|_| none.is_full).map(|index| &route.target(*index).health);
        let Some(first) = first else { return Err(unavailable(route, none)) };
        let Some(_waiting) = Waiting::enter(&first.waiting, router.routing.max_queue) else {
            return Err(router.full("too many requests wait for a place at the provider"));
        };
        let places = targets.iter().map(|index| {
            let target = route.target(*index);
            async move { target.place().await.map(|permit| (*index, permit)) }.boxed()
        });
        match tokio::time::timeout(router.routing.queue_timeout, select_ok(places)).await {
            Ok(Ok((picked, _))) => Ok(picked),
            Ok(Err(_)) => Err(unavailable(route, none)),
            Err(_) => Err(router.full("no place at the provider became free in time")),
        }
    }
}

impl Router {
    fn may_retry(&self, target: &Target) -> bool {
        let health = &target.health;
        let granted = health.budget.take(health.now_ms());
        if !granted {
            self.metrics.provider_retries_refused.with_label_values(&[health.label.as_str()]).inc();
        }
        granted
    }

    fn full(&self, message: &str) -> Failure {
        Failure { retry_after: Some(self.routing.queue_timeout), ..Failure::new(FailureKind::Overloaded, message) }
    }

    /// One call, up to its first visible token.
    async fn attempt(
        &self,
        target: &Arc<Target>,
        mut permit: Permit,
        asked: Asked<'_>,
        limit: Option<Duration>,
    ) -> Result<Reply, Failure> {
        permit.used();
        asked.served.begin();
        let call = Call {
            request: Arc::clone(asked.request),
            model: target.model.as_ref().to_owned(),
            mode: asked.mode,
            served: asked.served.clone(),
        };
        let span = traces::call(&target.health.provider, &target.model);
        let begun = begin(target, call).instrument(span.clone());
        let begun = match limit {
            Some(limit) => tokio::time::timeout(limit, begun).await.unwrap_or_else(|_| Err(timed_out(Deadline::Whole))),
            None => begun.await,
        };
        let begun = match begun {
            Ok(begun) => begun,
            Err(failure) => {
                permit.failed(&failure);
                traces::failed(&span, failure.kind.as_str());
                return Err(failure);
            }
        };
        match begun {
            Begun::Whole(..) => permit.answered(),
            Begun::Stream(..) | Begun::Verbatim(..) => permit.first_token(),
        }
        asked.served.answered_by(target.named());
        let seen = Seen::of(span, &begun);
        let running = Running { permit, target: Arc::clone(target), served: asked.served.clone(), seen };
        Ok(match begun {
            Begun::Whole(reply, usage) => {
                running.ended(usage);
                reply
            }
            Begun::Stream(held, rest) => Reply::Stream(Box::pin(Attended::new(held, rest, running))),
            Begun::Verbatim(held, rest) => Reply::Verbatim(Box::pin(Attended::new(held, rest, running))),
        })
    }
}

async fn begin(target: &Target, call: Call) -> Result<Begun, Failure> {
    let due = Instant::now() + target.limits.first_token;
    let late = |_| timed_out(Deadline::FirstToken);
    Ok(match target.provider.chat(call).await? {
        Reply::Whole(bytes) => {
            let usage = whole::check(&bytes)?;
            Begun::Whole(Reply::Whole(bytes), usage)
        }
        Reply::Completed(completion) => {
            let usage = completion.usage;
            Begun::Whole(Reply::Completed(completion), usage)
        }
        Reply::Stream(mut rest) => {
            let held = tokio::time::timeout_at(due, first_token(&mut rest)).await.map_err(late)??;
            Begun::Stream(held, rest)
        }
        Reply::Verbatim(mut rest) => {
            let held = tokio::time::timeout_at(due, first_token(&mut rest)).await.map_err(late)??;
            Begun::Verbatim(held, rest)
        }
    })
}

/// An answer whose first visible token is there.
pub(super) enum Begun {
    Whole(Reply, Option<Usage>),
    Stream(Vec<crate::message::Delta>, super::DeltaStream),
    Verbatim(Vec<bytes::Bytes>, super::VerbatimStream),
}

fn unavailable(route: &Route, none: NoneFree) -> Failure {
    let now_ms = route.first().health.now_ms();
    if let Some(standing) =
        none.behind.filter(|standing| none.open_until_ms.is_none_or(|open| standing.until_ms <= open))
    {
        let is_pace = standing.kind == FailureKind::RateLimited;
        let kind = if is_pace { FailureKind::RateLimited } else { FailureKind::Overloaded };
        let message = "the provider has named a time before which it is not to be asked";
        return Failure { retry_after: Some(standing.left(now_ms)), ..Failure::new(kind, message) };
    }
    let wait = none.open_until_ms.map(|until_ms| Duration::from_millis(until_ms.saturating_sub(now_ms)));
    let message = "the provider has failed too often; it will be asked again soon";
    Failure { retry_after: wait, ..Failure::new(FailureKind::Unavailable, message) }
}

/// A request that waits for a place; dropping it is leaving the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let entered = Self(waiting);
        (before < most).then_some(entered)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
