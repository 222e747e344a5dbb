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
    /// # Panics
    /// After 30 seconds.
    pub(super) async fn wait_until_held(&self, count: usize) {
        let mut held = self.held.subscribe();
        let enough = held.wait_for(|held| *held >= count);
        let reached = tokio::time::timeout(Duration::from_secs(30), enough).await;
        assert!(reached.is_ok(), "expected {count} held replies, there are {}", *self.held.borrow());
    }
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
