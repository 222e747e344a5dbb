//! Where an answer came from, for headers, frames, bodies and the stored message.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use crate::cache::scope::Digest;
use crate::cache::{Hit, How, Query, Tier};
use crate::message::{Served, Usage};

/// The cache's part in an answer, in RFC 9211's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheStatus {
    /// An earlier answer.
    Hit,
    /// Asked upstream.
    Miss,
    /// The cache was left out.
    Bypass,
    /// Shares an upstream call with an equal request.
    Collapsed,
}

impl CacheStatus {
    /// The word in metrics and frames.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
            Self::Collapsed => "collapsed",
        }
    }
}

/// What a hit did not cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Saved {
    /// Tokens, where the provider had counted them.
    pub usage: Option<Usage>,
    /// Time that the answer took when it was made.
    pub ms: u64,
    /// US dollars, where the model has a price.
    pub usd: Option<f64>,
}

/// Where an answer came from.
#[derive(Debug, Clone)]
pub struct CacheReport {
    /// The cache's part.
    pub status: CacheStatus,
    /// How a hit matched.
    pub how: Option<How>,
    /// Where it was.
    pub tier: Option<Tier>,
    /// Cosine of a semantic hit.
    pub similarity: Option<f32>,
    /// The entry's exact key, or the one that an answer will be stored under.
    pub key: Option<Digest>,
    /// Age of a hit, in seconds.
    pub age_s: Option<u64>,
    /// How long a hit may still be served, in seconds.
    pub ttl_s: Option<u64>,
    /// Why the cache was left out.
    pub reason: Option<&'static str>,
    /// What a hit did not cost.
    pub saved: Option<Saved>,
    /// Time until it was known where the answer comes from; `None` where it must not be shown.
    pub lookup: Option<Duration>,
    /// Who answers, and what it takes.
    pub served: Served,
}

impl CacheReport {
    fn of(status: CacheStatus) -> Self {
        Self {
            status,
            how: None,
            tier: None,
            similarity: None,
            key: None,
            age_s: None,
            ttl_s: None,
            reason: None,
            saved: None,
            lookup: None,
            served: Served::default(),
        }
    }

    pub(super) fn hit(hit: &Hit, saved: Saved, now_ms: u64) -> Self {
        Self {
            how: Some(hit.how),
            tier: Some(hit.tier),
            similarity: hit.similarity.map(crate::embedding::Similarity::get),
            key: Some(hit.entry.key),
            age_s: Some(hit.entry.age_s(now_ms)),
            ttl_s: Some(hit.entry.ttl_s(now_ms)),
            saved: Some(saved),
            ..Self::of(CacheStatus::Hit)
        }
    }

    pub(super) fn miss(status: CacheStatus, query: &Query) -> Self {
        Self { key: Some(query.keys.exact), ..Self::of(status) }
    }

    pub(super) fn bypass(reason: &'static str) -> Self {
        Self { reason: Some(reason), ..Self::of(CacheStatus::Bypass) }
    }

    /// The same, with the time since `started` as that of the look-up.
    pub(super) fn looked_up(self, started: Instant) -> Self {
        Self { lookup: Some(started.elapsed()), ..self }
    }

    /// The same, of an answer that `served` tells about.
    pub(super) fn by(self, served: &Served) -> Self {
        Self { served: served.clone(), ..self }
    }

    /// A miss, as far as this person may know.
    pub(super) fn veiled(query: &Query) -> Self {
        Self::miss(CacheStatus::Miss, query)
    }

    /// The object in frames, bodies and stored messages. `stored` is known at the end of a miss.
    pub fn json(&self, stored: Option<bool>) -> Value {
        let saved = self.saved.map(|saved| {
            json!({
                "input_tokens": saved.usage.map(|usage| usage.input_tokens),
                "output_tokens": saved.usage.map(|usage| usage.output_tokens),
                "ms": saved.ms,
                "usd": saved.usd,
            })
        });
        json!({
            "status": self.status,
            "how": self.how,
            "tier": self.tier,
            "similarity": self.similarity.map(|similarity| (f64::from(similarity) * 10_000.0).round() / 10_000.0),
            "key": self.key,
            "age_s": self.age_s,
            "ttl_s": self.ttl_s,
            "stored": stored.unwrap_or(false),
            "reason": self.reason,
            "provider": self.served.by().map(|by| by.provider.as_ref()),
            "cost_usd": self.served.cost_usd(),
            "saved": saved,
            "lookup_ms": self.lookup.map(|lookup| (lookup.as_secs_f64() * 1_000_000.0).round() / 1000.0),
        })
    }
}
