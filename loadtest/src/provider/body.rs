//! Plays a [`Script`] as an HTTP body and tells the log how far it came.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep, sleep_until};

use super::log::Tracker;
use super::script::{Script, Step};

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The error that makes the HTTP layer close a connection without a proper end.
#[derive(Debug, thiserror::Error)]
#[error("broken off on purpose")]
pub(super) struct Broken;

/// A body under way. Dropped before its last step it is logged as given up by the client.
pub(super) struct ScriptBody {
    steps: std::vec::IntoIter<Step>,
    waiting: Option<Waiting>,
    /// When the last wait was over by the plan: the next counts from there, so that a timer's lateness does not add up.
    due: Option<Instant>,
    remaining: Option<u64>,
    tracker: Tracker,
}

impl ScriptBody {
    pub(super) fn new(script: Script, tracker: Tracker) -> Self {
        Self {
            steps: script.steps.into_iter(),
            waiting: None,
            due: None,
            remaining: script.length.map(|length| length as u64),
            tracker,
        }
    }

    /// The number of the request that this body answers.
    pub(super) fn request_id(&self) -> u64 {
        self.tracker.id()
    }

    fn sent(&mut self, bytes: &Bytes, tokens: usize) {
        self.remaining = self.remaining.map(|remaining| remaining - bytes.len() as u64);
        self.tracker.sent(tokens);
        if self.steps.as_slice().is_empty() {
            self.tracker.completed();
        }
    }
}

impl Body for ScriptBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(context));
                self.waiting = None;
            }
            match self.steps.next() {
                Some(Step::Send { bytes, tokens }) => {
                    self.sent(&bytes, tokens);
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Step::Flush) => {
                    // The HTTP layer writes out what it has whenever the body is not ready.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Step::Break) => {
                    self.tracker.broken();
                    return Poll::Ready(Some(Err(Broken)));
                }
                Some(Step::Sleep(duration)) => {
                    let due = self.due.unwrap_or_else(Instant::now) + duration;
                    self.due = Some(due);
                    self.waiting = Some(Box::pin(sleep_until(due)));
                }
                Some(step) => {
                    self.due = None;
                    self.waiting = wait(&step, &self.tracker);
                }
                None => {
                    self.tracker.completed();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.steps.as_slice().is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Does the waiting steps that come before a reply's headers.
pub(super) async fn wait_before_headers(steps: Vec<Step>, tracker: &Tracker) {
    for step in steps {
        if let Some(waiting) = wait(&step, tracker) {
            waiting.await;
        }
    }
}

fn wait(step: &Step, tracker: &Tracker) -> Option<Waiting> {
    match step {
        Step::Sleep(duration) => Some(Box::pin(sleep(*duration))),
        Step::Gate => Some(Box::pin(tracker.gate().pass())),
        Step::Hang => Some(Box::pin(std::future::pending())),
        Step::Send { .. } | Step::Flush | Step::Break => None,
    }
}
