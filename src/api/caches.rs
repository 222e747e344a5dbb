//! All caches for operators: how each does, and emptying one on every instance. Only for the admin role.

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::Api;
use super::address::Path;
use super::admin::admin;
use super::error::{ApiError, Problem};
use crate::cache::Selection;
use crate::keys::Principal;
use crate::logins::LoginFigures;
use crate::memo::{MemoFigures, Space};

/// Each cache: what it holds, what was found in which tier and what was not, since this instance began.
pub(super) async fn stats(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let mut caches = vec![responses(&api).await?, embeddings(&api)];
    let others = api.0.memo.figures().into_iter().filter(|figures| figures.cache != Space::Embeddings.as_str());
    caches.extend(others.map(|figures| shown(&figures)));
    caches.push(logins(&api));
    Ok(Json(json!({"caches": caches})))
}

async fn responses(api: &Api) -> Result<Value, Problem> {
    let (figures, metrics) = (api.0.chat.cache().figures().await?, &api.0.metrics);
    let answers = |status, how, tier| metrics.chat_answers.with_label_values(&[status, how, tier]).get();
    let of = |tier| ["exact", "normalized", "semantic"].map(|how| answers("hit", how, tier)).iter().sum::<u64>();
    let [l1, l2, l3] = ["l1", "l2", "l3"].map(of);
    let (collapsed, misses) = (answers("collapsed", "none", "none"), answers("miss", "none", "none"));
    Ok(json!({
        "cache": "responses",
        "entries": figures.stored.entries,
        "tiers": {
            "l1": {"entries": figures.memory_entries, "bytes": figures.memory_bytes, "hits": l1},
            "l2": {"hits": l2},
            "l3": {"entries": figures.stored.entries, "bytes": figures.stored.bytes, "hits": l3},
        },
        "collapsed": collapsed,
        "hits": l1 + l2 + l3,
        "misses": misses,
        "hit_rate": rate(l1 + l2 + l3, misses + collapsed),
    }))
}

/// Those in memory are counted where they are held; of the texts that were not there, some were left by other instances.
fn embeddings(api: &Api) -> Value {
    let (counts, l2) =
        (api.0.chat.cache().embeddings().counts(), api.0.metrics.memo(Space::Embeddings.as_str()).l2.get());
    let misses = counts.misses.saturating_sub(l2);
    json!({
        "cache": "embeddings",
        "entries": counts.entries,
        "tiers": {"l1": {"entries": counts.entries, "hits": counts.hits}, "l2": {"hits": l2}},
        "hits": counts.hits + l2,
        "misses": misses,
        "hit_rate": rate(counts.hits + l2, misses),
    })
}

fn logins(api: &Api) -> Value {
    let LoginFigures { entries, hits, misses } = api.0.logins.figures();
    json!({
        "cache": "logins",
        "entries": entries,
        "tiers": {"l1": {"entries": entries, "hits": hits}},
        "hits": hits,
        "misses": misses,
        "hit_rate": rate(hits, misses),
    })
}

fn shown(figures: &MemoFigures) -> Value {
    json!({
        "cache": figures.cache,
        "entries": figures.entries,
        "tiers": {"l1": {"entries": figures.entries, "hits": figures.l1}, "l2": {"hits": figures.l2}},
        "collapsed": figures.collapsed,
        "stale": figures.stale,
        "hits": figures.hits,
        "misses": figures.misses,
        "hit_rate": figures.hit_rate,
    })
}

/// `None` before the first look-up.
fn rate(hits: u64, others: u64) -> Option<f64> {
    (hits + others > 0).then(|| hits as f64 / (hits + others) as f64)
}

/// Empties a cache, here at once and on other instances as they follow. Of answers, those of the key's own tenant go.
pub(super) async fn clear(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(cache): Path<String>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    if cache == "responses" {
        let evicted = api.0.chat.cache().evict(&principal.tenant, Selection::All).await?;
        return Ok(Json(json!({"cleared": cache, "evicted": evicted})));
    }
    let space = Space::ALL.into_iter().find(|space| space.as_str() == cache);
    let space = space.ok_or_else(|| ApiError::not_found("no such cache; GET /api/admin/cache/stats names them"))?;
    if space == Space::Embeddings {
        api.0.chat.cache().embeddings().clear();
    }
    api.0.memo.clear(space).await?;
    Ok(Json(json!({"cleared": cache})))
}
