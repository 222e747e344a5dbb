//! From a request's bytes to an answer that has begun, in whichever dialect; and the headers that say where it came from.

use std::fmt::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{AGE, CACHE_CONTROL};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request};
use axum::response::Response;
use bytes::Bytes;

use super::error::ApiError;
use super::inbound::Inbound;
use super::{Api, body, openai_replay};
use crate::cache::{How, Replay};
use crate::chat::{Answer, Ask, CacheReport, CacheStatus, ChatError, Event, Events, Source, Whole};
use crate::keys::Principal;
use crate::message::{ChatRequest, Completion, Usage};
use crate::upstream::{Failure, FailureKind};

/// Who answered, or counted.
pub(super) const PROVIDER: HeaderName = HeaderName::from_static("x-ish-provider");

/// An answer that has begun.
pub(super) struct Begun {
    /// The canonical request.
    pub request: Arc<ChatRequest>,
    /// How a cached answer is given to a stream.
    pub replay: Replay,
    /// Where the answer comes from.
    pub report: CacheReport,
    /// The answer.
    pub source: Source,
}

/// The beginning of a stream.
pub(super) struct Opening {
    /// What was heard already: never a failure, which has its own status.
    pub first: Option<Event>,
    /// The rest.
    pub events: Events,
}

impl Begun {
    /// Reads the request and asks.
    pub async fn of(
        api: &Api,
        principal: Principal,
        request: Request<Body>,
        inbound: Inbound,
    ) -> Result<Self, ApiError> {
        let (head, body) = request.into_parts();
        let bytes = body::read(body, api.0.facts.max_body_bytes).await?;
        Self::of_bytes(api, principal, &head.headers, bytes, inbound).await
    }

    /// As [`Begun::of`], for a body that was read before.
    pub async fn of_bytes(
        api: &Api,
        principal: Principal,
        headers: &HeaderMap,
        body: Bytes,
        inbound: Inbound,
    ) -> Result<Self, ApiError> {
        let prepared =
            api.0.prepared.prepare(&api.0.chat, &principal, headers, &body, &api.0.facts.default_model, inbound)?;
        let request = Arc::clone(&prepared.request);
        let (control, replay) = (prepared.control.clone(), prepared.control.replay);
        let ask = Ask { request: Arc::clone(&request), principal, control, explain: false };
        let Answer { report, source, .. } = api.0.chat.respond_planned(ask, &prepared.plan).await?;
        Ok(Self { request, replay, report, source })
    }

    /// The extension object of a cached answer, as JSON.
    pub fn ish(&self) -> Option<String> {
        let Source::Cached(hit) = &self.source else { return None };
        Some(openai_replay::ish(hit, &self.report))
    }
}

/// The whole answer, and the tokens that it cost: none where it was cached.
pub(super) async fn completion(source: Source) -> Result<(Arc<Completion>, Usage), ApiError> {
    Ok(match source.into_whole().await.map_err(ChatError::from)? {
        Whole::Cached(hit) => (Arc::clone(&hit.entry.completion), Usage::default()),
        Whole::Completion(completion) => (Arc::clone(&completion), completion.usage.unwrap_or_default()),
        Whole::Raw(bytes) => {
            let read = Completion::from_openai(&bytes).ok().filter(|completion| !completion.choices.is_empty());
            let completion = read.ok_or_else(|| {
                Failure::new(FailureKind::Garbage, "the provider's answer is not the JSON that it should be")
            })?;
            let usage = completion.usage.unwrap_or_default();
            (Arc::new(completion), usage)
        }
    })
}

/// The answer's events, once the first is there, so that a failure before it has its own status.
pub(super) async fn opening(source: Source, replay: Replay) -> Result<Opening, ApiError> {
    let mut events = source.into_events(replay);
    match events.next().await {
        Some(Event::Failed(failure)) => Err(ChatError::from(failure).into()),
        first => Ok(Opening { first, events }),
    }
}

/// The word of the flat header.
fn flat_status(report: &CacheReport) -> &'static str {
    match (report.status, report.how) {
        (CacheStatus::Hit, Some(How::Semantic)) => "SEMANTIC_HIT",
        (CacheStatus::Hit, Some(How::Normalized)) => "NORMALIZED_HIT",
        (CacheStatus::Hit, _) => "HIT",
        (CacheStatus::Miss, _) => "MISS",
        (CacheStatus::Bypass, _) => "BYPASS",
        (CacheStatus::Collapsed, _) => "COALESCED",
    }
}

/// A whole answer's reply, with what it cost. A stream says that at its end: a header could tell only of an answer that was
/// there before.
pub(super) fn costing(mut response: Response, report: &CacheReport) -> Response {
    if let Some(cost_usd) = report.served.cost_usd().and_then(|usd| HeaderValue::try_from(usd.to_string()).ok()) {
        response.headers_mut().insert(HeaderName::from_static("x-ish-cost-usd"), cost_usd);
    }
    response
}

/// RFC 9211's `Cache-Status`, the flat headers, `Age` and `Server-Timing`.
pub(super) fn set_headers(headers: &mut HeaderMap, report: &CacheReport) {
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    let key = report.key.map(crate::cache::scope::Digest::short);
    let mut status = String::from("ish");
    let _ = match report.status {
        CacheStatus::Hit => write!(status, "; hit; ttl={}", report.ttl_s.unwrap_or(0)),
        CacheStatus::Miss => write!(status, "; fwd=miss"),
        CacheStatus::Bypass => write!(status, "; fwd=bypass"),
        CacheStatus::Collapsed => write!(status, "; fwd=miss; collapsed"),
    };
    if let Some(key) = &key {
        let _ = write!(status, "; key=\"{key}\"");
    }
    if let (Some(how), Some(tier)) = (report.how, report.tier) {
        let _ = write!(status, "; detail={}-{}", how.as_str(), tier.as_str());
    }
    set("cache-status", status);
    if let Some(lookup_us) = report.lookup.map(|lookup| lookup.as_micros()) {
        set("server-timing", format!("cache;dur={}.{:03}", lookup_us / 1000, lookup_us % 1000));
    }
    if let Some(key) = key {
        set("x-ish-cache-key", report.key.map_or(key, |key| key.to_string()));
    }
    if let Some(tier) = report.tier {
        set("x-ish-cache-tier", tier.as_str().to_owned());
    }
    if let Some(by) = report.served.by() {
        set("x-ish-provider", by.provider.to_string());
    }
    if let Some(similarity) = report.similarity {
        set("x-ish-cache-similarity", format!("{similarity:.4}"));
    }
    headers.insert(HeaderName::from_static("x-ish-cache"), HeaderValue::from_static(flat_status(report)));
    // Intermediaries must not cache what we cache by meaning.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(age) = report.age_s {
        headers.insert(AGE, HeaderValue::from(age));
    }
}
