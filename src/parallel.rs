//! The same work for many things, some of it at once: what comes of it in their order, never more at once than is allowed, and
//! none of it left when nobody waits any more.
//!
//! Each operation is a task of the runtime, so that work which computes uses every core. Dropping the future ends them all, and
//! so does a panic in one of them, which is the caller's then.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;

use tokio::task::JoinSet;

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Done {
    /// Things that are done.
    pub done: usize,
    /// Things there are.
    pub of: usize,
}

/// Runs `op` for each of `items`, at most `limit` of them at once, and returns what came of every one, in their order: where `op`
/// fails, the others go on. `progress` is told after each.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let limit = std::num::NonZeroUsize::new(2).unwrap();
/// let read = |text: &'static str| async move { text.parse::<u8>().ok() };
/// let numbers = ish::parallel::map(["1", "x", "3"], limit, read, |done| println!("{} of {}", done.done, done.of)).await;
/// assert_eq!(numbers, [Some(1), None, Some(3)]);
/// # }
/// ```
pub async fn map<I, F, T>(
    items: impl IntoIterator<Item = I, IntoIter: ExactSizeIterator>,
    limit: NonZeroUsize,
    op: impl FnMut(I) -> F,
    progress: impl FnMut(Done),
) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let mut op = op;
    let whole = try_map(items, limit, |item| never_failing(op(item)), progress).await;
    match whole {
        Ok(whole) => whole,
        Err(never) => match never {},
    }
}

/// The same as long as `op` succeeds: its first error, by the time and not by the order of `items`, ends what still runs, and
/// begins nothing more.
///
/// # Errors
/// That error.
pub async fn try_map<I, F, T, E>(
    items: impl IntoIterator<Item = I, IntoIter: ExactSizeIterator>,
    limit: NonZeroUsize,
    mut op: impl FnMut(I) -> F,
    mut progress: impl FnMut(Done),
) -> Result<Vec<T>, E>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let items = items.into_iter();
    let of = items.len();
    let (mut waiting, mut running) = (items.enumerate(), JoinSet::new());
    let mut found: Vec<(usize, T)> = Vec::with_capacity(of);
    loop {
        while running.len() < limit.get()
            && let Some((at, item)) = waiting.next()
        {
            let work = op(item);
            running.spawn(async move { (at, work.await) });
        }
        let Some(ended) = running.join_next().await else { break };
        match ended {
            Ok((at, Ok(value))) => found.push((at, value)),
            Ok((_, Err(error))) => {
                running.shutdown().await;
                return Err(error);
            }
            Err(ended) => {
                running.shutdown().await;
                match ended.try_into_panic() {
                    Ok(panic) => resume_unwind(panic),
                    // Nobody else ends them but the runtime, and with it whoever waits here.
                    Err(_) => std::future::pending::<()>().await,
                }
            }
        }
        progress(Done { done: found.len(), of });
    }
    found.sort_unstable_by_key(|(at, _)| *at);
    Ok(found.into_iter().map(|(_, value)| value).collect())
}

/// So many things at a time, for an operation that takes several at once.
pub fn batches<I>(items: Vec<I>, size: NonZeroUsize) -> Vec<Vec<I>> {
    let mut batches = Vec::with_capacity(items.len().div_ceil(size.get()));
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        batches.push(items.by_ref().take(size.get()).collect());
    }
    batches
}

async fn never_failing<T>(work: impl Future<Output = T>) -> Result<T, std::convert::Infallible> {
    Ok(work.await)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::task::yield_now;

    use super::*;

    const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

    /// Counts itself while it is there.
    struct Held(Arc<AtomicUsize>);

    impl Held {
        fn new(count: &Arc<AtomicUsize>) -> Self {
            count.fetch_add(1, Ordering::SeqCst);
            Self(Arc::clone(count))
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Lets others go first, so often.
    async fn last_for(turns: usize) {
        for _ in 0..turns {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_ends_late_stands_in_its_place_and_no_more_run_than_may() {
        let (count, most, mut told) = (Arc::default(), Arc::new(AtomicUsize::new(0)), Vec::new());
        let work = |turns: usize| {
            let (held, most) = (Held::new(&count), Arc::clone(&most));
            async move {
                most.fetch_max(held.0.load(Ordering::SeqCst), Ordering::SeqCst);
                last_for(turns).await;
                turns
            }
        };
        let lasted = map([50, 10, 30, 0, 20], TWO, work, |done| told.push((done.done, done.of))).await;
        assert_eq!(lasted, [50, 10, 30, 0, 20]);
        assert_eq!((most.load(Ordering::SeqCst), count.load(Ordering::SeqCst)), (2, 0));
        assert_eq!(told, [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]);
        assert_eq!(map(Vec::<u8>::new(), TWO, async |item| item, |_| ()).await, [] as [u8; 0]);
    }

    #[tokio::test]
    async fn the_first_error_ends_the_others_and_begins_no_more() {
        let (count, begun) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let work = |fails: bool| {
            begun.fetch_add(1, Ordering::SeqCst);
            let held = Held::new(&count);
            async move {
                let _held = held;
                if fails {
                    return Err("as it was told to");
                }
                std::future::pending().await
            }
        };
        let failed: Result<Vec<()>, _> = try_map([false, true, false, false], TWO, work, |_| ()).await;
        assert_eq!(failed, Err("as it was told to"));
        assert_eq!((begun.load(Ordering::SeqCst), count.load(Ordering::SeqCst)), (2, 0));
    }

    #[tokio::test]
    async fn nothing_is_left_of_what_was_dropped_or_has_panicked() {
        let count = Arc::default();
        let work = |panics: bool| {
            let held = Held::new(&count);
            async move {
                let _held = held;
                assert!(!panics, "as it was told to");
                std::future::pending::<()>().await;
            }
        };
        assert!(map([false, false], TWO, work, |_| ()).now_or_never().is_none());
        while count.load(Ordering::SeqCst) > 0 {
            yield_now().await;
        }
        let panicked = std::panic::AssertUnwindSafe(map([false, true], TWO, work, |_| ())).catch_unwind().await;
        assert!(panicked.is_err());
        assert_eq!(count.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn batches_hold_everything_once() {
        assert_eq!(batches(vec![1, 2, 3, 4, 5], TWO), [vec![1, 2], vec![3, 4], vec![5]]);
        assert_eq!(batches(Vec::<u8>::new(), TWO), [] as [Vec<u8>; 0]);
    }
}
