//! Measures now and then what the parts of this process take by themselves, on the data that it has: an embedding, a look-up in the
//! index, the store's way there and back. Never beside work: where there is some, nothing is measured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cache::SemanticCache;
use crate::db::Db;
use crate::metrics::Metrics;
use crate::tasks::{Job, JobContext, JobError, NewTask, Policy, Priority, Queue};

/// How often each part is measured: enough for a middle, over in well under a second.
const ROUNDS: u32 = 16;

/// The job.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Benchmark {}

/// What it measures.
pub(super) struct Bench {
    pub cache: SemanticCache,
    /// Where conversations are.
    pub db: Db,
    pub metrics: Arc<Metrics>,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Measured {
    /// By part; one that there was nothing to measure of is missing.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parts: BTreeMap<&'static str, Times>,
    /// Entries of the partition that was looked through.
    #[serde(skip_serializing_if = "Option::is_none")]
    index_entries: Option<usize>,
    /// Why nothing, or no more, was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<&'static str>,
}

/// Of one part, in milliseconds.
#[derive(Debug, PartialEq, Serialize)]
struct Times {
    p50_ms: f64,
    max_ms: f64,
}

impl Job for Benchmark {
    const KIND: &'static str = "ish.benchmark";
    const VERSION: u16 = 1;
    const POLICY: Policy =
        Policy { queue: "ish", priority: Priority::Low, max_attempts: 1, max_running: Some(1), ..Policy::DEFAULT };
    type State = Bench;
    type Output = Measured;

    async fn run(self, bench: Arc<Bench>, context: JobContext) -> Result<Measured, JobError> {
        let mut measured = Measured::default();
        for part in [Part::Store, Part::Embedding, Part::Index] {
            if bench.is_busy() {
                measured.skipped = Some("there was work to do");
                break;
            }
            let (times, entries) = bench.measure(part, &context).await?;
            measured.parts.extend(Times::of(times).map(|times| (part.name(), times)));
            measured.index_entries = entries.or(measured.index_entries);
        }
        Ok(measured)
    }
}

/// Has this process's tasks measure every so often, over all instances of a database together.
pub async fn keep_measuring(queue: Queue, every: Duration) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    loop {
        ticks.tick().await;
        // Whoever is first of those that share the queue is the one; where it cannot be reached, the next time will do.
        let _ = queue.enqueue(NewTask::new(&Benchmark {}).unique("one")).await;
    }
}

/// What is measured.
#[derive(Clone, Copy)]
enum Part {
    Store,
    Embedding,
    Index,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Embedding => "embedding",
            Self::Index => "index",
        }
    }
}

impl Bench {
    /// Whether questions are in work. Where `limits.max_in_flight` is 0 nobody counts them.
    fn is_busy(&self) -> bool {
        self.metrics.limits_in_flight.get() > 0
    }

    /// Each round's time, and how many entries the index was looked through for.
    async fn measure(&self, part: Part, context: &JobContext) -> Result<(Vec<Duration>, Option<usize>), JobError> {
        let mut times = Vec::new();
        // A text of its own each time: one that is remembered takes no time.
        let text = |round: u32| format!("What does benchmark {} measure in round {round}?", context.task());
        let embedded = self.cache.embeddings().embed(&text(ROUNDS)).await?;
        let mut entries = None;
        for round in 0..ROUNDS {
            let begun = Instant::now();
            match part {
                Part::Store => self.db.check().await?,
                Part::Embedding => drop(self.cache.embeddings().embed(&text(round)).await?),
                Part::Index => {
                    entries = self.cache.look_through(&embedded.embedding);
                    if entries.is_none() {
                        break;
                    }
                }
            }
            let time = begun.elapsed();
            self.metrics.benchmark_seconds.with_label_values(&[part.name()]).observe(time.as_secs_f64());
            times.push(time);
            tokio::task::yield_now().await;
        }
        Ok((times, entries))
    }
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let ms = |time: &Duration| time.as_secs_f64() * 1e3;
        Some(Self { p50_ms: ms(times.get(times.len() / 2)?), max_ms: ms(times.last()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_the_rounds_is_told_and_the_longest() {
        let times = Times::of([5, 1, 3].map(Duration::from_millis).to_vec());
        assert_eq!(times, Some(Times { p50_ms: 3.0, max_ms: 5.0 }));
        assert_eq!(Times::of(Vec::new()), None);
    }
}
