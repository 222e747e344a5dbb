//! The kinds of spans, under the names that OpenTelemetry's conventions give them and their attributes; what is ours alone
//! begins with `ish.`.

use http::{HeaderMap, StatusCode};
use opentelemetry::trace::{Status, TraceContextExt};
use opentelemetry::{Array, StringValue, Value};
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::context::Incoming;
use super::{PART, ROOT};

/// One HTTP request, in the trace that its head names, until all that was done for it has ended. Pages, figures and signs of
/// life are not traced, nor are sockets, whose messages are.
pub fn request(method: &'static str, route: &str, headers: &HeaderMap) -> Span {
    if !(route.starts_with("/v1/") || route.starts_with("/api/")) {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: ROOT, parent: None, "request",
        otel.name = format!("{method} {route}"), otel.kind = "server", trace_id = Empty
    );
    if !span.is_disabled() {
        begin(&span, &Incoming::of(headers));
        span.set_attribute("http.request.method", method);
        span.set_attribute("http.route", route.to_owned());
    }
    span
}

/// The head of a request's reply is there.
pub fn answered(span: &Span, status: StatusCode) {
    if span.is_disabled() {
        return;
    }
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        failed(span, status.as_str());
    }
}

/// One question on a socket, `kind` of frame, until its answer has ended: in the trace that the frame names, else in one of its
/// own, linked to that in which the socket was opened.
pub fn message(kind: &'static str, own: &Incoming, opening: &Incoming) -> Span {
    let span = tracing::info_span!(
        target: ROOT, parent: None, "message", otel.name = format!("ws {kind}"), otel.kind = "server", trace_id = Empty
    );
    if !span.is_disabled() {
        // One that is no context is not taken.
        span.add_link(opening.context().span().span_context().clone());
        begin(&span, own);
        span.set_attribute("network.protocol.name", "websocket");
    }
    span
}

/// One attempt at a task.
pub fn task(kind: &str, attempt: u16) -> Span {
    let span = tracing::info_span!(
        target: ROOT, parent: None, "task", otel.name = format!("task {kind}"), otel.kind = "consumer", trace_id = Empty
    );
    if !span.is_disabled() {
        begin(&span, &Incoming::default());
        span.set_attribute("ish.task.kind", kind.to_owned());
        span.set_attribute("ish.task.attempt", i64::from(attempt));
    }
    span
}

/// Where a trace enters this process; log lines show its identifier from here on.
fn begin(span: &Span, from: &Incoming) {
    // Refused only to a span that has begun, and this one is new.
    let _ = span.set_parent(from.context());
    let trace = span.context().span().span_context().trace_id();
    span.record("trace_id", tracing::field::display(trace));
}

/// A look-up of an earlier answer.
pub fn lookup() -> Span {
    tracing::info_span!(target: PART, "cache lookup")
}

/// What came of a look-up.
#[derive(Debug, Clone, Copy)]
pub struct Looked {
    /// How it matched, where.
    pub hit: Option<(&'static str, &'static str)>,
    /// Cosine of a match by meaning.
    pub similarity: Option<f32>,
}

/// The look-up has ended.
pub fn looked_up(span: &Span, looked: Looked) {
    span.set_attribute("ish.cache.status", if looked.hit.is_some() { "hit" } else { "miss" });
    if let Some((how, tier)) = looked.hit {
        span.set_attribute("ish.cache.how", how);
        span.set_attribute("ish.cache.tier", tier);
    }
    if let Some(similarity) = looked.similarity {
        span.set_attribute("ish.cache.similarity", f64::from(similarity));
    }
}

/// Texts being embedded.
pub fn embeddings(model: &str, texts: usize) -> Span {
    tracing::info_span!(
        target: PART, "embeddings",
        gen_ai.operation.name = "embeddings", gen_ai.request.model = model, ish.embeddings.texts = texts
    )
}

/// One attempt at one provider, until its answer has ended.
pub fn call(provider: &str, model: &str) -> Span {
    tracing::info_span!(
        target: PART, "call",
        otel.name = format!("chat {model}"), otel.kind = "client",
        gen_ai.operation.name = "chat", gen_ai.provider.name = provider, gen_ai.request.model = model
    )
}

/// A stream's first token that shows is there.
pub fn first_token(span: &Span) {
    span.add_event("gen_ai.first_token", Vec::new());
}

/// What a provider said of its answer; what it did not say is not there.
#[derive(Debug, Default)]
pub struct Called {
    /// Tokens in and out.
    pub tokens: Option<(u64, u64)>,
    /// The model that answered, as the provider names it.
    pub model: Option<String>,
    /// Why each choice ended.
    pub finish_reasons: Vec<String>,
    /// US dollars, where the model has a price.
    pub cost_usd: Option<f64>,
}

/// A provider's answer is whole.
pub fn called(span: &Span, called: Called) {
    if let Some((input, output)) = called.tokens {
        span.set_attribute("gen_ai.usage.input_tokens", input.cast_signed());
        span.set_attribute("gen_ai.usage.output_tokens", output.cast_signed());
    }
    if let Some(model) = called.model {
        span.set_attribute("gen_ai.response.model", model);
    }
    if !called.finish_reasons.is_empty() {
        let reasons: Vec<StringValue> = called.finish_reasons.into_iter().map(StringValue::from).collect();
        span.set_attribute("gen_ai.response.finish_reasons", Value::Array(Array::String(reasons)));
    }
    if let Some(cost_usd) = called.cost_usd {
        span.set_attribute("ish.cost_usd", cost_usd);
    }
}

/// Something said to a store: `operation` is a word of its language, never a value.
pub fn statement(system: &'static str, operation: &str) -> Span {
    tracing::info_span!(
        target: PART, "statement",
        otel.name = format!("{system} {operation}"), otel.kind = "client",
        db.system.name = system, db.operation.name = operation
    )
}

/// It came to nothing, for a reason of which there are few.
pub fn failed(span: &Span, kind: &str) {
    if !span.is_disabled() {
        span.set_attribute("error.type", kind.to_owned());
        span.set_status(Status::error(""));
    }
}
