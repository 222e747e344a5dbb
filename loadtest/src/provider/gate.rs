//! The gate at which replies wait until a test lets them go on.

use std::time::Duration;

use tokio::sync::watch;

/// Counts releases and the replies that wait for the next one.
#[derive(Debug)]
pub(super) struct Gate {
    releases: watch::Sender<u64>,
    held: watch::Sender<usize>,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self { releases: watch::Sender::new(0), held: watch::Sender::new(0) }
    }

    /// Opens the gate once, for all that wait now.
    pub(super) fn release(&self) {
        self.releases.send_modify(|count| *count += 1);
    }

    /// Waits for the next release. Dropping the future gives up the place.
    pub(super) fn pass(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut releases = self.releases.subscribe();
        let held = Held::enter(&self.held);
        async move {
            let _held = held;
            // An error means that the provider is gone, and then there is nothing to wait for.
            let _ = releases.changed().await;
        }
    }

    /// Waits until `count` replies are held.
    ///
    /// # Errors
    /// After 30 seconds, with how many were held then.
    pub(super) async fn wait_until_held(&self, count: usize) -> Result<(), TooFewHeld> {
        let mut held = self.held.subscribe();
        let enough = held.wait_for(|held| *held >= count);
        match tokio::time::timeout(Duration::from_secs(30), enough).await {
            Ok(_) => Ok(()),
            Err(_) => Err(TooFewHeld { expected: count, held: *self.held.borrow() }),
        }
    }
}

/// Fewer replies came to the gate than were waited for.
#[derive(Debug, thiserror::Error)]
#[error("expected {expected} held replies, there are {held}")]
pub(super) struct TooFewHeld {
    expected: usize,
    held: usize,
}

/// One reply's place at the gate.
struct Held(watch::Sender<usize>);

impl Held {
    fn enter(held: &watch::Sender<usize>) -> Self {
        held.send_modify(|count| *count += 1);
        Self(held.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
