//! One check of something that is elsewhere: asked with a bound on waiting, and remembered by what it last failed of.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::Fault;
use super::part::{Failure, PartFigures, PartState, ShownFailure};
use crate::clock::Clock;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

type Asking = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

/// The check.
pub(super) struct Check {
    name: &'static str,
    ask: Box<dyn Fn() -> Asking + Send + Sync>,
    patience: Duration,
    last: Mutex<Option<Failure>>,
}

/// No answer came.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
struct Silent(Duration);

impl Check {
    pub fn new<F>(name: &'static str, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        Self { name, ask: Box::new(move || Box::pin(ask())), patience: PATIENCE, last: Mutex::default() }
    }

    /// Asks.
    pub async fn made(&self, clock: &Clock) -> Health {
        let begun = Instant::now();
        let answered = tokio::time::timeout(self.patience, (self.ask)()).await;
        let answered = answered.unwrap_or_else(|_| Err(Silent(self.patience).into()));
        let ms = begun.elapsed().as_secs_f64() * 1_000.0;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(fault) = &answered {
            *last = Some(Failure::of(&**fault));
        }
        let last_error = last.as_ref().map(|failure| failure.shown(clock));
        let error = answered.is_err().then(|| last_error.as_ref().map(|failure| failure.error.clone())).flatten();
        Health { name: self.name, healthy: error.is_none(), ms: Some(ms), error, last_error }
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Check").field(&self.name).finish()
    }
}

/// How something is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    /// What.
    pub name: &'static str,
    /// Whether it does what it is for.
    pub healthy: bool,
    /// How long its answer took, in milliseconds; `None` for what was not asked.
    pub ms: Option<f64>,
    /// What is wrong with it.
    pub error: Option<String>,
    /// What was, the last time something was.
    pub last_error: Option<ShownFailure>,
}

impl Health {
    /// A part is well unless it failed to come up: what nobody has needed yet is.
    pub(super) fn of_part(part: PartFigures) -> Self {
        let healthy = part.state != PartState::Failed;
        let error = part.last_error.as_ref().filter(|_| !healthy).map(|failure| failure.error.clone());
        Self { name: part.name, healthy, ms: None, error, last_error: part.last_error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_does_not_answer_is_not_waited_for() {
        let check = Check { patience: Duration::ZERO, ..Check::new("silent", std::future::pending) };
        let health = check.made(&Clock::system()).await;
        assert_eq!((health.healthy, health.error.as_deref()), (false, Some("no answer within 0 s")));
    }
}
