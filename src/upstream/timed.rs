//! A reply's bytes as they come, each wait under its deadline.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep};

use super::failure::{Deadline, Failure, FailureKind, timed_out};
use crate::pool::Permit;

/// A stream with each wait under its deadline. One timer serves the whole stream: a piece that comes moves the deadline
/// and not the timer, which looks again when it fires.
pub(super) struct Timed<S> {
    bytes: Pin<Box<S>>,
    timer: Pin<Box<Sleep>>,
    due: Instant,
    awaited: Deadline,
    idle: Duration,
    end: Instant,
    /// Bytes that may still come.
    room: usize,
    over: bool,
    /// The right to the connection.
    permit: Option<Permit>,
}

impl<S> Timed<S> {
    /// From now on: so long for the first piece, between two, and until when for all; and so many bytes.
    ///
    /// A stream's bytes are kept for those who listen later, so that they need a bound as a whole reply's do.
    pub(super) fn new(bytes: S, first: Duration, idle: Duration, end: Instant, room: usize) -> Self {
        let due = end.min(Instant::now() + first);
        let timer = Box::pin(tokio::time::sleep_until(due));
        Self {
            bytes: Box::pin(bytes),
            timer,
            due,
            awaited: Deadline::FirstToken,
            idle,
            end,
            room,
            over: false,
            permit: None,
        }
    }

    /// Keeps the right to its connection until it is dropped.
    pub(super) fn holding(mut self, permit: Permit) -> Self {
        self.permit = Some(permit);
        self
    }

    /// A piece came: the next one has its own deadline.
    fn restart(&mut self) {
        let silent_until = Instant::now() + self.idle;
        self.awaited = if silent_until < self.end { Deadline::Idle } else { Deadline::Total };
        self.due = silent_until.min(self.end);
        if self.due < self.timer.deadline() {
            self.timer.as_mut().reset(self.due);
        }
    }

    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(context).is_ready() {
            if self.timer.deadline() >= self.due {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.due);
        }
        Poll::Pending
    }
}

impl<S: Stream<Item = Result<Bytes, E>>, E> Stream for Timed<S> {
    type Item = Result<Bytes, Failure>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let timed = self.get_mut();
        if timed.over {
            return Poll::Ready(None);
        }
        let failure = match timed.bytes.as_mut().poll_next(context) {
            Poll::Ready(Some(Ok(piece))) if piece.len() <= timed.room => {
                timed.room -= piece.len();
                timed.restart();
                return Poll::Ready(Some(Ok(piece)));
            }
            Poll::Ready(Some(Ok(_))) => Failure::new(FailureKind::Garbage, "the provider's answer does not end"),
            Poll::Ready(None) => {
                timed.over = true;
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(_))) => {
                Failure::new(FailureKind::Cut, "the connection to the provider ended in the middle of its answer")
            }
            Poll::Pending => {
                ready!(timed.poll_late(context));
                timed_out(timed.awaited)
            }
        };
        timed.over = true;
        Poll::Ready(Some(Err(failure)))
    }
}
