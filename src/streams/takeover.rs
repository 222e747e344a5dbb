//! What an instance does for answers that are not its own: it takes over those of the dead, and tells the owners of others
//! what readers wish.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use uuid::Uuid;

use super::Streams;
use crate::conversations::{ConversationError, Orphan};

/// Answers taken over at a time.
const AT_ONCE: usize = 16;

impl Streams {
    /// Takes over the answers of instances that gave no sign of life for `lease`, of any tenant, and ends them with what
    /// was saved; returns how many.
    ///
    /// # Errors
    /// When they could not be claimed.
    pub async fn take_over(&self, lease: Duration) -> Result<usize, ConversationError> {
        let mut taken = 0;
        loop {
            let orphans = self.inner.parts.conversations.claim(lease, AT_ONCE).await?;
            if orphans.is_empty() {
                return Ok(taken);
            }
            taken += orphans.len();
            join_all(orphans.iter().map(|orphan| self.end_orphan(orphan))).await;
        }
    }

    async fn end_orphan(&self, orphan: &Orphan) {
        let reply = orphan.message.id;
        let ended = self.inner.parts.conversations.finish(&orphan.tenant, reply, orphan.interrupted()).await;
        match ended {
            Ok(_) => self.inner.parts.metrics.streams_taken_over.inc(),
            // It is this instance's, and is ended with it at the latest.
            Err(error) => tracing::error!(%error, %reply, "an answer that was taken over could not be ended"),
        }
    }

    /// Ends an answer at its reader's wish, wherever it is made.
    ///
    /// # Errors
    /// When the wish could not be written down for another instance.
    pub async fn cancel_anywhere(&self, tenant: &str, stream: Uuid) -> Result<(), ConversationError> {
        if self.cancel(tenant, stream) || !self.has_others() {
            return Ok(());
        }
        let is_wanted = self.inner.parts.conversations.want_cancel(tenant, stream).await?;
        if let (true, Some(tails)) = (is_wanted, &self.inner.parts.tails) {
            tails.want_cancel(stream).await;
        }
        Ok(())
    }

    /// Ends the answers of this instance that readers on others wish to end.
    ///
    /// # Errors
    /// When that could not be read.
    pub async fn hear_wishes(&self) -> Result<(), ConversationError> {
        for stream in self.inner.parts.conversations.cancels().await? {
            let running = self.inner.running.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(live) = running.get(&stream) {
                live.cancel.cancel();
            }
        }
        Ok(())
    }

    /// How many other instances share the database.
    pub fn note_others(&self, others: u64) {
        self.inner.others.store(others, Ordering::Relaxed);
    }

    pub(super) fn has_others(&self) -> bool {
        self.inner.others.load(Ordering::Relaxed) > 0
    }
}
