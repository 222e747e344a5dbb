//! One part that takes time to come up: whether it has, how long that took, and what it last failed of.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::clock::{Clock, rfc3339};

/// How far a part has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartState {
    /// Nobody has needed it.
    Idle,
    /// It is coming up.
    Starting,
    /// It is there.
    Ready,
    /// It could not be had; who needs it next tries again.
    Failed,
}

/// Something that went wrong, and when.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    error: String,
    at: Instant,
}

impl Failure {
    /// With its causes.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let (mut text, mut cause) = (error.to_string(), error.source());
        while let Some(error) = cause {
            let said = error.to_string();
            // Some say their causes themselves.
            if !text.contains(&said) {
                text = format!("{text}: {said}");
            }
            cause = error.source();
        }
        Self { error: text, at: Instant::now() }
    }

    pub fn shown(&self, clock: &Clock) -> ShownFailure {
        let ago_ms = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        ShownFailure { error: self.error.clone(), at: rfc3339(clock.now_ms().saturating_sub(ago_ms)) }
    }
}

/// A failure as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownFailure {
    /// What was said, its causes behind it.
    pub error: String,
    /// When (RFC 3339).
    pub at: String,
}

/// One part. Cloning is cheap: whoever makes it says how far it has come, and a registry shows that.
#[derive(Clone)]
pub struct Part {
    inner: Arc<Inner>,
}

struct Inner {
    name: &'static str,
    status: Mutex<Status>,
}

struct Status {
    state: PartState,
    starts: u32,
    took: Option<Duration>,
    failure: Option<Failure>,
}

impl Part {
    /// Idle.
    pub fn new(name: &'static str) -> Self {
        let status = Status { state: PartState::Idle, starts: 0, took: None, failure: None };
        Self { inner: Arc::new(Inner { name, status: Mutex::new(status) }) }
    }

    pub(super) fn name(&self) -> &'static str {
        self.inner.name
    }

    /// It begins to come up, again or for the first time.
    pub fn start(&self) -> Start {
        let mut status = self.status();
        (status.state, status.starts) = (PartState::Starting, status.starts.saturating_add(1));
        Start { part: self.clone(), begun: Instant::now(), is_over: false }
    }

    /// Whether it is there. Asking starts nothing.
    pub fn is_initialized(&self) -> bool {
        self.status().state == PartState::Ready
    }

    /// What is shown of it.
    pub fn figures(&self, clock: &Clock) -> PartFigures {
        let status = self.status();
        PartFigures {
            name: self.inner.name,
            state: status.state,
            init_ms: status.took.map(|took| took.as_secs_f64() * 1_000.0),
            starts: status.starts,
            last_error: status.failure.as_ref().map(|failure| failure.shown(clock)),
        }
    }

    // Nothing under this lock panics; should it ever, what is there is still what was said last.
    fn status(&self) -> MutexGuard<'_, Status> {
        self.inner.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Part").field(&self.inner.name).field(&self.status().state).finish()
    }
}

/// A part that is coming up. Dropped without a word, it was given up: the part is idle again.
#[must_use]
#[derive(Debug)]
pub struct Start {
    part: Part,
    begun: Instant,
    is_over: bool,
}

impl Start {
    /// It is there.
    pub fn ready(mut self) {
        let mut status = self.part.status();
        (status.state, status.took) = (PartState::Ready, Some(self.begun.elapsed()));
        drop(status);
        self.is_over = true;
    }

    /// It could not be had.
    pub fn failed(mut self, error: &(dyn Error + 'static)) {
        let mut status = self.part.status();
        (status.state, status.failure) = (PartState::Failed, Some(Failure::of(error)));
        drop(status);
        self.is_over = true;
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        if !self.is_over {
            self.part.status().state = PartState::Idle;
        }
    }
}

/// A part in figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartFigures {
    /// Its name.
    pub name: &'static str,
    /// How far it has come.
    pub state: PartState,
    /// How long it took to come up, the last time it did, in milliseconds.
    pub init_ms: Option<f64>,
    /// How often it began to.
    pub starts: u32,
    /// What it failed of, the last time it did.
    pub last_error: Option<ShownFailure>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_says_how_far_it_has_come_and_what_it_failed_of() {
        let (part, clock) = (Part::new("index"), Clock::manual(1_000_000_000_000));
        assert_eq!((part.figures(&clock).state, part.is_initialized()), (PartState::Idle, false));
        let start = part.start();
        assert_eq!(part.figures(&clock).state, PartState::Starting);
        drop(start);
        assert_eq!(part.figures(&clock).state, PartState::Idle, "it was given up");
        let cause = std::io::Error::other("no disk");
        part.start().failed(&std::io::Error::other(cause));
        let figures = part.figures(&clock);
        assert_eq!((figures.state, figures.starts, figures.init_ms), (PartState::Failed, 2, None));
        let failure = figures.last_error.unwrap();
        assert!(failure.error.contains("no disk") && failure.at.starts_with("2001-09-0"), "{failure:?}");
        part.start().ready();
        let figures = part.figures(&clock);
        assert!(part.is_initialized() && figures.init_ms.is_some(), "{figures:?}");
        assert!(figures.last_error.is_some(), "what it once failed of is still told");
    }
}
