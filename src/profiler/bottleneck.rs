//! What holds questions up: the stages that take most of their time, who waits for what, and what the machine has too little of.

use serde::Serialize;

use super::state::{Stage, State};
use super::window::PoolState;
use crate::metrics::Place;

/// Of the processors, as the alert `IshCpu` has it.
pub(super) const CPU: f64 = 0.7;
/// Of the memory, as `IshMemory`.
pub(super) const MEMORY: f64 = 0.8;
/// Of the disk, as `IshDisk`.
const DISK: f64 = 0.85;
/// A pool in use beyond this has few left.
pub(super) const POOL: f64 = 0.8;
/// Mean wait at a pool, in seconds, beyond which it counts; most wait for nothing.
pub(super) const POOL_WAIT: f64 = 0.001;
/// Share of the look-ups that go on without their vector.
pub(super) const BUSY: f64 = 0.01;
/// For how long the oldest task may wait, in seconds.
pub(super) const TASK_WAIT: f64 = 30.0;
/// A stage that takes less than this share of the time holds nobody up.
const SHARE: f64 = 0.2;
/// Nor does one that is through so soon, in seconds, 95 times of 100.
const SOON: f64 = 0.001;
/// By how much the runtime's timers may be late on average, in seconds.
const LAG: f64 = 0.01;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// Felt by those who ask.
    Medium,
    /// Most of what they wait for.
    High,
    /// Some are refused, or will be.
    Critical,
}

/// What kind of thing holds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Work takes its time.
    Stage,
    /// Work waits for its turn.
    Wait,
    /// The machine has no more to give.
    Resource,
}

/// One thing that holds up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bottleneck {
    /// How bad.
    pub severity: Severity,
    /// What kind.
    pub kind: Kind,
    /// What.
    pub name: String,
    /// Of a stage: its share of what all stages on the path of questions took.
    pub share: Option<f64>,
    /// In words, with the figures.
    pub why: String,
}

impl Bottleneck {
    fn new(severity: Severity, kind: Kind, name: impl Into<String>, why: String) -> Self {
        Self { severity, kind, name: name.into(), share: None, why }
    }
}

/// All, the worst first.
pub(super) fn find(state: &State) -> Vec<Bottleneck> {
    let mut found = stages(state);
    found.extend(state.pools.iter().filter_map(pool));
    found.extend([embedder(state), gate(state), tasks(state), runtime(state)].into_iter().flatten());
    found.extend(state.breakers_open.iter().map(|target| {
        let why = format!("{target} failed so often that it is not asked for a while, or only tried");
        Bottleneck::new(Severity::High, Kind::Wait, "breaker", why)
    }));
    found.extend(resources(state));
    found.sort_by(|a, b| {
        b.severity.cmp(&a.severity).then(f64::total_cmp(&b.share.unwrap_or(0.0), &a.share.unwrap_or(0.0)))
    });
    found
}

/// The time of the stages whose times add up, with what the program profiles of its own.
pub(super) fn path_seconds(state: &State) -> f64 {
    let on_path = state.stages.iter().filter(|stage| stage.place != Place::Beside);
    on_path.map(|stage| stage.seconds).sum()
}

fn stages(state: &State) -> Vec<Bottleneck> {
    let whole = path_seconds(state);
    let of_stage = |stage: &Stage| {
        let share = stage.seconds / whole;
        if stage.place == Place::Beside || share.is_nan() || share < SHARE || stage.p95_seconds < SOON {
            return None;
        }
        let severity = match share {
            share if share >= 0.6 && stage.p95_seconds >= 0.1 => Severity::High,
            share if share >= 0.4 => Severity::Medium,
            _ => Severity::Low,
        };
        let why = format!(
            "{:.0} % of the time that questions take: {} times, 95 of 100 within {:.1} ms",
            share * 100.0,
            stage.count,
            stage.p95_seconds * 1e3
        );
        Some(Bottleneck { share: Some(share), ..Bottleneck::new(severity, Kind::Stage, &stage.name, why) })
    };
    state.stages.iter().filter_map(of_stage).collect()
}

/// Whether work waits for a pool's connections.
pub(super) fn is_waited_for(pool: &PoolState) -> bool {
    let asked = pool.acquired + pool.timeouts;
    pool.timeouts > 0.0 || asked >= 20.0 && pool.wait_seconds / asked >= POOL_WAIT
}

fn pool(pool: &PoolState) -> Option<Bottleneck> {
    let asked = (pool.acquired + pool.timeouts).max(1.0);
    let usage = pool.in_use / pool.limit;
    let severity = match pool {
        pool if pool.timeouts > 0.0 => Severity::Critical,
        pool if is_waited_for(pool) => Severity::Medium,
        _ if usage >= POOL => Severity::Low,
        _ => return None,
    };
    let why = format!(
        "{} of {} connections are in use and {} wait; a wait took {:.1} ms on average, and {} were in vain",
        pool.in_use,
        pool.limit,
        pool.waiting,
        pool.wait_seconds / asked * 1e3,
        pool.timeouts
    );
    Some(Bottleneck::new(severity, Kind::Wait, format!("pool {}", pool.name), why))
}

/// Of the look-ups' texts that had to be embedded, those that went on without: `None` where there were too few to tell.
pub(super) fn busy_share(state: &State) -> Option<f64> {
    let made = state.counters.embeddings_made;
    (made >= 20.0).then(|| state.counters.embeddings_busy / made)
}

fn embedder(state: &State) -> Option<Bottleneck> {
    let busy = busy_share(state).filter(|busy| *busy >= BUSY)?;
    let severity = if busy >= 0.1 { Severity::High } else { Severity::Medium };
    let why = format!(
        "{:.1} % of {} texts waited for longer than embedding.wait, and were looked up by their words alone",
        busy * 100.0,
        state.counters.embeddings_made
    );
    Some(Bottleneck::new(severity, Kind::Wait, "embedder", why))
}

fn gate(state: &State) -> Option<Bottleneck> {
    let waited = state.stage("limits/wait");
    let refused = state.counters.overloaded;
    if refused == 0.0 && waited.is_none() {
        return None;
    }
    let severity = if refused > 0.0 { Severity::Critical } else { Severity::Medium };
    let (count, p95) = waited.map_or((0.0, 0.0), |stage| (stage.count, stage.p95_seconds));
    let why = format!(
        "{count} requests waited for a place in work, 95 of 100 within {:.1} ms; {refused} were refused",
        p95 * 1e3
    );
    Some(Bottleneck::new(severity, Kind::Wait, "places in work", why))
}

fn tasks(state: &State) -> Option<Bottleneck> {
    let oldest = state.tasks_oldest_seconds;
    if oldest < TASK_WAIT {
        return None;
    }
    let severity = if oldest >= 20.0 * TASK_WAIT { Severity::High } else { Severity::Medium };
    let why =
        format!("{} tasks wait, the oldest for {oldest} s; {} run here", state.tasks_waiting, state.tasks_running);
    Some(Bottleneck::new(severity, Kind::Wait, "tasks", why))
}

fn runtime(state: &State) -> Option<Bottleneck> {
    let late = state.counters.lag_seconds / state.counters.lag_count.max(1.0);
    (late >= LAG).then(|| {
        let why = format!("timers are late by {:.1} ms on average: all that becomes ready waits as long", late * 1e3);
        Bottleneck::new(Severity::High, Kind::Wait, "runtime", why)
    })
}

fn resources(state: &State) -> Vec<Bottleneck> {
    let of = |name: &str, used: Option<f64>, bound: f64| {
        let used = used.filter(|used| *used >= bound)?;
        let severity = if used >= 0.95 { Severity::Critical } else { Severity::High };
        Some(Bottleneck::new(severity, Kind::Resource, name, format!("{:.0} % are in use", used * 100.0)))
    };
    let of_machine =
        [of("cpu", state.cpu_use, CPU), of("memory", state.memory_use, MEMORY), of("disk", state.disk_use, DISK)];
    of_machine.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::calm;
    use super::*;

    fn stage(name: &str, place: Place, count: f64, seconds: f64, p95_seconds: f64) -> Stage {
        Stage { name: name.to_owned(), place, count, seconds, p95_seconds }
    }

    fn named(state: &State) -> Vec<(String, Severity)> {
        find(state).into_iter().map(|found| (found.name, found.severity)).collect()
    }

    #[test]
    fn nothing_holds_up_where_nothing_is_wrong() {
        assert_eq!(find(&calm()), []);
        let quick = stage("cache/search", Place::Path, 1e6, 50.0, 0.000_05);
        assert_eq!(find(&State { stages: vec![quick], ..calm() }), [], "all of the time, and still nothing");
    }

    #[test]
    fn the_stage_that_takes_most_comes_first() {
        let stages = vec![
            stage("chat/question", Place::Beside, 100.0, 99.0, 0.9),
            stage("store/question", Place::Path, 100.0, 3.0, 0.04),
            stage("embedding/look-up", Place::Path, 100.0, 6.5, 0.3),
            stage("billing/invoice", Place::Own, 10.0, 0.5, 0.1),
        ];
        let found = find(&State { stages, ..calm() });
        let names: Vec<&str> = found.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(
            names,
            ["embedding/look-up", "store/question"],
            "what lies around them is none, what is small neither"
        );
        assert_eq!((found[0].severity, found[0].share), (Severity::High, Some(0.65)));
        assert_eq!(found[1].severity, Severity::Low);
        let own = vec![stage("billing/invoice", Place::Own, 10.0, 5.0, 0.6)];
        assert_eq!(named(&State { stages: own, ..calm() }), [("billing/invoice".to_owned(), Severity::High)]);
    }

    #[test]
    fn who_waits_in_vain_is_worse_off_than_who_waits() {
        let mut state = calm();
        state.pools[0].wait_seconds = 50.0;
        assert_eq!(named(&state), [("pool postgres".to_owned(), Severity::Medium)]);
        state.pools[0].timeouts = 1.0;
        assert_eq!(named(&state), [("pool postgres".to_owned(), Severity::Critical)]);
        let mut state = calm();
        state.pools[0].in_use = 45.0;
        assert_eq!(named(&state), [("pool postgres".to_owned(), Severity::Low)]);
    }

    #[test]
    fn each_other_cause_is_named() {
        let mut state = calm();
        (state.counters.embeddings_made, state.counters.embeddings_busy) = (100.0, 20.0);
        assert_eq!(named(&state), [("embedder".to_owned(), Severity::High)]);
        let mut state = calm();
        state.counters.overloaded = 1.0;
        assert_eq!(named(&state), [("places in work".to_owned(), Severity::Critical)]);
        assert_eq!(named(&State { tasks_oldest_seconds: 45.0, ..calm() }), [("tasks".to_owned(), Severity::Medium)]);
        let mut state = calm();
        (state.counters.lag_count, state.counters.lag_seconds) = (10.0, 1.0);
        assert_eq!(named(&state), [("runtime".to_owned(), Severity::High)]);
        let broken = State { breakers_open: vec!["openai/gpt".to_owned()], ..calm() };
        assert_eq!(named(&broken), [("breaker".to_owned(), Severity::High)]);
        assert_eq!(named(&State { cpu_use: Some(0.75), ..calm() }), [("cpu".to_owned(), Severity::High)]);
        assert_eq!(named(&State { memory_use: Some(0.96), ..calm() }), [("memory".to_owned(), Severity::Critical)]);
        assert_eq!(named(&State { disk_use: Some(0.86), ..calm() }), [("disk".to_owned(), Severity::High)]);
    }
}
