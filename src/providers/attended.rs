//! A streamed answer from its first visible token on: what came before that is held back, so that a failure can still go
//! to another target unseen; from then on its end is awaited, for the breaker, the count and the place that it holds.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::seen::Seen;
use super::target::Permit;
use super::{Target, chunks};
use crate::message::{Delta, FinishReason, Served, Usage};
use crate::upstream::Failure;

type Pieces<T> = Pin<Box<dyn Stream<Item = Result<T, Failure>> + Send>>;

/// A piece of a streamed answer.
pub(super) trait Piece: Send + Unpin + 'static {
    /// Whether a reader would see anything of it.
    fn shows(&self) -> bool;

    /// The count, where this piece brings it.
    fn usage(&self) -> Option<Usage>;

    /// How the answer ends, where this piece ends it and is read.
    fn finish_reason(&self) -> Option<&FinishReason>;
}

impl Piece for Delta {
    fn shows(&self) -> bool {
        let is_plain = self.text.is_empty() && self.reasoning.is_empty() && self.more.is_none();
        let goes_on = self.finish_reason.is_none() && self.whole.is_none();
        !(is_plain && goes_on && self.raw.as_ref().is_none_or(|event| chunks::is_blank(event)))
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn finish_reason(&self) -> Option<&FinishReason> {
        self.finish_reason.as_ref()
    }
}

impl Piece for Bytes {
    fn shows(&self) -> bool {
        !chunks::are_blank(self)
    }

    /// Counted by [`chunks::verbatim`] itself.
    fn usage(&self) -> Option<Usage> {
        None
    }

    fn finish_reason(&self) -> Option<&FinishReason> {
        None
    }
}

/// Waits for the first piece that shows something; what came with it and before it.
///
/// # Errors
/// The stream's failure before that.
pub(super) async fn first_token<T: Piece>(pieces: &mut Pieces<T>) -> Result<Vec<T>, Failure> {
    let mut held = Vec::with_capacity(2);
    while let Some(piece) = pieces.next().await {
        held.push(piece?);
        if held.last().is_some_and(T::shows) {
            break;
        }
    }
    Ok(held)
}

/// The answer, attended until its end.
pub(super) struct Attended<T> {
    held: std::vec::IntoIter<T>,
    rest: Pieces<T>,
    usage: Option<Usage>,
    call: Option<Running>,
}

/// What a call holds until its answer has ended.
pub(super) struct Running {
    pub permit: Permit,
    pub target: std::sync::Arc<Target>,
    pub served: Served,
    pub seen: Seen,
}

impl Running {
    /// The answer is whole.
    pub fn ended(mut self, usage: Option<Usage>) {
        self.permit.succeeded();
        let usage = usage.or_else(|| self.served.usage());
        self.permit.paced(usage.map_or(0, |usage| usage.output_tokens));
        let cost_usd = usage.and_then(|usage| self.target.health.used(&self.target.model, usage));
        self.served.settle(usage, cost_usd);
        self.seen.ended(usage, cost_usd);
    }
}

impl<T: Piece> Attended<T> {
    pub fn new(held: Vec<T>, rest: Pieces<T>, mut call: Running) -> Self {
        let usage = held.iter().filter_map(T::usage).next_back();
        held.iter().filter_map(T::finish_reason).for_each(|reason| call.seen.finished(reason));
        Self { held: held.into_iter(), rest, usage, call: Some(call) }
    }
}

impl<T: Piece> Stream for Attended<T> {
    type Item = Result<T, Failure>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(piece) = this.held.next() {
            return Poll::Ready(Some(Ok(piece)));
        }
        let next = ready!(this.rest.as_mut().poll_next(context));
        match &next {
            Some(Ok(piece)) => {
                this.usage = piece.usage().or(this.usage);
                if let (Some(reason), Some(call)) = (piece.finish_reason(), &mut this.call) {
                    call.seen.finished(reason);
                }
            }
            Some(Err(failure)) => {
                if let Some(mut call) = this.call.take() {
                    call.permit.failed(failure);
                    call.seen.failed(failure);
                }
            }
            None => {
                if let Some(call) = this.call.take() {
                    call.ended(this.usage);
                }
            }
        }
        Poll::Ready(next)
    }
}
