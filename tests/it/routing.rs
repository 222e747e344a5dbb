//! Routes over several providers: who is asked in which order, what follows a failure before the first token, the breaker,
//! places, and what it costs. How often each was asked, the providers' own logs say.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use http::Method;
use ish::config::{Config, PriceConfig, ProviderConfig, ProviderKind, RouteConfig, Strategy, TargetConfig, Timeouts};
use loadtest::provider::answer::answer_to;
use loadtest::provider::{Behaviour, Fault, Provider, ProviderOptions, RunningProvider};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Server, until};

/// A server with the route `pair` over its own provider and a second one.
pub struct Pair {
    pub server: Server,
    pub second: RunningProvider,
}

impl Pair {
    pub async fn start(strategy: Strategy, change: impl FnOnce(&mut Config)) -> Self {
        let second = Provider::start(ProviderOptions::default()).await.unwrap();
        let server = Server::start_with(|config| {
            pair_up(config, strategy, &second);
            change(config);
        })
        .await;
        Self { server, second }
    }

    /// The same with keys.
    pub async fn start_with_keys(strategy: Strategy, change: impl FnOnce(&mut Config)) -> Self {
        let second = Provider::start(ProviderOptions::default()).await.unwrap();
        let server = Server::start_with_keys_and(|config| {
            pair_up(config, strategy, &second);
            change(config);
        })
        .await;
        Self { server, second }
    }

    /// How many chat requests each provider has got.
    pub fn calls(&self) -> (usize, usize) {
        (self.server.upstream_calls(), usize::try_from(self.second.counts().chat).unwrap())
    }
}

fn pair_up(config: &mut Config, strategy: Strategy, second: &RunningProvider) {
    quick(config);
    config.providers.push(ProviderConfig {
        name: "second".to_owned(),
        kind: ProviderKind::OpenAi,
        base_url: second.base_url().parse().unwrap(),
        api_key: None,
        models: Vec::new(),
        timeouts: Timeouts::default(),
    });
    let targets = vec![target("openai"), target("second")];
    config.routes = vec![RouteConfig { name: "pair".to_owned(), strategy, targets }];
}

pub fn target(provider: &str) -> TargetConfig {
    TargetConfig {
        provider: provider.to_owned(),
        model: "mock".to_owned(),
        weight: NonZeroU32::MIN,
        max_in_flight: None,
        requests_per_minute: None,
        tokens_per_minute: None,
    }
}

/// Short waits between attempts; deadlines that no healthy provider misses, however busy the machine is.
pub fn quick(config: &mut Config) {
    config.upstream.first_token_timeout = Duration::from_secs(30);
    config.upstream.idle_timeout = Duration::from_secs(30);
    config.upstream.total_timeout = Duration::from_mins(1);
    config.routing.backoff = Duration::from_millis(10);
    config.routing.max_backoff = Duration::from_millis(20);
    config.cache.semantic = false;
}

fn asking_of(model: &str, prompt: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": prompt}]})
}

fn uncached(model: &str, prompt: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": prompt}], "cache": {"mode": "off"}})
}

/// What happens before the first token is between us and the providers.
#[tokio::test]
async fn a_fallback_before_the_first_token_is_silent() {
    let faults = [
        Fault::Close,
        Fault::Status(500),
        Fault::Status(529),
        Fault::Garbage,
        Fault::Status(404),
        Fault::Status(408),
        Fault::WrongContentType,
        Fault::EmptyChoices,
        Fault::Hang { after: 0 },
        Fault::Cut { after: 0 },
        Fault::ErrorEvent { after: 0 },
        Fault::NoReply,
    ];
    let pair = Pair::start(Strategy::Ordered, |config| {
        config.upstream.first_token_timeout = Duration::from_secs(2);
        config.upstream.whole_timeout = Duration::from_secs(2);
        config.routing.breaker_failures = NonZeroU32::MAX;
    })
    .await;
    for (number, fault) in faults.into_iter().enumerate() {
        falls_back(&pair, fault, asking_of("pair", &format!("Who is asked after fault {number}?"))).await;
        falls_back(&pair, fault, uncached("pair", &format!("Who passes on after fault {number}?"))).await;
        falls_back_whole(&pair, fault, &format!("Who tells it whole after fault {number}?")).await;
    }
    let again = pair.server.http().stream(&asking_of("pair", "Who is asked after fault 0?")).await.whole().await;
    assert_eq!(again.header("x-ish-cache"), "HIT", "its provider changed before the first token only");
    let fallbacks = &pair.server.metrics().provider_fallbacks;
    assert_eq!(fallbacks.with_label_values(&["openai/mock", "server_error", "before_first_token"]).get(), 4);
    assert!(fallbacks.with_label_values(&["openai/mock", "timeout_whole", "before_first_token"]).get() > 0);
    pair.server.stop().await;
}

async fn falls_back(pair: &Pair, fault: Fault, body: Value) {
    let (first, second) = pair.calls();
    pair.server.provider.fail_next(1, fault);
    let reply = pair.server.http().stream(&body).await.whole().await;
    let expected = answer_to(body["messages"][0]["content"].as_str().unwrap());
    assert_eq!((reply.status.as_u16(), reply.text()), (200, expected), "{fault:?}: {reply:?}");
    assert!(reply.error().is_null() && reply.events().last().unwrap() == "[DONE]", "{fault:?}");
    assert_eq!((reply.header("x-ish-provider"), pair.calls()), ("second", (first + 1, second + 1)), "{fault:?}");
}

async fn falls_back_whole(pair: &Pair, fault: Fault, prompt: &str) {
    let (first, second) = pair.calls();
    pair.server.provider.fail_next(1, fault);
    let reply = pair.server.http().chat(&asking_of("pair", prompt)).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, answer_to(prompt)), "{fault:?}: {reply:?}");
    assert_eq!((reply.header("x-ish-provider"), pair.calls()), ("second", (first + 1, second + 1)), "{fault:?}");
}

/// The last target has the whole time: there is nobody else whom its caller could have.
#[tokio::test]
async fn only_a_whole_answer_that_another_could_give_is_hurried() {
    let server = Server::start_with(|config| {
        quick(config);
        config.upstream.whole_timeout = Duration::from_millis(50);
    })
    .await;
    let reply = server.http().chat(&asking_of("mock", "May I take my time? [[first=300ms]]")).await;
    assert_eq!((reply.status.as_u16(), server.upstream_calls()), (200, 1));
    server.stop().await;
}

/// What one target has no word for, another may have; and what may pass is told before what does not.
#[tokio::test]
async fn a_target_that_lacks_a_word_is_passed_over() {
    let seeded = |model: &str, prompt: &str| {
        let mut body = uncached(model, prompt);
        body["seed"] = json!(1);
        body
    };
    let pair = Pair::start(Strategy::Ordered, |config| {
        config.providers[1].kind = ProviderKind::Anthropic;
        let targets = vec![target("second"), target("openai")];
        config.routes.push(RouteConfig { name: "riap".to_owned(), strategy: Strategy::Ordered, targets });
        let targets = vec![target("second")];
        config.routes.push(RouteConfig { name: "alone".to_owned(), strategy: Strategy::Ordered, targets });
    })
    .await;
    let http = pair.server.http();
    let reply = http.chat(&seeded("riap", "Who knows of seeds?")).await;
    assert_eq!((reply.header("x-ish-provider"), pair.calls()), ("openai", (1, 0)), "{reply:?}");
    pair.server.provider.fail_next(1, Fault::Status(500));
    let reply = http.chat(&seeded("pair", "Is the one that knows asked again?")).await;
    assert_eq!((reply.header("x-ish-provider"), pair.calls()), ("openai", (3, 0)), "{reply:?}");
    pair.server.provider.fail_next(3, Fault::Status(500));
    let failed = http.chat(&seeded("pair", "What is told of an outage?")).await;
    assert_eq!((failed.status.as_u16(), failed.header("x-should-retry")), (502, ""), "{failed:?}");
    let lacking = http.chat(&seeded("alone", "And where nobody knows?")).await;
    assert_eq!((lacking.status.as_u16(), &lacking.json()["error"]["param"]), (400, &json!("seed")));
    pair.server.stop().await;
}

/// An open breaker passes; a request that the others have no word for should come again then.
#[tokio::test]
async fn a_target_that_is_left_alone_counts_more_than_one_that_lacks_a_word() {
    let pair = Pair::start(Strategy::Ordered, |config| {
        config.providers[1].kind = ProviderKind::Anthropic;
        config.routing.max_retries = 0;
        config.routing.breaker_failures = NonZeroU32::MIN;
        config.routing.breaker_open = Duration::from_mins(10);
        config.routing.breaker_max_open = Duration::from_mins(10);
    })
    .await;
    let mut body = uncached("pair", "Who is left?");
    body["seed"] = json!(1);
    pair.server.provider.fail_next(1, Fault::Status(500));
    assert_eq!(pair.server.http().chat(&body).await.status, 502);
    let refused = pair.server.http().chat(&body).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["code"]), (503, &json!("upstream_unavailable")));
    pair.server.stop().await;
}

/// One that has asked for patience, whose money is spent or that refuses our key, is asked last for a while.
#[tokio::test]
async fn a_target_that_asks_for_patience_stands_behind_the_others() {
    for (fault, kind) in [
        (Fault::InsufficientQuota, "spend_limit"),
        (Fault::LowCredit, "spend_limit"),
        (Fault::Status(401), "rejected"),
        (Fault::RateLimit { retry_after_seconds: 60 }, "rate_limited"),
    ] {
        let pair = Pair::start(Strategy::Ordered, |_| ()).await;
        falls_back(&pair, fault, asking_of("pair", "Who has money and time?")).await;
        let next = pair.server.http().chat(&asking_of("pair", "Who is asked first now?")).await;
        assert_eq!((next.header("x-ish-provider"), pair.calls()), ("second", (1, 2)), "{fault:?}");
        let told = row(&pair.server, "openai/mock").await;
        assert!(told["behind"] == kind && told["behind_ms"].as_u64() <= Some(60_000), "{fault:?}: {told}");
        assert!(row(&pair.server, "second/mock").await["behind"].is_null());
        pair.server.stop().await;
    }
}

#[tokio::test]
async fn a_whole_answer_falls_back_too_and_a_rejected_request_does_not() {
    let pair = Pair::start(Strategy::Ordered, |_| ()).await;
    pair.server.provider.fail_next(1, Fault::Status(503));
    let reply = pair.server.http().chat(&asking_of("pair", "Who is next?")).await;
    assert_eq!((reply.text(), reply.header("x-ish-provider")), (answer_to("Who is next?"), "second"));
    pair.server.provider.fail_next(1, Fault::Status(400));
    let rejected = pair.server.http().chat(&asking_of("pair", "Is this allowed?")).await;
    assert_eq!((rejected.status.as_u16(), pair.calls()), (400, (2, 1)));
    pair.server.stop().await;
}

#[tokio::test]
async fn a_failure_is_retried_as_often_as_the_settings_say() {
    let server = Server::start_with(quick).await;
    server.provider.fail_next(2, Fault::Status(500));
    let reply = server.http().chat(&asking_of("mock", "Will it work in the end?")).await;
    assert_eq!((reply.status.as_u16(), server.upstream_calls()), (200, 3));
    server.provider.fail_next(3, Fault::Cut { after: 0 });
    let reply = server.http().stream(&asking_of("mock", "Will it ever work?")).await.whole().await;
    assert_eq!((reply.status.as_u16(), server.upstream_calls()), (502, 6));
    for fault in [Fault::Status(400), Fault::Status(404), Fault::InsufficientQuota] {
        let before = server.upstream_calls();
        server.provider.fail_next(1, fault);
        let reply = server.http().chat(&asking_of("mock", &format!("Is it {fault:?}?"))).await;
        assert!(reply.status.is_client_error());
        assert_eq!(server.upstream_calls(), before + 1, "{fault:?} is not asked again");
    }
    server.stop().await;
}

#[tokio::test]
async fn retry_after_is_waited_out_or_passed_on() {
    let server = Server::start_with(quick).await;
    server.provider.fail_next(1, Fault::RateLimit { retry_after_seconds: 1 });
    let reply = server.http().chat(&asking_of("mock", "Is a second long?")).await;
    assert_eq!(reply.status, 200);
    let log = server.provider.log();
    let gap = log[1].arrived.duration_since(log[0].arrived);
    assert!(gap >= Duration::from_millis(950), "asked again after {gap:?}");
    server.provider.fail_next(1, Fault::RateLimit { retry_after_seconds: 11 });
    let reply = server.http().chat(&asking_of("mock", "Are eleven?")).await;
    assert_eq!((reply.status.as_u16(), reply.header("retry-after"), server.upstream_calls()), (429, "11", 3));
    // It holds for who comes next, too, and not for the target's neighbours.
    let next = server.http().chat(&asking_of("mock", "Is it over yet?")).await;
    let wait: u64 = next.header("retry-after").parse().unwrap();
    assert_eq!((next.status.as_u16(), &next.json()["error"]["code"]), (429, &json!("rate_limit_exceeded")));
    assert!((1..=11).contains(&wait) && server.upstream_calls() == 3, "{next:?}");
    assert_eq!(server.http().chat(&asking_of("mock-alt", "Are you free?")).await.status, 200);
    server.stop().await;
}

/// By the provider's own log: an outage is not made worse than the budget allows.
#[tokio::test]
async fn retries_stay_within_the_budget_under_a_total_outage() {
    const REQUESTS: usize = 200;
    let server = Server::start_with(|config| {
        quick(config);
        config.routing.breaker_failures = NonZeroU32::MAX;
    })
    .await;
    server.provider.set_behaviour(Behaviour::with_fault(Fault::Status(500)));
    let mut asked = JoinSet::new();
    for number in 0..REQUESTS {
        let http = server.http();
        asked.spawn(async move { http.chat(&asking_of("mock", &format!("Outage {number}?"))).await.status.as_u16() });
    }
    assert!(asked.join_all().await.into_iter().all(|status| status == 502));
    let retries = server.upstream_calls() - REQUESTS;
    assert!(retries > 0, "some are made");
    assert!(retries <= REQUESTS / 5, "{retries} retries of {REQUESTS} requests");
    assert!(server.metrics().provider_retries_refused.with_label_values(&["openai/mock"]).get() > 0);
    server.stop().await;
}

async fn row(server: &Server, target: &str) -> Value {
    let status = server.http().get("/api/status").await.json();
    let found = status["targets"].as_array().unwrap().iter().find(|row| row["target"] == target).cloned();
    found.unwrap_or_else(|| panic!("{target} in {status}"))
}

async fn state(server: &Server, target: &str) -> String {
    row(server, target).await["state"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_target_that_fails_too_often_is_left_alone_and_comes_back_by_a_probe() {
    let server = Server::start_with(|config| {
        quick(config);
        config.routing.max_retries = 0;
        config.routing.breaker_failures = NonZeroU32::new(3).unwrap();
        config.routing.breaker_open = Duration::from_mins(10);
        config.routing.breaker_max_open = Duration::from_mins(10);
    })
    .await;
    server.provider.fail_next(3, Fault::Status(500));
    for number in 0..3 {
        assert_eq!(server.http().chat(&asking_of("mock", &format!("Failure {number}?"))).await.status, 502);
    }
    let refused = server.http().chat(&asking_of("mock", "Is it open?")).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["code"]), (503, &json!("upstream_unavailable")));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=600).contains(&wait) && server.upstream_calls() == 3, "{refused:?}");
    assert_eq!(state(&server, "openai/mock").await, "open");
    // Its neighbour is well, and so is what the configuration does not name.
    assert_eq!(server.http().chat(&asking_of("openai/mock-alt", "Are you well?")).await.status, 200);
    assert_eq!(server.http().chat(&asking_of("openai/unnamed", "Are you?")).await.status, 200);
    let metrics = String::from_utf8(server.http().get("/metrics").await.body.to_vec()).unwrap();
    assert!(metrics.contains(r#"ish_target_breaker_state{target="openai/mock"} 2"#), "{metrics}");

    let server = server.restart_with(|config| {
        quick(config);
        config.routing.max_retries = 0;
        config.routing.breaker_failures = NonZeroU32::MIN;
        config.routing.breaker_open = Duration::from_millis(20);
    });
    let server = server.await;
    server.provider.fail_next(1, Fault::Status(500));
    assert_eq!(server.http().chat(&asking_of("mock", "The only failure?")).await.status, 502);
    let mut number = 0;
    loop {
        number += 1;
        let reply = server.http().chat(&asking_of("mock", &format!("Is it closed yet? {number}"))).await;
        if reply.status == 200 {
            break;
        }
        assert_eq!(reply.status, 503);
    }
    assert_eq!(state(&server, "openai/mock").await, "closed");
    let transitions = &server.metrics().breaker_transitions;
    for to in ["open", "half_open", "closed"] {
        assert_eq!(transitions.with_label_values(&["openai/mock", to]).get(), 1, "{to}");
    }
    server.stop().await;
}

/// What the configuration does not name fails on its own: one model of a provider, and not its others.
#[tokio::test]
async fn a_model_without_a_name_in_the_configuration_has_a_breaker_of_its_own() {
    let server = Server::start_with(|config| {
        quick(config);
        config.routing.max_retries = 0;
        config.routing.breaker_failures = NonZeroU32::new(2).unwrap();
        config.routing.breaker_open = Duration::from_mins(10);
        config.routing.breaker_max_open = Duration::from_mins(10);
    })
    .await;
    server.provider.fail_next(2, Fault::Status(500));
    for number in 0..2 {
        assert_eq!(server.http().chat(&asking_of("openai/bad", &format!("Failure {number}?"))).await.status, 502);
    }
    assert_eq!(server.http().chat(&asking_of("openai/bad", "Is it open?")).await.status, 503);
    assert_eq!(server.upstream_calls(), 2);
    assert_eq!(server.http().chat(&asking_of("openai/good", "Are you well?")).await.status, 200);
    assert_eq!(
        server.http().chat(&asking_of("openai/bad", "Still?")).await.status,
        503,
        "its neighbour does not help it"
    );
    assert_eq!(state(&server, "openai/*").await, "open", "the worst of them is shown");
    let metrics = String::from_utf8(server.http().get("/metrics").await.body.to_vec()).unwrap();
    assert!(metrics.contains(r#"ish_target_breaker_state{target="openai/*"} 2"#), "{metrics}");
    assert!(!metrics.contains("openai/bad"), "what callers make up is no label: {metrics}");
    server.stop().await;
}

/// A request that is at fault says nothing about the target, however often it comes.
#[tokio::test]
async fn rejected_requests_do_not_open_a_breaker() {
    let server = Server::start_with(|config| {
        quick(config);
        config.routing.breaker_failures = NonZeroU32::MIN;
    })
    .await;
    for (number, fault) in [Fault::Status(400), Fault::Status(404), Fault::InsufficientQuota].into_iter().enumerate() {
        server.provider.fail_next(1, fault);
        assert!(server.http().chat(&asking_of("mock", &format!("At fault {number}?"))).await.status.is_client_error());
    }
    assert_eq!(server.http().chat(&asking_of("mock", "And now?")).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_full_target_overflows_to_the_next() {
    let pair = Pair::start(Strategy::Ordered, |config| {
        config.routes[0].targets[0].max_in_flight = NonZeroUsize::new(1);
    })
    .await;
    pair.server.provider.hold_after(2);
    let held = pair.server.http().begin_chat(&uncached("pair", "Hold the only place."));
    pair.server.provider.wait_until_held(1).await;
    let reply = pair.server.http().chat(&uncached("pair", "Is there another place?")).await;
    assert_eq!((reply.status.as_u16(), reply.header("x-ish-provider")), (200, "second"));
    pair.server.provider.release();
    assert_eq!(held.reply().await.status, 200);
    assert_eq!(pair.calls(), (1, 1));
    pair.server.stop().await;
}

/// What a target may be asked in a minute is asked of it, and no more.
#[tokio::test]
async fn a_target_whose_rate_is_used_up_overflows_to_the_next() {
    type Change = fn(&mut TargetConfig);
    let changes: [Change; 2] = [
        |target| target.requests_per_minute = Some(NonZeroU32::MIN),
        |target| target.tokens_per_minute = Some(NonZeroU32::MIN),
    ];
    for change in changes {
        let pair = Pair::start(Strategy::Ordered, |config| change(&mut config.routes[0].targets[0])).await;
        for (number, by) in ["openai", "second", "second"].into_iter().enumerate() {
            let reply = pair.server.http().chat(&uncached("pair", &format!("Whose minute is it, {number}?"))).await;
            assert_eq!((reply.status.as_u16(), reply.header("x-ish-provider")), (200, by));
        }
        pair.server.stop().await;
    }
    let pair = Pair::start(Strategy::Ordered, |config| {
        config.routes[0].targets.truncate(1);
        config.routes[0].targets[0].requests_per_minute = Some(NonZeroU32::MIN);
        config.routing.queue_timeout = Duration::from_millis(50);
    })
    .await;
    assert_eq!(pair.server.http().chat(&uncached("pair", "Who is the one?")).await.status, 200);
    let told = pair.server.http().chat(&uncached("pair", "Who is too many?")).await;
    assert_eq!((told.status.as_u16(), &told.json()["error"]["code"]), (503, &json!("upstream_overloaded")));
    pair.server.stop().await;
}

#[tokio::test]
async fn a_provider_has_its_own_patience() {
    let pair = Pair::start(Strategy::Ordered, |config| {
        config.providers[0].timeouts.first_token = Some(Duration::from_millis(500));
        config.providers[0].timeouts.whole = Some(Duration::from_millis(500));
    })
    .await;
    falls_back(&pair, Fault::NoReply, asking_of("pair", "Who is quicker?")).await;
    falls_back_whole(&pair, Fault::NoReply, "Who is quicker with the whole?").await;
    pair.server.stop().await;
}

/// Whole answers tell nothing of first tokens.
#[tokio::test]
async fn latency_is_that_of_streams() {
    let server = Server::start_with(quick).await;
    server.http().chat(&uncached("mock", "How long does it all take?")).await;
    assert!(row(&server, "openai/mock").await["latency_ms"].is_null());
    server.http().stream(&uncached("mock", "How long is it to the first token?")).await.whole().await;
    assert!(row(&server, "openai/mock").await["latency_ms"].is_number());
    server.stop().await;
}

#[tokio::test]
async fn without_a_next_target_a_request_waits_for_a_place_or_is_told_to_come_back() {
    let bounded = |config: &mut Config| {
        quick(config);
        config.routing.max_in_flight = NonZeroUsize::new(1);
    };
    let server = Server::start_with(|config| {
        bounded(config);
        config.routing.queue_timeout = Duration::from_millis(50);
    })
    .await;
    server.provider.hold_after(2);
    let held = server.http().begin_chat(&uncached("mock", "Hold the only place."));
    server.provider.wait_until_held(1).await;
    let told = server.http().chat(&uncached("mock", "Is there room?")).await;
    assert_eq!((told.status.as_u16(), &told.json()["error"]["code"]), (503, &json!("upstream_overloaded")));
    assert_eq!((told.header("retry-after"), server.upstream_calls()), ("1", 1));
    server.provider.release();
    assert_eq!(held.reply().await.status, 200);

    let server = server.restart_with(|config| {
        bounded(config);
        config.routing.queue_timeout = Duration::from_secs(30);
    });
    let server = server.await;
    server.provider.hold_after(2);
    let before = server.upstream_calls();
    let held = server.http().begin_chat(&uncached("mock", "Hold the only place again."));
    server.provider.wait_until_held(1).await;
    let waiting = server.http().begin_chat(&uncached("mock", "Wait for it."));
    let streamed = server.http().begin_chat(&json!({"model": "mock", "stream": true, "cache": {"mode": "off"},
        "messages": [{"role": "user", "content": "Wait for it, too."}]}));
    server.provider.release();
    for reply in [held.reply().await, waiting.reply().await, streamed.reply().await] {
        assert_eq!(reply.status, 200);
    }
    assert_eq!(server.upstream_calls(), before + 3);
    let idle = || (server.metrics().target_in_flight.with_label_values(&["openai/mock"]).get() == 0).then_some(());
    until("every place given back", idle).await;
    server.stop().await;
}

#[tokio::test]
async fn a_caller_that_leaves_gives_its_place_back() {
    let server = Server::start_with(|config| {
        quick(config);
        config.routing.max_in_flight = NonZeroUsize::new(1);
        config.routing.queue_timeout = Duration::from_secs(30);
    })
    .await;
    server.provider.hold_after(2);
    let mut left = server.http().stream(&uncached("mock", "I will leave.")).await;
    left.first_text().await;
    drop(left);
    server.provider.release();
    assert_eq!(server.http().chat(&uncached("mock", "Is the place free?")).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn strategies_say_who_is_first() {
    let pair = Pair::start(Strategy::RoundRobin, |_| ()).await;
    for number in 0..6 {
        pair.server.http().chat(&uncached("pair", &format!("Whose turn is it, {number}?"))).await;
    }
    assert_eq!(pair.calls(), (3, 3));
    pair.server.stop().await;

    let pair = Pair::start(Strategy::LeastInFlight, |_| ()).await;
    pair.server.provider.hold_after(2);
    let held = pair.server.http().begin_chat(&uncached("pair", "Keep the first one busy."));
    pair.server.provider.wait_until_held(1).await;
    for number in 0..3 {
        pair.server.http().chat(&uncached("pair", &format!("Who is idle, {number}?"))).await;
    }
    assert_eq!(pair.calls(), (1, 3));
    pair.server.provider.release();
    held.reply().await;
    pair.server.stop().await;
}

/// The shares themselves are exact, and shown in `providers::route`; here, that the configuration reaches them.
#[tokio::test]
async fn weights_and_latencies_decide() {
    let pair = Pair::start(Strategy::Weighted, |config| config.routes[0].targets[1].weight = NonZeroU32::MAX).await;
    for number in 0..8 {
        pair.server.http().chat(&uncached("pair", &format!("Who has all the weight, {number}?"))).await;
    }
    assert_eq!(pair.calls(), (0, 8), "one of four thousand millions goes to the other");
    pair.server.stop().await;

    let pair = Pair::start(Strategy::LowestLatency, |_| ()).await;
    for first in [200, 0] {
        let prompt = format!("Who was never asked? [[first={first}ms]]");
        pair.server.http().stream(&uncached("pair", &prompt)).await.whole().await;
    }
    assert_eq!(pair.calls(), (1, 1));
    let slow = row(&pair.server, "openai/mock").await;
    assert!(slow["latency_ms"].as_f64() >= Some(200.0), "{slow}");
    pair.server.stop().await;
}

#[tokio::test]
async fn a_route_is_a_model_of_its_own() {
    let pair = Pair::start(Strategy::Ordered, |_| ()).await;
    let models = pair.server.http().get("/v1/models").await.json();
    assert_eq!(models["data"][0]["id"], "pair", "{models}");
    let ids: Vec<&str> = models["data"].as_array().unwrap().iter().filter_map(|model| model["id"].as_str()).collect();
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "each name once: {ids:?}");
    assert!(["mock", "second/mock"].iter().all(|name| ids.contains(name)), "{ids:?}");
    assert_eq!(pair.server.http().get("/v1/models/pair").await.json()["owned_by"], "openai");
    pair.server.stop().await;
}

fn priced(config: &mut Config) {
    quick(config);
    let price = |model: &str| PriceConfig {
        model: model.to_owned(),
        input: 1e6,
        output: 1e6,
        cached_input: None,
        cache_write: None,
    };
    config.prices = vec![price("openai/mock")];
}

/// Whatever way an answer takes, its tokens and its cost are counted, once.
#[tokio::test]
async fn what_an_answer_costs_is_counted_on_every_way() {
    let server = Server::start_with(priced).await;
    let mut expected = 0.0;
    for (number, body) in [asking_of, uncached].into_iter().enumerate() {
        let mut body = body("mock", &format!("What does this cost, {number}?"));
        let whole = server.http().chat(&body).await;
        let usage = whole.json()["usage"].clone();
        let cost = usage["total_tokens"].as_f64().unwrap();
        let told: f64 = whole.header("x-ish-cost-usd").parse().unwrap();
        assert!((told - cost).abs() < 1e-6, "{told} for {usage}");
        expected += cost;
        body["stream_options"] = json!({"include_usage": true});
        body["messages"][0]["content"] = json!(format!("What does a stream cost, {number}?"));
        let streamed = server.http().stream(&body).await.whole().await;
        let counted = streamed.chunks().into_iter().find(|chunk| chunk["usage"].is_object()).unwrap();
        let cost = counted["usage"]["total_tokens"].as_f64().unwrap();
        let text = String::from_utf8(streamed.body.to_vec()).unwrap();
        assert!(text.ends_with(&format!(": x-ish-cost-usd {cost}\n\ndata: [DONE]\n\n")), "{text}");
        assert_eq!(streamed.header("x-ish-cost-usd"), "", "a stream's cost is known at its end");
        expected += cost;
    }
    let counted = || server.metrics().provider_cost_usd.with_label_values(&["openai/mock"]).get();
    until("the cost", || ((counted() - expected).abs() < 0.001).then_some(())).await;
    let mut socket = server.socket().await;
    let (_, answer) = socket.ask_whole("a", "What does a stored answer cost?").await;
    let done = answer.end.unwrap();
    let tokens = done["usage"]["input_tokens"].as_f64().unwrap() + done["usage"]["output_tokens"].as_f64().unwrap();
    assert_eq!((&done["cache"]["provider"], &done["cache"]["cost_usd"]), (&json!("openai"), &json!(tokens)), "{done}");
    drop(socket);
    server.stop().await;
}

/// Server-sent events have comments for it, lines of JSON a member of the last one.
#[tokio::test]
async fn a_stream_tells_its_cost_in_every_dialect() {
    let server = Server::start_with(priced).await;
    let turns = |prompt: &str| json!([{"role": "user", "content": prompt}]);
    let anthropic =
        json!({"model": "mock", "max_tokens": 64, "messages": turns("Who pays Anthropic?"), "stream": true});
    let responses = json!({"model": "mock", "input": "Who pays for a response?", "stream": true});
    for (path, body, end) in
        [("/v1/messages", anthropic, "event: message_stop"), ("/v1/responses", responses, "event: response.completed")]
    {
        let reply = server.http().open(Method::POST, path, body.to_string()).await.whole().await;
        let text = String::from_utf8(reply.body.to_vec()).unwrap();
        let (before, _) = text.split_once(end).unwrap_or_else(|| panic!("{text}"));
        let (_, cost) = before.rsplit_once("\n\n: x-ish-cost-usd ").unwrap_or_else(|| panic!("{text}"));
        assert!(cost.lines().next().unwrap().parse::<f64>().unwrap() > 1.0, "{text}");
        assert_eq!(reply.header("x-ish-cost-usd"), "");
    }
    let ollama = json!({"model": "mock", "messages": turns("Who pays Ollama?")});
    let lines = server.http().open(Method::POST, "/api/chat", ollama.to_string()).await.whole().await.lines();
    let last = lines.last().unwrap();
    let tokens = last["prompt_eval_count"].as_f64().unwrap() + last["eval_count"].as_f64().unwrap();
    assert_eq!(last["ish"], json!({"cost_usd": tokens}), "{last}");
    let again = server.http().open(Method::POST, "/api/chat", ollama.to_string()).await.whole().await.lines();
    let hit = &again.last().unwrap()["ish"];
    assert_eq!((&hit["cache"]["status"], &hit["cost_usd"]), (&json!("hit"), &Value::Null), "a hit costs nothing");
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_price_leaves_no_figure() {
    let server = Server::start_with(priced).await;
    let reply = server.http().chat(&asking_of("openai/unnamed", "What does nobody know?")).await;
    assert_eq!((reply.header("x-ish-provider"), reply.header("x-ish-cost-usd")), ("openai", ""));
    let metrics = String::from_utf8(server.http().get("/metrics").await.body.to_vec()).unwrap();
    assert!(!metrics.contains("ish_provider_cost_usd_total"), "{metrics}");
    server.stop().await;
}
