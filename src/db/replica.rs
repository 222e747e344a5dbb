//! A Postgres that follows another: for reads that may be a moment behind. It may be away at any time; then it is left
//! alone for a while, and its work is the primary's.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Transaction;
use super::pooled::Pooled;

/// How long it is left alone after it has failed.
const LEFT_ALONE: Duration = Duration::from_secs(10);

/// The replica.
#[derive(Debug)]
pub(super) struct Replica {
    server: Pooled,
    failed: Mutex<Option<Instant>>,
}

impl Replica {
    pub(super) fn new(server: Pooled) -> Self {
        Self { server, failed: Mutex::new(None) }
    }

    /// Begins to read a tenant's rows, if it can.
    pub(super) async fn read(&self, tenant: &str) -> Option<Transaction> {
        if self.lock().is_some_and(|failed| failed.elapsed() < LEFT_ALONE) {
            return None;
        }
        match self.server.read(tenant).await {
            Ok(begun) => Some(begun),
            Err(error) => {
                tracing::warn!(%error, "the replica cannot be read: the primary is, for the next {LEFT_ALONE:?}");
                *self.lock() = Some(Instant::now());
                None
            }
        }
    }

    pub(super) async fn close(&self) {
        self.server.close().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
