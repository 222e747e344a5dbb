//! Counts the connections that the HTTP client makes, and those that it could not make.

use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, FutureExt};
use tower::{Layer, Service};

use crate::pool::Gate;

/// Around what connects: tells the gate of its pool.
#[derive(Debug, Clone)]
pub(super) struct Connects(pub Gate);

impl<S> Layer<S> for Connects {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, gate: self.0.clone() }
    }
}

/// What connects, counted.
#[derive(Debug, Clone)]
pub(super) struct Counted<S> {
    inner: S,
    gate: Gate,
}

impl<R, S: Service<R, Future: Send + 'static>> Service<R> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, to: R) -> Self::Future {
        let (connecting, gate) = (self.inner.call(to), self.gate.clone());
        connecting.inspect(move |made| if made.is_ok() { gate.note_created() } else { gate.note_error() }).boxed()
    }
}
