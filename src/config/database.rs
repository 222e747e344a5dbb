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
    /// A server that follows it, for reads that may be behind.
    pub replica_url: Option<SecretString>,
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
    /// How long a start waits for a server that is away.
    pub start_timeout: Duration,
    /// How vectors are indexed there, where pgvector is.
    pub vector_index: VectorIndex,
    /// HNSW: candidates that a search keeps.
    pub ef_search: u16,
    /// IVFFlat: lists that a search reads.
    pub probes: u16,
}

/// How vectors are indexed in Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VectorIndex {
    /// A graph: the better answers.
    Hnsw,
    /// Lists: the less memory.
    IvfFlat,
    /// Not stored there.
    Off,
}

impl DatabaseConfig {
    /// `None` where no address is set, or a fault was recorded.
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let url = reader.postgres("database.url");
        let direct_url = reader.postgres("database.direct_url");
        let replica_url = reader.postgres("database.replica_url");
        let max_connections = reader.connections();
        let min_connections = reader.value("database.min_connections");
        let idle_timeout = reader.seconds("database.idle_timeout");
        let max_lifetime = reader.seconds("database.max_lifetime");
        let acquire_timeout = reader.seconds("database.acquire_timeout");
        let statement_timeout = reader.seconds("database.statement_timeout");
        let start_timeout = reader.seconds("database.start_timeout");
        let vector_index = reader.one_of("database.vector_index", &["hnsw", "ivfflat", "off"]);
        let ef_search = reader.number_up_to("database.ef_search", 1_000);
        let probes = reader.number_up_to("database.ivfflat_probes", 100);
        let url = url?;
        Some(Self {
            direct_url: direct_url.unwrap_or_else(|| url.clone()),
            url,
            replica_url,
            max_connections: max_connections?,
            min_connections: min_connections?,
            idle_timeout: idle_timeout?,
            max_lifetime: max_lifetime?,
            acquire_timeout: acquire_timeout?,
            statement_timeout: statement_timeout?,
            start_timeout: start_timeout?,
            vector_index: match vector_index?.as_str() {
                "hnsw" => VectorIndex::Hnsw,
                "ivfflat" => VectorIndex::IvfFlat,
                _ => VectorIndex::Off,
            },
            ef_search: ef_search?,
            probes: probes?,
        })
    }
}
