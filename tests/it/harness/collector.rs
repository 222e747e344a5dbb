//! A collector of traces: an OTLP receiver over HTTP that keeps every byte, and reads spans from them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::until;

/// The collector, on a port of its own. Dropping it closes that.
pub struct Collector {
    pub url: String,
    received: Received,
    serving: JoinHandle<()>,
}

type Received = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A span as it came. Identifiers are hexadecimal digits; one that there is not is empty.
#[derive(Debug, Clone, Serialize)]
pub struct Span {
    pub service: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub state: String,
    pub name: String,
    pub kind: String,
    pub start_ns: u64,
    pub end_ns: u64,
    pub attributes: BTreeMap<String, String>,
    /// Each with its time.
    pub events: Vec<(String, u64)>,
    /// Traces that it is linked to.
    pub links: Vec<String>,
    pub failed: bool,
}

impl Collector {
    pub async fn start() -> Self {
        let received = Received::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().route("/v1/traces", post(receive)).with_state(Arc::clone(&received));
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, received, serving }
    }

    /// All spans that have come.
    pub fn spans(&self) -> Vec<Span> {
        let received = self.received.lock().unwrap();
        let requests = received.iter().map(|(_, body)| ExportTraceServiceRequest::decode(body.clone()).unwrap());
        requests.flat_map(spans_of).collect()
    }

    /// Waits for a span of this name, and returns it.
    pub async fn span(&self, name: &str) -> Span {
        until(name, || self.spans().into_iter().find(|span| span.name == name)).await
    }

    /// All that has come, byte for byte.
    pub fn bytes(&self) -> Vec<u8> {
        self.received.lock().unwrap().iter().flat_map(|(_, body)| body.to_vec()).collect()
    }

    /// The head of the first that came.
    pub fn head(&self) -> HeaderMap {
        self.received.lock().unwrap()[0].0.clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn receive(State(received): State<Received>, headers: HeaderMap, body: Bytes) -> StatusCode {
    received.lock().unwrap().push((headers, body));
    StatusCode::OK
}

fn spans_of(request: ExportTraceServiceRequest) -> Vec<Span> {
    let of_resource = request.resource_spans.into_iter().flat_map(|resource| {
        let attributes = attributes(&resource.resource.unwrap().attributes);
        let service = attributes.get("service.name").cloned().unwrap_or_default();
        resource.scope_spans.into_iter().flat_map(|scope| scope.spans).map(move |span| (service.clone(), span))
    });
    let read = |(service, span): (String, opentelemetry_proto::tonic::trace::v1::Span)| Span {
        service,
        kind: span.kind().as_str_name().trim_start_matches("SPAN_KIND_").to_ascii_lowercase(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        state: span.trace_state,
        name: span.name,
        start_ns: span.start_time_unix_nano,
        end_ns: span.end_time_unix_nano,
        attributes: attributes(&span.attributes),
        events: span.events.into_iter().map(|event| (event.name, event.time_unix_nano)).collect(),
        links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
        failed: span.status.is_some_and(|status| status.code == 2),
    };
    of_resource.map(read).collect()
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    pairs.iter().map(|pair| (pair.key.clone(), pair.value.as_ref().map(text).unwrap_or_default())).collect()
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        Some(Value::ArrayValue(array)) => array.values.iter().map(text).collect::<Vec<_>>().join(","),
        other => panic!("no attribute of ours has such a value: {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
