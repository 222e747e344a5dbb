//! What this process may use of its machine (memory, processors, disk), and how promptly its runtime gets to work: what the
//! process's own figures (`process_*`) have to be compared with before they say anything. Linux; elsewhere a figure is missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// How often it is measured how late the runtime is.
const EVERY: Duration = Duration::from_millis(500);

/// The process among its bounds. Cloning is cheap.
#[derive(Clone)]
pub struct Vitals {
    data_dir: PathBuf,
    metrics: Arc<Metrics>,
}

impl Vitals {
    /// Notes what does not change: memory and processors.
    pub fn new(data_dir: PathBuf, metrics: Arc<Metrics>) -> Self {
        if let Some(bytes) = memory_limit() {
            metrics.memory_limit.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        if let Ok(cores) = std::thread::available_parallelism() {
            metrics.cpu_limit.set(cores.get() as i64);
        }
        Self { data_dir, metrics }
    }

    /// Sets the gauges of the disk and of the runtime that this is called on.
    pub fn figures(&self) {
        if let Ok(runtime) = Handle::try_current() {
            self.metrics.runtime_tasks.set(runtime.metrics().num_alive_tasks() as i64);
        }
        if let Some(disk) = Disk::of(&self.data_dir) {
            self.metrics.disk_size.set(i64::try_from(disk.size_bytes).unwrap_or(i64::MAX));
            self.metrics.disk_free.set(i64::try_from(disk.free_bytes).unwrap_or(i64::MAX));
        }
    }

    /// Measures until `stop` how late the runtime's timers are.
    pub async fn watch(self, stop: CancellationToken) {
        let measured = async {
            loop {
                let due = Instant::now() + EVERY;
                tokio::time::sleep_until(due.into()).await;
                self.metrics.runtime_lag.observe(due.elapsed().as_secs_f64());
            }
        };
        tokio::select! {
            () = measured => {}
            () = stop.cancelled() => {}
        }
    }
}

/// The file system of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Disk {
    size_bytes: u64,
    /// To others than root.
    free_bytes: u64,
}

impl Disk {
    fn of(folder: &Path) -> Option<Self> {
        let told = rustix::fs::statvfs(folder).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
        Some(Self { size_bytes: bytes(told.f_blocks), free_bytes: bytes(told.f_bavail) })
    }
}

/// The smaller of the machine's memory and what the process's control group allows (version 2, then 1). A container sees its
/// own group at the root; of a group further down in a system's tree only the container's or machine's bound is known.
fn memory_limit() -> Option<u64> {
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let group = group.into_iter().find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_total(&text));
    match (group, machine) {
        (Some(group), Some(machine)) => Some(u64::min(group, machine)),
        (group, machine) => group.or(machine),
    }
}

/// `MemTotal` of `/proc/meminfo`, which counts in KiB.
fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        let text = "MemTotal:       16326428 kB\nMemFree:         8000000 kB\n";
        assert_eq!(memory_total(text), Some(16_326_428 * 1024));
        assert_eq!(memory_total("MemTotal: many\n"), None);
    }

    #[test]
    fn a_folder_has_a_disk_and_a_process_has_memory() {
        let metrics = Arc::new(Metrics::new());
        let folder = tempfile::tempdir().unwrap();
        Vitals::new(folder.path().to_owned(), Arc::clone(&metrics)).figures();
        let (size, free) = (metrics.disk_size.get(), metrics.disk_free.get());
        assert!(size > 0 && (0..=size).contains(&free), "{free} of {size}");
        assert!(metrics.memory_limit.get() > 16 * 1024 * 1024 && metrics.cpu_limit.get() > 0);
        assert_eq!(Disk::of(&folder.path().join("nowhere")), None);
    }

    #[tokio::test]
    async fn the_tasks_of_the_runtime_are_counted() {
        let metrics = Arc::new(Metrics::new());
        let vitals = Vitals::new(PathBuf::from("."), Arc::clone(&metrics));
        let waiting = tokio::spawn(std::future::pending::<()>());
        vitals.figures();
        assert_eq!(metrics.runtime_tasks.get(), 1);
        waiting.abort();
        assert!(waiting.await.is_err());
        vitals.figures();
        assert_eq!(metrics.runtime_tasks.get(), 0);
    }

    #[tokio::test]
    async fn a_runtime_that_is_held_up_is_late() {
        let metrics = Arc::new(Metrics::new());
        let stop = CancellationToken::new();
        let vitals = Vitals { data_dir: PathBuf::new(), metrics: Arc::clone(&metrics) };
        let watching = tokio::spawn(vitals.watch(stop.clone()));
        tokio::task::yield_now().await;
        // The only thread there is.
        std::thread::sleep(EVERY + Duration::from_millis(300));
        while metrics.runtime_lag.get_sample_count() == 0 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        watching.await.unwrap();
        assert!(metrics.runtime_lag.get_sample_sum() > 0.2);
    }
}
