//! docs/faults.md, measured: for each fault of a provider, what a client sees, whether the call is made again, whether the
//! breaker counts it, whether it costs, and whether anything of it is kept. The document holds the same table, and a row
//! that differs is a failure, so that it cannot drift.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ish::config::{Config, PriceConfig, ProviderConfig, ProviderKind, Timeouts};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::harness::{Reply, Server};

const DOCUMENT: &str = include_str!("../../docs/faults.md");

/// What the table calls a fault, and the words that make the provider have it.
const FAULTS: &[(&str, &str)] = &[
    ("connection closed at once", "fault=close"),
    ("connection reset", "fault=reset"),
    ("no reply", "fault=no_reply"),
    ("silence before the first token", "fault=hang after=0"),
    ("silence in the middle", "fault=hang after=5"),
    ("longer than the whole call may take", "tokens=200 each=100ms"),
    ("slow loris", "fault=slow_loris every=500ms"),
    ("cut before the first token", "fault=cut after=0"),
    ("cut in the middle", "fault=cut after=5"),
    ("ended too early", "fault=early_end after=5"),
    ("error event before the first token", "fault=error_event after=0"),
    ("error event in the middle", "fault=error_event after=5"),
    ("invalid UTF-8", "fault=invalid_utf8 after=5"),
    ("enormous event", "fault=huge bytes=5242880"),
    ("429, Retry-After within the bound", "fault=rate_limit retry_after=0"),
    ("429, Retry-After beyond it", "fault=rate_limit retry_after=60"),
    ("spend limit", "fault=quota"),
    ("spend limit, by its type alone", "fault=quota_type"),
    ("credit too low (400, Anthropic's)", "fault=credit"),
    ("402", "fault=402"),
    ("400", "fault=400"),
    ("401", "fault=401"),
    ("404", "fault=404"),
    ("408", "fault=408"),
    ("409", "fault=409"),
    ("425", "fault=425"),
    ("500", "fault=500"),
    ("503", "fault=503"),
    ("529", "fault=529"),
    ("garbage", "fault=garbage"),
    ("wrong content type", "fault=content_type"),
    ("JSON in place of a stream", "fault=ignore_stream"),
    ("no choices", "fault=empty_choices"),
    ("no [DONE]", "fault=no_done"),
    ("token limit", "fault=length"),
    ("content filter", "fault=content_filter"),
];

/// How one way of asking goes.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    seen: String,
    is_retried: bool,
    opens: bool,
    costs: bool,
    is_kept: bool,
}

fn patient(config: &mut Config) {
    config.upstream.first_token_timeout = Duration::from_secs(2);
    config.upstream.idle_timeout = Duration::from_secs(2);
    config.upstream.total_timeout = Duration::from_secs(5);
    config.routing.backoff = Duration::from_millis(5);
    config.cache.semantic = false;
}

/// A model for each fault and way of asking, so that each has a breaker of its own, and stands behind alone.
fn names() -> Vec<String> {
    (0..FAULTS.len()).flat_map(|number| [name(number, false), name(number, true)]).collect()
}

/// One failure opens a breaker.
fn models(config: &mut Config) {
    patient(config);
    config.routing.breaker_failures = NonZeroU32::MIN;
    config.routing.breaker_open = Duration::from_mins(10);
    config.routing.breaker_max_open = Duration::from_mins(10);
    config.routing.max_retries = 0;
    config.providers[0].models = names();
    let price = |model: &String| PriceConfig {
        model: format!("openai/{model}"),
        input: 1.0,
        output: 1.0,
        cached_input: None,
        cache_write: None,
    };
    config.prices = config.providers[0].models.iter().map(price).collect();
}

fn name(number: usize, stream: bool) -> String {
    format!("fault-{number}-{}", if stream { "streamed" } else { "whole" })
}

async fn ask(server: &Server, model: &str, prompt: &str, stream: bool) -> Reply {
    let body = json!({"model": model, "messages": [{"role": "user", "content": prompt}]});
    if stream { server.http().stream(&body).await.whole().await } else { server.http().chat(&body).await }
}

/// How often the provider was asked this.
fn calls(server: &Server, prompt: &str) -> usize {
    server.upstream_bodies().iter().filter(|body| body["messages"][0]["content"] == prompt).count()
}

fn seen(reply: &Reply) -> String {
    let error = reply.error();
    match (reply.status.as_u16(), error["code"].as_str()) {
        (200, None) => "the answer".to_owned(),
        (200, Some(code)) => {
            assert_eq!(error["partial"], true, "{error}");
            format!("text, then `{code}`")
        }
        (status, code) => format!("{status} `{}`", code.unwrap_or("none")),
    }
}

async fn state(server: &Server, target: &str) -> Value {
    let status = server.http().get("/api/status").await.json();
    let targets = status["targets"].as_array().unwrap();
    targets.iter().find(|row| row["target"] == target).unwrap()["state"].clone()
}

async fn measured(retrying: &Server, once: &Server, number: usize, stream: bool) -> Told {
    let (directive, model) = (FAULTS[number].1, name(number, stream));
    let prompt = format!("What is told of it, {}? [[{directive}]]", if stream { "streamed" } else { "whole" });
    let first = ask(retrying, &model, &prompt, stream).await;
    let is_retried = calls(retrying, &prompt) > 1;
    let again = ask(retrying, &model, &prompt, stream).await;
    let single = ask(once, &model, &prompt, stream).await;
    assert_eq!((seen(&single), calls(once, &prompt)), (seen(&first), 1), "{directive}");
    let target = format!("openai/{model}");
    let opens = state(once, &target).await == "open";
    let metrics = String::from_utf8(once.http().get("/metrics").await.body.to_vec()).unwrap();
    let costs = metrics.contains(&format!("ish_provider_cost_usd_total{{target={target:?}}}"));
    Told { seen: seen(&first), is_retried, opens, costs, is_kept: again.header("x-ish-cache") == "HIT" }
}

fn word(whole: bool, streamed: bool) -> &'static str {
    match (whole, streamed) {
        (true, true) => "yes",
        (false, false) => "no",
        (true, false) => "whole only",
        (false, true) => "streams only",
    }
}

fn row(name: &str, whole: &Told, streamed: &Told) -> String {
    let retried = word(whole.is_retried, streamed.is_retried);
    let counted = word(whole.opens, streamed.opens);
    let costs = word(whole.costs, streamed.costs);
    let kept = word(whole.is_kept, streamed.is_kept);
    format!("| {name} | {} | {} | {retried} | {counted} | {costs} | {kept} |", whole.seen, streamed.seen)
}

fn compare(measured: &[String]) {
    let missing: Vec<_> = measured.iter().filter(|row| !DOCUMENT.lines().any(|line| line == *row)).collect();
    assert!(missing.is_empty(), "docs/faults.md does not say what was measured:\n{}", measured.join("\n"));
}

/// The table's rows for what a provider does that can be reached; every row, and none that was not measured.
#[tokio::test]
async fn the_document_says_what_each_fault_comes_to() {
    let retrying = Server::start_with(|config| {
        patient(config);
        config.routing.max_retries = 1;
        config.routing.retry_budget = 1.0;
        config.routing.breaker_failures = NonZeroU32::MAX;
        config.providers[0].models = names();
    })
    .await;
    let (retrying, once) = (Arc::new(retrying), Arc::new(Server::start_with(models).await));
    let places = Arc::new(Semaphore::new(6));
    let mut running = JoinSet::new();
    for (number, (fault, _)) in FAULTS.iter().enumerate() {
        let (retrying, once, places) = (Arc::clone(&retrying), Arc::clone(&once), Arc::clone(&places));
        running.spawn(async move {
            let _place = places.acquire().await.unwrap();
            let whole = measured(&retrying, &once, number, false).await;
            (number, row(fault, &whole, &measured(&retrying, &once, number, true).await))
        });
    }
    let mut rows = running.join_all().await;
    rows.sort_unstable();
    let rows: Vec<String> = rows.into_iter().map(|(_, row)| row).collect();
    compare(&rows);
    let documented = DOCUMENT.lines().filter(|line| line.starts_with("| ")).count();
    // Two more are measured below, and one line is the head.
    assert_eq!(documented, rows.len() + 3, "rows that nobody measures");
    let entries = retrying.http().get("/api/cache/stats").await.json();
    for server in [retrying, once] {
        Arc::into_inner(server).expect("nobody asks any more").stop().await;
    }
    assert!(entries.is_object());
}

/// A provider whose address does not answer: refused, or silent.
async fn unreachable(name: &str, address: SocketAddr) -> String {
    let target = "openai/mock";
    let provider = ProviderConfig {
        name: "openai".to_owned(),
        kind: ProviderKind::OpenAi,
        base_url: format!("http://{address}/v1").parse().unwrap(),
        api_key: None,
        models: vec!["mock".to_owned()],
        timeouts: Timeouts::default(),
    };
    let start = |retries: u32, failures: NonZeroU32| {
        let provider = provider.clone();
        Server::start_with(move |config| {
            patient(config);
            config.upstream.connect_timeout = Duration::from_millis(300);
            (config.routing.max_retries, config.routing.breaker_failures) = (retries, failures);
            config.providers = vec![provider];
        })
    };
    let (retrying, once) = (start(1, NonZeroU32::MAX).await, start(0, NonZeroU32::MIN).await);
    let mut told = Vec::new();
    for stream in [false, true] {
        let retries = || {
            let metrics = &retrying.metrics().provider_retries;
            ["connect", "timeout_connect"]
                .map(|kind| metrics.with_label_values(&[target, kind]).get())
                .iter()
                .sum::<u64>()
        };
        let before = retries();
        let first = ask(&retrying, "mock", "Is anybody there?", stream).await;
        let is_retried = retries() > before;
        // The one failure of a whole answer has opened it for the stream that follows.
        ask(&once, "mock", "Is anybody there?", stream).await;
        let opens = state(&once, target).await == "open";
        told.push(Told { seen: seen(&first), is_retried, opens, costs: false, is_kept: false });
    }
    retrying.stop().await;
    once.stop().await;
    row(name, &told[0], &told[1])
}

#[tokio::test]
async fn the_document_says_what_an_unreachable_provider_comes_to() {
    // A port that nothing listens on: bound once, and let go.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // A listener whose queue is full: the kernel leaves further connections without a word.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let silent = socket.local_addr().unwrap().as_socket().unwrap();
    let mut fillers = Vec::new();
    while let Ok(filler) = std::net::TcpStream::connect_timeout(&silent, Duration::from_millis(200)) {
        fillers.push(filler);
    }
    let rows = [unreachable("connection refused", free).await, unreachable("no connection in time", silent).await];
    drop(fillers);
    compare(&rows);
}
