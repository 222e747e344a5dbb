//! The index's load from the store at start, in the background and in pages, and the sweep of what has expired.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::key::entry_id;
use super::{Inner, sqlite};
use crate::db::DbError;

/// Rows in one page: a few milliseconds of work between two chances for others.
const PAGE: usize = 2_000;

/// Between two sweeps.
const SWEEP: Duration = Duration::from_mins(1);

pub(super) async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let started = Instant::now();
    match stop.run_until_cancelled(load(&inner)).await {
        Some(Ok(rows)) if rows > 0 => {
            tracing::info!(rows, ms = started.elapsed().as_millis() as u64, "the index holds what the store has");
        }
        Some(Err(error)) => {
            tracing::error!(%error, "the index could not be loaded: older entries match by their text only");
        }
        _ => {}
    }
    inner.loaded.store(true, Ordering::Release);
    while stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
        sweep(&inner).await;
    }
}

async fn load(inner: &Inner) -> Result<usize, DbError> {
    let pairs = sqlite::blocked_pairs(&inner.db).await?;
    inner.blocked.write().unwrap_or_else(PoisonError::into_inner).extend(pairs);
    let (mut after, mut rows) = (None, 0);
    loop {
        let page =
            sqlite::index_rows(&inner.db, inner.embeddings.id().as_str(), after, PAGE, inner.clock.now_ms()).await?;
        let Some(last) = page.last() else {
            inner.known.complete();
            return Ok(rows);
        };
        after = Some(last.key);
        rows += page.len();
        for row in &page {
            inner.known.learn(row.key, row.place.map(|place| place.normalized));
            if let (Some(place), Some(embedding)) = (row.place, &row.embedding) {
                inner.index.insert(place.partition_id(), entry_id(row.key), embedding.values(), row.expires_at_ms);
            }
        }
        tokio::task::yield_now().await;
    }
}

async fn sweep(inner: &Inner) {
    let now_ms = inner.clock.now_ms();
    inner.index.expire(now_ms);
    if let Err(error) = sqlite::expire(&inner.db, &inner.known, now_ms).await {
        inner.metrics.cache_errors.with_label_values(&["l3"]).inc();
        tracing::warn!(%error, "expired entries could not be deleted; they are not served all the same");
    }
}
