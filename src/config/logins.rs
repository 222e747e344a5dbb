//! Section `logins`: how long browsers stay logged in.

use std::time::Duration;

use super::reader::Reader;

/// Section `logins`.
#[derive(Debug, Clone, Copy)]
pub struct LoginsConfig {
    /// How long without use.
    pub idle: Duration,
    /// How long at all.
    pub lifetime: Duration,
}

impl LoginsConfig {
    /// `None` only when a fault was recorded.
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let idle = reader.seconds("logins.idle");
        let lifetime = reader.seconds("logins.lifetime");
        Some(Self { idle: idle?, lifetime: lifetime? })
    }
}
