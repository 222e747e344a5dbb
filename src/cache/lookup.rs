//! The look-up cascade: L1 for both keys; L2 for both; then the store and, where the partition holds vectors at all, the embedding
//! meanwhile; then the index's nearest and the verifier. Each step can write itself into an explanation.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::Instrument;

use super::entry::Entry;
use super::explain::{self, ExplainedNeighbour, Explanation, How, Tier};
use super::index::{EntryId, Neighbour};
use super::key::entry_id;
use super::memory::{FoundBy, Moment};
use super::plan::Query;
use super::postgres::vectors;
use super::verify::{self, Preset, Profile};
use super::{Hit, Inner, Lookup, SemanticCache, postgres, sqlite};
use crate::db::{Db, DbError, PostgresDb, VectorSearch, query};
use crate::embedding::{Embedded, Similarity};
use crate::traces::{self, Looked};

impl SemanticCache {
    /// Looks an earlier answer up. `explanation` is filled where one is given.
    pub async fn lookup(&self, query: &Query, explanation: Option<&mut Explanation>) -> Lookup {
        let span = traces::lookup();
        let found = self.look_up(query, explanation).instrument(span.clone()).await;
        let hit = if let Lookup::Hit(hit) = &found { Some(hit) } else { None };
        let similarity = hit.and_then(|hit| hit.similarity).map(Similarity::get);
        traces::looked_up(&span, Looked { hit: hit.map(|hit| (hit.how.as_str(), hit.tier.as_str())), similarity });
        found
    }

    async fn look_up(&self, query: &Query, mut explanation: Option<&mut Explanation>) -> Lookup {
        let inner = &self.inner;
        let now_ms = inner.clock.now_ms();
        if let Some(explanation) = &mut explanation {
            explanation.with_keys(&query.scope, &query.keys);
        }
        let started = Instant::now();
        let in_memory = inner.memory.find(&query.keys, now_ms).filter(|(entry, _)| query.accepts(entry, now_ms));
        inner.count_lookup(Tier::L1, in_memory.as_ref().map(|(_, by)| *by));
        note_text_step(&mut explanation, Tier::L1, in_memory.as_ref().map(|(_, by)| *by), started.elapsed());
        if let Some((entry, by)) = in_memory {
            return hit(&mut explanation, entry, by, Tier::L1);
        }
        let since = inner.memory.moment();
        let generation = inner.generations.of(&query.scope.tenant);
        if let Some((entry, by)) = inner.look_in_shared(query, generation, now_ms, &mut explanation).await {
            inner.memory.insert_found(Arc::clone(&entry), since);
            return hit(&mut explanation, entry, by, Tier::L2);
        }
        let ((stored, store_took), (embedded, embedding_took)) =
            tokio::join!(timed(inner.find_stored(query, now_ms)), timed(self.embed_for(query)));
        inner.metrics.stages.stored.record(store_took);
        note_text_step(&mut explanation, Tier::L3, stored.as_ref().map(|(_, by)| *by), store_took);
        if let Some((entry, by)) = stored {
            inner.memory.insert_found(Arc::clone(&entry), since);
            inner.share(&entry, generation);
            return hit(&mut explanation, entry, by, Tier::L3);
        }
        let Some(embedded) = embedded else {
            note_no_semantic(&mut explanation, query, inner.index_holds(query), embedding_took);
            return Lookup::Miss(None);
        };
        let found = self.semantic(query, &embedded, now_ms, &mut explanation, embedding_took).await;
        found.map_or_else(|| Lookup::Miss(Some(embedded)), Lookup::Hit)
    }

    /// The answer of an equal request that was put into L1 since the look-up: whoever opens a flight looks once more.
    pub fn stored_meanwhile(&self, query: &Query) -> Option<Hit> {
        let now_ms = self.inner.clock.now_ms();
        let (entry, by) = self.inner.memory.find(&query.keys, now_ms)?;
        query.accepts(&entry, now_ms).then(|| Hit { entry, how: how(by), tier: Tier::L1, similarity: None })
    }

    /// The same in the stores as well, of an answer that another instance may have put there since the look-up.
    pub async fn stored_anywhere(&self, query: &Query) -> Option<Hit> {
        if let Some(hit) = self.stored_meanwhile(query) {
            return Some(hit);
        }
        let (now_ms, generation) = (self.inner.clock.now_ms(), self.inner.generations.of(&query.scope.tenant));
        if let Some((entry, by)) = self.inner.look_in_shared(query, generation, now_ms, &mut None).await {
            return Some(Hit { entry, how: how(by), tier: Tier::L2, similarity: None });
        }
        let (entry, by) = self.inner.find_stored(query, now_ms).await?;
        Some(Hit { entry, how: how(by), tier: Tier::L3, similarity: None })
    }

    /// The query's embedding, where matching by meaning can find something at all.
    async fn embed_for(&self, query: &Query) -> Option<Arc<Embedded>> {
        if query.why_not_semantic.is_some() || !self.inner.may_hold_meanings(query).await {
            return None;
        }
        let (embedded, took) = timed(self.inner.embeddings.embed(&query.prompt)).await;
        self.inner.metrics.embedding_duration.observe(took.as_secs_f64());
        self.inner.metrics.stages.embed.record(took);
        match embedded {
            Ok(embedded) => Some(embedded),
            Err(error) => {
                tracing::debug!(%error, "a look-up went without its embedding");
                None
            }
        }
    }

    /// The nearest neighbour that the verifier lets pass.
    async fn semantic(
        &self,
        query: &Query,
        embedded: &Embedded,
        now_ms: u64,
        explanation: &mut Option<&mut Explanation>,
        embedding_took: Duration,
    ) -> Option<Hit> {
        let inner = &self.inner;
        let place = query.keys.place()?;
        if embedded.truncated {
            note(explanation, |e| {
                e.step(
                    "embedding",
                    None,
                    "skipped",
                    embedding_took,
                    "the prompt is longer than the encoder reads".to_owned(),
                );
                e.decide("miss", None, "a prompt that the encoder truncates is matched by its text only".to_owned());
            });
            return None;
        }
        note(explanation, |e| e.step("embedding", None, "hit", embedding_took, format!("{} tokens", embedded.tokens)));
        let searched = Instant::now();
        let k = inner.config.neighbours.get();
        let mut neighbours = inner.index.nearest(place.partition_id(), embedded.embedding.values(), k, now_ms);
        note(explanation, |e| {
            e.step(
                "index",
                None,
                if neighbours.is_empty() { "miss" } else { "hit" },
                searched.elapsed(),
                format!("nearest of this partition: {}", neighbours.len()),
            );
        });
        if let Some((db, search)) = inner.searched_store() {
            let searched_there = Instant::now();
            let tenant = &query.scope.tenant;
            let stored = vectors::nearest(db, search, tenant, place.partition, &embedded.embedding, k, now_ms);
            let stored = inner.or_miss(Box::pin(stored).await);
            note(explanation, |e| {
                let result = if stored.is_empty() { "miss" } else { "hit" };
                let detail = format!("nearest of this partition in the store: {}", stored.len());
                e.step("index", Some(Tier::L3), result, searched_there.elapsed(), detail);
            });
            merge(&mut neighbours, stored, k);
        }
        inner.metrics.stages.search.record(searched.elapsed());
        if let Some(best) = neighbours.first() {
            inner.metrics.cache_similarity.observe(f64::from(best.similarity));
        }
        let verified = Instant::now();
        let threshold = query.threshold(inner.preset);
        // An explanation shows also what fell short; serving only looks at what can pass.
        let worth = |neighbour: &&Neighbour| explanation.is_some() || neighbour.similarity >= threshold.get();
        let ids: Vec<_> = neighbours.iter().filter(worth).map(|neighbour| neighbour.id).collect();
        let (since, generation) = (inner.memory.moment(), inner.generations.of(&query.scope.tenant));
        let candidates = inner.load_candidates(&query.scope.tenant, &ids, since, now_ms).await;
        let profile = Profile::new(&query.prompt);
        let mut served = None;
        for (entry, tier) in candidates {
            let Some(similarity) = self.judge(query, &profile, embedded, &entry, explanation) else { continue };
            if served.is_none() {
                served = Some(Hit { entry, how: How::Semantic, tier, similarity: Some(similarity) });
            }
            if explanation.is_none() {
                break;
            }
        }
        inner.metrics.stages.verify.record(verified.elapsed());
        inner
            .metrics
            .cache_lookups
            .with_label_values(&["index", "semantic", if served.is_some() { "hit" } else { "miss" }])
            .inc();
        note(explanation, |e| {
            let result = if served.is_some() { "hit" } else { "miss" };
            e.step("verifier", served.as_ref().map(|hit| hit.tier), result, verified.elapsed(), String::new());
            match &served {
                Some(hit) => {
                    let similarity = hit.similarity.map_or(0.0, Similarity::get);
                    e.decide(
                        "hit",
                        Some(How::Semantic),
                        format!(
                            "every guard passed at preset {}, cosine {similarity:.3} ≥ {:.3}",
                            inner.config.preset,
                            threshold.get()
                        ),
                    );
                }
                None => e.decide("miss", None, no_neighbour_rule(e, threshold)),
            }
        });
        if let Some(hit) = &served {
            inner.memory.insert_found(Arc::clone(&hit.entry), since);
            if hit.tier == Tier::L3 {
                inner.share(&hit.entry, generation);
            }
        }
        served
    }

    /// The similarity of a candidate that may be served; its explanation is written either way.
    fn judge(
        &self,
        query: &Query,
        profile: &Profile,
        embedded: &Embedded,
        entry: &Entry,
        explanation: &mut Option<&mut Explanation>,
    ) -> Option<Similarity> {
        let inner = &self.inner;
        let (matching, cached) = (entry.matching.get()?, entry.profile()?);
        let place = entry.place?;
        let asked = query.keys.place()?;
        // The partition is inside the index's question already; a second look costs nothing.
        if place.partition != asked.partition || !query.accepts(entry, inner.clock.now_ms()) {
            return None;
        }
        let similarity = embedded.embedding.cosine(&matching.embedding);
        let stricter = query.control.threshold.map(Similarity::clamped);
        let preset = if embedded.words.is_empty() || matching.words.is_empty() { Preset::Strict } else { inner.preset };
        let blocked = inner.is_blocked(asked.normalized, place.normalized);
        let (ours, theirs) = ((profile, &embedded.words), (cached, &matching.words));
        let serve = match explanation {
            Some(explanation) => {
                let verdict = verify::verify(preset, stricter, similarity, ours, theirs);
                explanation.neighbours.push(ExplainedNeighbour {
                    key: entry.key,
                    prompt: entry.prompt.clone(),
                    similarity: similarity.get(),
                    threshold: query.threshold(preset).get(),
                    serve: verdict.serve && !blocked,
                    blocked,
                    checks: explain::checks(&verdict),
                });
                verdict.serve
            }
            None => {
                let veto = verify::veto(preset, stricter, similarity, ours, theirs);
                inner.metrics.verifier_verdicts.with_label_values(&[veto.map_or("served", verify::Guard::name)]).inc();
                veto.is_none()
            }
        };
        (serve && !blocked).then_some(similarity)
    }
}

impl Inner {
    fn index_holds(&self, query: &Query) -> bool {
        query.keys.place().is_some_and(|place| self.index.holds(place.partition_id()))
    }

    /// Whether anything in the query's partition can be matched by meaning.
    async fn may_hold_meanings(&self, query: &Query) -> bool {
        if self.index_holds(query) {
            return true;
        }
        let (Some(place), Some((db, _))) = (query.keys.place(), self.searched_store()) else { return false };
        self.or_miss(Box::pin(vectors::holds(db, &query.scope.tenant, place.partition)).await)
    }

    /// The store, where its vectors have to be searched: the index does not hold all of them, and the store can.
    fn searched_store(&self) -> Option<(&PostgresDb, VectorSearch)> {
        let Db::Postgres(db) = &self.db else { return None };
        let is_whole = self.index_is_whole.load(Ordering::Acquire) && !self.index.has_refused();
        if is_whole { None } else { Some((db, db.vectors()?)) }
    }

    /// What the store's vectors answered; a failure is counted, and is nothing.
    fn or_miss<T: Default>(&self, answer: Result<T, DbError>) -> T {
        answer.unwrap_or_else(|error| {
            self.metrics.cache_errors.with_label_values(&["l3"]).inc();
            tracing::warn!(%error, "the store's vectors could not be searched: a miss");
            T::default()
        })
    }

    /// The entry in L2, where there is one and it is known what may be believed of it.
    async fn look_in_shared(
        &self,
        query: &Query,
        generation: Option<u64>,
        now_ms: u64,
        explanation: &mut Option<&mut Explanation>,
    ) -> Option<(Arc<Entry>, FoundBy)> {
        let (shared, generation) = (self.shared.as_ref()?, generation?);
        let (found, took) = timed(shared.find(&query.scope.tenant, &query.keys, generation, now_ms)).await;
        let found = found.unwrap_or_else(|error| {
            self.metrics.cache_errors.with_label_values(&["l2"]).inc();
            tracing::debug!(%error, "Redis could not be read: a miss");
            None
        });
        self.metrics.stages.shared.record(took);
        let found = found.filter(|(entry, _)| query.accepts(entry, now_ms));
        self.count_lookup(Tier::L2, found.as_ref().map(|(_, by)| *by));
        note_text_step(explanation, Tier::L2, found.as_ref().map(|(_, by)| *by), took);
        found
    }

    /// Has an entry of the store copied into L2. It was valid in `generation`, as the tenant's was before it was read.
    fn share(&self, entry: &Arc<Entry>, generation: Option<u64>) {
        if let (Some(_), Some(generation)) = (&self.shared, generation) {
            self.writes.share(Arc::clone(entry), generation);
        }
    }

    async fn find_stored(&self, query: &Query, now_ms: u64) -> Option<(Arc<Entry>, FoundBy)> {
        let asked = async {
            if !self.known.may_hold(&query.keys) {
                return Ok(None);
            }
            query!(&self.db, find(&query.scope.tenant, &query.keys, now_ms))
        };
        let found = match asked.await {
            Ok(found) => found,
            Err(error) => {
                self.metrics.cache_errors.with_label_values(&["l3"]).inc();
                tracing::warn!(%error, "the cache's store could not be read: a miss");
                None
            }
        };
        let found = found.filter(|(entry, _)| query.accepts(entry, now_ms));
        self.count_lookup(Tier::L3, found.as_ref().map(|(_, by)| *by));
        found
    }

    /// The candidates' entries, nearest first, from L1 and for the rest from the store in one read, which began at `since` or
    /// later. Those stay in L1: who is near one question is near the next.
    async fn load_candidates(
        &self,
        tenant: &str,
        ids: &[EntryId],
        since: Moment,
        now_ms: u64,
    ) -> Vec<(Arc<Entry>, Tier)> {
        let in_memory: Vec<_> = ids
            .iter()
            .map(|id| self.memory.by_id(*id, now_ms).filter(|entry| entry.matching.get().is_some()))
            .collect();
        let absent: Vec<_> =
            ids.iter().zip(&in_memory).filter(|(_, entry)| entry.is_none()).map(|(id, _)| *id).collect();
        let mut stored = Vec::new();
        if !absent.is_empty() {
            stored = query!(&self.db, by_ids(tenant, &absent, now_ms)).unwrap_or_else(|error| {
                self.metrics.cache_errors.with_label_values(&["l3"]).inc();
                tracing::warn!(%error, "candidates could not be read: a miss");
                Vec::new()
            });
            for entry in &stored {
                self.memory.insert_found(Arc::clone(entry), since);
            }
        }
        let from_store = |id: &EntryId| {
            stored.iter().find(|entry| entry_id(entry.key) == *id).map(|entry| (Arc::clone(entry), Tier::L3))
        };
        ids.iter()
            .zip(in_memory)
            .filter_map(|(id, entry)| entry.map(|entry| (entry, Tier::L1)).or_else(|| from_store(id)))
            .collect()
    }

    fn count_lookup(&self, tier: Tier, found: Option<FoundBy>) {
        let kind = match found {
            Some(FoundBy::Normalized) => "normalized",
            _ => "exact",
        };
        let outcome = if found.is_some() { "hit" } else { "miss" };
        self.metrics.cache_lookups.with_label_values(&[tier.as_str(), kind, outcome]).inc();
    }
}

/// Adds what the store found to what the index did: each entry once, nearest first, at most `k`.
fn merge(neighbours: &mut Vec<Neighbour>, stored: Vec<Neighbour>, k: usize) {
    for neighbour in stored {
        if !neighbours.iter().any(|known| known.id == neighbour.id) {
            neighbours.push(neighbour);
        }
    }
    neighbours.sort_by(|one, other| other.similarity.total_cmp(&one.similarity));
    neighbours.truncate(k);
}

/// The outcome of some work, and how long it took.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    let outcome = work.await;
    (outcome, started.elapsed())
}

fn how(by: FoundBy) -> How {
    match by {
        FoundBy::Exact => How::Exact,
        FoundBy::Normalized => How::Normalized,
    }
}

fn hit(explanation: &mut Option<&mut Explanation>, entry: Arc<Entry>, by: FoundBy, tier: Tier) -> Lookup {
    let how = how(by);
    note(explanation, |e| {
        let rule = match how {
            How::Exact => "the canonical request is the same, field by field",
            _ => "the last turn is the same but for rewrites that keep its meaning",
        };
        e.decide("hit", Some(how), rule.to_owned());
    });
    Lookup::Hit(Hit { entry, how, tier, similarity: None })
}

fn note(explanation: &mut Option<&mut Explanation>, write: impl FnOnce(&mut Explanation)) {
    if let Some(explanation) = explanation {
        write(explanation);
    }
}

fn note_text_step(explanation: &mut Option<&mut Explanation>, tier: Tier, found: Option<FoundBy>, took: Duration) {
    note(explanation, |e| {
        let (exact, normalized) = match found {
            Some(FoundBy::Exact) => ("hit", "skipped"),
            Some(FoundBy::Normalized) => ("miss", "hit"),
            None => ("miss", "miss"),
        };
        e.step("exact", Some(tier), exact, took, String::new());
        e.step("normalized", Some(tier), normalized, took, String::new());
    });
}

fn note_no_semantic(explanation: &mut Option<&mut Explanation>, query: &Query, holds: bool, took: Duration) {
    note(explanation, |e| {
        let why = match query.why_not_semantic {
            Some(reason) => reason.to_owned(),
            None if holds => "the embedder was busy".to_owned(),
            None => "no entry of this scope can be matched by meaning".to_owned(),
        };
        e.step("embedding", None, "skipped", took, why.clone());
        e.decide("miss", None, why);
    });
}

fn no_neighbour_rule(explanation: &Explanation, threshold: Similarity) -> String {
    let Some(best) = explanation.neighbours.first() else { return "there is no neighbour".to_owned() };
    if best.blocked {
        return "the nearest entry was reported as wrong for this question".to_owned();
    }
    if best.similarity < threshold.get() {
        return format!("the nearest entry's cosine {:.3} is below {:.3}", best.similarity, threshold.get());
    }
    let veto = best.checks.iter().find(|check| !check.passed);
    veto.map_or_else(
        || "no neighbour passed".to_owned(),
        |check| format!("guard {} vetoed the nearest entry: {}", check.guard, check.detail),
    )
}
