//! The schema's steps, embedded, so that no file is needed at run time. An applied step is never edited: its checksum
//! is stored.
//!
//! SQLite's are run by sqlx. On Postgres sqlx would need a lock of the session and named statements, which PgBouncer has
//! not: there all missing steps are one transaction of ours, with a lock that ends with it.

use std::borrow::Cow;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqlSafeStr};

use super::vectors;
use crate::config::VectorIndex;

/// Taken by who brings the schema up to date: "ishmigra".
const LOCK: i64 = 0x6973_686d_6967_7261;

/// The steps that need pgvector; they are left out, and run by a later start, where that is not there.
const VECTORS: [i64; 2] = [14, 31];

/// The steps of one database.
#[derive(Debug, Clone, Copy)]
pub struct MigrationSet(&'static [(i64, &'static str, &'static str)]);

impl MigrationSet {
    /// `ish.db`: conversations, messages, keys, search.
    pub const ISH: Self = Self(&[
        (1, "ish", include_str!("../../migrations/sqlite/0001_ish.sql")),
        (2, "search", include_str!("../../migrations/sqlite/0002_search.sql")),
        (3, "branches", include_str!("../../migrations/sqlite/0003_branches.sql")),
        (4, "key expiry", include_str!("../../migrations/sqlite/0004_key_expiry.sql")),
        (5, "limits", include_str!("../../migrations/sqlite/0005_limits.sql")),
        (6, "packed", include_str!("../../migrations/sqlite/0006_packed.sql")),
        (12, "owners", include_str!("../../migrations/sqlite/0012_owners.sql")),
        (16, "users", include_str!("../../migrations/sqlite/0016_users.sql")),
        (20, "tasks", include_str!("../../migrations/sqlite/0020_tasks.sql")),
        (22, "task workers", include_str!("../../migrations/sqlite/0022_task_workers.sql")),
        (24, "workflows", include_str!("../../migrations/sqlite/0024_workflows.sql")),
        (26, "summaries", include_str!("../../migrations/sqlite/0026_summaries.sql")),
        (28, "logins", include_str!("../../migrations/sqlite/0028_logins.sql")),
    ]);

    /// `cache.db`: entries and blocked pairs.
    pub const CACHE: Self = Self(&[
        (1001, "cache", include_str!("../../migrations/sqlite/1001_cache.sql")),
        (1002, "made by", include_str!("../../migrations/sqlite/1002_made_by.sql")),
        (1003, "packed", include_str!("../../migrations/sqlite/1003_packed.sql")),
        (1004, "cache embedder", include_str!("../../migrations/sqlite/1004_cache_embedder.sql")),
    ]);

    /// A Postgres, which holds all of it.
    pub const POSTGRES: Self = Self(&[
        (1, "roles", include_str!("../../migrations/postgres/0001_roles.sql")),
        (2, "keys", include_str!("../../migrations/postgres/0002_keys.sql")),
        (3, "spending", include_str!("../../migrations/postgres/0003_spending.sql")),
        (4, "conversations", include_str!("../../migrations/postgres/0004_conversations.sql")),
        (5, "cache", include_str!("../../migrations/postgres/0005_cache.sql")),
        (10, "changes", include_str!("../../migrations/postgres/0010_changes.sql")),
        (12, "instances", include_str!("../../migrations/postgres/0012_instances.sql")),
        (14, "vectors", include_str!("../../migrations/postgres/0014_vectors.sql")),
        (16, "users", include_str!("../../migrations/postgres/0016_users.sql")),
        (18, "memo", include_str!("../../migrations/postgres/0018_memo.sql")),
        (20, "tasks", include_str!("../../migrations/postgres/0020_tasks.sql")),
        (22, "task workers", include_str!("../../migrations/postgres/0022_task_workers.sql")),
        (24, "workflows", include_str!("../../migrations/postgres/0024_workflows.sql")),
        (26, "summaries", include_str!("../../migrations/postgres/0026_summaries.sql")),
        (28, "logins", include_str!("../../migrations/postgres/0028_logins.sql")),
        (30, "turns", include_str!("../../migrations/postgres/0030_turns.sql")),
        (31, "small partitions", include_str!("../../migrations/postgres/0031_small_partitions.sql")),
        (32, "cache embedder", include_str!("../../migrations/postgres/0032_cache_embedder.sql")),
    ]);

    /// Only the oldest steps, as a database of that time had them.
    #[cfg(test)]
    pub(crate) fn oldest(self, steps: usize) -> Self {
        Self(&self.0[..steps])
    }

    /// Tells one state of the schema from another.
    #[cfg(test)]
    pub(super) fn digest(self) -> String {
        let all: String = self.0.iter().map(|(_, _, sql)| *sql).collect();
        blake3::hash(all.as_bytes()).to_hex()[..16].to_owned()
    }

    #[cfg(test)]
    pub(super) fn versions(self) -> Vec<i64> {
        self.0.iter().map(|(version, ..)| *version).collect()
    }

    pub(super) fn migrator(self) -> Migrator {
        let steps = self.0.iter().map(|&(version, name, sql)| {
            let sql = AssertSqlSafe(sql).into_sql_str();
            Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql, false)
        });
        Migrator::with_migrations(steps.collect())
    }

    /// Runs what is missing on Postgres. Another instance that does so at the same time is waited for. Says whether vectors
    /// are stored there, indexed as wished.
    pub(super) async fn run(self, connection: &mut PgConnection, wished: VectorIndex) -> Result<bool, MigrateError> {
        let mut tx = connection.begin().await?;
        let first = format!(
            "SELECT pg_advisory_xact_lock({LOCK}); CREATE TABLE IF NOT EXISTS ish_migrations \
             (version bigint PRIMARY KEY, name text NOT NULL, blake3 bytea NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        );
        sqlx::raw_sql(AssertSqlSafe(first)).execute(&mut *tx).await?;
        let applied = sqlx::query("SELECT version, blake3 FROM ish_migrations ORDER BY version").persistent(false);
        let applied = applied.fetch_all(&mut *tx).await?;
        for row in &applied {
            let version = row.try_get(0)?;
            let step = self.0.iter().find(|(known, ..)| *known == version);
            let (_, _, sql) = step.ok_or(MigrateError::VersionMissing(version))?;
            if row.try_get::<&[u8], _>(1)? != blake3::hash(sql.as_bytes()).as_bytes() {
                return Err(MigrateError::VersionMismatch(version));
            }
        }
        let has_vectors = vectors::are_possible(&mut tx, wished).await?;
        let is_applied = |version: i64| applied.iter().any(|row| row.try_get(0).is_ok_and(|done: i64| done == version));
        for &(version, name, sql) in self.0.iter().filter(|(version, ..)| !is_applied(*version)) {
            if VECTORS.contains(&version) && !has_vectors {
                continue;
            }
            let done = sqlx::raw_sql(sql).execute(&mut *tx).await;
            done.map_err(|error| MigrateError::ExecuteMigration(error, version))?;
            let applied = sqlx::query("INSERT INTO ish_migrations (version, name, blake3) VALUES ($1, $2, $3)");
            let applied = applied.bind(version).bind(name).bind(blake3::hash(sql.as_bytes()).as_bytes().to_vec());
            applied.persistent(false).execute(&mut *tx).await?;
        }
        let has_vectors = has_vectors && vectors::index(&mut tx, wished).await?;
        tx.commit().await?;
        Ok(has_vectors)
    }
}
