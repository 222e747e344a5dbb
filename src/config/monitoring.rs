//! Section `monitoring`: how the process is watched from inside.

use std::time::Duration;

use super::reader::Reader;

/// Section `monitoring`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonitoringConfig {
    /// Whether it is watched at all.
    pub enabled: bool,
    /// Between two looks of the process at itself.
    pub interval: Duration,
}

impl MonitoringConfig {
    /// `None` only when a fault was recorded.
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let enabled = reader.flag("monitoring.enabled");
        let interval = reader.seconds("monitoring.interval");
        Some(Self { enabled: enabled?, interval: interval? })
    }
}
