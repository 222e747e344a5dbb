//! The index's load from the store at start, in the background and in pages, and its sweep of what has expired there. The store's is
//! a job (`ish.expire`): one for all processes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::key::entry_id;
use super::stored::IndexRow;
use super::{Inner, postgres, sqlite};
use crate::db::{Db, DbError, query};

/// Rows in one page: a few milliseconds of work between two chances for others.
const PAGE: usize = 2_000;

/// Between a load that failed and the next.
const AGAIN: Duration = Duration::from_secs(5);

/// Between two sweeps.
const SWEEP: Duration = Duration::from_mins(1);

pub(super) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    stop.run_until_cancelled(load_at_last(&inner)).await;
    while stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
        inner.index.expire(inner.clock.now_ms());
    }
}

/// Loads, again and again while the store fails. Who waits for the load waits for the first try only.
async fn load_at_last(inner: &Inner) {
    loop {
        let (started, start) = (Instant::now(), inner.part.start());
        let loaded = load(inner).await;
        match &loaded {
            Ok(_) => start.ready(),
            Err(error) => start.failed(error),
        }
        inner.index_is_whole.store(loaded.is_ok(), Ordering::Release);
        inner.loaded.store(true, Ordering::Release);
        match loaded {
            Ok(0) => return,
            Ok(rows) => {
                let ms = started.elapsed().as_millis() as u64;
                return tracing::info!(rows, ms, "the index holds what the store has");
            }
            Err(error) => tracing::error!(%error, "the index could not be loaded: it is tried again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

pub(super) async fn load(inner: &Inner) -> Result<usize, DbError> {
    let generations = match &inner.db {
        Db::Sqlite(_) => Vec::new(),
        Db::Postgres(db) => postgres::generations(db).await?,
    };
    inner.generations.load(generations);
    let pairs = query!(&inner.db, blocked_pairs())?;
    inner.blocked.write().unwrap_or_else(PoisonError::into_inner).extend(pairs);
    // A server has other writers: what it does not hold now it may hold the next moment.
    let is_ours = matches!(inner.db, Db::Sqlite(_));
    let (mut after, mut rows) = (None, 0);
    loop {
        let (embedder, now_ms) = (inner.embeddings.id().as_str(), inner.clock.now_ms());
        let page = query!(&inner.db, index_rows(embedder, after, PAGE, now_ms))?;
        let Some(last) = page.last() else {
            if is_ours {
                inner.known.complete();
            }
            return Ok(rows);
        };
        after = Some(last.key);
        rows += page.len();
        for row in &page {
            if is_ours {
                inner.known.learn(row.key, row.place.map(|place| place.normalized));
            }
            inner.place(row);
        }
        tokio::task::yield_now().await;
    }
}

impl Inner {
    /// Puts an entry of the store into the index, where it has a vector.
    pub(super) fn place(&self, row: &IndexRow) {
        if let (Some(place), Some(embedding)) = (row.place, &row.embedding) {
            self.index.insert(place.partition_id(), entry_id(row.key), embedding.values(), row.expires_at_ms);
        }
    }
}
