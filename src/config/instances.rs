//! Section `instances`: processes that share a Postgres.

use std::time::Duration;

use super::reader::Reader;

/// Section `instances`.
#[derive(Debug, Clone)]
pub struct InstancesConfig {
    /// Between two signs of life.
    pub heartbeat: Duration,
    /// Without one for so long, an instance is dead.
    pub lease: Duration,
}

impl InstancesConfig {
    /// `None` only when a fault was recorded.
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let heartbeat = reader.seconds("instances.heartbeat");
        let lease = reader.seconds("instances.lease");
        let (heartbeat, lease) = (heartbeat?, lease?);
        if lease <= 2 * heartbeat {
            let (text, origin) = reader.text(super::reader::setting("instances.lease"));
            reader.fault("instances.lease", &text, &origin, "takes more than two of instances.heartbeat");
            return None;
        }
        Some(Self { heartbeat, lease })
    }
}
