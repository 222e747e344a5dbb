//! The schema's steps, embedded, so that no file is needed at run time. An applied step is never edited: its checksum
//! is stored.

use std::borrow::Cow;

use sqlx::AssertSqlSafe;
use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// The steps of one database file.
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
    ]);

    /// `cache.db`: entries and blocked pairs.
    pub const CACHE: Self = Self(&[
        (1001, "cache", include_str!("../../migrations/sqlite/1001_cache.sql")),
        (1002, "made by", include_str!("../../migrations/sqlite/1002_made_by.sql")),
    ]);

    /// Only the oldest steps, as a database of that time had them.
    #[cfg(test)]
    pub(crate) fn oldest(self, steps: usize) -> Self {
        Self(&self.0[..steps])
    }

    pub(super) fn migrator(self) -> Migrator {
        let steps = self.0.iter().map(|&(version, name, sql)| {
            let sql = AssertSqlSafe(sql).into_sql_str();
            Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql, false)
        });
        Migrator::with_migrations(steps.collect())
    }
}
