//! What a run leaves: a report named after what it is of and after its day, and where it was made.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

/// Writes the report into `folder`. `timestamp` is RFC 3339.
pub(crate) fn keep(folder: &Path, of: &str, timestamp: &str, report: &impl Serialize) -> anyhow::Result<PathBuf> {
    let path = folder.join(format!("{of}-{}.json", &timestamp[..10]));
    let text = serde_json::to_string_pretty(report)? + "\n";
    std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
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
