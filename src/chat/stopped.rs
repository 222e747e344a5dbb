//! What a stopping server does to answers that nobody stores: their readers get an end that says so, not a cut line.

use futures_util::{Stream, StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::providers::Reply;
use crate::upstream::{Failure, FailureKind};

/// Why an answer ends with the server.
pub(super) fn stopped() -> Failure {
    Failure::new(FailureKind::Stopped, "the server stopped in the middle of this answer")
}

/// The reply; if it streams, as long as the server lives.
pub(super) fn or_stopped(reply: Reply, stop: &CancellationToken) -> Reply {
    match reply {
        Reply::Stream(deltas) => Reply::Stream(ending(deltas, stop.clone()).boxed()),
        Reply::Verbatim(events) => Reply::Verbatim(ending(events, stop.clone()).boxed()),
        whole => whole,
    }
}

fn ending<T: Send>(
    pieces: impl Stream<Item = Result<T, Failure>> + Send,
    stop: CancellationToken,
) -> impl Stream<Item = Result<T, Failure>> + Send {
    let (stop, was_stopped) = (stop.clone().cancelled_owned(), stop);
    let end = stream::once(async move { was_stopped.is_cancelled().then(|| Err(stopped())) });
    // An answer that had ended by then needs no other end, and its reader has stopped asking.
    pieces.take_until(stop).chain(end.filter_map(std::future::ready))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_ends_with_the_server_and_says_so() {
        let stop = CancellationToken::new();
        let endless = stream::once(async { Ok(1) }).chain(stream::pending());
        let mut pieces = Box::pin(ending(endless, stop.clone()));
        assert_eq!(pieces.next().await.unwrap().unwrap(), 1);
        stop.cancel();
        assert_eq!(pieces.next().await.unwrap().unwrap_err().kind, FailureKind::Stopped);
        assert!(pieces.next().await.is_none());
    }

    #[tokio::test]
    async fn an_answer_that_ends_by_itself_is_as_it_was() {
        let whole = stream::iter([Ok(1), Ok(2)]);
        let pieces: Vec<_> = ending(whole, CancellationToken::new()).map(Result::unwrap).collect().await;
        assert_eq!(pieces, [1, 2]);
    }
}
