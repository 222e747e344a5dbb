//! The product's own jobs, and when they run.

mod benchmark;
mod reembed;
mod summarise;
mod tidy;

use std::sync::Arc;

use crate::cache::SemanticCache;
use crate::config::TasksConfig;
use crate::db::Db;
use crate::metrics::Metrics;
use crate::tasks::{NewTask, Priority, Queue, Registry, Schedule, ScheduleError, Schedules};
pub use benchmark::keep_measuring;
use benchmark::{Bench, Benchmark};
use reembed::Reembed;
pub use summarise::{Memory, Summarise, Summarised};
use tidy::{Kept, Tidy};

/// What the jobs work with.
pub struct JobParts<'p> {
    /// Where they wait.
    pub queue: &'p Queue,
    /// How long ended ones are kept.
    pub config: &'p TasksConfig,
    /// Whose entries are looked after.
    pub cache: SemanticCache,
    /// For summaries of conversations.
    pub memory: Memory,
    /// What is measured by itself.
    pub db: Db,
    /// Where that is told.
    pub metrics: Arc<Metrics>,
}

/// The jobs that every process knows, whatever others its program has.
pub fn registry(parts: JobParts<'_>) -> Registry {
    let JobParts { queue, config, cache, memory, db, metrics } = parts;
    let kept = Kept { queue: queue.clone(), ended: config.retention, dead: config.dead_retention };
    let bench = Bench { cache: cache.clone(), db, metrics };
    Registry::new()
        .register::<Benchmark>(Arc::new(bench))
        .register::<Tidy>(Arc::new(kept))
        .register::<Summarise>(Arc::new(memory))
        .register::<Reembed>(Arc::new(cache))
}

/// Those that come by the clock.
///
/// # Errors
/// Never: the lines are written here.
pub fn schedules() -> Result<Schedules, ScheduleError> {
    // Every ten minutes, and never two at once.
    let tidy = || NewTask::new(&Tidy {}).priority(Priority::Low).unique("one");
    Ok(Schedules::new().with(Schedule::new("ish.tidy", "*/10 * * * *", "UTC", tidy)?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_schedules_are_good() {
        assert!(super::schedules().is_ok());
    }
}
