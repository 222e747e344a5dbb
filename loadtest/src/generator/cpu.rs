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

/// CPU time that the process and those that it started, and they, have used so far, as far as they live; `None` if it cannot
/// be read.
pub fn time_of_family(pid: u32) -> Option<Duration> {
    let mut members = vec![pid];
    let mut time = Duration::ZERO;
    let parents = parents();
    let mut at = 0;
    while let Some(&member) = members.get(at) {
        time += if at == 0 { time_of(member)? } else { time_of(member).unwrap_or_default() };
        members.extend(parents.iter().filter(|(_, parent)| **parent == member).map(|(child, _)| *child));
        at += 1;
    }
    Some(time)
}

/// What the machine's processors have done since it began: how much of that they were busy, and how much was taken by other
/// machines on the same processors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ticks {
    all: u64,
    idle: u64,
    stolen: u64,
}

impl Ticks {
    /// Those so far; none if they cannot be read.
    pub fn now() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn parse(stat: &str) -> Self {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
        // User, nice, system, idle, waiting for input or output, interrupts (two kinds), stolen; what follows is counted in these.
        let ticks: Vec<u64> = line.split_whitespace().take(8).filter_map(|ticks| ticks.parse().ok()).collect();
        let at = |place: usize| ticks.get(place).copied().unwrap_or(0);
        Self { all: ticks.iter().sum(), idle: at(3) + at(4), stolen: at(7) }
    }

    /// The shares of the time since `before` that were busy and that were stolen, which counts as busy.
    pub fn shares_since(self, before: Self) -> (f64, f64) {
        let all = self.all.saturating_sub(before.all).max(1) as f64;
        let share = |now: u64, before: u64| now.saturating_sub(before) as f64 / all;
        (1.0 - share(self.idle, before.idle), share(self.stolen, before.stolen))
    }
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

/// Who started each living process.
fn parents() -> BTreeMap<u32, u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, fields_of(pid)?.split_whitespace().nth(1)?.parse().ok()?))).collect()
}

/// The fields of `stat` after the second, which is the command in brackets and may itself hold blanks and brackets.
fn fields_of(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.to_owned())
}

fn tick_time(pid: u32) -> Option<Duration> {
    let fields = fields_of(pid)?;
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
        assert!(time_of_family(std::process::id()).is_some());
        assert!(resident_bytes(std::process::id()).is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn a_family_has_its_children() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(parents().get(&child.id()), Some(&std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn what_was_stolen_counts_as_busy() {
        let before = Ticks::parse("cpu  10 0 10 80 0 0 0 0 0 0\ncpu0 1 1 1 1");
        let after = Ticks::parse("cpu  30 0 20 130 5 0 0 15 7 7\n");
        let (busy, stolen) = after.shares_since(before);
        assert!((busy - 0.45).abs() < 1e-9 && (stolen - 0.15).abs() < 1e-9, "{busy} {stolen}");
        assert_eq!(Ticks::parse(""), Ticks::default());
    }
}
