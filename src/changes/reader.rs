//! One instance's way through the log.

use std::collections::HashSet;

use super::Read;
use super::postgres::{self, Position};
use crate::db::{DbError, PostgresDb};

/// Most changes of one page.
const PAGE: usize = 200;

/// Groups of rows deleted in one go.
const TRIMMED: usize = 10;

/// What a look at the log says.
#[derive(Debug, PartialEq)]
pub enum Page {
    /// These are new; `is_last` where no further ones wait.
    Changes {
        /// In the order of their transactions, but for those that came late.
        changes: Vec<Read>,
        /// Whether the log has no more.
        is_last: bool,
    },
    /// Changes were deleted before they were read: all that was ever read from the database is in doubt.
    FellBehind,
}

/// A reader of the log.
#[derive(Debug)]
pub struct Reader {
    db: PostgresDb,
    position: Position,
    /// Those handed out beyond the position, or known from the beginning: as many as were committed since the oldest
    /// transaction began that is still open.
    ahead: HashSet<i64>,
}

impl Reader {
    /// A reader of all that is committed from now on. Call it before what the changes are to be applied to is read.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin(db: PostgresDb) -> Result<Self, DbError> {
        let (position, known) = postgres::now(&db).await?;
        Ok(Self { db, position, ahead: known.into_iter().collect() })
    }

    /// The database whose log it is.
    pub fn db(&self) -> &PostgresDb {
        &self.db
    }

    /// What has come since it was last asked. After [`Page::FellBehind`] it reads on from now.
    ///
    /// # Errors
    /// When the database fails: the same page comes next then.
    pub async fn next(&mut self) -> Result<Page, DbError> {
        let ahead: Vec<_> = self.ahead.iter().copied().collect();
        let Some(entries) = postgres::after(&self.db, &self.position, &ahead, PAGE).await? else {
            *self = Self::begin(self.db.clone()).await?;
            return Ok(Page::FellBehind);
        };
        let is_last = entries.len() < PAGE;
        let mut changes = Vec::with_capacity(entries.len());
        for entry in entries {
            let id = entry.position.id;
            let is_new = if entry.is_settled {
                self.position = entry.position;
                !self.ahead.remove(&id)
            } else {
                self.ahead.insert(id)
            };
            changes.extend(is_new.then_some(entry.read));
        }
        Ok(Page::Changes { changes, is_last })
    }

    /// Deletes some of what has been kept long enough; returns how much.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn trim(&self) -> Result<u64, DbError> {
        let mut deleted = 0;
        for _ in 0..TRIMMED {
            let now = postgres::trim(&self.db).await?;
            deleted += now;
            if now < postgres::DELETED {
                break;
            }
        }
        Ok(deleted)
    }
}
