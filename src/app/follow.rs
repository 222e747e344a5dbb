//! What other instances write to Postgres, followed by what this one remembers of it: the cache's tiers and the keys.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::cache::SemanticCache;
use crate::changes::{Kind, Page, Read, Reader};
use crate::db::{Db, DbError};
use crate::keys::Keys;
use crate::metrics::Metrics;

/// Between two looks at the log.
const POLL: Duration = Duration::from_millis(250);

/// Between two deletions of what has been kept long enough.
const TRIM: Duration = Duration::from_mins(1);

/// A reader from now on; `None` where nobody else writes.
pub(super) async fn reader(db: &Db) -> Result<Option<Reader>, DbError> {
    match db {
        Db::Sqlite(_) => Ok(None),
        Db::Postgres(db) => Reader::begin(db.clone()).await.map(Some),
    }
}

/// What reads, and who is told.
pub(super) struct Follower {
    pub(super) changes: Reader,
    pub(super) cache: SemanticCache,
    pub(super) keys: Keys,
    pub(super) metrics: Arc<Metrics>,
}

/// What was read and not yet followed to the end.
enum Pending {
    Nothing,
    Changes(Vec<Read>),
    /// What was missed.
    Everything,
}

impl Follower {
    /// Follows until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (mut looks, mut trimmed, mut pending) = (interval(POLL), Instant::now(), Pending::Nothing);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let Some(followed) = stop.run_until_cancelled(self.follow(&mut pending)).await else { return };
            let was_failing = std::mem::replace(&mut is_failing, followed.is_err());
            if let Err(error) = followed {
                self.metrics.changes_failed.inc();
                if !was_failing {
                    tracing::warn!(%error, "what other instances change cannot be followed; it is tried again and again");
                }
            }
            if trimmed.elapsed() >= TRIM {
                trimmed = Instant::now();
                self.trim().await;
            }
        }
    }

    /// Follows all that there is. What fails stays `pending` and comes first the next time.
    async fn follow(&mut self, pending: &mut Pending) -> Result<(), DbError> {
        loop {
            let mut is_last = false;
            if matches!(pending, Pending::Nothing) {
                (*pending, is_last) = match self.changes.next().await? {
                    Page::Changes { changes, is_last } => (Pending::Changes(changes), is_last),
                    Page::FellBehind => (Pending::Everything, false),
                };
            }
            match pending {
                Pending::Changes(changes) => self.apply(changes).await?,
                Pending::Everything => self.start_over().await?,
                Pending::Nothing => {}
            }
            *pending = Pending::Nothing;
            if is_last {
                return Ok(());
            }
        }
    }

    async fn apply(&self, changes: &[Read]) -> Result<(), DbError> {
        if changes.iter().any(|read| read.change.kind == Kind::Key && !read.is_ours) {
            self.keys.forget();
        }
        self.cache.follow(changes).await?;
        for read in changes {
            self.metrics.changes_followed.with_label_values(&[read.change.kind.as_str()]).inc();
            if !read.is_ours {
                self.metrics.changes_lag.observe(read.age_s.max(0.0));
            }
        }
        Ok(())
    }

    async fn start_over(&self) -> Result<(), DbError> {
        self.metrics.changes_missed.inc();
        tracing::warn!("changes of other instances were missed: memory and index are emptied and loaded again");
        self.keys.forget();
        self.cache.start_over().await
    }

    async fn trim(&self) {
        if let Err(error) = self.changes.trim().await {
            tracing::warn!(%error, "old changes could not be deleted; it is tried again");
        }
    }
}
