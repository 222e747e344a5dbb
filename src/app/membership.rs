//! This process among those that share the database: it says that it lives, takes over the answers of those that do not any
//! more, and hears what readers elsewhere wish of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::instances::{Beat, Instances};
use crate::limits::Living;
use crate::metrics::Metrics;
use crate::streams::Streams;

/// All that a sign of life needs and brings with it.
#[derive(Clone)]
pub(super) struct Membership {
    pub instances: Instances,
    pub streams: Streams,
    /// What limits share their rates by while Redis is away.
    pub living: Living,
    pub metrics: Arc<Metrics>,
    pub heartbeat: Duration,
    pub lease: Duration,
}

impl Membership {
    /// Until `stop`.
    pub(super) async fn keep(self, stop: CancellationToken) {
        let beats = async {
            loop {
                tokio::time::sleep(self.heartbeat).await;
                self.beat().await;
            }
        };
        tokio::select! {
            () = beats => {}
            () = stop.cancelled() => {}
        }
    }

    /// One sign of life, and one look at what the others have left.
    pub(super) async fn beat(&self) {
        match self.instances.beat(self.streams.is_draining()).await {
            Ok(beat) => {
                self.note(beat);
                if beat.is_new {
                    tracing::warn!("the other instances had taken this one for dead, and may have its answers");
                }
            }
            Err(error) => {
                self.metrics.instance_beats_failed.inc();
                tracing::warn!(%error, "no sign of life could be given");
                return;
            }
        }
        if let Err(error) = self.look().await {
            tracing::warn!(%error, "the answers of other instances could not be looked at");
        }
    }

    /// Tells the parts how many live.
    pub(super) fn note(&self, beat: Beat) {
        self.metrics.instances.set(beat.living as i64);
        self.streams.note_others(beat.living.saturating_sub(1));
        self.living.set(beat.living);
    }

    async fn look(&self) -> Result<(), crate::conversations::ConversationError> {
        self.streams.hear_wishes().await?;
        // Who is about to stop would only have them taken over again.
        if self.streams.is_draining() {
            return Ok(());
        }
        let taken = self.streams.take_over(self.lease).await?;
        if taken > 0 {
            tracing::warn!(taken, "answers of dead instances were taken over");
        }
        Ok(())
    }

    /// Takes the place of earlier starts under this process's name, which are dead by that.
    pub(super) async fn take_place(&self) {
        match self.instances.supersede().await {
            Ok(0) => {}
            Ok(earlier) => {
                tracing::info!(earlier, "an earlier start under this name was not ended properly");
                self.beat().await;
            }
            Err(error) => tracing::warn!(%error, "earlier starts under this name could not be told from the living"),
        }
    }

    /// Says that this process is no more.
    pub(super) async fn leave(&self) {
        if let Err(error) = self.instances.leave().await {
            tracing::warn!(%error, "the others will learn by its silence that this instance has ended");
        }
    }
}
