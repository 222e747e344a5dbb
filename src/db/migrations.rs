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
    /// `ish.db`: conversations, messages, keys.
    pub const ISH: Self = Self(&[(1, "ish", include_str!("../../migrations/sqlite/0001_ish.sql"))]);

    /// `cache.db`: entries and blocked pairs.
    pub const CACHE: Self = Self(&[(1001, "cache", include_str!("../../migrations/sqlite/1001_cache.sql"))]);

    pub(super) fn migrator(self) -> Migrator {
        let steps = self.0.iter().map(|&(version, name, sql)| {
            let sql = AssertSqlSafe(sql).into_sql_str();
            Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql, false)
        });
        Migrator::with_migrations(steps.collect())
    }
}
