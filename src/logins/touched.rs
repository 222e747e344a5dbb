//! Logins that were used and are not yet stored as such: gathered, so that many are one write.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::LoginDigest;

/// How long uses are gathered.
const GATHERED: Duration = Duration::from_secs(1);

/// Logins that wait at most. Of a further one it is noted a minute later that it was used.
const MOST: usize = 10_000;

/// Those that wait, each with when it was used last, in milliseconds since the Unix epoch.
#[derive(Default)]
pub(super) struct Touched {
    waiting: Mutex<HashMap<LoginDigest, u64>>,
    has_some: Notify,
}

impl Touched {
    /// Notes a use.
    pub(super) fn add(&self, digest: LoginDigest, at_ms: u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MOST {
            waiting.insert(digest, at_ms);
            self.has_some.notify_one();
        }
    }

    /// Resolves once there are some, and others have had time to come.
    pub(super) async fn gathered(&self) {
        self.has_some.notified().await;
        sleep(GATHERED).await;
    }

    /// All of them, in the order of their digests.
    pub(super) fn take(&self) -> Vec<(LoginDigest, u64)> {
        let mut touched: Vec<_> = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
        touched.sort_unstable();
        touched
    }
}
