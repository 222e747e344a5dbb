//! Spans that have ended, until they are sent: a queue with a bound. Who ends a span never waits; what finds the queue full is
//! dropped and counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tokio::sync::mpsc;
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::Layer;

/// Spans that may wait; each is about a kilobyte.
const QUEUE: usize = 4_096;

/// Spans that go together.
pub type Batch = Vec<SpanData>;

/// The spans, for whoever sends them.
#[derive(Debug)]
pub struct Gathered {
    spans: mpsc::Receiver<SpanData>,
    dropped: Arc<AtomicU64>,
    /// Who made them.
    pub resource: Resource,
}

impl Gathered {
    /// Those of the process's subscriber, where it gathers any; for the first who asks.
    pub fn of_process() -> Option<Self> {
        tracing::dispatcher::get_default(|dispatch: &Dispatch| dispatch.downcast_ref::<Shelf>()?.take())
    }

    /// Adds at most `most` to `batch`, at least one; false once there will be none any more. Cancel-safe.
    pub async fn next(&mut self, batch: &mut Batch, most: usize) -> bool {
        self.spans.recv_many(batch, most).await > 0
    }

    /// Adds what is there, up to `most`.
    pub fn take_ready(&mut self, batch: &mut Batch, most: usize) {
        while batch.len() < most
            && let Ok(span) = self.spans.try_recv()
        {
            batch.push(span);
        }
    }

    /// How many were dropped since this was last asked.
    pub fn dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

/// The part of the subscriber that keeps the spans until somebody comes for them.
pub(super) struct Shelf(Mutex<Option<Gathered>>);

impl Shelf {
    pub(super) fn new(resource: Resource) -> (Self, Gathering) {
        let ((sender, spans), dropped) = (mpsc::channel(QUEUE), Arc::<AtomicU64>::default());
        let gathering = Gathering { spans: sender, dropped: Arc::clone(&dropped) };
        (Self(Mutex::new(Some(Gathered { spans, dropped, resource }))), gathering)
    }

    fn take(&self) -> Option<Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<S: Subscriber> Layer<S> for Shelf {}

/// The clock that spans begin by.
#[expect(clippy::disallowed_methods, reason = "the beginnings are taken by the layer, from the system's own clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// The other end of the queue.
#[derive(Debug)]
pub(super) struct Gathering {
    spans: mpsc::Sender<SpanData>,
    dropped: Arc<AtomicU64>,
}

impl SpanProcessor for Gathering {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        // A span is over once nothing holds it any more: the layer gives the last time that somebody worked on it, which for a
        // stream is its first token.
        span.end_time = now();
        if span.span_context.is_sampled() && self.spans.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
