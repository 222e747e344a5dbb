//! What a person may see of others' questions. Where several people share a scope, the first reply that one of them gets
//! from another's entry reads as a miss of their own: no similarity, no time, the tokens as they were counted. The second
//! one shows where it comes from, as all of their own do (`cache::Person`; PRODUCT.md, B13).

use std::time::{Duration, Instant};

use super::{Answer, Ask, CacheReport, CacheStatus, ChatError, ChatService, Source};
use crate::cache::{Explanation, Hit, Mode, Person, Query};
use crate::config::FirstTouch;
use crate::keys::{KeyRole, Principal};
use crate::message::Served;

/// A cached answer that reads as a new one.
pub struct Veiled {
    /// The entry that answers.
    pub hit: Hit,
    /// How long the answer is to take.
    pub takes: Duration,
    /// Whether the answer to a miss would have been stored.
    pub stored: bool,
}

impl ChatService {
    /// The person from whom others' questions are hidden. Nothing is hidden from an admin's key, which reads the entries
    /// themselves, nor in local mode, which has one person; from a user that the server knows it is whatever is configured.
    pub fn viewer(&self, principal: &Principal, user: Option<&str>) -> Option<Person> {
        let is_closed = self.cache().first_touch() != FirstTouch::Open || principal.user.is_some();
        let hides = is_closed && principal.role != KeyRole::Admin;
        hides.then(|| Person::of(principal.key, principal.called(user).as_deref()))
    }

    /// Answers from an entry, openly or as a miss.
    pub(super) fn found(
        &self,
        hit: Hit,
        ask: &Ask,
        query: &Query,
        mut explanation: Option<Box<Explanation>>,
        started: Instant,
    ) -> Result<Answer, ChatError> {
        let viewer = self.viewer(&ask.principal, ask.request.user.as_deref());
        let known = viewer.is_none_or(|person| self.cache().is_known(person, &hit));
        if viewer.is_some()
            && let Some(explanation) = &mut explanation
        {
            explanation.veil(known.then_some(hit.entry.key));
        }
        if !known && query.control.mode == Mode::Only {
            return Err(ChatError::OnlyIfCached);
        }
        let report = self.hit_report(&hit, &ask.request.model, started);
        let holder = Person::holder(ask.principal.key);
        let Some(person) = viewer.filter(|_| !known) else {
            if viewer.is_some() {
                self.cache().tell(holder, hit.entry.key);
            }
            return Ok(Answer { report, explanation, source: Source::Cached(hit) });
        };
        self.cache().touch(person, holder, query, &hit);
        let takes = match self.cache().first_touch() {
            FirstTouch::Paced => Duration::from_millis(hit.entry.elapsed_ms).saturating_sub(started.elapsed()),
            FirstTouch::Quiet | FirstTouch::Open => Duration::ZERO,
        };
        let report = CacheReport::veiled(query).by(&self.told_again(&hit));
        let veiled = Veiled { hit, takes, stored: query.control.mode.writes() };
        Ok(Answer { report, explanation, source: Source::Veiled(veiled) })
    }

    /// What a miss would have said of its provider.
    fn told_again(&self, hit: &Hit) -> Served {
        let (completion, provider) = (&hit.entry.completion, &hit.entry.provider);
        let cost = |usage| self.inner.parts.prices.cost_usd(provider, &completion.model, usage);
        Served::earlier(provider, &completion.model, completion.usage, completion.usage.and_then(cost))
    }

    /// The report of a miss, as far as the one who asks may know.
    pub(super) fn missed(
        &self,
        status: CacheStatus,
        ask: &Ask,
        query: &Query,
        explanation: &mut Option<Box<Explanation>>,
        started: Instant,
    ) -> CacheReport {
        let report = self.report(CacheReport::miss(status, query).looked_up(started), started);
        let Some(person) = self.viewer(&ask.principal, ask.request.user.as_deref()) else { return report };
        self.cache().tell(Person::holder(ask.principal.key), query.keys.exact);
        if status == CacheStatus::Collapsed {
            self.cache().touch_flight(person, query);
        }
        if let Some(explanation) = explanation {
            explanation.veil(None);
        }
        CacheReport::veiled(query)
    }
}
