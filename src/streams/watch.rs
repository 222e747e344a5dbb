//! Saves an answer's growing text, and notices what has become of it meanwhile: that nobody has listened for too long, that
//! somebody elsewhere wishes it to end, that it is another instance's.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Streams;
use super::log::LiveStream;
use crate::conversations::{ConversationError, Hold, Progress};

/// The text is saved at least this often while it grows, or after this many bytes.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
const CHECKPOINT_BYTES: usize = 2 * 1024;

/// One answer's.
pub(super) struct Watch<'a> {
    streams: &'a Streams,
    live: &'a Arc<LiveStream>,
    saved_bytes: usize,
    saving: Option<JoinHandle<()>>,
    next: Instant,
    listened: Instant,
}

impl<'a> Watch<'a> {
    pub(super) fn new(streams: &'a Streams, live: &'a Arc<LiveStream>) -> Self {
        let now = Instant::now();
        Self { streams, live, saved_bytes: 0, saving: None, next: now + CHECKPOINT_EVERY, listened: now }
    }

    pub(super) async fn tick(&mut self) {
        tokio::time::sleep_until(self.next).await;
        self.save();
    }

    /// Makes the next epoch durable, in which there is nothing yet. What is being saved of this one is waited for.
    pub(super) async fn begin_epoch(&mut self) -> Result<Hold, ConversationError> {
        if let Some(saving) = self.saving.take() {
            // A save that panicked has saved nothing.
            let _ = saving.await;
        }
        self.saved_bytes = 0;
        let nothing = Progress { epoch: self.live.epoch() + 1, ..Progress::default() };
        self.streams.inner.parts.conversations.checkpoint(&self.live.tenant, self.live.begun.reply, nothing).await
    }

    pub(super) fn grown(&mut self) {
        if self.live.len() - self.saved_bytes >= CHECKPOINT_BYTES.max(self.saved_bytes / 8)
            || Instant::now() >= self.next
        {
            self.save();
        }
    }

    /// Saves in the background, one at a time: each writes the whole text. A late checkpoint cannot overwrite the end, which
    /// leaves the state it asks for.
    fn save(&mut self) {
        self.next = Instant::now() + CHECKPOINT_EVERY;
        if self.live.listeners() > 0 {
            self.listened = Instant::now();
        }
        if self.live.len() == self.saved_bytes || self.saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
            return;
        }
        self.saved_bytes = self.live.len();
        let (conversations, live) = (self.streams.inner.parts.conversations.clone(), Arc::clone(self.live));
        self.saving = Some(self.streams.inner.parts.tasks.spawn(async move {
            match conversations.checkpoint(&live.tenant, live.begun.reply, live.progress()).await {
                Ok(Hold::Kept) => {}
                Ok(Hold::Cancelled) => live.cancel.cancel(),
                Ok(Hold::Lost) => live.lost.cancel(),
                Err(error) => tracing::warn!(%error, "a checkpoint could not be stored; the next one holds it too"),
            }
        }));
    }

    pub(super) fn is_deserted(&self) -> bool {
        self.listened.elapsed() >= self.streams.inner.parts.detach_limit
    }
}
