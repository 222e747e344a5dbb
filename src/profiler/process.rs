//! What the process uses of its machine, looked at ten times a second and kept for a quarter of an hour: processor, memory, disk
//! and network. Linux; elsewhere there are no samples.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use serde::Serialize;

/// Between two samples.
pub(super) const EVERY: Duration = Duration::from_millis(100);

/// So many are kept: 1,000 seconds.
pub(super) const KEPT: usize = 10_000;

/// What the system has counted since the process began; of the network, since its name space did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    cpu: Duration,
    pub resident_bytes: u64,
    read_bytes: u64,
    written_bytes: u64,
    received_bytes: u64,
    sent_bytes: u64,
}

/// The system's files, kept open.
pub(super) struct Source {
    memory: File,
    page_bytes: u64,
    /// Not every process may read it.
    disk: Option<File>,
    network: Option<File>,
}

impl Source {
    /// `None` where the system has no such files.
    pub(super) fn open() -> Option<Self> {
        Some(Self {
            memory: File::open("/proc/self/statm").ok()?,
            page_bytes: rustix::param::page_size() as u64,
            disk: File::open("/proc/self/io").ok(),
            network: File::open("/proc/self/net/dev").ok(),
        })
    }

    /// The counters now.
    pub(super) fn read(&self) -> Option<Reading> {
        let mut buffer = [0; 8 * 1024];
        let memory = text(&self.memory, &mut buffer)?;
        let resident_bytes = memory.split(' ').nth(1)?.parse::<u64>().ok()? * self.page_bytes;
        let disk = self.disk.as_ref().and_then(|file| text(file, &mut buffer)).map(disk).unwrap_or_default();
        let network = self.network.as_ref().and_then(|file| text(file, &mut buffer)).map(network).unwrap_or_default();
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu = Duration::new(u64::try_from(cpu.tv_sec).ok()?, u32::try_from(cpu.tv_nsec).ok()?);
        let ((read_bytes, written_bytes), (received_bytes, sent_bytes)) = (disk, network);
        Some(Reading { cpu, resident_bytes, read_bytes, written_bytes, received_bytes, sent_bytes })
    }
}

fn text<'b>(file: &File, buffer: &'b mut [u8]) -> Option<&'b str> {
    let length = file.read_at(buffer, 0).ok()?;
    std::str::from_utf8(&buffer[..length]).ok()
}

/// Bytes that really were read from the disk, and will be written to it.
fn disk(io: &str) -> (u64, u64) {
    let of = |name: &str| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0);
    (of("read_bytes:"), of("write_bytes:"))
}

/// Bytes received and sent, over all interfaces but the machine's own loop.
fn network(dev: &str) -> (u64, u64) {
    let interfaces = dev.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    interfaces.fold((0, 0), |(received, sent), (_, columns)| {
        let columns: Vec<u64> = columns.split_whitespace().map(|column| column.parse().unwrap_or(0)).collect();
        let at = |column: usize| columns.get(column).copied().unwrap_or(0);
        (received + at(0), sent + at(8))
    })
}

/// One sample: what was used since the last one.
#[derive(Debug, Clone, Copy)]
struct Sample {
    took: Duration,
    cpu: Duration,
    resident_bytes: u64,
    read_bytes: u32,
    written_bytes: u32,
    received_bytes: u32,
    sent_bytes: u32,
}

/// The last of them.
#[derive(Debug, Default)]
pub(super) struct Samples {
    last: Option<Reading>,
    kept: VecDeque<Sample>,
}

impl Samples {
    /// Takes a reading, `took` after the last one.
    pub(super) fn take(&mut self, now: Reading, took: Duration) {
        let Some(last) = self.last.replace(now) else { return };
        let more = |now: u64, last: u64| u32::try_from(now.saturating_sub(last)).unwrap_or(u32::MAX);
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Sample {
            took,
            cpu: now.cpu.saturating_sub(last.cpu),
            resident_bytes: now.resident_bytes,
            read_bytes: more(now.read_bytes, last.read_bytes),
            written_bytes: more(now.written_bytes, last.written_bytes),
            received_bytes: more(now.received_bytes, last.received_bytes),
            sent_bytes: more(now.sent_bytes, last.sent_bytes),
        });
    }

    /// What the samples take themselves.
    pub(super) fn bytes(&self) -> usize {
        self.kept.capacity() * size_of::<Sample>()
    }

    /// Over the last `span`; `None` before the second look.
    pub(super) fn over(&self, span: Duration) -> Option<Usage> {
        let mut seen = Duration::ZERO;
        let of_span = |sample: &&Sample| {
            seen += sample.took;
            seen <= span
        };
        let samples: Vec<Sample> = self.kept.iter().rev().take_while(of_span).copied().collect();
        let seconds = samples.iter().map(|sample| sample.took.as_secs_f64()).sum::<f64>();
        let newest = samples.first().filter(|_| seconds > 0.0)?;
        let rate =
            |bytes: fn(&Sample) -> u32| samples.iter().map(|sample| f64::from(bytes(sample))).sum::<f64>() / seconds;
        let mut cores: Vec<f64> =
            samples.iter().map(|sample| sample.cpu.as_secs_f64() / sample.took.as_secs_f64().max(1e-9)).collect();
        cores.sort_by(f64::total_cmp);
        Some(Usage {
            samples: samples.len(),
            seconds,
            cpu_cores: samples.iter().map(|sample| sample.cpu.as_secs_f64()).sum::<f64>() / seconds,
            cpu_cores_p95: cores[(cores.len() * 95 / 100).min(cores.len() - 1)],
            memory_bytes: newest.resident_bytes,
            memory_bytes_highest: samples.iter().map(|sample| sample.resident_bytes).max().unwrap_or(0),
            disk_read_bytes_per_second: rate(|sample| sample.read_bytes),
            disk_written_bytes_per_second: rate(|sample| sample.written_bytes),
            network_received_bytes_per_second: rate(|sample| sample.received_bytes),
            network_sent_bytes_per_second: rate(|sample| sample.sent_bytes),
        })
    }
}

/// What the process used in some time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Usage {
    /// How often it was looked at.
    pub samples: usize,
    /// The time between the first and the last look.
    pub seconds: f64,
    /// Processors that it kept busy, on average.
    pub cpu_cores: f64,
    /// The same in the busiest twentieth of the samples at least.
    pub cpu_cores_p95: f64,
    /// Memory that it holds now.
    pub memory_bytes: u64,
    /// The most that it held.
    pub memory_bytes_highest: u64,
    /// Read from the disk, not from the system's memory.
    pub disk_read_bytes_per_second: f64,
    /// To be written to the disk.
    pub disk_written_bytes_per_second: f64,
    /// Received by the process's network name space (a container's own, else the machine's), the machine's own loop left out.
    pub network_received_bytes_per_second: f64,
    /// Sent by it.
    pub network_sent_bytes_per_second: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(cpu_ms: u64, resident_bytes: u64, read_bytes: u64) -> Reading {
        let cpu = Duration::from_millis(cpu_ms);
        Reading { cpu, resident_bytes, read_bytes, written_bytes: 0, received_bytes: 0, sent_bytes: 0 }
    }

    #[test]
    fn the_systems_files_are_read() {
        assert_eq!(disk("rchar: 5\nread_bytes: 4096\nwrite_bytes: 12\ncancelled_write_bytes: 9\n"), (4_096, 12));
        let dev = "Inter-|   Receive |  Transmit\n face |bytes packets\n    lo: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 30 1 0 0 0 0 0 0\n";
        assert_eq!(network(dev), (100, 30));
        let source = Source::open().unwrap();
        let first = source.read().unwrap();
        let busy: u64 = (0..3_000_000_u64).map(std::hint::black_box).sum();
        assert!(busy > 0);
        let then = source.read().unwrap();
        assert!(then.cpu > first.cpu && then.resident_bytes > 1024 * 1024, "{first:?}, then {then:?}");
    }

    #[test]
    fn usage_is_what_was_used_in_the_time() {
        let mut samples = Samples::default();
        assert_eq!(samples.over(Duration::from_mins(1)), None);
        for at in 0..=20 {
            // Busy in the second half only.
            samples.take(reading(if at > 10 { (at - 10) * 50 } else { 0 }, 1_000 + at, at * 10), EVERY);
        }
        let whole = samples.over(Duration::from_mins(1)).unwrap();
        assert_eq!((whole.samples, whole.memory_bytes, whole.memory_bytes_highest), (20, 1_020, 1_020));
        assert!((whole.cpu_cores - 0.25).abs() < 1e-9 && (whole.cpu_cores_p95 - 0.5).abs() < 1e-9, "{whole:?}");
        assert!((whole.disk_read_bytes_per_second - 100.0).abs() < 1e-6, "{whole:?}");
        let last = samples.over(Duration::from_secs(1)).unwrap();
        assert_eq!(last.samples, 10);
        assert!((last.cpu_cores - 0.5).abs() < 1e-9, "{last:?}");
    }

    #[test]
    fn a_bound_is_on_what_is_kept() {
        let mut samples = Samples::default();
        (0..KEPT as u64 * 2).for_each(|at| samples.take(reading(at, at, 0), EVERY));
        assert_eq!(samples.kept.len(), KEPT);
        assert!(samples.bytes() < 1024 * 1024, "{} bytes", samples.bytes());
    }
}
