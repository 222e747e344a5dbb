//! An answer that another instance makes, as its listeners here have it: the same log, brought to what the store holds, until
//! that says the end. So an answer can be resumed on any instance, and one that was lost to another goes on for those who
//! listen.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Streams;
use super::ending::Terminal;
use super::log::LiveStream;
use crate::conversations::ConversationError;

/// Between two looks into the store.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Follows it to its end, or until nobody listens; it stands among the mirrors meanwhile.
pub(super) async fn follow(streams: Streams, live: Arc<LiveStream>) {
    let parts = &streams.inner.parts;
    loop {
        look(&streams, &live).await;
        if live.has_ended() {
            streams.inner.ended.keep(&live);
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            // Its readers find it elsewhere, and need not wait here for the end of what is not made here.
            () = async { tokio::select! { () = parts.stop.cancelled() => {} () = streams.draining() => {} } } => {
                live.leave();
                break;
            }
        }
        if streams.forget_deserted(&live) {
            return;
        }
    }
    streams.inner.mirrors.lock().unwrap_or_else(PoisonError::into_inner).remove(&live.begun.stream);
}

async fn look(streams: &Streams, live: &LiveStream) {
    match streams.inner.parts.conversations.message(&live.tenant, live.begun.reply).await {
        Ok(message) => live.agree(&message),
        // Deleted with its conversation, which ends it.
        Err(ConversationError::NotFound(_)) => {
            let text_blake3 = blake3::hash(live.progress().content.as_bytes()).to_hex().to_string();
            live.end(Terminal::Cancelled { text_blake3 });
        }
        Err(error) => tracing::warn!(%error, "an answer of another instance could not be looked at; the next look may"),
    }
}
