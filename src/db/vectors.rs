//! pgvector, where it is: found or added when the schema is brought up to date, with the index that the configuration
//! wishes. A server without it is as good but for the search among vectors that the process does not hold.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::config::VectorIndex;

/// The oldest version that can be used: with half precision and with scans that go on until enough rows pass a filter.
const OLDEST: (u32, u32) = (0, 8);

/// How vectors are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VectorSearch {
    /// The index that there is.
    pub index: VectorIndex,
    /// HNSW: how many candidates a search keeps.
    pub ef_search: u16,
    /// IVFFlat: how many lists a search reads.
    pub probes: u16,
}

/// Whether vectors can be stored; adds the extension where it is missing and may be added.
pub(super) async fn are_possible(connection: &mut PgConnection, wished: VectorIndex) -> Result<bool, sqlx::Error> {
    if wished == VectorIndex::Off {
        return Ok(false);
    }
    let mut found = Extension::read(connection).await?;
    if found.version.is_none() && found.is_offered {
        let mut attempt = connection.begin().await?;
        let added = sqlx::raw_sql("CREATE EXTENSION vector").execute(&mut *attempt).await;
        match added {
            Ok(_) => attempt.commit().await?,
            Err(_) => attempt.rollback().await?,
        }
        found = Extension::read(connection).await?;
    }
    if let Some(why) = found.fault() {
        tracing::info!(why, "vectors are searched in this process only, and not in Postgres");
    }
    Ok(found.fault().is_none())
}

/// Has the index that is wished, and no other; `false` where there is nothing to index.
pub(super) async fn index(connection: &mut PgConnection, wished: VectorIndex) -> Result<bool, sqlx::Error> {
    let (name, how) = match wished {
        VectorIndex::Hnsw => {
            ("entry_vectors_hnsw", "hnsw (meaning halfvec_cosine_ops) WITH (m = 16, ef_construction = 64)")
        }
        VectorIndex::IvfFlat => ("entry_vectors_ivfflat", "ivfflat (meaning halfvec_cosine_ops) WITH (lists = 100)"),
        VectorIndex::Off => return Ok(false),
    };
    let stands = "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('entry_vectors') \
                  AND attname = 'meaning' AND NOT attisdropped), \
                  ARRAY(SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = to_regclass('entry_vectors'))";
    let row = sqlx::raw_sql(stands).fetch_one(&mut *connection).await?;
    if !row.try_get::<bool, _>(0)? {
        return Ok(false);
    }
    let there: Vec<String> = row.try_get(1)?;
    for other in ["entry_vectors_hnsw", "entry_vectors_ivfflat"] {
        if other != name && there.iter().any(|index| index == other) {
            sqlx::raw_sql(AssertSqlSafe(format!("DROP INDEX {other}"))).execute(&mut *connection).await?;
        }
    }
    if !there.iter().any(|index| index == name) {
        let create = format!("CREATE INDEX {name} ON entry_vectors USING {how} WHERE is_indexed");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut *connection).await?;
    }
    Ok(true)
}

/// What the server says of the extension.
struct Extension {
    /// Installed in this database.
    version: Option<String>,
    /// Its types are found by their names.
    is_reachable: bool,
    /// It could be installed.
    is_offered: bool,
}

impl Extension {
    async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let asked = "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'vector'), \
                     to_regtype('halfvec') IS NOT NULL, \
                     EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')";
        let row = sqlx::raw_sql(asked).fetch_one(connection).await?;
        Ok(Self { version: row.try_get(0)?, is_reachable: row.try_get(1)?, is_offered: row.try_get(2)? })
    }

    /// Why it cannot be used, with what would help.
    fn fault(&self) -> Option<&'static str> {
        match &self.version {
            None if self.is_offered => Some("let an administrator run CREATE EXTENSION vector in this database"),
            None => Some("the server has no pgvector"),
            Some(version) if !is_recent(version) => Some("pgvector is older than 0.8: ALTER EXTENSION vector UPDATE"),
            Some(_) if !self.is_reachable => Some("the schema of pgvector is not in the search_path of this login"),
            Some(_) => None,
        }
    }
}

fn is_recent(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let found = |version: Option<&str>, is_reachable, is_offered| {
            let version = version.map(str::to_owned);
            Extension { version, is_reachable, is_offered }.fault()
        };
        for usable in ["0.8.0", "0.8.6", "0.10.1", "1.0.0"] {
            assert_eq!(found(Some(usable), true, true), None, "{usable}");
        }
        assert!(found(Some("0.7.4"), true, true).unwrap().contains("older"));
        assert!(found(Some("0.8.6"), false, true).unwrap().contains("search_path"));
        assert!(found(None, false, true).unwrap().contains("CREATE EXTENSION"));
        assert!(found(None, false, false).unwrap().contains("no pgvector"));
    }
}
