//! Which calls are over and not booked yet. Whoever has his answer may ask again before its cost stands in the store; that
//! the whole reserve is still held there must not refuse him.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

/// How long a settlement is waited for; one that takes longer is of a store in trouble.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// The settlements under way, by key.
#[derive(Debug, Default)]
pub(super) struct Settling {
    under_way: Mutex<UnderWay>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct UnderWay {
    begun: u64,
    of: HashMap<Uuid, BTreeSet<u64>>,
}

/// One settlement. Dropped, it is over, however it ended.
#[derive(Debug)]
pub(super) struct Settlement {
    settling: Arc<Settling>,
    key: Uuid,
    number: u64,
}

/// What was under way at a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Earlier {
    key: Uuid,
    last: u64,
}

impl Settling {
    /// A settlement of `key` begins.
    pub(super) fn begin(self: &Arc<Self>, key: Uuid) -> Settlement {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.begun += 1;
        let number = under_way.begun;
        under_way.of.entry(key).or_default().insert(number);
        Settlement { settling: Arc::clone(self), key, number }
    }

    /// The settlements of `key` that are under way; `None` where there is none.
    pub(super) fn of(&self, key: Uuid) -> Option<Earlier> {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.of.get(&key).and_then(BTreeSet::last).map(|last| Earlier { key, last: *last })
    }

    /// Waits for these to end, but not for those that began after them, nor longer than `patience`: then the books are
    /// asked as they are.
    pub(super) async fn ended(&self, earlier: Earlier, patience: Duration) {
        let _ = tokio::time::timeout(patience, self.all_ended(earlier)).await;
    }

    async fn all_ended(&self, earlier: Earlier) {
        loop {
            let mut next = std::pin::pin!(self.ended.notified());
            // What ends from here on is heard of.
            next.as_mut().enable();
            if self.is_over(earlier) {
                return;
            }
            next.await;
        }
    }

    fn is_over(&self, earlier: Earlier) -> bool {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let first = under_way.of.get(&earlier.key).and_then(BTreeSet::first);
        first.is_none_or(|first| *first > earlier.last)
    }

    fn end(&self, key: Uuid, number: u64) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(numbers) = under_way.of.get_mut(&key) {
            numbers.remove(&number);
            if numbers.is_empty() {
                under_way.of.remove(&key);
            }
        }
        drop(under_way);
        self.ended.notify_waiters();
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        self.settling.end(self.key, self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_began_before_is_waited_for_and_nothing_else() {
        let settling = Arc::new(Settling::default());
        let (key, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(settling.of(key).is_none());
        let (first, second) = (settling.begin(key), settling.begin(key));
        let _others = settling.begin(other);
        let earlier = settling.of(key).unwrap();
        let _later = settling.begin(key);
        let mut waiting = std::pin::pin!(settling.ended(earlier, PATIENCE));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(second);
        assert!(waiting.as_mut().now_or_never().is_none(), "the first one is under way");
        drop(first);
        assert!(waiting.as_mut().now_or_never().is_some(), "the later one is not waited for");
    }

    #[tokio::test]
    async fn one_that_never_ends_holds_nobody_for_ever() {
        let settling = Arc::new(Settling::default());
        let key = Uuid::from_u128(1);
        let stuck = settling.begin(key);
        settling.ended(settling.of(key).unwrap(), Duration::from_millis(1)).await;
        drop(stuck);
        assert!(settling.of(key).is_none());
    }
}
