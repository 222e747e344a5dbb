//! All that bottlenecks and recommendations are found from: what was counted in a window, how the process stands now, and what is
//! set. Plain figures, so that a rule is a function of them.

use std::time::Duration;

use super::process::Usage;
use super::window::{Counters, PoolState, Window};
use crate::config::Config;
use crate::metrics::{Metrics, Place};

/// Settings that a recommendation may name, as they are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    pub embedding_workers: u64,
    /// Whether the model runs in this process.
    pub embeds_here: bool,
    pub embedding_wait: Duration,
    pub embedding_cache_size: u64,
    pub memory_bytes: u64,
    pub index_max_entries: u64,
    pub write_queue: u64,
    pub max_workers: u64,
    pub max_in_flight: u64,
    pub replay_bytes: u64,
}

impl Settings {
    pub fn of(config: &Config) -> Self {
        Self {
            embedding_workers: config.embedding.workers.get() as u64,
            embeds_here: config.embedding.remote.is_none(),
            embedding_wait: config.embedding.wait,
            embedding_cache_size: config.embedding.cache_size,
            memory_bytes: config.cache.memory_bytes,
            index_max_entries: config.cache.index_max_entries.get() as u64,
            write_queue: config.cache.write_queue.get() as u64,
            max_workers: u64::from(config.tasks.max_workers.get()),
            max_in_flight: config.limits.max_in_flight.map_or(0, |most| u64::from(most.get())),
            replay_bytes: config.chat.replay_bytes as u64,
        }
    }
}

/// An operation in the window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stage {
    pub name: String,
    pub place: Place,
    pub count: f64,
    pub seconds: f64,
    pub p95_seconds: f64,
}

/// How things stand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    pub seconds: f64,
    pub counters: Counters,
    pub pools: Vec<PoolState>,
    pub stages: Vec<Stage>,
    pub settings: Settings,
    /// Of the processors that it may use, from 0 to 1; `None` where that is not measured.
    pub cpu_use: Option<f64>,
    pub cores: f64,
    /// Of the memory that it may use.
    pub memory_use: Option<f64>,
    pub memory_limit: f64,
    /// Of the disk.
    pub disk_use: Option<f64>,
    /// What the first tier holds.
    pub memory_bytes: f64,
    pub index_entries: f64,
    pub tasks_waiting: f64,
    pub tasks_oldest_seconds: f64,
    pub tasks_running: f64,
    pub tasks_workers: f64,
    /// Targets that are not asked, or only tried.
    pub breakers_open: Vec<String>,
}

impl State {
    /// By the gauges as they were set last.
    pub fn of(window: &Window, metrics: &Metrics, usage: Option<&Usage>, settings: Settings) -> Self {
        let stages = window.operations.iter().map(|(operation, figures)| Stage {
            name: format!("{}/{}", operation.component(), operation.name()),
            place: Place::of(operation),
            count: figures.count() as f64,
            seconds: figures.seconds(),
            p95_seconds: figures.quantile_seconds(0.95).unwrap_or(0.0),
        });
        let (cores, memory_limit) = (metrics.cpu_limit.get() as f64, metrics.memory_limit.get() as f64);
        let (disk, free) = (metrics.disk_size.get() as f64, metrics.disk_free.get() as f64);
        let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
        Self {
            seconds: window.seconds,
            counters: window.counters,
            pools: window.pools.clone(),
            stages: stages.collect(),
            settings,
            cpu_use: usage.and_then(|usage| share(usage.cpu_cores, cores)),
            cores,
            memory_use: usage.and_then(|usage| share(usage.memory_bytes as f64, memory_limit)),
            memory_limit,
            disk_use: share(disk - free, disk),
            memory_bytes: metrics.memory_bytes.get() as f64,
            index_entries: metrics.index_entries.get() as f64,
            tasks_waiting: Metrics::sum(&metrics.tasks_waiting),
            tasks_oldest_seconds: Metrics::series(&metrics.tasks_oldest)
                .into_iter()
                .map(|(_, s)| s)
                .fold(0.0, f64::max),
            tasks_running: metrics.tasks_running.get() as f64,
            tasks_workers: metrics.tasks_workers.get() as f64,
            breakers_open: open(metrics),
        }
    }

    /// The stage of that name, as far as it was counted.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name && stage.count > 0.0)
    }

    /// Whether there are processors left for more work at once; where nothing is measured, nobody knows better.
    pub fn has_cores(&self) -> bool {
        self.cpu_use.is_none_or(|used| used < super::bottleneck::CPU)
    }
}

fn open(metrics: &Metrics) -> Vec<String> {
    let states = Metrics::series(&metrics.breaker_state);
    states.into_iter().filter(|(_, state)| *state > 0.0).map(|(target, _)| target).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One in which nothing is wrong.
    pub(in crate::profiler) fn calm() -> State {
        let window = Window {
            seconds: 300.0,
            counters: Counters { questions: 1_000.0, hits: 600.0, ..Counters::default() },
            pools: vec![PoolState {
                name: "postgres".to_owned(),
                limit: 50.0,
                in_use: 2.0,
                waiting: 0.0,
                acquired: 5_000.0,
                wait_seconds: 0.1,
                timeouts: 0.0,
            }],
            operations: Vec::new(),
        };
        let config = Config::read(&crate::config::Environment::from([("ISH_LISTEN", "127.0.0.1:0")]), None).unwrap();
        let metrics = Metrics::new();
        metrics.cpu_limit.set(2);
        metrics.memory_limit.set(4 << 30);
        State::of(&window, &metrics, None, Settings::of(&config))
    }

    #[test]
    fn open_breakers_are_named() {
        let metrics = Metrics::new();
        for (target, state) in [("openai/gpt", 2), ("demo/demo", 0), ("groq/llama", 1)] {
            metrics.breaker_state.with_label_values(&[target]).set(state);
        }
        let mut named = open(&metrics);
        named.sort();
        assert_eq!(named, ["groq/llama", "openai/gpt"]);
    }
}
