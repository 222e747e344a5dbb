//! What other instances write to Postgres, followed by what this one remembers of it: the cache's tiers, the keys, the logins,
//! and what is kept that is no answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::SemanticCache;
use crate::changes::{Ear, Kind, Page, Read, Reader, nudge};
use crate::db::{Db, DbError};
use crate::keys::Keys;
use crate::logins::Logins;
use crate::memo::{Memo, Space};
use crate::metrics::Metrics;
use crate::redis::Redis;

/// Between two looks at the log: where nobody tells of changes, and where they are heard of.
const POLL: Duration = Duration::from_millis(250);
const HEARD_POLL: Duration = Duration::from_secs(1);

/// At least so long from one look to the next, however much is told.
const PAUSE: Duration = Duration::from_millis(15);

/// Between two deletions of what has been kept long enough.
const TRIM: Duration = Duration::from_mins(1);

/// A reader from now on; `None` where nobody else writes.
pub(super) async fn reader(db: &Db) -> Result<Option<Reader>, DbError> {
    match db {
        Db::Sqlite(_) => Ok(None),
        Db::Postgres(db) => Reader::begin(db.clone()).await.map(Some),
    }
}

/// Begins to follow, where there is anything to follow: over Redis, where there is one, as it is told, and tells others.
pub(super) fn start(
    changes: Option<Reader>,
    redis: Option<&Redis>,
    (cache, keys, logins, memo, metrics): (&SemanticCache, &Keys, &Logins, &Memo, &Arc<Metrics>),
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let Some(changes) = changes else { return };
    let ear = Ear::default();
    if let Some(redis) = redis {
        tasks.spawn(nudge(redis.clone(), changes.db().clone(), stop.clone()));
        tasks.spawn(ear.clone().listen(redis.clone(), stop.clone()));
    }
    let (cache, keys, logins) = (cache.clone(), keys.clone(), logins.clone());
    let (memo, metrics) = (memo.clone(), Arc::clone(metrics));
    tasks.spawn(Follower { changes, cache, keys, logins, memo, metrics, ear }.run(stop.clone()));
}

/// What reads, and who is told.
struct Follower {
    changes: Reader,
    cache: SemanticCache,
    keys: Keys,
    logins: Logins,
    memo: Memo,
    metrics: Arc<Metrics>,
    ear: Ear,
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
    async fn run(mut self, stop: CancellationToken) {
        let (mut trimmed, mut pending) = (Instant::now(), Pending::Nothing);
        let mut is_failing = false;
        loop {
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
            let Some(()) = stop.run_until_cancelled(self.next_look()).await else { return };
        }
    }

    async fn next_look(&self) {
        sleep(PAUSE).await;
        let poll = if self.ear.is_open() { HEARD_POLL } else { POLL };
        tokio::select! {
            () = sleep(poll) => {}
            () = self.ear.heard() => self.metrics.changes_told.inc(),
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
        self.forget(changes);
        for read in changes.iter().filter(|read| read.change.kind == Kind::Fallen) {
            if self.memo.follow(read).contains(&Space::Embeddings) {
                self.cache.embeddings().clear();
            }
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

    /// Our own too: where a commit was not confirmed, they are heard of here alone.
    fn forget(&self, changes: &[Read]) {
        for read in changes.iter().filter(|read| read.change.kind == Kind::Key) {
            self.logins.forget();
            if !read.change.is_of_login() {
                self.keys.forget();
            }
        }
    }

    async fn start_over(&self) -> Result<(), DbError> {
        self.metrics.changes_missed.inc();
        tracing::warn!("changes of other instances were missed: memory and index are emptied and loaded again");
        self.keys.forget();
        self.logins.forget();
        self.memo.start_over().await?;
        self.cache.start_over().await
    }

    async fn trim(&self) {
        if let Err(error) = self.changes.trim().await {
            tracing::warn!(%error, "old changes could not be deleted; it is tried again");
        }
    }
}
