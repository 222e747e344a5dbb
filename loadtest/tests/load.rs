//! The generator counts what really happened, and the floors are what they say.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use loadtest::floor;
use loadtest::generator::{self, Expected, Mix, Plan, Prompts, Report, Target};
use loadtest::provider::{Behaviour, Fault, Provider, ProviderOptions, RunningProvider};
use tokio::net::TcpListener;

/// Ends by its number of requests; the duration is only a deadline.
fn plan(url: &str, requests: u64) -> Plan {
    let target = Target::parse(url).expect("a loopback URL");
    let plan = Plan::new(target, Prompts::Unique { salt: 1 }, Duration::from_secs(30));
    Plan { connections: 4, max_requests: requests, ..plan }
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
async fn what_could_not_be_sent_in_time_is_told() {
    // Each reply takes as long as the whole run: the one connection sends one request of ten.
    let behaviour = Behaviour { first_token: Duration::from_millis(200), ..Behaviour::default() };
    let provider =
        Provider::start(ProviderOptions { behaviour, ..ProviderOptions::default() }).await.expect("a free port");
    let open = plan(&chat_url(&provider.base_url()), generator::MAX_REQUESTS);
    let report = run(Plan { connections: 1, rate: Some(50.0), duration: Duration::from_millis(200), ..open }).await;
    assert_eq!(report.sent + report.unsent, 10, "{report:?}");
    assert!(report.good >= 1 && report.unsent >= 1 && report.success() < 1.0, "{report:?}");
}

#[tokio::test]
async fn a_refusal_is_told_apart_and_whether_it_says_when_to_come_back() {
    let provider = provider().await;
    provider.fail_next(3, Fault::Status(503));
    provider.fail_next(2, Fault::RateLimit { retry_after_seconds: 1 });
    let report = run(plan(&chat_url(&provider.base_url()), 20)).await;
    let refused = report.refused.expect("five refusals");
    assert_eq!((refused.count, refused.without_retry_after, report.bad), (5, 3, 5));
    let told: f64 = report.course.iter().map(|moment| moment.good_per_second).sum();
    assert!((told - 15.0).abs() < 0.01, "{:?}", report.course);
}

#[tokio::test]
async fn questions_in_other_words_are_answered_and_other_answers_are_found() {
    let provider = provider().await;
    let mix = |lines: &str| Prompts::Mixed(Mix::read(lines, 1.0, 3).expect("questions").into());
    let expected = Expected { kinds: Some("content-type"), ..Expected::default() };
    let asked = Plan { expected, ..plan(&chat_url(&provider.base_url()), 30) };
    let report = run(Plan { prompts: mix("why?\thow come?\nwhen?"), ..asked.clone() }).await;
    assert_eq!((report.good, report.kinds["application/json"].count), (30, 30), "{:?}", report.wrong_replies);
    // The fixed floor gives everybody one answer, to none of these.
    let (listener, address) = free_listener().await;
    let serving = tokio::spawn(floor::fixed(listener));
    let target = Target::of(address, "/v1/chat/completions");
    let wrong = run(Plan { target, prompts: mix("why?\nwhen?"), ..asked }).await;
    assert_eq!(wrong.wrong_replies.get("application/json: the answer to another question"), Some(&30));
    serving.abort();
}

#[tokio::test]
async fn any_method_and_any_body_can_be_sent() {
    let provider = provider().await;
    let models = plan(&format!("{}/models", provider.base_url()), 5);
    let expected = Expected { member: None, ..Expected::default() };
    let empty = Prompts::Body(bytes::Bytes::new());
    let got = Plan { method: http::Method::GET, prompts: empty, expected, ..models };
    assert_eq!(run(got.clone()).await.good, 5);
    assert_eq!(run(Plan { method: http::Method::POST, ..got }).await.good, 0);
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
        Plan { duration: Duration::from_hours(3), ..good.clone() },
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
