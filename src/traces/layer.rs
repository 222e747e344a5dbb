//! The part of the subscriber that gathers spans, and decides which traces are worth it.

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{DynFilterFn, LevelFilter};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

use super::gathered::Shelf;
use super::{is_part, is_root};
use crate::config::{Sampling, TracesConfig};
use crate::profile::ProfileLayer;

/// The layer that `config` describes.
pub fn layer<S>(config: &TracesConfig) -> impl Layer<S> + Send + Sync + use<S>
where
    S: Subscriber + for<'s> LookupSpan<'s> + Send + Sync,
{
    let (shelf, gathering) = Shelf::new(resource(config));
    let provider =
        SdkTracerProvider::builder().with_sampler(sampler(config.sampling)).with_span_processor(gathering).build();
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("ish"))
        .with_location(false)
        .with_threads(false)
        .with_level(false)
        .with_target(false)
        // The current span is tracing's; nothing here asks OpenTelemetry for it.
        .with_context_activation(false)
        .with_tracked_inactivity(false);
    // The shelf hears nothing: it is only to be found.
    spans.with_filter(heard()).and_then(shelf.with_filter(LevelFilter::OFF))
}

/// Work that belongs to no trace, such as the looks of a background task, begins none.
fn heard<S>() -> impl Filter<S> + Send + Sync + use<S>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    let heard = |metadata: &Metadata<'_>, context: &Context<'_, S>| {
        is_root(metadata) || (may_be_part(metadata) && context.lookup_current().is_some())
    };
    DynFilterFn::new(heard).with_callsite_filter(|metadata| {
        if is_root(metadata) {
            Interest::always()
        } else if may_be_part(metadata) {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    })
}

/// What is profiled is a part as well.
fn may_be_part(metadata: &Metadata<'_>) -> bool {
    is_part(metadata) || ProfileLayer::hears(metadata)
}

/// Who makes the spans.
fn resource(config: &TracesConfig) -> Resource {
    Resource::builder()
        .with_service_name(config.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", config.instance.clone()))
        .build()
}

fn sampler(sampling: Sampling) -> Sampler {
    let own = Sampler::TraceIdRatioBased(sampling.ratio);
    if sampling.follows_parent { Sampler::ParentBased(Box::new(own)) } else { own }
}
