//! What a run leaves: a report named after what it is of and after its day, and where it was made.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes the report into `folder`. `timestamp` is RFC 3339.
pub(crate) fn keep(folder: &Path, of: &str, timestamp: &str, report: &impl Serialize) -> anyhow::Result<PathBuf> {
    let path = path(folder, of, timestamp);
    let text = serde_json::to_string_pretty(report)? + "\n";
    std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}

/// Where a report is kept.
pub(crate) fn path(folder: &Path, of: &str, timestamp: &str) -> PathBuf {
    folder.join(format!("{of}-{}.json", &timestamp[..10]))
}

/// Reads a report; `None` where it is one of another kind.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(serde_json::from_str(&text).ok())
}

/// The processor and how busy the machine is, since a busy one makes every figure worse.
pub(crate) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let load = read("/proc/loadavg");
    format!("processor{}, load averages {}", model.trim_start(), load.trim())
}

/// A word of the tables: whether a target was met.
pub(crate) fn word(is_met: bool) -> &'static str {
    if is_met { "met" } else { "**missed**" }
}
