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
    /// Who a tenant's users are. Never in Redis: who acts as whom is read from the database alone.
    Users,
    /// Vectors of texts, as instances leave them for each other; in memory [`crate::embedding::EmbeddingService`] has them.
    Embeddings,
}

impl Space {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::General, Self::Queries, Self::Users, Self::Embeddings];

    /// Its name in metrics and figures.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Queries => "queries",
            Self::Users => "users",
            Self::Embeddings => "embeddings",
        }
    }

    /// Whether instances leave values of it for each other.
    pub(super) fn is_shared(self) -> bool {
        self != Self::Users
    }

    /// Values of up to 4 KiB that are held.
    pub(super) fn size(self, config: &MemoConfig) -> u64 {
        match self {
            Self::General => config.general_size.get().into(),
            Self::Queries => config.queries_size.get().into(),
            Self::Users => USERS,
            Self::Embeddings => 0,
        }
    }

    /// How long a value is kept where nobody says.
    pub(super) fn ttl(self, config: &MemoConfig) -> Duration {
        match self {
            Self::General | Self::Embeddings => config.general_ttl,
            Self::Queries => config.queries_ttl,
            Self::Users => USERS_TTL,
        }
    }
}
