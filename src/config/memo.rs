//! Section `memo`: the caches of what is no answer.

use std::num::NonZeroU32;
use std::time::Duration;

use super::reader::Reader;

/// Section `memo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoConfig {
    /// Values that the general cache holds, each of 4 KiB; a larger one counts as several.
    pub general_size: NonZeroU32,
    /// How long they are kept where nobody says.
    pub general_ttl: Duration,
    /// The same of query results.
    pub queries_size: NonZeroU32,
    /// How long those are kept.
    pub queries_ttl: Duration,
}

impl MemoConfig {
    /// `None` only when a fault was recorded.
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let general_size = reader.value("memo.general_size");
        let general_ttl = reader.seconds("memo.general_ttl");
        let queries_size = reader.value("memo.queries_size");
        let queries_ttl = reader.seconds("memo.queries_ttl");
        Some(Self {
            general_size: general_size?,
            general_ttl: general_ttl?,
            queries_size: queries_size?,
            queries_ttl: queries_ttl?,
        })
    }
}

impl Default for MemoConfig {
    fn default() -> Self {
        let (general_size, queries_size) = const { (NonZeroU32::new(2_000).unwrap(), NonZeroU32::new(500).unwrap()) };
        let (general_ttl, queries_ttl) = (Duration::from_hours(1), Duration::from_mins(30));
        Self { general_size, general_ttl, queries_size, queries_ttl }
    }
}
