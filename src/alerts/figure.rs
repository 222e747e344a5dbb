//! What an alert looks at: a figure by its name, or put together from metrics. A named figure is such an expression itself.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use super::parse::{FigureError, parse};
use super::term::Term;
use super::window::{Measured, Window};
use crate::metrics::Reading;

/// A figure that has a name.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// The name.
    pub name: &'static str,
    /// What it is short for.
    pub expression: &'static str,
    /// What it says, with its unit.
    pub says: &'static str,
}

const fn named(name: &'static str, expression: &'static str, says: &'static str) -> Named {
    Named { name, expression, says }
}

/// Every figure that has a name.
pub const FIGURES: &[Named] = &[
    named(
        "response_time_p95",
        "p95(ish_http_request_duration_seconds{route!=\"/v1/chat/completions|/v1/messages|/v1/responses|/api/chat|/api/sessions/{id}/messages\"})",
        "seconds that one of twenty requests waits longer for, of those that ask no provider",
    ),
    named(
        "question_time_p95",
        "p95(ish_chat_duration_seconds{status!=\"bypass\"}) by status",
        "seconds that ish itself adds to one of twenty questions",
    ),
    named("runtime_lag_p99", "p99(ish_runtime_lag_seconds)", "seconds that work which could run waits for a thread"),
    named("embedding_time_p95", "p95(ish_embedding_duration_seconds)", "seconds that one of twenty embeddings takes"),
    named(
        "error_rate",
        "ish_http_requests_total{status=\"5xx\", route!=\"/livez|/readyz|/metrics\"} / ish_http_requests_total{route!=\"/livez|/readyz|/metrics\"}",
        "share of requests that fail",
    ),
    named(
        "answer_failure_rate",
        "ish_streams_ended_total{state=\"failed|interrupted\"} / ish_streams_ended_total",
        "share of stored answers that fail or break off",
    ),
    named("throughput", "ish_http_requests_total{route!=\"/livez|/readyz|/metrics\"}", "requests in a second"),
    named(
        "throughput_of_hour",
        "ish_http_requests_total{route!=\"/livez|/readyz|/metrics\"} / ish_http_requests_total{route!=\"/livez|/readyz|/metrics\"} over 3600",
        "requests in a second, as a share of the last hour's mean",
    ),
    named(
        "provider_failure_rate",
        "ish_provider_requests_total{outcome!=\"ok|abandoned|rejected|unsupported|malformed|full|budget|stopped\"} / ish_provider_requests_total{outcome!=\"abandoned|rejected|unsupported|malformed|full|budget|stopped\"} by provider",
        "share of the calls to a provider that fail through its fault",
    ),
    named(
        "all_providers_failure_rate",
        "ish_provider_requests_total{provider!=\"demo\", outcome!=\"ok|abandoned|rejected|unsupported|malformed|full|budget|stopped\"} / ish_provider_requests_total{provider!=\"demo\", outcome!=\"abandoned|rejected|unsupported|malformed|full|budget|stopped\"}",
        "share of the calls to all providers that fail through their fault",
    ),
    named("breaker", "ish_target_breaker_state", "state of a target's breaker: 0 closed, 1 half-open, 2 open"),
    named(
        "response_hit_rate",
        "ish_chat_answers_total{status=\"hit\"} / ish_chat_answers_total{status!=\"bypass\"}",
        "share of questions that the cache answers, of those that it could",
    ),
    named(
        "embedding_hit_rate",
        "ish_embeddings_total{outcome=\"hit\"} / ish_embeddings_total{outcome=\"hit|miss\"}",
        "share of embeddings that were remembered",
    ),
    named(
        "query_hit_rate",
        "ish_memo_lookups_total{cache=\"queries\", outcome!=\"miss\"} / ish_memo_lookups_total{cache=\"queries\"}",
        "share of query results that were found in their cache",
    ),
    named(
        "wrong_answer_rate",
        "ish_cache_wrong_answers_total / ish_chat_answers_total{status=\"hit\"}",
        "cached answers that were reported as wrong, as a share of hits",
    ),
    named("cache_errors", "ish_cache_errors_total by tier", "failures of a tier of the cache in a second"),
    named(
        "urgent_queue_age",
        "ish_tasks_oldest_seconds{priority=\"critical|high\"}",
        "seconds that an urgent task has waited",
    ),
    named(
        "queue_age",
        "ish_tasks_oldest_seconds{priority=\"normal|low\"}",
        "seconds that a task has waited which is not urgent",
    ),
    named("dead_letters", "ish_tasks_ended_total{outcome=\"discarded\"}", "tasks in a second that failed for good"),
    named(
        "failed_workflows",
        "ish_workflows_ended_total{outcome=\"failed|compensation_failed\"} by workflow",
        "runs of a workflow in a second that failed",
    ),
    named("pool_use", "ish_pool_in_use / ish_pool_limit", "share of a pool's connections that are in use"),
    named(
        "pool_timeouts",
        "ish_pool_acquire_timeouts_total by pool",
        "waits in a second for a connection that ended without one",
    ),
    named(
        "redis_up",
        "ish_redis_up / ish_pool_limit{pool=\"redis\"}",
        "0 without a connection to the Redis that is configured",
    ),
    named("memory", "process_resident_memory_bytes / ish_memory_limit_bytes", "share of the memory that it may use"),
    named("cpu", "process_cpu_seconds_total / ish_cpu_limit_cores", "share of the processors that it may use"),
    named("disk", "1 - ish_disk_free_bytes / ish_disk_size_bytes", "share of the data folder's disk that is full"),
    named("files", "process_open_fds / process_max_fds", "share of the files that it may have open"),
];

/// A checked figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// One less what follows.
    pub(super) is_rest: bool,
    pub(super) top: Term,
    pub(super) bottom: Option<Term>,
    pub(super) by: Option<String>,
}

impl FromStr for Figure {
    type Err = FigureError;

    fn from_str(text: &str) -> Result<Self, FigureError> {
        let text = text.trim();
        parse(FIGURES.iter().find(|figure| figure.name == text).map_or(text, |figure| figure.expression))
    }
}

/// What a figure says, of which group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    pub value: f64,
    /// The labels that tell it from others, as text.
    pub of: String,
}

impl Figure {
    /// The metrics that it reads.
    pub(super) fn metrics(&self) -> impl Iterator<Item = &'static str> {
        [Some(&self.top), self.bottom.as_ref()].into_iter().flatten().map(|term| term.metric.name)
    }
}

/// A figure, and what it has said of late.
#[derive(Debug)]
pub(super) struct Track {
    figure: Figure,
    top: Window,
    bottom: Option<Window>,
}

impl Track {
    pub fn new(figure: Figure, window_ms: u64, now_ms: u64, reading: &Reading) -> Self {
        let by = figure.by.as_deref();
        let window = |term: &Term| {
            let own_ms = term.over_s.map_or(window_ms, |seconds| u64::from(seconds) * 1_000);
            Window::new(own_ms, now_ms, term.levels(reading, by))
        };
        let (top, bottom) = (window(&figure.top), figure.bottom.as_ref().map(window));
        Self { figure, top, bottom }
    }

    /// What each group says now. One of which fewer than `least` events have come says nothing, where the figure is a share of
    /// events or a quantile.
    pub fn findings(&mut self, now_ms: u64, reading: &Reading, least: f64) -> Vec<Finding> {
        let by = self.figure.by.as_deref();
        self.top.note(now_ms, self.figure.top.levels(reading, by));
        let top = self.top.measured(self.figure.top.quantile);
        let values = match (&mut self.bottom, &self.figure.bottom) {
            (Some(window), Some(term)) => {
                window.note(now_ms, term.levels(reading, by));
                shares(&top, &window.measured(term.quantile), !self.figure.top.is_gauge(), least)
            }
            _ => top
                .into_iter()
                .filter(|(_, one)| {
                    self.figure.top.quantile.is_none() || one.events.is_some_and(|events| events >= least)
                })
                .filter_map(|(of, one)| Some((of, one.value?)))
                .collect(),
        };
        let rest = |value: f64| if self.figure.is_rest { 1.0 - value } else { value };
        values.into_iter().map(|(of, value)| Finding { value: rest(value), of }).collect()
    }
}

/// Each group of the one by the same group of the other, or by the only one that there is. What was not counted at all above the line
/// is none.
fn shares(
    top: &BTreeMap<String, Measured>,
    bottom: &BTreeMap<String, Measured>,
    is_counted: bool,
    least: f64,
) -> Vec<(String, f64)> {
    let is_alone = bottom.len() == 1 && bottom.contains_key("");
    let absent = is_counted.then(|| bottom.keys()).into_iter().flatten();
    let groups: BTreeSet<&String> = top.keys().chain(absent).collect();
    let share = |group: &String| {
        let below = bottom.get(if is_alone { "" } else { group.as_str() })?;
        let above = top.get(group).map_or(Some(0.0), |one| one.value)?;
        let whole = below.value.filter(|whole| *whole > 0.0)?;
        let is_enough = below.events.is_none_or(|events| events >= least);
        is_enough.then_some((group.clone(), above / whole))
    };
    groups.into_iter().filter_map(share).collect()
}
