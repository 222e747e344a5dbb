//! The product's own jobs, and when they run.

mod benchmark;
mod expire;
mod reembed;
mod summarise;
mod tidy;

use std::sync::Arc;

use crate::cache::SemanticCache;
use crate::config::TasksConfig;
use crate::db::Db;
use crate::metrics::Metrics;
use crate::tasks::{NewTask, Priority, Queue, Registry, Schedule, ScheduleError, Schedules};
use crate::workflows::{Kept, Workflows};
pub use benchmark::keep_measuring;
use benchmark::{Bench, Benchmark};
use expire::Expire;
use reembed::Reembed;
pub use reembed::follow_embedder;
pub use summarise::{Memory, Summarise, Summarised};
use tidy::{Tidied, Tidy};

/// What the jobs work with.
pub struct JobParts<'p> {
    /// Where they wait.
    pub queue: &'p Queue,
    /// Whose runs are tidied.
    pub workflows: &'p Workflows,
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
    let JobParts { queue, workflows, config, cache, memory, db, metrics } = parts;
    let bench = Bench { cache: cache.clone(), db, metrics };
    let (kept, cache) = (Kept { ended: config.retention, dead: config.dead_retention }, Arc::new(cache));
    let tidied = Tidied { queue: queue.clone(), workflows: workflows.clone(), kept };
    Registry::new()
        .register::<Benchmark>(Arc::new(bench))
        .register::<Tidy>(Arc::new(tidied))
        .register::<Expire>(Arc::clone(&cache))
        .register::<Summarise>(Arc::new(memory))
        .register::<Reembed>(cache)
}

/// Those that come by the clock.
///
/// # Errors
/// Never: the lines are written here.
pub fn schedules() -> Result<Schedules, ScheduleError> {
    // Never two of a kind at once.
    let tidy = || NewTask::new(&Tidy {}).priority(Priority::Low).unique("one");
    let expire = || NewTask::new(&Expire {}).priority(Priority::Low).unique("one");
    let schedules = Schedules::new().with(Schedule::new("ish.tidy", "*/10 * * * *", "UTC", tidy)?);
    Ok(schedules.with(Schedule::new("ish.expire", "*/5 * * * *", "UTC", expire)?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_schedules_are_good() {
        assert!(super::schedules().is_ok());
    }
}
