//! Traces as a collector receives them: what belongs together is one tree, what comes in is gone on with, and neither a
//! collector that is away nor a sampler changes anything for those who ask. The subscriber is the process's: each test has a
//! process of its own.

use std::collections::BTreeMap;
use std::path::Path;

use http::Method;
use ish::config::{Config, Environment, TracesConfig};
use ish::traces::{self, Batch, Gathered, Incoming};
use loadtest::provider::answer::answer_to;
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Ack, Collector, Http, Reply, Server, Socket, Span, Talk, asking, until};

const INCOMING: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Has the process gather traces for the collector at `url`.
fn traced(url: &str, sampler: &str) -> Option<TracesConfig> {
    let environment = Environment::from([
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=of%20the%20collector"),
        ("OTEL_SERVICE_NAME", "chat-of-the-tests"),
        ("OTEL_TRACES_SAMPLER", sampler),
        ("ISH_LOG", "warn"),
    ]);
    let config = Config::read(&environment, None).unwrap();
    ish::telemetry::install(&config.log, config.traces.as_ref()).unwrap();
    config.traces
}

/// Asks on a socket and waits for the end.
async fn asked(socket: &mut Socket, frame: Value) -> Ack {
    let ack = socket.ask_with(frame).await;
    assert_eq!(socket.answer(&ack.stream).await.ending(), "done");
    ack
}

/// The trace that holds a span of this name, as a tree: each span's own name before those below it. What is in no tree, or has no
/// parent that came, fails.
fn tree(spans: &[Span], root: &Span) -> BTreeMap<String, Vec<Span>> {
    let trace: Vec<&Span> = spans.iter().filter(|span| span.trace == root.trace).collect();
    let mut below = BTreeMap::<String, Vec<Span>>::new();
    for span in &trace {
        let is_known = span.id == root.id || trace.iter().any(|other| other.id == span.parent);
        assert!(is_known, "{span:?} hangs in the air");
        assert!(root.start_ns <= span.start_ns && span.end_ns <= root.end_ns, "{span:?} is not within {root:?}");
        below.entry(span.parent.clone()).or_default().push((*span).clone());
    }
    below
}

async fn one_tree(server: Server, collector: Collector, system: &str) {
    let mut socket = server.socket().await;
    asked(&mut socket, json!({"type": "send", "id": "first", "content": "Where do narwhals spend their winters?"}))
        .await;
    asked(&mut socket, json!({"type": "send", "id": "second", "content": "How do octopuses change their colour?"}))
        .await;
    let calls = server.provider.log();
    drop(socket);
    server.stop().await;

    let spans = collector.spans();
    let roots: Vec<&Span> = spans.iter().filter(|span| span.name == "ws send").collect();
    assert_eq!(roots.len(), 2, "a trace each");
    assert_ne!(roots[0].trace, roots[1].trace);
    for root in &roots {
        assert_eq!(
            (root.parent.as_str(), root.kind.as_str(), root.service.as_str()),
            ("", "server", "chat-of-the-tests")
        );
        let below = tree(&spans, root);
        let children = &below[&root.id];
        let named = |name: &str| children.iter().filter(|span| span.name == name).count();
        assert_eq!((named("cache lookup"), named("chat mock")), (1, 1), "{children:?}");
        let stores = |span: &&Span| span.attributes.get("db.system.name").is_some_and(|name| name == system);
        assert!(children.iter().filter(stores).count() >= 3, "the question, its history and its answer: {children:?}");
        assert!(below.values().flatten().any(|span| span.name == "embeddings"), "{below:?}");
        let lookup = children.iter().find(|span| span.name == "cache lookup").unwrap();
        assert_eq!(lookup.attributes["ish.cache.status"], "miss");
        let call = children.iter().find(|span| span.name == "chat mock").unwrap();
        let said = |key: &str| call.attributes[key].as_str();
        assert_eq!((said("gen_ai.operation.name"), said("gen_ai.provider.name")), ("chat", "openai"));
        assert_eq!((said("gen_ai.request.model"), said("gen_ai.response.model")), ("mock", "mock"));
        assert_eq!(said("gen_ai.response.finish_reasons"), "stop");
        assert!(said("gen_ai.usage.input_tokens").parse::<u64>().unwrap() > 0);
        assert!(said("gen_ai.usage.output_tokens").parse::<u64>().unwrap() > 0);
        assert_eq!(call.kind, "client");
        let (event, at) = &call.events[0];
        assert!(event == "gen_ai.first_token" && call.start_ns <= *at && *at <= call.end_ns, "{call:?}");
        let outgoing = format!("00-{}-{}-01", root.trace, call.id);
        let carried =
            calls.iter().filter(|entry| entry.headers.get("traceparent").is_some_and(|value| *value == *outgoing));
        assert_eq!(carried.count(), 1, "the provider is told whose call it is");
    }
    // The picture in docs/tracing.md is made from this.
    let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("trace-{system}.json"));
    let second: Vec<&Span> = spans.iter().filter(|span| span.trace == roots[1].trace).collect();
    std::fs::write(picture, serde_json::to_string_pretty(&second).unwrap()).unwrap();

    assert_eq!(collector.head()["content-type"], "application/x-protobuf");
    assert_eq!(collector.head()["x-api-key"], "of the collector");
    let (answer, bytes) = (answer_to("Where do narwhals spend their winters?"), collector.bytes());
    for secret in ["narwhals", "octopuses", "sk-upstream", answer.split(' ').next().unwrap(), "of the collector"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} was sent");
    }
}

#[tokio::test]
async fn a_message_is_one_tree_through_cache_provider_and_files() {
    let collector = Collector::start().await;
    let wanted = traced(&collector.url, "parentbased_always_on");
    let server = Server::start_with(|config| config.traces = wanted).await;
    let system = if server.is_on_postgres() { "postgresql" } else { "sqlite" };
    one_tree(server, collector, system).await;
}

#[tokio::test]
async fn a_message_is_one_tree_through_cache_provider_and_postgres() {
    let collector = Collector::start().await;
    let wanted = traced(&collector.url, "parentbased_always_on");
    let server = Server::start_on_postgres(|config| config.traces = wanted).await;
    one_tree(server, collector, "postgresql").await;
}

#[tokio::test]
async fn a_trace_that_comes_in_goes_on_and_out() {
    let collector = Collector::start().await;
    let wanted = traced(&collector.url, "parentbased_always_on");
    let server = Server::start_with(|config| config.traces = wanted).await;
    let http = server.http().with("traceparent", INCOMING).with("tracestate", "vendor=value");
    assert_eq!(http.chat(&asking("Why is the sky blue?")).await.status, 200);
    http.stream(&asking("Why is the sea salt?")).await.whole().await;
    let opening = [("traceparent", OTHER)];
    let mut socket = Socket::open_with(server.address, &opening).await.unwrap();
    socket.say(json!({"type": "hello", "protocol": 1})).await;
    socket.hear_type("welcome").await;
    let send = json!({"type": "send", "id": "a", "content": "Why is grass green?", "traceparent": INCOMING});
    let ack = asked(&mut socket, send).await;
    asked(&mut socket, json!({"type": "regenerate", "id": "b", "message": ack.reply})).await;
    let calls = server.provider.log();
    drop(socket);
    server.stop().await;

    let (spans, (trace, parent)) = (collector.spans(), (&INCOMING[3..35], &INCOMING[36..52]));
    let requests: Vec<&Span> = spans.iter().filter(|span| span.name == "POST /v1/chat/completions").collect();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!((&*request.trace, &*request.parent, &*request.state), (trace, parent, "vendor=value"));
        assert_eq!(request.attributes["http.response.status_code"], "200");
        let call = spans.iter().find(|span| span.name == "chat mock" && span.parent == request.id).unwrap();
        assert!(call.end_ns <= request.end_ns, "a stream belongs to its request until its end");
        let outgoing = format!("00-{trace}-{}-01", call.id);
        let told = calls.iter().find(|entry| entry.headers.get("traceparent").is_some_and(|value| *value == *outgoing));
        assert_eq!(told.unwrap().headers["tracestate"], "vendor=value");
    }
    let [send, again] = ["ws send", "ws regenerate"].map(|name| spans.iter().find(|span| span.name == name).unwrap());
    assert_eq!((&*send.trace, &*send.parent), (trace, parent), "the frame's own");
    assert_eq!(again.parent, "", "a trace of its own");
    assert!(again.trace != send.trace && again.trace != OTHER[3..35]);
    assert_eq!((&send.links, &again.links), (&vec![OTHER[3..35].to_owned()], &vec![OTHER[3..35].to_owned()]));
}

#[tokio::test]
async fn what_is_not_sampled_is_not_sent_and_says_so_to_others() {
    let collector = Collector::start().await;
    let wanted = traced(&collector.url, "parentbased_always_off");
    let server = Server::start_with(|config| config.traces = wanted).await;
    assert_eq!(server.http().chat(&asking("Why is the sky blue?")).await.status, 200);
    let sampled = server.http().with("traceparent", INCOMING);
    assert_eq!(sampled.chat(&asking("Why is the sea salt?")).await.status, 200);
    let calls = server.provider.log();
    server.stop().await;
    let spans = collector.spans();
    assert!(!spans.is_empty() && spans.iter().all(|span| span.trace == INCOMING[3..35]), "{spans:?}");
    let flags: Vec<_> = calls
        .iter()
        .filter_map(|entry| entry.headers.get("traceparent"))
        .map(|value| value.to_str().unwrap()[53..].to_owned())
        .collect();
    assert_eq!(flags, ["00", "01"]);
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let wanted = traced("http://127.0.0.1:1", "always_on");
    let server = Server::start_with(|config| config.traces = wanted).await;
    let mut socket = server.socket().await;
    for number in 0..5 {
        let content = format!("What is the square of {number}?");
        asked(&mut socket, json!({"type": "send", "id": content, "content": content})).await;
    }
    let lost = || server.metrics().trace_spans.with_label_values(&["lost"]).get();
    until("a lost batch", || (lost() > 0).then_some(())).await;
    assert_eq!(server.metrics().trace_spans.with_label_values(&["sent"]).get(), 0);
    drop(socket);
    server.stop().await;
}

#[test]
fn without_a_collector_no_span_is_heard_whatever_is_logged() {
    let environment = Environment::from([("ISH_LOG", "trace")]);
    let config = Config::read(&environment, None).unwrap();
    ish::telemetry::install(&config.log, config.traces.as_ref()).unwrap();
    assert!(traces::task("tidy", 1).is_disabled());
    assert!(traces::message("send", &Incoming::default(), &Incoming::default()).is_disabled());
    assert!(traces::call("openai", "mock").is_disabled() && traces::lookup().is_disabled());
    assert!(Gathered::of_process().is_none());
}

#[test]
fn what_is_below_no_trace_begins_none_and_what_nobody_takes_is_counted() {
    const QUEUE: usize = 4_096;
    traced("http://127.0.0.1:1", "always_on").unwrap();
    let gathered = Gathered::of_process().unwrap();
    // The look of a background task is none of what is gathered.
    drop(traces::statement("postgresql", "SELECT"));
    let task = traces::task("tidy", 1);
    drop(task.in_scope(|| traces::statement("postgresql", "SELECT")));
    drop(task);
    for _ in 2..QUEUE + 10 {
        drop(traces::task("tidy", 1));
    }
    let (mut gathered, mut batch) = (gathered, Batch::new());
    gathered.take_ready(&mut batch, usize::MAX);
    assert_eq!((batch.len(), gathered.dropped(), gathered.dropped()), (QUEUE, 10, 0));
}

/// The real program, by the names that operators know; its log lines carry the trace.
#[tokio::test]
async fn a_log_line_names_the_trace_that_it_belongs_to() {
    let (collector, folder) = (Collector::start().await, tempfile::tempdir().unwrap());
    let mut serve = Talk::begin(
        &["serve"],
        &[
            ("ISH_DATA_DIR", folder.path().to_str().unwrap()),
            ("ISH_LISTEN", "127.0.0.1:0"),
            ("ISH_LOG_FORMAT", "json"),
            ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1"),
            ("ISH_OPENAI_MODELS", "mock"),
            ("ISH_MAX_RETRIES", "0"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url),
        ],
    );
    let page = serve.hear("page").await;
    let address = page.split_once("http://").unwrap().1.trim().trim_end_matches('/').parse().unwrap();
    let mut socket = Socket::greeted(address).await;
    let ack = socket.ask("a", "Where do narwhals live?").await;
    assert_eq!(socket.answer(&ack.stream).await.ending(), "error");
    let line: Value = serde_json::from_str(serve.hear("an answer failed").await.trim()).unwrap();
    let root = collector.span("ws send").await;
    assert_eq!((&line["span"]["trace_id"], root.service.as_str()), (&json!(root.trace), "ish"), "{line}");
    assert!(root.failed, "{root:?}");
    drop(socket);
    serve.terminate();
    let (status, said) = serve.end().await;
    assert!(status.success(), "{said}");
    assert!(!said.contains("narwhals"), "{said}");
}

#[tokio::test]
async fn an_admin_changes_what_is_logged_while_the_server_runs() {
    traced("", "always_on");
    let server = Server::start_with_keys().await;
    let admin = server.http().with_key(ADMIN_KEY);
    assert_eq!(admin.get("/api/admin/log").await.json(), json!({"filter": "warn"}));
    assert!(!tracing::enabled!(target: "ish::cache", tracing::Level::DEBUG));
    let wish = json!({"filter": "warn,ish::cache=debug"});
    assert_eq!(put(&admin, &wish).await.json(), wish);
    assert!(tracing::enabled!(target: "ish::cache", tracing::Level::DEBUG));
    assert_eq!(admin.get("/api/admin/log").await.json(), wish);
    for bad in [json!({"filter": "ish=loud"}), json!({"filter": null}), json!({})] {
        let refused = put(&admin, &bad).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["param"]), (400, &json!("filter")), "{bad}: {refused:?}");
    }
    assert_eq!(admin.get("/api/admin/log").await.json(), wish, "what cannot be read changes nothing");
    let user = server.http().with_key(&server.new_key("ours").await);
    assert_eq!(user.get("/api/admin/log").await.status, 403);
    assert_eq!(put(&user, &wish).await.status, 403);
    server.stop().await;
}

async fn put(client: &Http, wish: &Value) -> Reply {
    client.send(Method::PUT, "/api/admin/log", wish.to_string()).await
}
