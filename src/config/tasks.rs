//! Section `tasks`: work in the background.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::reader::Reader;

/// Section `tasks`.
#[derive(Debug, Clone)]
pub struct TasksConfig {
    /// What people call this process, among those that run tasks.
    pub instance: String,
    /// Whether this process runs tasks; enqueue it can in any case.
    pub workers: bool,
    /// Where a process that only runs tasks answers to who watches it.
    pub listen: Option<SocketAddr>,
    /// How many it runs at once at least, where there are as many.
    pub min_workers: NonZeroU32,
    /// How many at most.
    pub max_workers: NonZeroU32,
    /// A task that waited for so long wants more workers.
    pub scale_after: Duration,
    /// How many are claimed in one step.
    pub claim: NonZeroU32,
    /// Without a sign of life for so long, a worker has lost its tasks.
    pub lease: Duration,
    /// Between two signs of life.
    pub heartbeat: Duration,
    /// What a level of priority is worth: so much waiting makes up for it.
    pub aging: Duration,
    /// How long an idempotency key is remembered.
    pub idempotency: Duration,
    /// How long tasks are kept that were completed or cancelled.
    pub retention: Duration,
    /// How long dead letters are kept.
    pub dead_retention: Duration,
    /// How long between two measurements of this process's parts; `None`: there are none.
    pub benchmark_every: Option<Duration>,
    /// How many of one tenant run at once.
    pub tenant_max_running: Option<NonZeroU32>,
    /// How many of one tenant begin in a minute.
    pub tenant_per_minute: Option<NonZeroU32>,
}

impl TasksConfig {
    /// `None` only when a fault was recorded.
    pub(super) fn read(reader: &mut Reader, instance: String) -> Option<Self> {
        let (workers, claim) = (reader.flag("tasks.workers"), reader.value("tasks.claim"));
        let listen = reader.optional("tasks.listen");
        let [min_workers, max_workers] = ["tasks.min_workers", "tasks.max_workers"].map(|key| reader.value(key));
        let [lease, heartbeat, scale_after, aging, idempotency, retention, dead_retention] = [
            "tasks.lease",
            "tasks.heartbeat",
            "tasks.scale_after",
            "tasks.aging",
            "tasks.idempotency",
            "tasks.retention",
            "tasks.dead_retention",
        ]
        .map(|key| reader.seconds(key));
        let [tenant_max_running, tenant_per_minute] =
            ["tasks.tenant_max_running", "tasks.tenant_per_minute"].map(|key| reader.value::<u32>(key));
        let (benchmarks, benchmark_interval) =
            (reader.flag("tasks.benchmarks"), reader.seconds("tasks.benchmark_interval"));
        let config = Self {
            instance,
            workers: workers?,
            listen,
            min_workers: min_workers?,
            max_workers: max_workers?,
            scale_after: scale_after?,
            claim: claim?,
            lease: lease?,
            heartbeat: heartbeat?,
            aging: aging?,
            idempotency: idempotency?,
            retention: retention?,
            dead_retention: dead_retention?,
            benchmark_every: benchmark_interval.filter(|_| benchmarks == Some(true)),
            tenant_max_running: NonZeroU32::new(tenant_max_running?),
            tenant_per_minute: NonZeroU32::new(tenant_per_minute?),
        };
        let is_well = config.is_well(reader);
        is_well.then_some(config)
    }

    fn is_well(&self, reader: &mut Reader) -> bool {
        let mut refuse = |key, accepted| {
            let (text, origin) = reader.text(super::reader::setting(key));
            reader.fault(key, &text, &origin, accepted);
        };
        let (lease_fits, workers_fit) = (self.lease >= 3 * self.heartbeat, self.min_workers <= self.max_workers);
        if !lease_fits {
            refuse("tasks.lease", "takes three or more of tasks.heartbeat");
        }
        if !workers_fit {
            refuse("tasks.min_workers", "takes no more than tasks.max_workers");
        }
        let measures_in_time = self.benchmark_every != Some(Duration::ZERO);
        if !measures_in_time {
            refuse("tasks.benchmark_interval", "takes more than 0; tasks.benchmarks turns it off");
        }
        lease_fits && workers_fit && measures_in_time
    }
}
