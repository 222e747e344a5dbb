//! How long parts of the program take: `profile` wraps an operation in a span, and a layer of the subscriber adds up what such
//! spans took, by component and operation, in the metrics of every application that lives in the process.
//!
//! Three times are told apart: from an operation's begin to its end, how much of that it was at work (its future was polled,
//! or its span entered), and, measured now and then, the processor time of that. What the product counts of its own is
//! [`crate::metrics::Stages`]; what is made of all of it, [`crate::profiler`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Dispatch, Instrument, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::metrics::{Metrics, thread_cpu};

/// By which the layer knows its spans.
const TARGET: &str = "ish::profile";

/// `operation`, in a span that tells how long it takes. Component and operation become labels of a metric, and so are constants.
///
/// ```
/// # #[tokio::main]
/// # async fn main() {
/// let ranked = ish::profile::profile("search", "rank", async { [3, 1, 2].iter().max().copied() }).await;
/// assert_eq!(ranked, Some(3));
/// # }
/// ```
pub fn profile<F: Future>(
    component: &'static str,
    operation: &'static str,
    future: F,
) -> impl Future<Output = F::Output> {
    future.instrument(tracing::info_span!(target: TARGET, "operation", component, operation))
}

/// Adds up what the spans of [`profile`] take. Part of the subscriber that [`crate::telemetry::install`] makes; whoever makes
/// one of his own adds it there.
#[derive(Clone, Default)]
pub struct ProfileLayer {
    told: Arc<RwLock<Vec<Weak<Metrics>>>>,
    begun: Arc<AtomicU64>,
}

/// One operation in so many has its processor time measured, for which the system has to be asked twice a poll.
const CHOSEN: u64 = 64;

/// An operation that runs.
struct Running {
    component: String,
    operation: String,
    begun: Instant,
    entered: Option<Instant>,
    busy: Duration,
    /// Its processor time, where it is one of those that are chosen; and that of its thread when it was entered.
    cpu: Option<Duration>,
    cpu_entered: Duration,
}

impl ProfileLayer {
    /// Told to nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it wants to hear of a span.
    pub fn hears(metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target() == TARGET
    }

    /// Tells `metrics`, as long as they are there.
    pub fn tell(&self, metrics: &Arc<Metrics>) {
        let mut told = self.told.write().unwrap_or_else(PoisonError::into_inner);
        told.retain(|metrics| metrics.strong_count() > 0);
        told.push(Arc::downgrade(metrics));
    }

    fn add(&self, running: &Running) {
        let labels = &[running.component.as_str(), running.operation.as_str()];
        for metrics in self.told.read().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade) {
            let operation = metrics.profile_seconds.of(&running.component, &running.operation);
            operation.record(running.begun.elapsed());
            if let Some(cpu) = running.cpu {
                operation.record_cpu(cpu);
            }
            metrics.profile_busy.with_label_values(labels).inc_by(running.busy.as_secs_f64());
        }
    }
}

/// Has the layer of the process's subscriber, where it has one, tell `metrics`.
pub fn tell(metrics: &Arc<Metrics>) {
    tracing::dispatcher::get_default(|dispatch: &Dispatch| {
        if let Some(layer) = dispatch.downcast_ref::<ProfileLayer>() {
            layer.tell(metrics);
        }
    });
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for ProfileLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id).filter(|span| Self::hears(span.metadata())) else { return };
        let is_chosen = self.begun.fetch_add(1, Ordering::Relaxed).is_multiple_of(CHOSEN);
        let mut running = Running {
            component: String::new(),
            operation: String::new(),
            begun: Instant::now(),
            entered: None,
            busy: Duration::ZERO,
            cpu: is_chosen.then_some(Duration::ZERO),
            cpu_entered: Duration::ZERO,
        };
        attributes.record(&mut running);
        span.extensions_mut().insert(running);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(running) = span.extensions_mut().get_mut::<Running>() {
            running.entered = Some(Instant::now());
            if running.cpu.is_some() {
                running.cpu_entered = thread_cpu();
            }
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(running) = span.extensions_mut().get_mut::<Running>() {
            running.busy += running.entered.take().map_or(Duration::ZERO, |entered| entered.elapsed());
            let entered = running.cpu_entered;
            if let Some(cpu) = &mut running.cpu {
                *cpu += thread_cpu().saturating_sub(entered);
            }
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        if let Some(running) = span.extensions_mut().remove::<Running>() {
            self.add(&running);
        }
    }
}

impl Visit for Running {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "component" => value.clone_into(&mut self.component),
            "operation" => value.clone_into(&mut self.operation),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What was counted of an operation, and whether it was at work for part of the time only.
    async fn counted(metrics: &Arc<Metrics>) -> (u64, bool) {
        profile("search", "rank", async {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        })
        .await;
        let taken = metrics.profile_seconds.of("search", "rank").figures();
        let busy = metrics.profile_busy.with_label_values(&["search", "rank"]).get();
        (taken.count(), busy < taken.seconds())
    }

    #[tokio::test]
    async fn whoever_was_told_of_is_told() {
        let (first, second) = (Arc::new(Metrics::new()), Arc::new(Metrics::new()));
        let filter = tracing_subscriber::filter::filter_fn(ProfileLayer::hears);
        let subscriber = tracing_subscriber::registry().with(ProfileLayer::new().with_filter(filter));
        let _guard = tracing::subscriber::set_default(subscriber);
        tell(&first);
        assert_eq!(counted(&first).await, (1, true));
        tell(&second);
        assert_eq!(counted(&second).await, (1, true));
        assert_eq!(counted(&first).await, (3, true));
        drop(second);
        tracing::info_span!("other").in_scope(|| ());
        assert_eq!(counted(&first).await, (4, true));
        let cpu = first.profile_seconds.of("search", "rank").figures().cpu_seconds().unwrap();
        assert!(cpu < 0.08, "it slept: {cpu} s");
    }
}
