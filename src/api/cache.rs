//! The cache for people: figures, explanations, entries, evictions, and "wrong answer".

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use super::address::{Path, Query};
use super::admin::admin;
use super::error::{ApiError, Problem};
use super::{Api, body};
use crate::cache::scope::Digest;
use crate::cache::{CacheControl, Entry, Explanation, Person, Selection};
use crate::chat::asker;
use crate::clock::rfc3339;
use crate::conversations::History;
use crate::keys::Principal;
use crate::message::{InvalidRequest, Role};

pub(super) async fn stats(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    // They count everybody's questions, whoever's they are.
    inspector(&api, &principal)?;
    let figures = api.0.chat.cache().figures().await?;
    let metrics = &api.0.metrics;
    let answers =
        |status: &str, how: &str, tier: &str| metrics.chat_answers.with_label_values(&[status, how, tier]).get();
    let by_how = |how: &str| ["l1", "l2", "l3"].into_iter().map(|tier| answers("hit", how, tier)).sum::<u64>();
    let (misses, collapsed, bypassed) =
        (answers("miss", "none", "none"), answers("collapsed", "none", "none"), answers("bypass", "none", "none"));
    let hits = by_how("exact") + by_how("normalized") + by_how("semantic");
    let lookups = hits + misses + collapsed;
    let saved = |direction: &str| metrics.saved_tokens.with_label_values(&[direction]).get();
    Ok(Json(json!({
        "entries": figures.stored.entries,
        "bytes": figures.stored.bytes,
        "tiers": figures,
        "lookups": {
            "total": lookups,
            "exact": by_how("exact"),
            "normalized": by_how("normalized"),
            "semantic": by_how("semantic"),
            "miss": misses,
            "collapsed": collapsed,
            "bypass": bypassed,
            "hit_rate": if lookups == 0 { Value::Null } else { json!(hits as f64 / lookups as f64) },
        },
        "saved": {
            "input_tokens": saved("input"),
            "output_tokens": saved("output"),
            "ms": (metrics.saved_seconds.get() * 1000.0).round(),
            "usd": metrics.saved_usd.get(),
        },
        "wrong_answer_reports": metrics.cache_wrong_reports.get(),
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainWish {
    prompt: String,
    model: Option<String>,
    system: Option<String>,
    conversation: Option<Uuid>,
    cache: Option<Box<RawValue>>,
}

/// What a look-up of this prompt finds now; with a conversation, as its next question.
pub(super) async fn explain(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    request: Request<Body>,
) -> Result<Json<Explanation>, Problem> {
    let wish: ExplainWish = body::json(request.into_body(), api.0.facts.max_body_bytes).await?;
    let control = wish.cache.map_or(Ok(CacheControl::default()), |wish| CacheControl::of_json(wish.get()))?;
    let mut history = History::default();
    if let Some(conversation) = wish.conversation
        && let Some(leaf) = api.0.conversations.get(&principal.space(), conversation).await?.leaf
    {
        history = api.0.conversations.history(&principal.space(), leaf, api.0.facts.window).await?;
    }
    history.instructions.splice(0..0, wish.system);
    history.messages.push((Role::User, wish.prompt));
    let model = wish.model.unwrap_or_else(|| api.0.facts.default_model.clone());
    let request = history.request(&model, &serde_json::Map::new())?;
    let cache = api.0.chat.cache();
    let plan = cache.plan(&request, asker(&principal), control);
    let mut explanation = cache.explain(&plan).await;
    if api.0.chat.viewer(&principal, None).is_some() {
        explanation.veil(None);
    }
    Ok(Json(explanation))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Feedback {
    message: Option<Uuid>,
    key: Option<String>,
    verdict: Verdict,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Wrong,
}

/// "Wrong answer": the entry goes, and the pair never matches by meaning again. Where several people share a scope, only an
/// answer that they were given can be reported; any other key reads as one of no entry.
pub(super) async fn feedback(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    request: Request<Body>,
) -> Result<Json<Value>, Problem> {
    let Feedback { message, key, verdict: Verdict::Wrong } =
        body::json(request.into_body(), api.0.facts.max_body_bytes).await?;
    let (key, asked) = match (message, key) {
        (Some(message), None) => reported_pair(&api, &principal, message).await?,
        (None, Some(key)) => {
            let key = digest(&key)?;
            if !may_report(&api, &principal, key).await? {
                return Ok(Json(json!({"evicted": false, "blocked": false})));
            }
            (key, None)
        }
        _ => {
            return Err(InvalidRequest {
                message: "name either `message`, an answer's identifier, or `key`".to_owned(),
                param: None,
            }
            .into());
        }
    };
    let holder = Person::holder(principal.key);
    let evicted = api.0.chat.cache().report_wrong(&principal.tenant, holder, key, asked).await?;
    Ok(Json(json!({"evicted": evicted, "blocked": evicted && asked.is_some()})))
}

async fn may_report(api: &Api, principal: &Principal, key: Digest) -> Result<bool, ApiError> {
    match api.0.chat.viewer(principal, None) {
        Some(_) => {
            let user = principal.called(None);
            Ok(api.0.chat.cache().may_report(&principal.tenant, principal.key, user.as_deref(), key).await?)
        }
        None => Ok(true),
    }
}

/// The entry that answered, and what was asked then, as recorded with the answer.
async fn reported_pair(api: &Api, principal: &Principal, message: Uuid) -> Result<(Digest, Option<Digest>), ApiError> {
    let stored = api.0.conversations.message(&principal.space(), message).await?;
    let key = stored.cache.as_ref().and_then(|cache| cache.get("key")).and_then(Value::as_str).and_then(Digest::parse);
    let key = key.ok_or_else(|| ApiError::not_found("this answer has nothing to do with the cache"))?;
    let explanation = api.0.conversations.explanation(&principal.space(), message).await.ok();
    let explanation: Option<Value> = explanation.and_then(|text| serde_json::from_str(&text).ok());
    let asked =
        explanation.as_ref().and_then(|explanation| explanation["keys"]["normalized"].as_str()).and_then(Digest::parse);
    Ok((key, asked))
}

/// Most entries of one list.
const MAX_ENTRIES: usize = 500;

#[derive(Deserialize)]
pub(super) struct EntryFilter {
    limit: Option<usize>,
    contains: Option<String>,
}

pub(super) async fn entries(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Query(filter): Query<EntryFilter>,
) -> Result<Json<Value>, Problem> {
    inspector(&api, &principal)?;
    let limit = filter.limit.unwrap_or(50);
    if !(1..=MAX_ENTRIES).contains(&limit) {
        return Err(InvalidRequest::of("limit", format!("`limit` is {limit}; it takes 1 to {MAX_ENTRIES}")).into());
    }
    let found = api.0.chat.cache().newest(&principal.tenant, limit, filter.contains.as_deref().unwrap_or("")).await?;
    let data: Vec<Value> = found.iter().map(summary).collect();
    Ok(Json(json!({"data": data})))
}

pub(super) async fn entry(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(key): Path<String>,
) -> Result<Json<Value>, Problem> {
    inspector(&api, &principal)?;
    let found = api.0.chat.cache().entry(&principal.tenant, digest(&key)?).await?;
    let entry = found.ok_or_else(|| ApiError::not_found("no such entry"))?;
    let mut whole = summary(&entry);
    whole["scope"] = serde_json::from_str(&entry.scope).unwrap_or(Value::Null);
    whole["completion"] = json!(entry.completion.as_ref());
    Ok(Json(whole))
}

pub(super) async fn evict_one(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(key): Path<String>,
) -> Result<Json<Value>, Problem> {
    inspector(&api, &principal)?;
    let evicted = api.0.chat.cache().evict(&principal.tenant, Selection::Key(digest(&key)?)).await?;
    if evicted == 0 {
        return Err(Problem(ApiError::not_found("no such entry")));
    }
    Ok(Json(json!({"evicted": evicted})))
}

#[derive(Deserialize)]
pub(super) struct Eviction {
    tag: Option<String>,
    model: Option<String>,
    older_than_s: Option<u64>,
    all: Option<bool>,
}

/// Evicts by exactly one of tag, model, age or `all=true`.
pub(super) async fn evict(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Query(wish): Query<Eviction>,
) -> Result<Json<Value>, Problem> {
    inspector(&api, &principal)?;
    let selection = match (wish.tag, wish.model, wish.older_than_s, wish.all) {
        (Some(tag), None, None, None) => Selection::Tag(tag),
        (None, Some(model), None, None) => Selection::Model(model),
        (None, None, Some(seconds), None) => {
            Selection::OlderThan(api.0.facts.clock.now_ms().saturating_sub(seconds.saturating_mul(1000)))
        }
        (None, None, None, Some(true)) => Selection::All,
        _ => {
            return Err(InvalidRequest {
                message: "name exactly one of tag, model, older_than_s or all=true".to_owned(),
                param: None,
            }
            .into());
        }
    };
    let evicted = api.0.chat.cache().evict(&principal.tenant, selection).await?;
    Ok(Json(json!({"evicted": evicted})))
}

/// Entries show what others asked, and taking them out changes what others get.
fn inspector(api: &Api, principal: &Principal) -> Result<(), ApiError> {
    match api.0.chat.viewer(principal, None) {
        Some(_) => admin(principal),
        None => Ok(()),
    }
}

fn summary(entry: &Arc<Entry>) -> Value {
    json!({
        "key": entry.key,
        "prompt": entry.prompt,
        "answer": entry.completion.text().chars().take(200).collect::<String>(),
        "model": entry.completion.model,
        "provider": entry.provider,
        "tags": entry.tags,
        "embedded": entry.matching.get().is_some(),
        "created_at": rfc3339(entry.created_at_ms),
        "expires_at": rfc3339(entry.expires_at_ms),
        "elapsed_ms": entry.elapsed_ms,
    })
}

fn digest(hex: &str) -> Result<Digest, ApiError> {
    Digest::parse(hex).ok_or_else(|| {
        InvalidRequest::of("key", "a key is 64 hexadecimal digits, as in the header x-ish-cache-key").into()
    })
}
