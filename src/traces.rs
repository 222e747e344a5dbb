//! Traces: what one request, one message or one task did and how long each part took, as spans under OpenTelemetry's names.
//! Spans are those of `tracing`, made by the functions here alone; a layer of the subscriber gathers them where a collector is
//! configured, and where none is, making one is a look at one word in memory.
//!
//! Names follow the semantic conventions for HTTP, databases and GenAI (the last are still in development). No span holds a
//! prompt, an answer, a key, an address or a statement's values. Sending is [`crate::collector`]'s.

mod context;
mod gathered;
mod layer;
mod span;
mod wire;

use tracing::Metadata;

pub use context::{Incoming, carry};
pub use gathered::{Batch, Gathered};
pub use layer::layer;
pub use span::{
    Called, Looked, answered, call, called, embeddings, failed, first_token, looked_up, lookup, message, request,
    statement, task,
};
pub use wire::encoded;

/// By which the layer knows its spans: those that begin a trace here, which log lines show too, and what is below them and
/// nothing without them.
const ROOT: &str = "ish::trace::root";
const PART: &str = "ish::trace";

/// Whether it is a span of a trace.
pub fn is_span(metadata: &Metadata<'_>) -> bool {
    is_part(metadata) || is_root(metadata)
}

fn is_part(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == PART
}

/// Whether it is the first of this process, which knows its trace's identifier.
pub fn is_root(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == ROOT
}
