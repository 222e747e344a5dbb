//! The caches: what each is for, how much of it is held, and for how long where nobody says.

use std::time::Duration;

use crate::config::MemoConfig;

/// Users that are held, and for how long.
const USERS: u64 = 100_000;
const USERS_TTL: Duration = Duration::from_hours(1);

/// A cache with a size, a TTL and a hit rate of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Whatever service code keeps.
    General,
    /// Results of queries.
    Queries,
    /// Who a tenant's users are.
    Users,
}

impl Space {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::General, Self::Queries, Self::Users];

    /// Its name in metrics and figures.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Queries => "queries",
            Self::Users => "users",
        }
    }

    /// Values of up to 4 KiB that are held.
    pub(super) fn size(self, config: &MemoConfig) -> u64 {
        match self {
            Self::General => config.general_size.get().into(),
            Self::Queries => config.queries_size.get().into(),
            Self::Users => USERS,
        }
    }

    /// How long a value is kept where nobody says.
    pub(super) fn ttl(self, config: &MemoConfig) -> Duration {
        match self {
            Self::General => config.general_ttl,
            Self::Queries => config.queries_ttl,
            Self::Users => USERS_TTL,
        }
    }
}
