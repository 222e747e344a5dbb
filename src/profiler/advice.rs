//! What to change: each recommendation names a setting, what it is, what it should be, and the figures that say so. One rule a
//! function; none speaks without its cause.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bottleneck::{BUSY, MEMORY, TASK_WAIT, busy_share, is_waited_for};
use super::state::State;
use super::window::PoolState;

/// A recommendation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recommendation {
    /// The setting to change; `None`: no setting helps.
    pub setting: Option<&'static str>,
    /// What it is.
    pub current: Option<f64>,
    /// What to try.
    pub suggested: Option<f64>,
    /// What to do, in words.
    pub action: String,
    /// The figures that say so.
    pub figures: BTreeMap<&'static str, f64>,
}

impl Recommendation {
    fn of<const N: usize>(
        setting: &'static str,
        (current, suggested): (f64, f64),
        action: &str,
        figures: [(&'static str, f64); N],
    ) -> Self {
        Self {
            setting: Some(setting),
            current: Some(current),
            suggested: Some(suggested),
            action: action.to_owned(),
            figures: BTreeMap::from(figures),
        }
    }

    fn beyond_settings<const N: usize>(action: &str, figures: [(&'static str, f64); N]) -> Self {
        let figures = BTreeMap::from(figures);
        Self { setting: None, current: None, suggested: None, action: action.to_owned(), figures }
    }
}

/// All that the figures say.
pub(super) fn give(state: &State) -> Vec<Recommendation> {
    let rules = [embedder, embeddings, memory, memory_pressure, index, writes, tasks, places, replays, processors];
    let mut given: Vec<Recommendation> = rules.iter().filter_map(|rule| rule(state)).collect();
    given.extend(state.pools.iter().filter_map(pool));
    given.extend(breaker(state));
    given
}

/// Look-ups go without their vectors.
fn embedder(state: &State) -> Option<Recommendation> {
    let busy = busy_share(state).filter(|busy| *busy >= BUSY)?;
    let (workers, figures) = (
        state.settings.embedding_workers as f64,
        [
            ("busy_share", busy),
            ("texts", state.counters.embeddings_made),
            ("queue_p95_seconds", state.stage("embedding/queue").map_or(0.0, |stage| stage.p95_seconds)),
        ],
    );
    if state.settings.embeds_here && state.has_cores() && workers < state.cores {
        let action = "texts wait for the model while processors are idle: give it another thread";
        return Some(Recommendation::of("embedding.workers", (workers, workers + 1.0), action, figures));
    }
    if state.settings.embeds_here {
        let action = "the model has no processor left: add an instance, or let texts be embedded elsewhere (embedding.remote_url)";
        return Some(Recommendation::beyond_settings(action, figures));
    }
    let wait = state.settings.embedding_wait.as_secs_f64();
    let action = "the remote embedder answers too late: let look-ups wait for it longer, or put it nearer";
    Some(Recommendation::of("embedding.wait", (wait, wait * 2.0), action, figures))
}

/// Vectors are forgotten before they are asked for again.
fn embeddings(state: &State) -> Option<Recommendation> {
    let (remembered, made) = (state.counters.embeddings_remembered, state.counters.embeddings_made);
    let size = state.settings.embedding_cache_size as f64;
    let rate = remembered / (remembered + made).max(1.0);
    (made > size && rate < 0.5 && state.memory_use.is_none_or(|used| used < MEMORY)).then(|| {
        let action =
            "more texts were embedded than are remembered: keep more of them, of 2 KiB each and more for long ones";
        let figures = [("hit_rate", rate), ("texts", made)];
        Recommendation::of("embedding.cache_size", (size, size * 2.0), action, figures)
    })
}

/// Answers fall out of memory while they are asked for.
fn memory(state: &State) -> Option<Recommendation> {
    let (size, hits) = (state.settings.memory_bytes as f64, state.counters.hits);
    let (full, lower) = (state.memory_bytes / size, state.counters.lower_hits / hits.max(1.0));
    (hits >= 20.0 && full >= 0.9 && lower >= 0.2 && state.memory_use.is_none_or(|used| used < MEMORY)).then(|| {
        let action = "the cache's memory is full, and many hits have to be read from a lower tier: give it more";
        let figures = [("full", full), ("hits_from_lower_tiers", lower), ("hits", hits)];
        Recommendation::of("cache.memory_bytes", (size, size * 2.0), action, figures)
    })
}

/// The process holds nearly all the memory that it may.
fn memory_pressure(state: &State) -> Option<Recommendation> {
    let used = state.memory_use.filter(|used| *used >= MEMORY)?;
    let (size, held) = (state.settings.memory_bytes as f64, state.memory_bytes);
    let figures = [("memory_use", used), ("memory_limit_bytes", state.memory_limit), ("cache_bytes", held)];
    if held >= state.memory_limit / 10.0 {
        let action =
            "the process is close to the memory that it may use, and the cache holds much of that: give it less";
        let suggested = (held / 2.0).round();
        return Some(Recommendation::of("cache.memory_bytes", (size, suggested), action, figures));
    }
    let action =
        "the process is close to the memory that it may use: raise its limit, or spread its users over more instances";
    Some(Recommendation::beyond_settings(action, figures))
}

/// The index takes no more vectors.
fn index(state: &State) -> Option<Recommendation> {
    let (entries, most) = (state.index_entries, state.settings.index_max_entries as f64);
    (entries >= 0.95 * most).then(|| {
        let action = "the index is full, and further entries are found by their text only, or in Postgres: let it hold more, 0.9 KB each";
        Recommendation::of("cache.index_max_entries", (most, most * 2.0), action, [("entries", entries)])
    })
}

/// Answers are not stored, for want of room on their way.
fn writes(state: &State) -> Option<Recommendation> {
    let (dropped, queue) = (state.counters.writes_dropped, state.settings.write_queue as f64);
    (dropped > 0.0).then(|| {
        let action = "answers were not stored because too many were on their way: let more wait, and see whether the store is slow";
        let p95 = state.stage("store/entries").map_or(0.0, |stage| stage.p95_seconds);
        Recommendation::of("cache.write_queue", (queue, queue * 2.0), action, [("dropped", dropped), ("store_p95_seconds", p95)])
    })
}

/// Tasks wait while as many run as may.
fn tasks(state: &State) -> Option<Recommendation> {
    let (oldest, most) = (state.tasks_oldest_seconds, state.settings.max_workers as f64);
    let is_full = state.tasks_workers > 0.0 && state.tasks_running >= most;
    (oldest >= TASK_WAIT && is_full).then(|| {
        let figures = [("oldest_seconds", oldest), ("waiting", state.tasks_waiting), ("running", state.tasks_running)];
        if state.has_cores() {
            let action = "tasks wait, and as many run as may: let more run at once";
            return Recommendation::of("tasks.max_workers", (most, most * 2.0), action, figures);
        }
        Recommendation::beyond_settings(
            "tasks wait and no processor is left: add processes that run them (ish worker)",
            figures,
        )
    })
}

/// Requests wait for a place in work, or are refused.
fn places(state: &State) -> Option<Recommendation> {
    let (refused, most) = (state.counters.overloaded, state.settings.max_in_flight as f64);
    let waited = state.stage("limits/wait").map_or(0.0, |stage| stage.count);
    (most > 0.0 && (refused > 0.0 || waited >= 20.0)).then(|| {
        let figures = [("refused", refused), ("waited", waited)];
        if state.has_cores() {
            let action = "requests wait for a place in work while processors are idle: let more be in work at once";
            return Recommendation::of("limits.max_in_flight", (most, most * 2.0), action, figures);
        }
        Recommendation::beyond_settings(
            "requests wait for a place in work and no processor is left: add an instance",
            figures,
        )
    })
}

/// Ended answers are let go while somebody still reads them.
fn replays(state: &State) -> Option<Recommendation> {
    let (let_go, bytes) = (state.counters.let_go, state.settings.replay_bytes as f64);
    (let_go > 0.0).then(|| {
        let action =
            "ended answers had to be let go before slow readers had them, who read them from the store: keep more";
        Recommendation::of("chat.replay_bytes", (bytes, bytes * 2.0), action, [("let_go", let_go)])
    })
}

/// There is more work than processors.
fn processors(state: &State) -> Option<Recommendation> {
    let used = state.cpu_use.filter(|used| *used >= super::bottleneck::CPU)?;
    let action = "the processors are busy: add an instance; the flame graph says with what";
    Some(Recommendation::beyond_settings(action, [("cpu_use", used), ("cores", state.cores)]))
}

/// Work waits for connections.
fn pool(pool: &PoolState) -> Option<Recommendation> {
    let setting = match pool.name.as_str() {
        "postgres" | "postgres_replica" => "database.max_connections",
        "redis" => "redis.max_connections",
        "http" => "upstream.max_connections",
        _ => return None,
    };
    is_waited_for(pool).then(|| {
        let action = match setting {
            "database.max_connections" => {
                "work waits for a connection to Postgres: allow more, as far as PgBouncer and the server have them (docs/pools.md)"
            }
            "redis.max_connections" => "commands wait for Redis: let more be under way",
            _ => "calls wait for a connection to a provider: allow more, or bound the slow target (max_in_flight)",
        };
        let asked = (pool.acquired + pool.timeouts).max(1.0);
        let figures = [
            ("mean_wait_seconds", pool.wait_seconds / asked),
            ("timeouts", pool.timeouts),
            ("in_use", pool.in_use),
            ("waiting", pool.waiting),
        ];
        Recommendation::of(setting, (pool.limit, pool.limit * 2.0), action, figures)
    })
}

/// A target is not asked.
fn breaker(state: &State) -> Option<Recommendation> {
    (!state.breakers_open.is_empty()).then(|| {
        let targets = state.breakers_open.join(", ");
        Recommendation {
            setting: Some("routes"),
            current: None,
            suggested: None,
            action: format!("{targets} fails: give its models a second target (docs/routing.md)"),
            figures: BTreeMap::from([("targets", state.breakers_open.len() as f64)]),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::state::Stage;
    use super::super::state::tests::calm;
    use super::*;
    use crate::config::SETTINGS;
    use crate::metrics::Place;

    /// The settings that are named.
    fn named(state: &State) -> Vec<Option<&'static str>> {
        let given = give(state);
        for setting in given.iter().filter_map(|given| given.setting).filter(|setting| *setting != "routes") {
            assert!(SETTINGS.iter().any(|known| known.key == setting), "there is no setting {setting}");
        }
        given.into_iter().map(|given| given.setting).collect()
    }

    #[test]
    fn there_is_no_advice_without_a_cause() {
        assert_eq!(give(&calm()), []);
    }

    #[test]
    fn a_busy_embedder_gets_threads_as_long_as_there_are_processors() {
        let mut state = calm();
        (state.counters.embeddings_made, state.counters.embeddings_busy) = (100.0, 0.0);
        assert_eq!(named(&state), []);
        state.counters.embeddings_busy = 5.0;
        let given = give(&state);
        assert_eq!(
            (given[0].setting, given[0].current, given[0].suggested),
            (Some("embedding.workers"), Some(1.0), Some(2.0))
        );
        assert!((given[0].figures["busy_share"] - 0.05).abs() < 1e-9);
        let busy = State { cpu_use: Some(0.9), ..state.clone() };
        assert_eq!(named(&busy), [None, None], "another instance, twice");
        state.settings.embeds_here = false;
        assert_eq!(named(&state), [Some("embedding.wait")]);
    }

    #[test]
    fn a_full_memory_is_raised_only_where_it_is_missed_and_there_is_more() {
        let full = |lower_hits| {
            let mut state = calm();
            state.memory_bytes = 510e6;
            state.counters.lower_hits = lower_hits;
            state
        };
        assert_eq!(named(&full(6.0)), []);
        assert_eq!(named(&full(300.0)), [Some("cache.memory_bytes")]);
        let given = give(&State { memory_use: Some(0.85), ..full(300.0) });
        assert_eq!((given.len(), given[0].setting, given[0].suggested), (1, Some("cache.memory_bytes"), Some(255e6)));
        assert_eq!(named(&State { memory_use: Some(0.85), ..calm() }), [None], "the cache is not to blame");
    }

    #[test]
    fn a_pool_is_raised_by_its_own_setting() {
        for (pool, setting) in [
            ("postgres", "database.max_connections"),
            ("redis", "redis.max_connections"),
            ("http", "upstream.max_connections"),
        ] {
            let mut state = calm();
            pool.clone_into(&mut state.pools[0].name);
            assert_eq!(named(&state), []);
            state.pools[0].wait_seconds = 500.0;
            assert_eq!(named(&state), [Some(setting)]);
            assert!((give(&state)[0].figures["mean_wait_seconds"] - 0.1).abs() < 1e-9);
        }
    }

    #[test]
    fn each_other_cause_has_its_setting() {
        let with = |change: fn(&mut State)| {
            let mut state = calm();
            change(&mut state);
            named(&state)
        };
        assert_eq!(with(|state| state.index_entries = 1e6), [Some("cache.index_max_entries")]);
        assert_eq!(with(|state| state.counters.writes_dropped = 1.0), [Some("cache.write_queue")]);
        assert_eq!(with(|state| state.counters.let_go = 1.0), [Some("chat.replay_bytes")]);
        assert_eq!(with(|state| state.counters.overloaded = 1.0), [Some("limits.max_in_flight")]);
        assert_eq!(with(|state| state.cpu_use = Some(0.8)), [None]);
        assert_eq!(with(|state| state.breakers_open = vec!["openai/gpt".to_owned()]), [Some("routes")]);
        assert_eq!(with(|state| state.tasks_oldest_seconds = 60.0), [], "few run");
        let busy = |state: &mut State| {
            (state.tasks_oldest_seconds, state.tasks_running, state.tasks_workers) = (60.0, 100.0, 100.0);
        };
        assert_eq!(with(busy), [Some("tasks.max_workers")]);
        let waited = |state: &mut State| {
            let (name, place) = ("limits/wait".to_owned(), Place::Path);
            state.stages.push(Stage { name, place, count: 30.0, seconds: 1.0, p95_seconds: 0.1 });
        };
        assert_eq!(with(waited), [Some("limits.max_in_flight")]);
        let forgotten = |state: &mut State| state.counters.embeddings_made = 6_000.0;
        assert_eq!(with(forgotten), [Some("embedding.cache_size")]);
    }
}
