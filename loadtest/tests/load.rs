//! The generator counts what really happened, and the floors are what they say.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use loadtest::floor;
use loadtest::generator::{self, Expected, Plan, Prompts, Report, Target};
use loadtest::provider::{Behaviour, Fault, Provider, ProviderOptions, RunningProvider};
use tokio::net::TcpListener;

/// Ends by its number of requests; the duration is only a deadline.
fn plan(url: &str, requests: u64) -> Plan {
    Plan {
        target: Target::parse(url).expect("a loopback URL"),
        prompts: Prompts::Unique { salt: 1 },
        stream: false,
        headers: Vec::new(),
        expected: Expected::default(),
        connections: 4,
        max_requests: requests,
        duration: Duration::from_secs(30),
        grace: generator::USUAL_GRACE,
        warm_up: Duration::ZERO,
        rate: None,
        pid: None,
    }
}

async fn provider() -> RunningProvider {
    Provider::start(ProviderOptions::default()).await.expect("a free port")
}

fn chat_url(base: &str) -> String {
    format!("{base}/chat/completions")
}

async fn run(plan: Plan) -> Report {
    generator::run(plan).await.expect("a plan within bounds")
}

async fn free_listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

#[tokio::test]
async fn every_request_is_sent_once_and_counted() {
    let provider = provider().await;
    let report = run(plan(&chat_url(&provider.base_url()), 50)).await;
    assert_eq!((report.sent, report.good, report.bad), (50, 50, 0));
    assert_eq!(provider.counts().chat, 50);
    assert!(report.first_content.is_none() && report.per_second > 0.0);
}

#[tokio::test]
async fn streams_are_read_to_their_end() {
    let provider = provider().await;
    let mut streams = plan(&chat_url(&provider.base_url()), 20);
    streams.stream = true;
    streams.expected.events = Some(23);
    let report = run(streams.clone()).await;
    assert_eq!((report.good, report.bad), (20, 0));
    assert!(report.first_content.is_some());
    streams.expected.events = Some(22);
    assert_eq!(run(streams).await.wrong_replies.get("23 events"), Some(&20));
}

#[tokio::test]
async fn bad_replies_are_told_apart() {
    let provider = provider().await;
    provider.fail_next(3, Fault::Status(503));
    provider.fail_next(2, Fault::Close);
    provider.fail_next(4, Fault::Garbage);
    let report = run(plan(&chat_url(&provider.base_url()), 20)).await;
    assert_eq!(report.wrong_statuses.get(&503), Some(&3));
    assert_eq!(report.wrong_replies.get("no completion"), Some(&4));
    assert_eq!((report.broken, report.good, report.bad), (2, 11, 9));
    let mut strict = plan(&chat_url(&provider.base_url()), 5);
    strict.expected.header = Some(("x-ish-cache", "HIT"));
    assert_eq!(run(strict).await.wrong_replies.get("x-ish-cache: "), Some(&5));
}

#[tokio::test]
async fn an_open_loop_sends_at_its_rate_and_no_more() {
    let provider = provider().await;
    let mut open = plan(&chat_url(&provider.base_url()), generator::MAX_REQUESTS);
    open.rate = Some(100.0);
    open.duration = Duration::from_millis(200);
    let report = run(open).await;
    assert_eq!(report.bad, 0);
    assert!((1..=20).contains(&report.sent), "{}", report.sent);
}

#[tokio::test]
async fn replies_that_never_come_end_the_run_all_the_same() {
    let behaviour = Behaviour::with_fault(Fault::NoReply);
    let provider =
        Provider::start(ProviderOptions { behaviour, ..ProviderOptions::default() }).await.expect("a free port");
    let short = Duration::from_millis(20);
    let patient = plan(&chat_url(&provider.base_url()), 100);
    let report = run(Plan { duration: short, grace: short, ..patient }).await;
    assert_eq!((report.good, report.broken), (0, 4));
}

#[tokio::test]
async fn plans_out_of_bounds_are_refused() {
    let good = plan("http://127.0.0.1:1/", 1);
    for bad in [
        Plan { connections: 0, ..good.clone() },
        Plan { connections: generator::MAX_CONNECTIONS + 1, ..good.clone() },
        Plan { max_requests: 0, ..good.clone() },
        Plan { duration: Duration::from_hours(1), ..good.clone() },
        Plan { rate: Some(0.0), ..good },
    ] {
        assert!(generator::run(bad).await.is_err());
    }
}

#[tokio::test]
async fn the_proxy_floor_passes_requests_and_streams_through() {
    let provider = provider().await;
    let (listener, address) = free_listener().await;
    let upstream = format!("http://{}", provider.address());
    let serving = tokio::spawn(async move { floor::proxy(listener, &upstream).await });
    let url = format!("http://{address}/v1/chat/completions");
    assert_eq!(run(plan(&url, 10)).await.good, 10);
    let expected = Expected { events: Some(23), ..Expected::default() };
    assert_eq!(run(Plan { stream: true, expected, ..plan(&url, 10) }).await.good, 10);
    assert_eq!(provider.counts().chat, 20);
    assert_eq!(provider.log()[0].authorization(), Some("Bearer loadtest"));
    serving.abort();
}

#[tokio::test]
async fn the_fixed_floor_answers_both_ways() {
    let (listener, address) = free_listener().await;
    let serving = tokio::spawn(floor::fixed(listener));
    assert_eq!(run(plan(&format!("http://{address}/v1/chat/completions"), 10)).await.good, 10);
    let expected = Expected { events: Some(23), ..Expected::default() };
    let streams = plan(&format!("http://{address}/stream/v1/chat/completions"), 10);
    assert_eq!(run(Plan { stream: true, expected, ..streams }).await.good, 10);
    serving.abort();
}
