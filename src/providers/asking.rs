//! One request's way over its route: the first target that can be called, then the others, then again those that may do
//! better next time, all of it before the first visible token.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select_ok;
use tokio::time::Instant;

use super::attended::{Attended, Running, first_token};
use super::retry::{Remedy, backoff, remedy};
use super::route::{NoneFree, Route};
use super::target::{Permit, Target};
use super::{Call, Reply, ReplyMode, Router, whole};
use crate::clock::jitter;
use crate::message::{ChatRequest, Served, ServedBy};
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

/// A target that has failed this request.
struct Tried {
    index: usize,
    kind: FailureKind,
    /// When it may be asked again, if at all.
    ready: Option<Instant>,
}

/// How far a request has come.
struct Way<'a> {
    route: &'a Route,
    tried: Vec<Tried>,
    retries: u32,
    last: Option<Failure>,
    /// No call begins after this.
    end: Instant,
}

impl Way<'_> {
    fn is_new(&self, index: usize) -> bool {
        self.tried.iter().all(|tried| tried.index != index)
    }

    /// Takes a failure; one that nothing can remedy is the end.
    fn failed(&mut self, index: usize, failure: Failure, max_retry_after: Duration) -> Result<(), Failure> {
        let remedy = remedy(failure.kind, failure.status);
        if remedy == Remedy::Nothing {
            return Err(failure);
        }
        let wait = failure.retry_after.unwrap_or_default();
        let ready = (remedy == Remedy::Retry && wait <= max_retry_after).then(|| Instant::now() + wait);
        self.tried.push(Tried { index, kind: failure.kind, ready });
        self.last = Some(failure);
        Ok(())
    }

    fn give_up(&mut self) -> Failure {
        self.last.take().unwrap_or_else(|| Failure::new(FailureKind::Unavailable, "no other target can be asked"))
    }
}

impl Router {
    /// Answers a request by the first target that can, up to its first visible token; what comes after that comes inside
    /// the reply. Dropping the future, or the reply, ends the work upstream.
    ///
    /// # Errors
    /// The last target's [`Failure`].
    pub async fn ask(&self, route: &Route, asked: Asked<'_>) -> Result<Reply, Failure> {
        let end = Instant::now() + self.limits.total;
        let mut way = Way { route, tried: Vec::new(), retries: 0, last: None, end };
        for broken in asked.broken {
            let indexes = (0..route.len()).filter(|index| route.target(*index).is(&broken.by));
            way.tried.extend(indexes.map(|index| Tried { index, kind: broken.kind, ready: None }));
        }
        loop {
            let (index, permit) = self.next(&mut way).await?;
            match self.attempt(route.target(index), permit, asked).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => way.failed(index, failure, self.routing.max_retry_after)?,
            }
        }
    }

    /// The next target to call: a new one, else one that is to be asked again.
    async fn next(&self, way: &mut Way<'_>) -> Result<(usize, Permit), Failure> {
        let (index, permit) = match way.route.pick(jitter, |index| way.is_new(index)) {
            Ok(picked) => picked,
            Err(_) if way.last.is_some() => return self.again(way).await,
            Err(none) => self.wait(way, none).await?,
        };
        permit.health.budget.request(permit.health.now_ms());
        if let Some(from) = way.tried.last() {
            let when = if way.last.is_some() { "before_first_token" } else { "after_first_token" };
            let labels = [way.route.target(from.index).health.label.as_str(), from.kind.as_str(), when];
            self.metrics.provider_fallbacks.with_label_values(&labels).inc();
        }
        Ok((index, permit))
    }

    /// Waits, and asks the target again that may be asked soonest, if the budget has a retry left.
    async fn again(&self, way: &mut Way<'_>) -> Result<(usize, Permit), Failure> {
        let soonest = (0..way.tried.len())
            .filter_map(|at| Some((way.tried[at].ready?, at)))
            .min()
            .filter(|_| way.retries < self.routing.max_retries);
        let Some((ready, at)) = soonest else { return Err(way.give_up()) };
        let wait = backoff(self.routing.backoff, self.routing.max_backoff, way.retries, jitter());
        let start = ready.max(Instant::now() + wait);
        let health = &way.route.target(way.tried[at].index).health;
        if start >= way.end || !self.may_retry(way.route.target(way.tried[at].index)) {
            return Err(way.give_up());
        }
        tokio::time::sleep_until(start).await;
        // Others may have found out meanwhile that it is not well, or have taken its last place.
        let Ok(permit) = health.admit() else { return Err(way.give_up()) };
        let tried = way.tried.swap_remove(at);
        self.metrics.provider_retries.with_label_values(&[health.label.as_str(), tried.kind.as_str()]).inc();
        way.retries += 1;
        Ok((tried.index, permit))
    }

    fn may_retry(&self, target: &Target) -> bool {
        let health = &target.health;
        let granted = health.budget.take(health.now_ms());
        if !granted {
            self.metrics.provider_retries_refused.with_label_values(&[health.label.as_str()]).inc();
        }
        granted
    }

    /// Waits for a place at one of the full targets: so long, and so many at a time.
    async fn wait(&self, way: &Way<'_>, none: NoneFree) -> Result<(usize, Permit), Failure> {
        let targets = (0..way.route.len()).filter(|index| way.is_new(*index));
        let targets: Vec<usize> = targets.collect();
        let first = targets.first().filter(|_| none.is_full).map(|index| &way.route.target(*index).health);
        let Some(first) = first else { return Err(unavailable(way.route, none)) };
        let Some(_waiting) = Waiting::enter(&first.waiting, self.routing.max_queue) else {
            return Err(self.full("too many requests wait for a place at the provider"));
        };
        let places = targets.iter().map(|index| {
            let health = &way.route.target(*index).health;
            async move { health.place().await.map(|permit| (*index, permit)) }.boxed()
        });
        match tokio::time::timeout(self.routing.queue_timeout, select_ok(places)).await {
            Ok(Ok((picked, _))) => Ok(picked),
            Ok(Err(_)) => Err(unavailable(way.route, none)),
            Err(_) => Err(self.full("no place at the provider became free in time")),
        }
    }

    fn full(&self, message: &str) -> Failure {
        Failure { retry_after: Some(self.routing.queue_timeout), ..Failure::new(FailureKind::Overloaded, message) }
    }

    /// One call, up to its first visible token.
    async fn attempt(&self, target: &Arc<Target>, mut permit: Permit, asked: Asked<'_>) -> Result<Reply, Failure> {
        asked.served.begin();
        let call = Call {
            request: Arc::clone(asked.request),
            model: target.model.as_ref().to_owned(),
            mode: asked.mode,
            served: asked.served.clone(),
        };
        let begun = self.begin(target, call).await;
        let begun = match begun {
            Ok(begun) => begun,
            Err(failure) => {
                permit.failed(&failure);
                return Err(failure);
            }
        };
        permit.first_token();
        let by = ServedBy { provider: Arc::clone(&target.health.provider), model: Arc::clone(&target.model) };
        asked.served.answered_by(by);
        let running = Running { permit, target: Arc::clone(target), served: asked.served.clone() };
        Ok(match begun {
            Begun::Whole(reply, usage) => {
                running.ended(usage);
                reply
            }
            Begun::Stream(held, rest) => Reply::Stream(Box::pin(Attended::new(held, rest, running))),
            Begun::Verbatim(held, rest) => Reply::Verbatim(Box::pin(Attended::new(held, rest, running))),
        })
    }

    async fn begin(&self, target: &Target, call: Call) -> Result<Begun, Failure> {
        let due = Instant::now() + self.limits.first_token;
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
}

/// An answer whose first visible token is there.
enum Begun {
    Whole(Reply, Option<crate::message::Usage>),
    Stream(Vec<crate::message::Delta>, super::DeltaStream),
    Verbatim(Vec<bytes::Bytes>, super::VerbatimStream),
}

fn unavailable(route: &Route, none: NoneFree) -> Failure {
    let now_ms = route.first().health.now_ms();
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
