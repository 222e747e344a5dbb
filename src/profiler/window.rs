//! What was counted between a moment and now: of the operations, and of the metrics that say who waits and what is refused.

use std::sync::Arc;
use std::time::Instant;

use crate::metrics::{Figures, Metrics, Operation};
use crate::pool::{PoolFigures, Pools};

/// All that is counted, at a moment.
pub(super) struct Mark {
    pub at: Instant,
    counters: Counters,
    pools: Vec<PoolFigures>,
    /// In the order of the operations; those that are named later were nothing yet.
    figures: Vec<Figures>,
}

impl Mark {
    /// Now.
    pub fn now(metrics: &Metrics, pools: &Pools) -> Self {
        let figures = metrics.profile_seconds.all().iter().map(|operation| operation.figures()).collect();
        Self { at: Instant::now(), counters: Counters::of(metrics), pools: pools.figures(), figures }
    }

    /// What it takes.
    pub fn bytes(&self) -> usize {
        self.figures.capacity() * size_of::<Figures>() + self.pools.capacity() * size_of::<PoolFigures>()
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident: |$metrics:ident| $value:expr;)*) => {
        /// What only ever grows.
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        pub(super) struct Counters {
            $($(#[$doc])* pub $field: f64,)*
        }

        impl Counters {
            fn of(metrics: &Metrics) -> Self {
                Self { $($field: { let $metrics = metrics; $value },)* }
            }

            fn since(&self, earlier: &Self) -> Self {
                Self { $($field: (self.$field - earlier.$field).max(0.0),)* }
            }
        }
    };
}

counters! {
    /// Requests that a defect or a part that is away failed.
    failures: |of| Metrics::sum_where(&of.http_requests, |label, value| label == "status" && value == "5xx");
    /// Questions answered.
    questions: |of| Metrics::sum(&of.chat_answers);
    /// Of these, from the cache.
    hits: |of| answered(of, "status", &["hit"]);
    /// Of these, from a lower tier than memory.
    lower_hits: |of| answered(of, "tier", &["l2", "l3"]);
    /// Money that they did not cost.
    saved_usd: |of| of.saved_usd.get();
    /// Vectors that were remembered.
    embeddings_remembered: |of| embedded(of, &["hit"]);
    /// Vectors that had to be made.
    embeddings_made: |of| embedded(of, &["miss"]);
    /// Look-ups that went on without one.
    embeddings_busy: |of| embedded(of, &["busy"]);
    /// Entries that were not stored, for want of room on their way.
    writes_dropped: |of| of.cache_writes_dropped.get() as f64;
    /// Requests refused because too many were in work.
    overloaded: |of| Metrics::sum_where(&of.limits_refused, |label, value| label == "reason" && value == "overloaded");
    /// Ended answers that were let go too early.
    let_go: |of| of.streams_let_go.get() as f64;
    /// Timers of the runtime that were looked at, and what they were late together.
    lag_count: |of| of.runtime_lag.get_sample_count() as f64;
    lag_seconds: |of| of.runtime_lag.get_sample_sum();
}

fn answered(metrics: &Metrics, label: &str, values: &[&str]) -> f64 {
    Metrics::sum_where(&metrics.chat_answers, |name, value| name == label && values.contains(&value))
}

fn embedded(metrics: &Metrics, outcomes: &[&str]) -> f64 {
    Metrics::sum_where(&metrics.embeddings, |name, value| name == "outcome" && outcomes.contains(&value))
}

/// A pool: what it was asked in the window, and how it is now.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PoolState {
    pub name: String,
    pub limit: f64,
    pub in_use: f64,
    pub waiting: f64,
    pub acquired: f64,
    pub wait_seconds: f64,
    pub timeouts: f64,
}

/// What came between two marks.
pub(super) struct Window {
    pub seconds: f64,
    pub counters: Counters,
    pub pools: Vec<PoolState>,
    pub operations: Vec<(Arc<Operation>, Figures)>,
}

impl Window {
    /// From `since` until `now`.
    pub fn between(since: &Mark, now: &Mark, operations: Vec<Arc<Operation>>) -> Self {
        let none = Figures::none();
        let figures = |at: usize| Some(now.figures.get(at)?.since(since.figures.get(at).unwrap_or(&none)));
        let pools = now.pools.iter().map(|pool| {
            let earlier = since.pools.iter().find(|earlier| earlier.name == pool.name);
            let more = |of: fn(&PoolFigures) -> f64| (of(pool) - earlier.map_or(0.0, of)).max(0.0);
            PoolState {
                name: pool.name.to_owned(),
                limit: pool.limit as f64,
                in_use: pool.in_use as f64,
                waiting: pool.waiting as f64,
                acquired: more(|pool| pool.acquired as f64),
                wait_seconds: more(|pool| pool.wait_seconds),
                timeouts: more(|pool| pool.acquire_timeouts as f64),
            }
        });
        Self {
            seconds: now.at.duration_since(since.at).as_secs_f64().max(1e-3),
            counters: now.counters.since(&since.counters),
            pools: pools.collect(),
            operations: operations
                .into_iter()
                .enumerate()
                .filter_map(|(at, operation)| Some((operation, figures(at)?)))
                .collect(),
        }
    }

    /// What was counted of one operation.
    pub fn of(&self, operation: &Arc<Operation>) -> Figures {
        let is_it = |(known, _): &&(Arc<Operation>, Figures)| Arc::ptr_eq(known, operation);
        self.operations.iter().find(is_it).map_or_else(Figures::none, |(_, figures)| figures.clone())
    }

    /// Of the questions, those that the cache answered; `None` where there were none.
    pub fn hit_rate(&self) -> Option<f64> {
        (self.counters.questions > 0.0).then(|| self.counters.hits / self.counters.questions)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_window_counts_what_came_in_it() {
        let (metrics, pools) = (Arc::new(Metrics::new()), Pools::default());
        let hit = |tier| metrics.chat_answers.with_label_values(&["hit", "exact", tier]).inc();
        let search = &metrics.stages.search;
        hit("l1");
        search.record(Duration::from_secs(1));
        let before = Mark::now(&metrics, &pools);
        hit("l1");
        hit("l3");
        metrics.chat_answers.with_label_values(&["miss", "none", "none"]).inc();
        search.record(Duration::from_millis(10));
        let late = metrics.profile_seconds.of("billing", "invoice");
        late.record(Duration::from_millis(5));
        let window = Window::between(&before, &Mark::now(&metrics, &pools), metrics.profile_seconds.all());
        let counters = window.counters;
        assert_eq!((counters.questions, counters.hits, counters.lower_hits), (3.0, 2.0, 1.0));
        assert!((window.hit_rate().unwrap() - 2.0 / 3.0).abs() < 1e-9);
        assert!((window.of(search).seconds() - 0.01).abs() < 1e-6);
        assert_eq!(window.of(&late).count(), 1, "it was not known before");
    }
}
