//! All metrics, in one table: name, help, labels, buckets and why. Labels come from enums, configured lists or
//! matched route templates, never from user input. Own registry; nothing global.

mod durations;
mod reading;
mod stages;

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use durations::{Durations, Figures, Operation, Timing, thread_cpu};
pub use reading::{Amount, Reading, Series, known};
pub use stages::{Place, Stages};

/// From a cached answer (well below a millisecond) to a long completion.
const SECONDS: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];

/// From a row that is changed to an hour's work, the hard limit unless a job says otherwise.
const TASK_SECONDS: &[f64] =
    &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0];

/// Cosine: the interesting part is where presets decide.
const SIMILARITY: &[f64] = &[0.5, 0.6, 0.7, 0.75, 0.8, 0.84, 0.86, 0.88, 0.9, 0.92, 0.94, 0.96, 0.98, 1.0];

/// Tokens, as the GenAI conventions have them.
const TOKENS: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0];

/// One metric as it is described, to those who read no code: `docs/metrics.md` is held to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// As in the exposition, without `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What it says.
    pub help: &'static str,
    /// What its series differ by.
    pub labels: &'static [&'static str],
}

macro_rules! metrics {
    (stages in $durations:ident; $($(#[$doc:meta])* $field:ident: $kind:ident($name:literal, $help:literal $(, labels $labels:expr)? $(, buckets $buckets:expr)?);)*) => {
        /// Every metric but those of the process (`process_*`), in the order of this file.
        pub const DESCRIBED: &[Described] = &[
            $(Described { name: $name, kind: kind!($kind), help: $help, labels: labels!($($labels)?) },)*
        ];

        /// The metrics of one server; fields are named as the exposition names them, without prefix and unit.
        pub struct Metrics {
            registry: Registry,
            /// The product's own operations, which are counted among the profiled ones.
            pub stages: Stages,
            $($(#[$doc])* pub $field: $kind,)*
        }

        impl Metrics {
            /// Makes and registers every metric.
            ///
            /// # Panics
            /// Never: names are checked by a test that builds the table.
            #[expect(clippy::new_without_default, reason = "a metrics table is made once, on purpose")]
            pub fn new() -> Self {
                let registry = Registry::new();
                $(let $field = make!($kind, $name, $help $(, labels $labels)? $(, buckets $buckets)?);
                  registry.register(Box::new($field.clone())).expect("invariant: metric names are unique");)*
                let process = prometheus::process_collector::ProcessCollector::for_self();
                registry.register(Box::new(process)).expect("invariant: the process collector is registered once");
                let stages = Stages::of(&$durations);
                Self { registry, stages, $($field,)* }
            }
        }
    };
}

macro_rules! kind {
    (Counter) => {
        "counter"
    };
    (IntCounter) => {
        "counter"
    };
    (CounterVec) => {
        "counter"
    };
    (IntCounterVec) => {
        "counter"
    };
    (IntGauge) => {
        "gauge"
    };
    (IntGaugeVec) => {
        "gauge"
    };
    (Histogram) => {
        "histogram"
    };
    (HistogramVec) => {
        "histogram"
    };
    (Durations) => {
        "histogram"
    };
}

macro_rules! labels {
    () => {
        &[]
    };
    ($labels:expr) => {
        &$labels
    };
}

macro_rules! make {
    (Counter, $name:literal, $help:literal) => {
        Counter::new($name, $help).expect("invariant: a valid metric")
    };
    (IntCounter, $name:literal, $help:literal) => {
        IntCounter::new($name, $help).expect("invariant: a valid metric")
    };
    (IntGauge, $name:literal, $help:literal) => {
        IntGauge::new($name, $help).expect("invariant: a valid metric")
    };
    (IntCounterVec, $name:literal, $help:literal, labels $labels:expr) => {
        IntCounterVec::new(Opts::new($name, $help), &$labels).expect("invariant: a valid metric")
    };
    (CounterVec, $name:literal, $help:literal, labels $labels:expr) => {
        CounterVec::new(Opts::new($name, $help), &$labels).expect("invariant: a valid metric")
    };
    (IntGaugeVec, $name:literal, $help:literal, labels $labels:expr) => {
        IntGaugeVec::new(Opts::new($name, $help), &$labels).expect("invariant: a valid metric")
    };
    (Histogram, $name:literal, $help:literal, buckets $buckets:expr) => {
        Histogram::with_opts(HistogramOpts::new($name, $help).buckets($buckets.to_vec()))
            .expect("invariant: a valid metric")
    };
    (Durations, $name:literal, $help:literal, labels $labels:expr) => {
        Durations::new($name, $help, &$labels)
    };
    (HistogramVec, $name:literal, $help:literal, labels $labels:expr, buckets $buckets:expr) => {
        HistogramVec::new(HistogramOpts::new($name, $help).buckets($buckets.to_vec()), &$labels)
            .expect("invariant: a valid metric")
    };
}

metrics! {
    stages in profile_seconds;
    /// By route template, method and status class.
    http_requests: IntCounterVec("ish_http_requests_total", "HTTP requests answered.", labels ["route", "method", "status"]);
    /// Time to the response's head.
    http_request_duration: HistogramVec("ish_http_request_duration_seconds", "Time to the head of the response.", labels ["route"], buckets SECONDS);
    /// Requests whose head is not yet answered.
    http_in_flight: IntGauge("ish_http_requests_in_flight", "HTTP requests whose response head is not yet sent.");
    /// Spans of traces, by what became of them.
    trace_spans: IntCounterVec("ish_trace_spans_total", "Spans of traces: sent to the collector, lost with a batch that it did not take, dropped since it did not keep up.", labels ["outcome"]);
    /// Logins of browsers.
    logins: IntCounterVec("ish_logins_total", "Logins of browsers: begun, refused for their key, ended before their time.", labels ["outcome"]);
    /// Open sockets.
    ws_connections: IntGauge("ish_ws_connections", "Open WebSocket connections.");
    /// Frames by direction.
    ws_frames: IntCounterVec("ish_ws_frames_total", "WebSocket frames.", labels ["direction"]);
    /// Sockets that a bound refused.
    ws_refused: IntCounterVec("ish_ws_refused_total", "WebSocket connections refused, by the bound that was reached.", labels ["reason"]);
    /// Closed sockets by docs/websocket.md's codes; 1006: gone without a word.
    ws_closes: IntCounterVec("ish_ws_closes_total", "WebSocket connections closed, by close code.", labels ["code"]);
    /// Frames that wait for their readers.
    ws_held_bytes: IntGauge("ish_ws_held_bytes", "Bytes of frames that wait to be written to WebSocket connections.");
    /// Answers by where they came from.
    chat_answers: IntCounterVec("ish_chat_answers_total", "Chat answers begun, by cache status and how a hit matched.", labels ["status", "how", "tier"]);
    /// What ish itself took, but for a bypass.
    chat_duration: HistogramVec("ish_chat_duration_seconds", "Time from a chat request until its answer was there (hit), a provider replied (bypass), or it was known that one has to be asked (miss, collapsed).", labels ["status"], buckets SECONDS);
    /// Answers now being made for conversations.
    streams_running: IntGauge("ish_streams_running", "Stored answers being made.");
    /// Stored answers by how they ended.
    streams_ended: IntCounterVec("ish_streams_ended_total", "Stored answers that ended, by state (complete, cancelled, interrupted, failed).", labels ["state"]);
    /// Answers of dead instances.
    streams_taken_over: IntCounter("ish_streams_taken_over_total", "Stored answers taken over from instances that were dead.");
    /// Answers that others took over from this instance.
    streams_lost: IntCounter("ish_streams_lost_total", "Stored answers that another instance has taken over, or that were deleted while they were made.");
    /// Answers of other instances, as they come.
    stream_pieces_followed: IntCounterVec("ish_stream_pieces_followed_total", "Pieces of other instances' answers taken for listeners here, by where from: redis, store.", labels ["from"]);
    /// Living instances.
    instances: IntGauge("ish_instances", "Instances that share the database, this one among them; 1 where it is a file.");
    /// Signs of life that failed.
    instance_beats_failed: IntCounter("ish_instance_beats_failed_total", "Signs of life that could not be written down: an instance without one for instances.lease is dead to the others.");
    /// Ended answers in memory.
    stream_ended_bytes: IntGauge("ish_stream_ended_bytes", "Bytes of ended answers that are kept for listeners.");
    /// Ended answers that a listener without credit let go.
    streams_let_go: IntCounter("ish_streams_let_go_total", "Ended answers let go for want of room (chat.replay_bytes) while a listener had no credit.");
    /// Tokens not paid for.
    saved_tokens: IntCounterVec("ish_cache_saved_tokens_total", "Tokens that cached answers did not cost.", labels ["direction"]);
    /// Time not waited for.
    saved_seconds: Counter("ish_cache_saved_seconds_total", "Time that cached answers took when they were made.");
    /// Money not paid, as far as prices are configured.
    saved_usd: Counter("ish_cache_saved_usd_total", "US dollars that cached answers did not cost, as far as prices are configured.");
    /// Tier look-ups.
    cache_lookups: IntCounterVec("ish_cache_lookups_total", "Look-ups of a tier.", labels ["tier", "kind", "outcome"]);
    /// Cosine of the nearest neighbour.
    cache_similarity: Histogram("ish_cache_similarity_ratio", "Cosine of the best neighbour of a semantic look-up.", buckets SIMILARITY);
    /// The verifier's word on candidates, by the guard that decided.
    verifier_verdicts: IntCounterVec("ish_verifier_verdicts_total", "Candidates judged, by the guard that vetoed or `served`.", labels ["guard"]);
    /// Entries written.
    cache_stored: IntCounter("ish_cache_entries_stored_total", "Answers stored in the cache.");
    /// Why an answer was not stored or not looked up.
    cache_bypass: IntCounterVec("ish_cache_bypass_total", "Requests that did not use the cache, by reason.", labels ["reason"]);
    /// Background writes that found the queue full.
    cache_writes_dropped: IntCounter("ish_cache_writes_dropped_total", "Cache writes dropped because the queue was full.");
    /// Tier failures, which are misses to the caller.
    cache_errors: IntCounterVec("ish_cache_errors_total", "Failures of a tier; to the caller they are misses.", labels ["tier"]);
    /// What other instances wrote, and what we did: of both it is known that it came by.
    changes_followed: IntCounterVec("ish_cache_changes_followed_total", "Changes of the log that this instance followed, by kind.", labels ["kind"]);
    /// How far this instance is behind.
    changes_lag: Histogram("ish_cache_changes_lag_seconds", "Time from a change of another instance until this one followed it.", buckets SECONDS);
    /// Looks at the log that failed.
    changes_failed: IntCounter("ish_cache_changes_failed_total", "Times that the change log could not be followed; it is tried again.");
    /// Looks that did not wait for their turn.
    changes_told: IntCounter("ish_cache_changes_told_total", "Looks at the change log that another instance's word over Redis began.");
    /// Missed changes.
    changes_missed: IntCounter("ish_cache_changes_missed_total", "Times that changes were gone before they were read: memory and index were emptied and loaded again.");
    /// "Wrong answer" reports.
    cache_wrong_reports: IntCounter("ish_cache_wrong_answers_total", "Answers that users reported as wrong.");
    /// Index size.
    index_entries: IntGauge("ish_index_entries", "Vectors in the in-process index.");
    /// Index memory.
    index_bytes: IntGauge("ish_index_bytes", "Memory of the in-process index.");
    /// L1 size.
    memory_entries: IntGauge("ish_cache_l1_entries", "Entries in the L1 tier.");
    /// L1 memory by its own weights.
    memory_bytes: IntGauge("ish_cache_l1_bytes", "Weighted size of the L1 tier.");
    /// Embeddings by outcome.
    embeddings: IntCounterVec("ish_embeddings_total", "Texts whose vectors were remembered (hit) or had to be made (miss), and calls that went on without (busy, failed).", labels ["outcome"]);
    /// What a look-up by meaning waits for.
    embedding_duration: Histogram("ish_embedding_duration_seconds", "Time that a look-up's embedding took: remembered, made, or given up.", buckets SECONDS);
    /// What was asked of the caches of what is no answer.
    memo_lookups: IntCounterVec("ish_memo_lookups_total", "Look-ups in the caches of what is no answer, by cache and outcome (l1, l2, miss, collapsed, stale).", labels ["cache", "outcome"]);
    /// Trouble of theirs: each is a miss, or something not kept.
    memo_errors: IntCounterVec("ish_memo_errors_total", "Values that could not be kept (unwritable), read back (unreadable), or exchanged with Redis (redis, busy), by cache.", labels ["cache", "reason"]);
    /// What fell.
    memo_fallen: IntCounter("ish_memo_fallen_total", "Tags, keys and whole caches of what is no answer that fell, by this instance or another.");
    /// Their size.
    memo_entries: IntGaugeVec("ish_memo_entries", "Values in memory, by cache.", labels ["cache"]);
    /// Flights.
    flights: IntGauge("ish_flights_in_flight", "Upstream answers that equal requests share.");
    /// Joined.
    flights_joined: IntCounter("ish_flights_joined_total", "Requests that joined an upstream call already in flight.");
    /// Upstream calls of other instances.
    flights_followed: IntCounterVec("ish_flights_followed_total", "Upstream calls of other instances whose answer was read along, by how that ended (answered, failed, lost).", labels ["outcome"]);
    /// Upstream calls by outcome.
    provider_requests: IntCounterVec("ish_provider_requests_total", "Upstream calls, by provider and outcome.", labels ["provider", "outcome"]);
    /// Time to the first token of an upstream call.
    provider_first_token: HistogramVec("ish_provider_time_to_first_token_seconds", "Time from an upstream call to its first token.", labels ["provider"], buckets SECONDS);
    /// How fast a stream runs once it does.
    provider_token_gap: HistogramVec("ish_provider_token_gap_seconds", "Mean time between two tokens of a streamed answer, from its first on, as far as the provider counts them.", labels ["provider"], buckets SECONDS);
    /// Whole calls, in the words of OpenTelemetry's GenAI conventions.
    operation_duration: HistogramVec("gen_ai_client_operation_duration_seconds", "Time of calls to providers, streams to their end, however they ended.", labels ["gen_ai_operation_name", "gen_ai_provider_name"], buckets SECONDS);
    /// Tokens of a call, in the same words.
    token_usage: HistogramVec("gen_ai_client_token_usage", "Tokens of a call to a provider, as the provider counts them.", labels ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_token_type"], buckets TOKENS);
    /// Tokens as counted by providers.
    provider_tokens: IntCounterVec("ish_provider_tokens_total", "Tokens that providers counted.", labels ["provider", "direction"]);
    /// Money, as far as prices are known.
    provider_cost_usd: CounterVec("ish_provider_cost_usd_total", "US dollars that answers cost, as far as prices are configured.", labels ["target"]);
    /// Calls that repeat one.
    provider_retries: IntCounterVec("ish_provider_retries_total", "Calls to a target that had failed the same request, by the failure before.", labels ["target", "reason"]);
    /// Retries that there was no budget for.
    provider_retries_refused: IntCounterVec("ish_provider_retries_refused_total", "Retries not made because the budget was spent.", labels ["target"]);
    /// Requests that went on to another target.
    provider_fallbacks: IntCounterVec("ish_provider_fallbacks_total", "Requests that went on from a target to another, by the failure and by whether the first token had come.", labels ["target", "reason", "when"]);
    /// Calls by target.
    target_in_flight: IntGaugeVec("ish_target_requests_in_flight", "Calls to a target that run.", labels ["target"]);
    /// Breakers.
    breaker_state: IntGaugeVec("ish_target_breaker_state", "A target's breaker: 0 closed, 1 half-open, 2 open.", labels ["target"]);
    /// Breakers moving.
    breaker_transitions: IntCounterVec("ish_target_breaker_transitions_total", "Changes of a target's breaker, by the state that it went to.", labels ["target", "to"]);
    /// Requests that a limit refused.
    limits_refused: IntCounterVec("ish_limits_refused_total", "Requests refused by a limit, by which.", labels ["reason"]);
    /// Work under way, of what the gate bounds.
    limits_in_flight: IntGauge("ish_limits_in_flight", "Requests and questions in work, where limits.max_in_flight bounds them.");
    /// The waiting room.
    limits_waiting: IntGauge("ish_limits_waiting", "Requests that wait for a place in work.");
    /// How long they waited, whether or not they got one.
    limits_wait: Histogram("ish_limits_wait_seconds", "Time that requests waited for a place in work.", buckets SECONDS);
    /// Costs that could not be booked.
    limits_unsettled: IntCounter("ish_limits_unsettled_total", "Calls whose cost could not be booked; their reserves stay held and count as spent at the next start.");
    /// Whose rates are remembered.
    limits_tracked: IntGaugeVec("ish_limits_tracked", "Keys and addresses whose rates are remembered.", labels ["kind"]);
    /// The bound of a pool's gate.
    pool_limit: IntGaugeVec("ish_pool_limit", "Connections of a pool that may be in use at once.", labels ["pool"]);
    /// Open connections.
    pool_size: IntGaugeVec("ish_pool_size", "Connections of a pool that are open, where it tells.", labels ["pool"]);
    /// Permits held.
    pool_in_use: IntGaugeVec("ish_pool_in_use", "Connections of a pool that are in use.", labels ["pool"]);
    /// Who stands before a gate.
    pool_waiting: IntGaugeVec("ish_pool_waiting", "Who waits for a connection of a pool.", labels ["pool"]);
    /// How long, whether or not there was one; most wait for nothing.
    pool_wait: HistogramVec("ish_pool_wait_seconds", "Time that was waited for a connection of a pool.", labels ["pool"], buckets SECONDS);
    /// Permits given.
    pool_acquired: IntCounterVec("ish_pool_acquired_total", "Times that a connection of a pool was given.", labels ["pool"]);
    /// Waits in vain.
    pool_acquire_timeouts: IntCounterVec("ish_pool_acquire_timeouts_total", "Waits for a connection of a pool that ended without one.", labels ["pool"]);
    /// New connections.
    pool_created: IntCounterVec("ish_pool_created_total", "Connections of a pool that were made.", labels ["pool"]);
    /// Old connections.
    pool_recycled: IntCounterVec("ish_pool_recycled_total", "Connections of a pool that were closed for their age.", labels ["pool"]);
    /// Broken connections.
    pool_errors: IntCounterVec("ish_pool_errors_total", "Connections of a pool that could not be made, or were found dead.", labels ["pool"]);
    /// Leaks, and work that should not take that long.
    pool_held_too_long: IntCounterVec("ish_pool_held_too_long_total", "Times that a connection of a pool was held for longer than its work should take; the log says for what.", labels ["pool"]);
    /// The shared Redis.
    redis_up: IntGauge("ish_redis_up", "Whether there is a connection to Redis: 1, or 0.");
    /// Commands by what they are for.
    redis_commands: IntCounterVec("ish_redis_commands_total", "Commands to Redis, by purpose and outcome (ok, refused, late, busy, away).", labels ["purpose", "outcome"]);
    /// How long they take.
    redis_seconds: HistogramVec("ish_redis_command_duration_seconds", "Time that commands to Redis took, by purpose.", labels ["purpose"], buckets SECONDS);
    /// How deep the queue is.
    tasks_waiting: IntGaugeVec("ish_tasks_waiting", "Tasks that could run now, by priority; measured every few seconds.", labels ["priority"]);
    /// How long it takes to get out of it.
    tasks_oldest: IntGaugeVec("ish_tasks_oldest_seconds", "For how long the oldest task that could run has waited, by priority.", labels ["priority"]);
    /// Dead letters.
    tasks_dead: IntGauge("ish_tasks_dead", "Tasks that failed for good and are kept.");
    /// What runs here.
    tasks_running: IntGauge("ish_tasks_running", "Tasks that this process runs.");
    /// What could.
    tasks_workers: IntGauge("ish_tasks_workers", "Tasks that this process runs at once at most now, between tasks.min_workers and tasks.max_workers.");
    /// From its time to a worker.
    tasks_wait: HistogramVec("ish_tasks_wait_seconds", "Time from when a task could run until it did, by priority.", labels ["priority"], buckets SECONDS);
    /// By kind, which the program names.
    tasks_duration: HistogramVec("ish_tasks_duration_seconds", "Time that attempts took, by kind of job.", labels ["kind"], buckets TASK_SECONDS);
    /// Attempts by how they ended.
    tasks_ended: IntCounterVec("ish_tasks_ended_total", "Attempts that ended, by kind of job and outcome (completed, retried, discarded, cancelled, handed_back, lost).", labels ["kind", "outcome"]);
    /// Tasks of dead workers.
    tasks_rescued: IntCounter("ish_tasks_rescued_total", "Tasks that this process took over from workers that were silent for tasks.lease.");
    /// Leases at risk.
    tasks_beats_failed: IntCounter("ish_tasks_beats_failed_total", "Signs of life of workers that could not be stored: without one for tasks.lease their tasks are taken over.");
    /// Runs under way.
    workflows_running: IntGauge("ish_workflows_running", "Runs of workflows that have not ended; measured every few seconds.");
    /// Runs that nobody moves on.
    workflows_stuck: IntGauge("ish_workflows_stuck", "Runs of workflows that this process cannot move on: it does not know their definition in that version, or their steps wait for tasks that are gone; measured every few seconds.");
    /// Runs by how they ended.
    workflows_ended: IntCounterVec("ish_workflows_ended_total", "Runs of workflows that ended, by workflow and outcome (completed, failed, cancelled, compensation_failed).", labels ["workflow", "outcome"]);
    /// Operations of the program, from begin to end.
    profile_seconds: Durations("ish_profile_duration_seconds", "Time that operations took, the product's own and profiled ones, by component and operation.", labels ["component", "operation"]);
    /// The part of it that they were at work.
    profile_busy: CounterVec("ish_profile_busy_seconds_total", "Time that profiled operations were at work rather than waiting, by component and operation.", labels ["component", "operation"]);
    /// Parts of the process by themselves.
    benchmark_seconds: HistogramVec("ish_benchmark_seconds", "Time that parts of this process took by themselves when it measured them, by part: store (there and back), embedding, index (a look-up in its largest partition).", labels ["part"], buckets SECONDS);
    /// What the runtime has to do.
    runtime_tasks: IntGauge("ish_runtime_tasks", "Tasks of the runtime that have not ended: connections, answers under way and what runs beside them; measured when metrics are asked for.");
    /// How late the runtime is.
    runtime_lag: Histogram("ish_runtime_lag_seconds", "By how much a timer of the runtime was late; all other work that becomes ready waits as long.", buckets SECONDS);
    /// What there is of memory.
    memory_limit: IntGauge("ish_memory_limit_bytes", "Memory that this process may use: its control group's, else the machine's.");
    /// What there is of processors.
    cpu_limit: IntGauge("ish_cpu_limit_cores", "Processors that this process may use.");
    /// What there is of the disk.
    disk_size: IntGauge("ish_disk_size_bytes", "Size of the file system of the data folder.");
    /// What is left of it.
    disk_free: IntGauge("ish_disk_free_bytes", "What is free of it.");
    /// Alerts of `alerts.rs`.
    alerts_firing: IntGaugeVec("ish_alerts_firing", "Alerts that this process has found and that are not over, by severity (critical, warning, info).", labels ["severity"]);
    /// What became of telling somebody.
    alert_messages: IntCounterVec("ish_alert_messages_total", "Messages to alerts.webhook_url, by outcome (sent, failed, dropped).", labels ["outcome"]);
    /// Handler panics, each a defect.
    panics: IntCounter("ish_panics_total", "Panics caught in handlers.");
    /// Always 1.
    build_info: IntGaugeVec("ish_build_info", "Version of the running binary.", labels ["version"]);
}

/// One target's own series, looked up once.
pub struct TargetMetrics {
    /// Calls that run.
    pub in_flight: IntGauge,
    /// What its breaker lets through.
    pub breaker_state: IntGauge,
    /// Time to the first token, by provider.
    pub first_token: Histogram,
    /// Tokens of requests, by provider.
    pub input_tokens: IntCounter,
    /// Tokens of answers, by provider.
    pub output_tokens: IntCounter,
    /// Time between tokens, by provider.
    pub token_gap: Histogram,
    /// Time of whole calls, by provider.
    pub duration: Histogram,
    /// Tokens of one call's request, by provider.
    pub input_usage: Histogram,
    /// Tokens of one call's answer, by provider.
    pub output_usage: Histogram,
}

/// One cache's own series, looked up once.
pub struct MemoMetrics {
    /// Found in memory.
    pub l1: IntCounter,
    /// Found in Redis.
    pub l2: IntCounter,
    /// Made.
    pub miss: IntCounter,
    /// Made by another call at the same time.
    pub collapsed: IntCounter,
    /// Past its time, in place of an error.
    pub stale: IntCounter,
    /// Values that have no form to keep them in.
    pub unwritable: IntCounter,
    /// Values in Redis that are not what was kept there.
    pub unreadable: IntCounter,
    /// Commands to Redis that failed.
    pub redis: IntCounter,
    /// Values not sent to Redis because too many were on their way.
    pub busy: IntCounter,
    /// Values in memory.
    pub entries: IntGauge,
}

/// One pool's own series, looked up once.
pub struct PoolMetrics {
    /// Permits there are.
    pub limit: IntGauge,
    /// Connections that are open.
    pub size: IntGauge,
    /// Permits held.
    pub in_use: IntGauge,
    /// Who waits for one.
    pub waiting: IntGauge,
    /// How long.
    pub wait: Histogram,
    /// Permits given.
    pub acquired: IntCounter,
    /// Waits in vain.
    pub acquire_timeouts: IntCounter,
    /// Connections made.
    pub created: IntCounter,
    /// Connections closed for their age.
    pub recycled: IntCounter,
    /// Connections that could not be made, or were found dead.
    pub errors: IntCounter,
    /// Permits held for too long.
    pub held_too_long: IntCounter,
    /// How long permits are held.
    pub held: Arc<Operation>,
}

impl Metrics {
    /// The series of the pool `name`.
    pub fn pool(&self, name: &'static str) -> PoolMetrics {
        let labels = &[name];
        PoolMetrics {
            limit: self.pool_limit.with_label_values(labels),
            size: self.pool_size.with_label_values(labels),
            in_use: self.pool_in_use.with_label_values(labels),
            waiting: self.pool_waiting.with_label_values(labels),
            wait: self.pool_wait.with_label_values(labels),
            acquired: self.pool_acquired.with_label_values(labels),
            acquire_timeouts: self.pool_acquire_timeouts.with_label_values(labels),
            created: self.pool_created.with_label_values(labels),
            recycled: self.pool_recycled.with_label_values(labels),
            errors: self.pool_errors.with_label_values(labels),
            held_too_long: self.pool_held_too_long.with_label_values(labels),
            held: self.profile_seconds.of("pool", name),
        }
    }

    /// The series of the cache `name`.
    pub fn memo(&self, name: &'static str) -> MemoMetrics {
        let lookups = |outcome| self.memo_lookups.with_label_values(&[name, outcome]);
        let errors = |reason| self.memo_errors.with_label_values(&[name, reason]);
        MemoMetrics {
            l1: lookups("l1"),
            l2: lookups("l2"),
            miss: lookups("miss"),
            collapsed: lookups("collapsed"),
            stale: lookups("stale"),
            unwritable: errors("unwritable"),
            unreadable: errors("unreadable"),
            redis: errors("redis"),
            busy: errors("busy"),
            entries: self.memo_entries.with_label_values(&[name]),
        }
    }

    /// The series of the target `label` at `provider`, both from the configuration.
    pub fn target(&self, label: &str, provider: &str) -> TargetMetrics {
        // The conventions' own word, where they have one.
        let named = if provider == "gemini" { "gcp.gemini" } else { provider };
        TargetMetrics {
            in_flight: self.target_in_flight.with_label_values(&[label]),
            breaker_state: self.breaker_state.with_label_values(&[label]),
            first_token: self.provider_first_token.with_label_values(&[provider]),
            input_tokens: self.provider_tokens.with_label_values(&[provider, "input"]),
            output_tokens: self.provider_tokens.with_label_values(&[provider, "output"]),
            token_gap: self.provider_token_gap.with_label_values(&[provider]),
            duration: self.operation_duration.with_label_values(&["chat", named]),
            input_usage: self.token_usage.with_label_values(&["chat", named, "input"]),
            output_usage: self.token_usage.with_label_values(&["chat", named, "output"]),
        }
    }

    /// All series of a metric together.
    pub fn sum(metric: &impl Collector) -> f64 {
        Self::sum_where(metric, |_, _| true)
    }

    /// Of a metric's series, those that have a label for which `is_meant` (name, value) is true; all, where they have none.
    pub fn sum_where(metric: &impl Collector, is_meant: impl Fn(&str, &str) -> bool) -> f64 {
        let families = metric.collect();
        let series = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
        let is_meant = |series: &&prometheus::proto::Metric| {
            let labels = series.get_label();
            labels.is_empty() || labels.iter().any(|label| is_meant(label.name(), label.value()))
        };
        // Of the two kinds that are asked for, the other is zero.
        series.filter(is_meant).map(|one| one.get_counter().get_value() + one.get_gauge().get_value()).sum()
    }

    /// Each series of a metric, by the value of its first label.
    pub fn series(metric: &impl Collector) -> Vec<(String, f64)> {
        let families = metric.collect();
        let series = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
        let named = |one: &prometheus::proto::Metric| {
            let label = one.get_label().first()?.value().to_owned();
            Some((label, one.get_counter().get_value() + one.get_gauge().get_value()))
        };
        series.filter_map(named).collect()
    }

    /// The Prometheus text exposition, version 0.0.4. Gauges that mirror figures kept elsewhere are as they were set last.
    pub fn text(&self) -> String {
        let mut out = Vec::with_capacity(16 * 1024);
        // Encoding into memory fails only for an empty family, which gather() never returns.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_follows_the_rule() {
        let metrics = Metrics::new();
        metrics.http_requests.with_label_values(&["/livez", "GET", "2xx"]).inc();
        let text = metrics.text();
        assert!(text.contains("ish_http_requests_total{method=\"GET\",route=\"/livez\",status=\"2xx\"} 1"), "{text}");
        for line in text.lines().filter(|line| line.starts_with("# TYPE")) {
            let name = line.split(' ').nth(2).unwrap();
            assert!(["ish_", "process_", "gen_ai_"].iter().any(|prefix| name.starts_with(prefix)), "{name}");
            assert_eq!(line.ends_with("counter"), name.ends_with("_total"), "{line}");
        }
    }
}
