//! CPU time and memory of another process, as Linux tells it under `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// CPU time that the process's living threads have used so far; `None` if it cannot be read.
///
/// The scheduler's own nanoseconds are used where the kernel keeps them, else the clock ticks of
/// `stat`, which are 10 ms long.
pub fn time_of(pid: u32) -> Option<Duration> {
    scheduler_time(pid).or_else(|| tick_time(pid))
}

/// CPU time of the process's living threads by what they are for: their names without a number at the end. Empty if it
/// cannot be read.
pub fn time_by_thread(pid: u32) -> BTreeMap<String, Duration> {
    let mut times: BTreeMap<String, Duration> = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).ok();
        let (Some(name), Some(schedstat)) = (read("comm"), read("schedstat")) else { continue };
        let nanoseconds = schedstat.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0);
        let purpose = name.trim().trim_end_matches(|last: char| last.is_ascii_digit() || last == '-');
        *times.entry(purpose.to_owned()).or_default() += Duration::from_nanos(nanoseconds);
    }
    times
}

/// Resident memory in bytes; `None` if it cannot be read.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn scheduler_time(pid: u32) -> Option<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let schedstat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += schedstat.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    // A kernel without these statistics shows zeroes.
    (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
}

fn tick_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in brackets and may itself hold blanks and brackets.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        assert!(time_of(std::process::id()).is_some());
        assert!(tick_time(std::process::id()).is_some());
        assert!(!time_by_thread(std::process::id()).is_empty());
        assert!(resident_bytes(std::process::id()).is_some_and(|bytes| bytes > 0));
    }
}
