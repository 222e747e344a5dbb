//! Ends of attempts at one run's steps, told together: what ends while one change of the run is under way is the next change. So elements
//! of a list that end at the same time cost one transaction, and not one each, of which every one would wait for those before it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Semaphore, oneshot};
use uuid::Uuid;

use super::turn::Ended;

/// How many ends are one change.
const MOST: usize = 64;

/// The runs of which something ends at this moment, in this process.
#[derive(Default)]
pub(super) struct Gathered {
    runs: Mutex<HashMap<Uuid, Queued>>,
}

/// A run's line, and how many stand in it.
#[derive(Default)]
struct Queued {
    line: Arc<Line>,
    users: usize,
}

struct Line {
    waiting: Mutex<Vec<Waiting>>,
    /// Who tells them: one at a time.
    turn: Semaphore,
}

impl Default for Line {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turn: Semaphore::new(1) }
    }
}

struct Waiting {
    ended: Ended,
    told: oneshot::Sender<()>,
}

impl Gathered {
    /// Tells `ended` by `change`, with those that wait by then; or waits until another has told it with its own. Where that one fails,
    /// or goes away, it is told anew.
    ///
    /// # Errors
    /// That of `change`, where it was this caller's.
    pub async fn tell<F, E>(&self, run: Uuid, ended: Ended, change: impl Fn(Vec<Ended>) -> F) -> Result<(), E>
    where
        F: Future<Output = Result<(), E>>,
    {
        let place = Place::of(self, run);
        loop {
            let (told, mut hears) = oneshot::channel();
            lock(&place.line.waiting).push(Waiting { ended: ended.clone(), told });
            let _turn = tokio::select! {
                biased;
                heard = &mut hears => match heard {
                    Ok(()) => return Ok(()),
                    Err(_) => continue,
                },
                turn = place.line.turn.acquire() => turn,
            };
            loop {
                match hears.try_recv() {
                    Ok(()) => return Ok(()),
                    // Others may stand before this one.
                    Err(TryRecvError::Empty) => place.line.tell_next(&change).await?,
                    // Whoever had taken it has just failed.
                    Err(TryRecvError::Closed) => break,
                }
            }
        }
    }
}

impl Line {
    /// Tells the first that wait.
    async fn tell_next<F, E>(&self, change: &impl Fn(Vec<Ended>) -> F) -> Result<(), E>
    where
        F: Future<Output = Result<(), E>>,
    {
        let next: Vec<Waiting> = {
            let mut waiting = lock(&self.waiting);
            let count = waiting.len().min(MOST);
            waiting.drain(..count).collect()
        };
        change(next.iter().map(|waiting| waiting.ended.clone()).collect()).await?;
        // Whoever hears nothing has gone.
        for waiting in next {
            let _ = waiting.told.send(());
        }
        Ok(())
    }
}

/// One that stands in a run's line, which goes with the last.
struct Place<'g> {
    gathered: &'g Gathered,
    run: Uuid,
    line: Arc<Line>,
}

impl<'g> Place<'g> {
    fn of(gathered: &'g Gathered, run: Uuid) -> Self {
        let mut runs = lock(&gathered.runs);
        let queued = runs.entry(run).or_default();
        queued.users += 1;
        Self { gathered, run, line: Arc::clone(&queued.line) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut runs = lock(&self.gathered.runs);
        if let Some(queued) = runs.get_mut(&self.run) {
            queued.users -= 1;
            if queued.users == 0 {
                runs.remove(&self.run);
            }
        }
    }
}

// Nothing under these locks panics; should it ever, who stands in line is still there.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;
    use crate::workflows::turn::End;

    fn ended(item: i32) -> Ended {
        Ended { step: "each".to_owned(), item, task: Uuid::nil(), end: End::Done("1".to_owned()) }
    }

    /// Notes the elements of each change, and makes it wait for a permit.
    #[derive(Default)]
    struct Changes {
        made: Mutex<Vec<Vec<i32>>>,
        failing: Mutex<u32>,
    }

    impl Changes {
        async fn make(&self, gate: &Semaphore, ended: Vec<Ended>) -> Result<(), &'static str> {
            gate.acquire().await.unwrap().forget();
            if *lock(&self.failing) > 0 {
                *lock(&self.failing) -= 1;
                return Err("the store is away");
            }
            lock(&self.made).push(ended.iter().map(|ended| ended.item).collect());
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_ends_meanwhile_is_told_together_and_nothing_stays_behind() {
        let (gathered, changes, gate) = (Gathered::default(), Changes::default(), Semaphore::new(0));
        let tell = |item| gathered.tell(Uuid::nil(), ended(item), |ended| changes.make(&gate, ended));
        let mut all: Vec<_> = (0..100).map(|item| Box::pin(tell(item))).collect();
        assert!(all.iter_mut().all(|one| one.as_mut().now_or_never().is_none()));
        gate.add_permits(3);
        assert!(join_all(all).await.into_iter().all(|told| told.is_ok()));
        let made = changes.made.into_inner().unwrap();
        assert_eq!(made.iter().map(Vec::len).collect::<Vec<_>>(), [1, 64, 35]);
        assert_eq!(made.concat(), (0..100).collect::<Vec<_>>());
        assert!(lock(&gathered.runs).is_empty());
    }

    #[tokio::test]
    async fn one_that_fails_or_goes_away_takes_no_other_with_it() {
        let (gathered, changes, gate) = (Gathered::default(), Changes::default(), Semaphore::new(0));
        let tell = |item| gathered.tell(Uuid::nil(), ended(item), |ended| changes.make(&gate, ended));
        let (mut first, mut second, mut third) = (Box::pin(tell(1)), Box::pin(tell(2)), Box::pin(tell(3)));
        for one in [&mut first, &mut second, &mut third] {
            assert!(one.as_mut().now_or_never().is_none());
        }
        // It goes away in the middle of its change; the next tells its own and the third's, and fails.
        drop(first);
        *lock(&changes.failing) = 1;
        gate.add_permits(2);
        assert_eq!(second.await, Err("the store is away"));
        assert_eq!(third.await, Ok(()), "it is told anew");
        assert_eq!(changes.made.into_inner().unwrap(), [[3]]);
        assert!(lock(&gathered.runs).is_empty());
    }
}
