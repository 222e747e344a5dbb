//! What the cache may do for a request, decided before anything is looked up: bypass it, or look it up by these keys in
//! this scope, by text only or also by meaning. Pure; no part of it waits.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::SemanticCache;
use super::context::is_standalone;
use super::control::CacheControl;
use super::entry::Entry;
use super::explain::ExplainedRequest;
use super::freshness::{self, Freshness};
use super::key::Keys;
use super::language::{self, Language};
use super::normalize::normalize;
use super::scope::{Asker, Audience, Scope, Visibility};
use super::verify::Preset;
use crate::config::CacheConfig;
use crate::embedding::Similarity;
use crate::message::{ChatRequest, JsonObject, Role, Turn};

/// A request that may use the cache.
#[derive(Debug, Clone)]
pub struct Query {
    /// What it goes by.
    pub keys: Keys,
    /// Everything that must be equal.
    pub scope: Scope,
    /// The last turn's text; empty when it is not plain text.
    pub prompt: String,
    /// How quickly its answer ages.
    pub freshness: Freshness,
    /// Why it is matched by its text only; `None`: it may be matched by meaning too.
    pub why_not_semantic: Option<&'static str>,
    /// The caller's wishes.
    pub control: CacheControl,
    /// Whether an equal request in flight may be joined.
    pub joinable: bool,
}

/// The decision.
#[derive(Debug, Clone)]
pub enum Plan {
    /// Neither read nor written.
    Bypass {
        /// Why, as a sentence.
        reason: &'static str,
        /// The last turn.
        prompt: String,
        /// The public model name.
        model: String,
    },
    /// Looked up and, on a miss, stored, as far as the caller's mode says.
    Use(Box<Query>),
}

impl Query {
    /// Whether the caller takes an entry of this age.
    pub fn accepts(&self, entry: &Entry, now_ms: u64) -> bool {
        entry.is_fresh(now_ms) && self.control.max_age.is_none_or(|most| entry.age_s(now_ms) <= most.as_secs())
    }

    /// What a neighbour's cosine must reach: the preset's threshold, or the caller's where that is higher.
    pub(super) fn threshold(&self, preset: Preset) -> Similarity {
        let wish = self.control.threshold.map(Similarity::clamped);
        wish.map_or(preset.threshold(), |wish| preset.threshold().stricter(wish))
    }

    /// How long an answer may be reused: the class's time, at most what the caller wished.
    pub(super) fn ttl(&self, config: &CacheConfig, answer: &str, jitter: f64) -> Duration {
        let ttl = freshness::ttl(self.freshness, answer, config.ttl, config.short_ttl, jitter);
        self.control.ttl.map_or(ttl, |wish| wish.min(ttl))
    }
}

impl Plan {
    pub(super) fn explained(&self) -> ExplainedRequest {
        match self {
            Self::Bypass { prompt, model, .. } => {
                ExplainedRequest { prompt: prompt.clone(), model: model.clone(), ..ExplainedRequest::default() }
            }
            Self::Use(query) => ExplainedRequest {
                prompt: query.prompt.clone(),
                normalized: normalize(&query.prompt),
                model: query.scope.model.clone(),
                language: query.scope.language.as_str(),
                standalone: query.keys.matching.as_ref().is_some_and(|keys| keys.standalone),
                freshness: query.freshness.to_string(),
                semantic_eligible: query.why_not_semantic.is_none(),
                why_not: query.why_not_semantic.map(str::to_owned),
            },
        }
    }
}

impl SemanticCache {
    /// Decides what the cache may do for `request`.
    pub fn plan(&self, request: &ChatRequest, asker: Asker<'_>, control: CacheControl) -> Plan {
        let prompt = request.prompt().unwrap_or_default();
        let bypass = |reason| Plan::Bypass { reason, prompt: prompt.to_owned(), model: request.model.clone() };
        if !self.inner.config.enabled {
            return bypass("the cache is switched off");
        }
        if !control.mode.reads() && !control.mode.writes() {
            return bypass("the request asked for no cache");
        }
        let freshness = freshness_of(request);
        let visibility = match (&freshness, asker.user, &request.user) {
            (Freshness::Volatile { .. }, ..) => return bypass("the answer changes by the hour"),
            (Freshness::Random { .. }, ..) => return bypass("a new answer is wanted each time"),
            (Freshness::Personal { .. }, None, None) => return bypass("the question is personal and names no user"),
            (Freshness::Personal { .. }, Some(known), _) => Visibility::Known(known),
            (Freshness::Personal { .. }, None, Some(user)) => Visibility::User(user.clone()),
            _ => Visibility::Tenant,
        };
        let language = if prompt.is_empty() { Language::Other } else { language::detect(prompt) };
        let audience = Audience { tenant: asker.tenant, visibility, namespace: &control.namespace };
        let keyed = Scope::of(request, &audience, language, self.inner.embeddings.id())
            .and_then(|scope| Keys::of(request, &scope).map(|keys| (scope, keys)));
        let Ok((scope, keys)) = keyed else { return bypass("the request has no canonical form") };
        let facts = SamplingFacts::of(request);
        let why_not_semantic = self.why_not_semantic(&keys, &scope, &control, &facts);
        let joinable = control.mode.reads() && control.mode.writes() && facts.n <= 1;
        Plan::Use(Box::new(Query {
            keys,
            scope,
            prompt: prompt.to_owned(),
            freshness,
            why_not_semantic,
            control,
            joinable,
        }))
    }

    fn why_not_semantic(
        &self,
        keys: &Keys,
        scope: &Scope,
        control: &CacheControl,
        facts: &SamplingFacts,
    ) -> Option<&'static str> {
        let reasons = [
            (
                keys.matching.is_none(),
                "a turn is not plain text, or the last one is not a user's: matched exactly only",
            ),
            (!self.inner.config.semantic, "matching by meaning is switched off"),
            (control.semantic == Some(false), "the request asked for text matches only"),
            (scope.language != Language::English, "the prompt is not English, as far as a cheap look can tell"),
            (!scope.tools.is_empty(), "the request has tools"),
            (facts.temperature > 1.0, "the temperature is above 1"),
            (facts.n > 1, "more than one answer is wanted"),
            (facts.seed, "the request has a seed"),
            (facts.logprobs, "the request asks for log probabilities"),
        ];
        reasons.into_iter().find(|(applies, _)| *applies).map(|(_, reason)| reason)
    }
}

/// The class of a request: that of its last turn where that stands alone, else the first of the person's turns whose
/// answer must not be kept ("And in Paris?" is about the weather if the turn before was).
fn freshness_of(request: &ChatRequest) -> Freshness {
    let said = |turns: &[Turn]| {
        let mut texts = turns.iter().filter(|turn| turn.role == Role::User).map(|turn| freshness::classify(&turn.text));
        texts.find(|class| !class.may_be_kept())
    };
    let Some(prompt) = request.prompt() else { return said(&request.turns).unwrap_or(Freshness::Timeless) };
    let own = freshness::classify(prompt);
    let earlier = request.turns.split_last().map_or(&[][..], |(_, earlier)| earlier);
    let is_first = earlier.iter().all(|turn| turn.role != Role::User);
    if !own.may_be_kept() || is_first || is_standalone(prompt) {
        return own;
    }
    said(earlier).unwrap_or(own)
}

/// What of the sampling decides about matching by meaning.
struct SamplingFacts {
    temperature: f64,
    n: u64,
    seed: bool,
    logprobs: bool,
}

impl SamplingFacts {
    fn of(request: &ChatRequest) -> Self {
        fn member<'a, T: Deserialize<'a>>(object: Option<&JsonObject<'a>>, name: &str) -> Option<T> {
            object
                .and_then(|object| object.get(name))
                .and_then(|raw: &'a RawValue| serde_json::from_str(raw.get()).ok())
        }
        let object = JsonObject::parse(&request.body).ok();
        let object = object.as_ref();
        Self {
            temperature: member(object, "temperature").unwrap_or(0.0),
            n: member(object, "n").unwrap_or(1),
            seed: object.is_some_and(|object| object.get("seed").is_some()),
            logprobs: member(object, "logprobs").unwrap_or(false),
        }
    }
}
