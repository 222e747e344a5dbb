//! Calls that somebody pays for: what a key may use is taken before a provider is asked, watched while the answer comes,
//! and corrected once the provider has counted. Callers without a limit on tokens or money pass through untouched.

use std::sync::Arc;

use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::Value;

use super::{Ask, Boarding, CacheStatus, ChatService};
use crate::cache::Query;
use crate::embedding::Embedded;
use crate::limits::{Grant, Price, Refusal};
use crate::message::{Completion, Delta, Served, ServedBy, Usage};
use crate::providers::{self, Asked, DeltaStream, Reply, ReplyMode, Route};
use crate::upstream::{Deadline, Failure, FailureKind};

impl ChatService {
    /// Takes what the call may use; `None` where neither tokens nor money are limited.
    /// The price is that of the target which answers, and before that is known, of the dearest.
    pub(super) async fn admit(&self, ask: &Ask, route: &Arc<Route>, served: &Served) -> Result<Option<Grant>, Refusal> {
        let price = || -> Price {
            let (prices, public) = (Arc::clone(&self.inner.parts.prices), ask.request.model.clone());
            let (route, served) = (Arc::clone(route), served.clone());
            Arc::new(move |by: Option<&ServedBy>, usage: Usage| {
                let cost = |provider: &str, model: &str| {
                    prices.cost_usd(provider, model, usage).or_else(|| prices.public_cost_usd(&public, usage))
                };
                match by.or(served.by()) {
                    Some(by) => cost(&by.provider, &by.model),
                    None => route.dearest(|target| cost(target.provider.name(), &target.model)),
                }
            })
        };
        self.inner.parts.limits.admit(&ask.principal, &ask.request, price).await
    }

    /// Joins the flight of an equal request, or opens one and pays for it. Who joins pays nothing.
    pub(super) async fn board(
        &self,
        ask: &Ask,
        query: &Query,
        route: Arc<Route>,
        embedded: Option<Arc<Embedded>>,
    ) -> Result<Boarding, Refusal> {
        let served = Served::default();
        if !self.inner.parts.limits.is_metered(&ask.principal) {
            return Ok(self.fly(ask, Box::new(query.clone()), route, embedded, (None, served)));
        }
        if let Some(boarding) = self.join(query) {
            return Ok(boarding);
        }
        match self.admit(ask, &route, &served).await {
            Ok(grant) => Ok(self.fly(ask, Box::new(query.clone()), route, embedded, (grant, served))),
            // Another may have opened the flight meanwhile.
            Err(refusal) => self.join(query).ok_or(refusal),
        }
    }

    fn join(&self, query: &Query) -> Option<Boarding> {
        let listener = query.joinable.then(|| self.inner.flights.join(query.keys.exact)).flatten()?;
        self.inner.parts.metrics.flights_joined.inc();
        Some(Boarding::Aboard(CacheStatus::Collapsed, listener))
    }

    /// One upstream call under a grant: its reply settles that, or is ended by it. Each attempt on the way is paid for on
    /// its own, and none is made that the key has no money for.
    pub(super) async fn paid_call(
        &self,
        route: &Route,
        asked: Asked<'_>,
        grant: Option<Grant>,
    ) -> Result<Reply, Failure> {
        let router = &self.inner.parts.router;
        let Some(mut grant) = grant else { return router.ask(route, asked).await };
        let mut way = router.way(route, asked);
        loop {
            // Whoever leaves in a queue has asked nobody.
            let turn = way.next().await?;
            if grant.asked().await.is_err() {
                return Err(way.give_up());
            }
            match way.attempt(turn).await {
                Ok(reply) => return Ok(metered(reply, grant)),
                Err(lost) if is_free(lost.kind) => grant.refused(),
                Err(lost) => grant.lost(&lost.by, lost.usage),
            }
        }
    }
}

/// How the answer is asked for, so that its cost can be told: a stream must be counted, and an answer that has no bound
/// must come as a stream where it may have to be ended.
pub(super) fn mode_under(grant: Option<&Grant>, mode: ReplyMode) -> ReplyMode {
    match (grant, mode) {
        (Some(_), ReplyMode::Stream) => ReplyMode::CountedStream,
        (Some(grant), ReplyMode::Whole) if grant.must_watch() => ReplyMode::CountedStream,
        _ => mode,
    }
}

/// Whether a provider asks no money for a call that failed so: it was not reached, or refused. Of the others nobody knows.
fn is_free(kind: FailureKind) -> bool {
    match kind {
        FailureKind::Timeout(deadline) => deadline == Deadline::Connect,
        FailureKind::Garbage | FailureKind::Cut | FailureKind::Reported => false,
        _ => true,
    }
}

fn metered(reply: Reply, mut grant: Grant) -> Reply {
    match reply {
        Reply::Whole(bytes) => {
            match Completion::from_openai(&bytes) {
                Ok(completion) => settle_whole(grant, &completion),
                Err(_) => grant.settle(None),
            }
            Reply::Whole(bytes)
        }
        Reply::Completed(completion) => {
            settle_whole(grant, &completion);
            Reply::Completed(completion)
        }
        Reply::Stream(deltas) => {
            grant.answering();
            Reply::Stream(watched(deltas, grant))
        }
        Reply::Verbatim(events) => {
            grant.answering();
            Reply::Stream(watched(providers::deltas(events), grant))
        }
    }
}

fn settle_whole(mut grant: Grant, completion: &Completion) {
    if completion.usage.is_none() {
        let texts =
            completion.choices.iter().map(|choice| serde_json::to_string(&choice.message).map_or(0, |text| text.len()));
        grant.has_come(texts.sum());
    }
    grant.settle(completion.usage);
}

/// A stream under a grant.
struct Watched {
    deltas: DeltaStream,
    grant: Option<Grant>,
    usage: Option<Usage>,
}

fn watched(deltas: DeltaStream, grant: Grant) -> DeltaStream {
    let state = Watched { deltas, grant: Some(grant), usage: None };
    futures_util::stream::unfold(state, |mut watched| async move { Some((watched.next().await?, watched)) }).boxed()
}

impl Watched {
    async fn next(&mut self) -> Option<Result<Delta, Failure>> {
        // Without a grant it is over: the last thing said was a failure.
        self.grant.as_ref()?;
        match self.deltas.next().await {
            Some(Ok(delta)) => Some(self.seen(delta).await),
            Some(Err(failure)) => {
                self.settle();
                Some(Err(failure))
            }
            None => {
                self.settle();
                None
            }
        }
    }

    async fn seen(&mut self, delta: Delta) -> Result<Delta, Failure> {
        self.usage = delta.usage.or(self.usage);
        let Some(grant) = &mut self.grant else { return Ok(delta) };
        match grant.seen(bytes_of(&delta)).await {
            Ok(()) => Ok(delta),
            Err(refusal) => {
                self.settle();
                // The upstream call ends with its stream.
                self.deltas = futures_util::stream::empty().boxed();
                // Others may share this answer: how much is left is not theirs to know.
                let why = match refusal {
                    Refusal::Budget { .. } => {
                        "the answer was ended: the budget of the key that asked for it is used up".to_owned()
                    }
                    refusal => format!("the answer was ended: {refusal}"),
                };
                Err(Failure::new(FailureKind::Budget, why))
            }
        }
    }

    fn settle(&mut self) {
        if let Some(grant) = self.grant.take() {
            grant.settle(self.usage);
        }
    }
}

impl Drop for Watched {
    /// The reader left: what was counted by then is what it cost.
    fn drop(&mut self) {
        if self.usage.is_some() {
            self.settle();
        }
    }
}

/// Bytes of answer in a piece: of every choice, texts and whatever stands beside them, such as a tool's arguments.
fn bytes_of(delta: &Delta) -> usize {
    #[derive(Deserialize)]
    struct Chunk {
        choices: Vec<Choice>,
    }
    #[derive(Deserialize)]
    struct Choice {
        delta: Option<Value>,
    }
    // A provider's own chunk holds all of it; otherwise it stands in the delta.
    if let Some(chunk) = delta.raw.as_ref().and_then(|raw| serde_json::from_slice::<Chunk>(raw).ok()) {
        return chunk.choices.iter().filter_map(|choice| choice.delta.as_ref()).map(bytes_said).sum();
    }
    let more = delta.more.as_ref().map_or(0, |more| more.values().map(bytes_said).sum());
    delta.text.len() + delta.reasoning.len() + more
}

/// Bytes of all texts in a value.
fn bytes_said(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(bytes_said).sum(),
        Value::Object(members) => {
            members.iter().filter(|(name, _)| *name != "role").map(|(_, value)| bytes_said(value)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_to_nothing_is_free() {
        for kind in [FailureKind::Connect, FailureKind::RateLimited, FailureKind::Rejected, FailureKind::Server] {
            assert!(is_free(kind), "{kind:?}");
        }
        assert!(is_free(FailureKind::Timeout(Deadline::Connect)));
        for kind in [FailureKind::Cut, FailureKind::Garbage, FailureKind::Timeout(Deadline::Total)] {
            assert!(!is_free(kind), "{kind:?}");
        }
    }

    #[test]
    fn every_kind_of_content_has_bytes() {
        assert_eq!(bytes_of(&Delta { text: "abc".into(), reasoning: "de".into(), ..Delta::default() }), 5);
        let more = serde_json::from_str(r#"{"a":["b",{"c":"de"}]}"#).unwrap();
        assert_eq!(bytes_of(&Delta { more: Some(Box::new(more)), text: "f".into(), ..Delta::default() }), 4);
        let chunk = |choices: &str, text: &str| {
            let raw = format!(r#"{{"id":"chatcmpl-1","model":"m","choices":{choices}}}"#).into();
            bytes_of(&Delta { raw: Some(raw), text: text.to_owned(), ..Delta::default() })
        };
        assert_eq!(chunk(r#"[{"index":0,"delta":{"role":"assistant","content":"abc"}}]"#, "abc"), 3);
        let arguments = r#"[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":1"}}]}}]"#;
        assert_eq!(chunk(arguments, ""), 6);
        assert_eq!(chunk(r#"[{"index":1,"delta":{"content":"abcd"}}]"#, ""), 4);
        assert_eq!(chunk(r#"[{"index":0,"delta":{"content":"a"}},{"index":1,"delta":{"content":"bc"}}]"#, "a"), 3);
    }
}
