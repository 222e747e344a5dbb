//! Section `database`: a Postgres in place of files.

use std::num::NonZeroU32;
use std::time::Duration;

use secrecy::SecretString;

use super::reader::Reader;

/// Section `database`.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// Where statements go, be it through a pooler.
    pub url: SecretString,
    /// Where the schema is brought up to date.
    pub direct_url: SecretString,
    /// Connections at once.
    pub max_connections: NonZeroU32,
    /// Of them, those that stay open.
    pub min_connections: u32,
    /// After which time without use one is closed.
    pub idle_timeout: Duration,
    /// The age at which one is closed.
    pub max_lifetime: Duration,
    /// How long to wait for one.
    pub acquire_timeout: Duration,
    /// How long one statement may take.
    pub statement_timeout: Duration,
}

impl DatabaseConfig {
    /// `None` where no address is set, or a fault was recorded.
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let url = reader.postgres("database.url");
        let direct_url = reader.postgres("database.direct_url");
        let max_connections = reader.connections();
        let min_connections = reader.value("database.min_connections");
        let idle_timeout = reader.seconds("database.idle_timeout");
        let max_lifetime = reader.seconds("database.max_lifetime");
        let acquire_timeout = reader.seconds("database.acquire_timeout");
        let statement_timeout = reader.seconds("database.statement_timeout");
        let url = url?;
        Some(Self {
            direct_url: direct_url.unwrap_or_else(|| url.clone()),
            url,
            max_connections: max_connections?,
            min_connections: min_connections?,
            idle_timeout: idle_timeout?,
            max_lifetime: max_lifetime?,
            acquire_timeout: acquire_timeout?,
            statement_timeout: statement_timeout?,
        })
    }
}
