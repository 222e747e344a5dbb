//! What the program leans on: parts that come up when they are first needed, or behind a start that does not wait for them, each with
//! how long that took; and checks of what is elsewhere, each asked with a bound, and remembered by what it last failed of.
//!
//! A registry is a value: whoever builds a program makes one and hands it to those who have parts. Looking at it starts nothing.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), ish::services::NotStarted> {
//! use ish::clock::Clock;
//! use ish::services::{PartState, Services};
//!
//! let services = Services::new(Clock::system());
//! let table = services.lazy("table", || async { Ok::<_, std::io::Error>(vec![1, 2, 3]) });
//!
//! assert!(!table.is_initialized());
//! assert_eq!(services.parts()[0].state, PartState::Idle);
//!
//! assert_eq!(table.get().await?.len(), 3);
//!
//! assert!(table.is_initialized() && services.parts()[0].init_ms.is_some());
//! # Ok(())
//! # }
//! ```

mod check;
mod lazy;
mod part;

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use check::Check;
pub use check::Health;
pub use lazy::{Lazy, NotStarted};
pub use part::{Part, PartFigures, PartState, ShownFailure, Start};

use crate::clock::Clock;

/// Whatever went wrong.
pub type Fault = Box<dyn Error + Send + Sync>;

/// The parts and the checks of one program. Cloning is cheap.
#[derive(Clone)]
pub struct Services {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    parts: Mutex<Vec<Part>>,
    checks: Mutex<Vec<Arc<Check>>>,
}

impl Services {
    /// None yet; failures are shown with the time of `clock`.
    pub fn new(clock: Clock) -> Self {
        Self { inner: Arc::new(Inner { clock, parts: Mutex::default(), checks: Mutex::default() }) }
    }

    /// Adds a part that is brought up by others.
    pub fn add(&self, part: Part) {
        lock(&self.inner.parts).push(part);
    }

    /// Adds a part that `make` makes when it is first needed. What takes a processor for long belongs on a blocking thread in there.
    pub fn lazy<T, F, E>(&self, name: &'static str, make: impl Fn() -> F + Send + Sync + 'static) -> Lazy<T>
    where
        T: Send + Sync + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let part = Part::new(name);
        self.add(part.clone());
        Lazy::new(part, make)
    }

    /// Adds a check: `ask` says what is wrong with something that is elsewhere, if anything is.
    pub fn check<F>(&self, name: &'static str, ask: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        lock(&self.inner.checks).push(Arc::new(Check::new(name, ask)));
    }

    /// Each part now, in the order they were added.
    pub fn parts(&self) -> Vec<PartFigures> {
        lock(&self.inner.parts).iter().map(|part| part.figures(&self.inner.clock)).collect()
    }

    /// Makes all checks at once, each within two seconds, and says of each part whether it failed. Starts nothing.
    pub async fn health(&self) -> Vec<Health> {
        let checks = lock(&self.inner.checks).clone();
        let asked = checks.iter().map(|check| check.made(&self.inner.clock));
        let mut health = futures_util::future::join_all(asked).await;
        health.extend(self.parts().into_iter().map(Health::of_part));
        health
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(lock(&self.inner.parts).iter()).finish()
    }
}

// Nothing under these locks panics; should it ever, the lists stay usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn a_part_is_made_once_for_all_who_need_it_and_again_after_a_failure() {
        let services = Services::new(Clock::system());
        let (made, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counted, behind) = (Arc::clone(&made), Arc::clone(&gate));
        let part = services.lazy("part", move || {
            let (nth, gate) = (counted.fetch_add(1, Ordering::Relaxed), Arc::clone(&behind));
            async move {
                gate.acquire().await.expect("invariant: nobody closes it").forget();
                if nth == 0 { Err(std::io::Error::other("not yet")) } else { Ok(nth) }
            }
        });
        assert!(services.health().await[0].healthy, "what nobody has needed is well");
        assert_eq!(made.load(Ordering::Relaxed), 0, "and is not made by looking");
        gate.add_permits(1);
        let error = part.get().await.unwrap_err();
        assert_eq!(error.to_string(), "part could not be started");
        let health = services.health().await.remove(0);
        assert_eq!((health.healthy, health.error.as_deref()), (false, Some("not yet")));

        let (mut first, mut second) = (Box::pin(part.get()), Box::pin(part.get()));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        assert_eq!(services.parts()[0].state, PartState::Starting);
        // Who makes it goes away: who waits makes it.
        drop(first);
        gate.add_permits(1);
        assert_eq!(*second.await.unwrap(), 2);
        assert_eq!(*part.get().await.unwrap(), 2);
        let figures = services.parts().remove(0);
        assert_eq!((figures.state, figures.starts, made.load(Ordering::Relaxed)), (PartState::Ready, 3, 3));
        let health = services.health().await.remove(0);
        assert!(health.healthy && health.last_error.is_some_and(|failure| failure.error == "not yet"));
    }

    #[tokio::test]
    async fn what_a_check_failed_of_is_remembered() {
        let services = Services::new(Clock::system());
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        services.check("flaky", move || {
            let nth = counted.fetch_add(1, Ordering::Relaxed);
            async move { if nth == 0 { Err("it is away".into()) } else { Ok(()) } }
        });
        let flaky = services.health().await.remove(0);
        assert_eq!((flaky.name, flaky.healthy, flaky.error.as_deref()), ("flaky", false, Some("it is away")));
        let flaky = services.health().await.remove(0);
        assert_eq!((flaky.healthy, flaky.error), (true, None));
        assert_eq!(flaky.last_error.unwrap().error, "it is away");
    }
}
