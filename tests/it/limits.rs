//! Limits as clients meet them: over HTTP and the WebSocket, by key and by address.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::{Duration, Instant};

use http::Method;
use ish::config::{Config, LimitsConfig, PriceConfig, Strategy};
use loadtest::provider::answer::answer_to;
use loadtest::provider::{Fault, Provider, ProviderOptions};
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Answer, Http, Process, Reply, Server, Socket, asking, soon, until};
use crate::routing::Pair;

/// Requests in a minute, and so many at once; nothing else is limited.
fn requests(per_minute: u32, burst: u32) -> LimitsConfig {
    LimitsConfig {
        requests_per_minute: NonZeroU32::new(per_minute),
        request_burst: NonZeroU32::new(burst),
        ..LimitsConfig::default()
    }
}

async fn limited(limits: LimitsConfig) -> Server {
    Server::start_with(|config| config.limits = limits).await
}

/// A key with this allowance.
async fn key(server: &Server, allowance: Value) -> (String, String) {
    let mut wish = json!({"name": "a test's", "tenant": "acme"});
    wish.as_object_mut().unwrap().extend(allowance.as_object().unwrap().clone());
    let made = server.http().with_key(ADMIN_KEY).post("/api/admin/keys", &wish).await;
    assert_eq!(made.status, 201, "{made:?}");
    let said = |name: &str| made.json()[name].as_str().unwrap().to_owned();
    (said("id"), said("key"))
}

/// Having the cache or the search at work is a request too.
#[tokio::test]
async fn explaining_reporting_and_searching_count() {
    let server = Server::start_with_keys().await;
    let explain = json!({"prompt": "What is counted?", "model": "mock"});
    let wrong = json!({"key": "0".repeat(64), "verdict": "wrong"});
    for one in 0..3 {
        let (_, bearer) = key(&server, json!({"requests_per_minute": 1})).await;
        let http = server.http().with_key(&bearer);
        let ask = async |which: usize| match which % 3 {
            0 => http.post("/api/cache/explain", &explain).await,
            1 => http.post("/api/cache/feedback", &wrong).await,
            _ => http.get("/api/sessions?q=counted").await,
        };
        assert_eq!(ask(one).await.status, 200);
        assert_too_many(&ask(one).await);
        assert_too_many(&ask(one + 1).await);
        assert_eq!(http.get("/api/sessions").await.status, 200, "a list is no work");
    }
    server.stop().await;
}

fn assert_too_many(reply: &Reply) {
    assert_eq!(reply.status, 429, "{reply:?}");
    let (seconds, ms) = (reply.header("retry-after"), reply.header("retry-after-ms"));
    let (seconds, ms): (u64, u64) = (seconds.parse().unwrap(), ms.parse().unwrap());
    assert!(seconds * 1_000 >= ms && ms > 0, "{reply:?}");
    assert_eq!(reply.header("x-should-retry"), "", "official clients try again");
}

#[tokio::test]
async fn a_key_is_told_what_is_left_and_when_to_come_back() {
    let server = limited(requests(2, 2)).await;
    let first = server.http().chat(&asking("What is left?")).await;
    assert_eq!(first.status, 200);
    let left = |reply: &Reply| {
        let header = |name: &str| reply.header(&format!("x-ratelimit-{name}-requests")).to_owned();
        (header("limit"), header("remaining"))
    };
    assert_eq!(left(&first), ("2".to_owned(), "1".to_owned()));
    assert!(first.header("x-ratelimit-reset-requests").ends_with('s'));
    assert_eq!(first.header("x-ratelimit-limit-tokens"), "", "what is not limited is not spoken of");
    let hit = server.http().stream(&asking("What is left?")).await.whole().await;
    assert_eq!((hit.header("x-ish-cache"), left(&hit).1.as_str()), ("HIT", "0"), "a cached answer is a request too");
    let refused = server.http().chat(&asking("What is left?")).await;
    assert_too_many(&refused);
    let error = &refused.json()["error"];
    assert_eq!((&error["code"], &error["type"]), (&json!("rate_limit_exceeded"), &json!("requests")));
    assert_eq!(left(&refused), ("2".to_owned(), "0".to_owned()));
    let problem = server.http().post("/api/chat", &json!({"message": "Hello?"})).await;
    assert_too_many(&problem);
    assert_eq!(problem.json()["code"], "rate_limit_exceeded");
    for path in ["/v1/models", "/api/sessions", "/api/status", "/livez", "/metrics"] {
        assert_eq!(server.http().get(path).await.status, 200, "{path}: only what makes work counts");
    }
    let metrics = String::from_utf8(server.http().get("/metrics").await.body.to_vec()).unwrap();
    assert!(metrics.contains("ish_limits_refused_total{reason=\"requests\"} 2"), "{metrics}");
    assert_eq!(server.upstream_calls(), 1);
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_said_where_nothing_is_limited() {
    let server = Server::start().await;
    let reply = server.http().chat(&asking("Is there a limit?")).await;
    let spoken: Vec<_> = reply.headers.keys().filter(|name| name.as_str().starts_with("x-ratelimit")).collect();
    assert!(spoken.is_empty(), "{spoken:?}");
    server.stop().await;
}

#[tokio::test]
async fn no_more_is_served_than_burst_and_rate_times_time() {
    let (per_minute, burst) = (1_200, 7);
    let server = limited(requests(per_minute, burst)).await;
    let begun = Instant::now();
    let asked = (0..20).map(|_| async {
        let mut served = 0_u32;
        for _ in 0..10 {
            let reply = server.http().chat(&asking("How many of these are served?")).await;
            assert!(matches!(reply.status.as_u16(), 200 | 429), "{reply:?}");
            served += u32::from(reply.status == 200);
        }
        served
    });
    let served: u32 = futures_util::future::join_all(asked).await.into_iter().sum();
    let bound = f64::from(burst) + f64::from(per_minute) / 60.0 * begun.elapsed().as_secs_f64();
    assert!(f64::from(served) <= bound, "{served} > {bound}");
    assert!(served >= burst);
    server.stop().await;
}

#[tokio::test]
async fn a_frame_that_asks_counts_as_a_request() {
    let server = limited(requests(1, 2)).await;
    let mut socket = server.socket().await;
    let (ack, answer) = socket.ask_whole("a", "Is this counted?").await;
    assert_eq!(answer.ending(), "done");
    assert_eq!(server.http().chat(&asking("And this?")).await.status, 200);
    socket.say(json!({"type": "send", "id": "b", "content": "And this?"})).await;
    let refused = socket.hear().await;
    assert_eq!(
        (&refused["type"], &refused["id"], &refused["code"], &refused["retryable"]),
        (&json!("error"), &json!("b"), &json!("rate_limit_exceeded"), &json!(true))
    );
    assert!(refused["retry_after_ms"].as_u64() > Some(0), "{refused}");
    socket.say(json!({"type": "regenerate", "id": "c", "message": ack.reply})).await;
    assert_eq!(socket.hear().await["code"], "rate_limit_exceeded");
    socket.say(json!({"type": "ping"})).await;
    assert_eq!(socket.hear().await["type"], "pong", "the socket lives on");
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_key_has_rates_of_its_own_that_can_be_changed() {
    let server = Server::start_with_keys_and(|config| config.limits = requests(100, 100)).await;
    let (id, bearer) = key(&server, json!({"requests_per_minute": 1})).await;
    let (holder, admin) = (server.http().with_key(&bearer), server.http().with_key(ADMIN_KEY));
    assert_eq!(holder.chat(&asking("Once?")).await.status, 200);
    assert_too_many(&holder.chat(&asking("Twice?")).await);
    let other = server.http().with_key(&server.new_key("acme").await);
    assert_eq!(other.chat(&asking("Once?")).await.header("x-ratelimit-limit-requests"), "100");
    let path = format!("/api/admin/keys/{id}");
    let change = |wish: Value| {
        let (admin, path) = (admin.clone(), path.clone());
        async move { admin.send(http::Method::PATCH, &path, wish.to_string()).await }
    };
    let changed = change(json!({"requests_per_minute": 2})).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["requests_per_minute"]), (200, &json!(2)));
    let refused = holder.chat(&asking("Thrice?")).await;
    assert_too_many(&refused);
    assert_eq!(refused.header("x-ratelimit-limit-requests"), "2");
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), "0", "what was used stays used");
    let taken_away = change(json!({"requests_per_minute": null})).await;
    assert_eq!(taken_away.json()["requests_per_minute"], Value::Null);
    let again = soon("a request of the new rate", async {
        loop {
            let reply = holder.chat(&asking("Again?")).await;
            if reply.status == 200 {
                return reply;
            }
        }
    });
    assert_eq!(again.await.header("x-ratelimit-limit-requests"), "100");
    for wrong in [
        json!({"requests_per_minute": 0}),
        json!({"budget_usd": -1}),
        json!({"rate": 5}),
        json!({"budget_period": "week"}),
    ] {
        assert_eq!(change(wrong.clone()).await.status, 400, "{wrong}");
    }
    assert_eq!(
        admin.send(http::Method::PATCH, &format!("/api/admin/keys/{}", uuid::Uuid::nil()), "{}").await.status,
        404
    );
    assert_eq!(holder.send(http::Method::PATCH, &path, "{}").await.status, 403);
    let listed = admin.get("/api/admin/keys").await.json();
    let listed = listed["data"].as_array().unwrap().iter().find(|listed| listed["id"] == id.as_str()).unwrap().clone();
    assert_eq!((&listed["requests_per_minute"], &listed["budget_usd"]), (&Value::Null, &Value::Null));
    server.stop().await;
}

/// A socket does not hear of a change before its next heartbeat; it asks by the new rule nevertheless.
#[tokio::test]
async fn a_socket_that_has_not_heard_of_a_change_does_not_undo_it() {
    let server = Server::start_with_keys().await;
    let (id, bearer) = key(&server, json!({"requests_per_minute": 1, "request_burst": 50})).await;
    let hello = json!({"type": "hello", "protocol": 1, "token": bearer});
    let (mut socket, _) = Socket::greeted_with(server.address, hello).await;
    let admin = server.http().with_key(ADMIN_KEY);
    let wish = json!({"request_burst": 2}).to_string();
    assert_eq!(admin.send(Method::PATCH, &format!("/api/admin/keys/{id}"), wish).await.status, 200);
    let holder = server.http().with_key(&bearer);
    let mut served = 0;
    for round in 0..4 {
        served += u32::from(holder.chat(&asking("Which burst holds?")).await.status == 200);
        socket.say(json!({"type": "send", "id": format!("r{round}"), "content": "Which burst holds?"})).await;
        let said = loop {
            let said = socket.hear().await;
            if said["id"] == format!("r{round}") {
                break said;
            }
        };
        served += u32::from(said["type"] == "ack");
        if let Some(stream) = said["stream"].as_str() {
            socket.answer(stream).await;
        }
    }
    assert_eq!(served, 2);
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn an_address_has_a_rate_and_only_a_trusted_proxy_names_it() {
    let limits = LimitsConfig {
        address_requests_per_minute: NonZeroU32::new(1),
        address_burst: NonZeroU32::new(2),
        ..LimitsConfig::default()
    };
    let server = Server::start_with_keys_and(|config| {
        config.limits = limits;
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let from = |address: &str| server.http().with("x-forwarded-for", address);
    let guess = |client: Http| async move { client.with_key("ish_a_guess").get("/v1/models").await };
    assert_eq!(guess(from("203.0.113.1")).await.status, 401);
    assert_eq!(guess(from("198.51.100.9, 203.0.113.1")).await.status, 401, "what it wrote itself is not believed");
    let refused = guess(from("203.0.113.1")).await;
    assert_too_many(&refused);
    assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(guess(from("203.0.113.2")).await.status, 401, "another address");
    assert_eq!(from("203.0.113.1").get("/livez").await.status, 200);
    assert_eq!(from("203.0.113.1").with_key(ADMIN_KEY).get("/api/admin/keys").await.status, 200);
    let mut socket =
        Socket::open_with(server.address, &[("x-forwarded-for", "203.0.113.3")]).await.expect("the first of two");
    socket.say(json!({"type": "hello", "protocol": 1, "token": ADMIN_KEY})).await;
    assert_eq!(socket.hear().await["type"], "welcome");
    let (_, answer) = socket.ask_whole("a", "Is this the second?").await;
    assert_eq!(answer.ending(), "done");
    socket.say(json!({"type": "send", "id": "b", "content": "Is this the third?"})).await;
    assert_eq!(socket.hear().await["code"], "rate_limit_exceeded");
    let opened = Socket::open_with(server.address, &[("x-forwarded-for", "203.0.113.3")]).await;
    assert!(opened.is_err(), "no further socket");
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn tokens_count_by_address_over_http_and_the_socket() {
    let server = Server::start_with_keys_and(|config| {
        config.limits.address_tokens_per_minute = NonZeroU32::new(1);
        config.limits.address_token_burst = NonZeroU32::new(200);
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let from = |address: &str| server.http().with_key(ADMIN_KEY).with("x-forwarded-for", address);
    let first = from("203.0.113.1").chat(&asking("What is tin?")).await;
    assert_eq!((first.status.as_u16(), first.header("x-ratelimit-limit-tokens")), (200, "1"));
    let left: u64 = first.header("x-ratelimit-remaining-tokens").parse().unwrap();
    assert_eq!(left, 200 - first.json()["usage"]["total_tokens"].as_u64().unwrap());
    let _ = from("203.0.113.1").chat(&uncached("What is lead? [[tokens=400]]")).await;
    let refused = from("203.0.113.1").chat(&uncached("What is gold?")).await;
    assert_too_many(&refused);
    assert_eq!(refused.json()["error"]["type"], "tokens");
    assert_eq!(from("203.0.113.1").chat(&asking("What is tin?")).await.header("x-ish-cache"), "HIT");
    assert_eq!(from("203.0.113.2").chat(&uncached("What is gold?")).await.status, 200, "another address");
    let mut socket = Socket::open_with(server.address, &[("x-forwarded-for", "203.0.113.1")]).await.unwrap();
    socket.say(json!({"type": "hello", "protocol": 1, "token": ADMIN_KEY})).await;
    assert_eq!(socket.hear().await["type"], "welcome");
    let (_, answer) = socket.ask_whole("a", "What is iron?").await;
    assert_eq!(answer.end.unwrap()["code"], "rate_limit_exceeded");
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn tokens_count_for_what_a_provider_was_asked_and_not_for_what_the_cache_had() {
    let limits = LimitsConfig { tokens_per_minute: NonZeroU32::new(100), ..LimitsConfig::default() };
    let server = limited(limits).await;
    let left = |reply: &Reply| reply.header("x-ratelimit-remaining-tokens").parse::<i64>().unwrap();
    let whole = server.http().chat(&asking("What is tin?")).await;
    assert_eq!((whole.status.as_u16(), whole.header("x-ratelimit-limit-tokens")), (200, "100"));
    let used = whole.json()["usage"]["total_tokens"].as_i64().unwrap();
    // Some tokens come back while this is looked at.
    let expected = |used: i64| 100 - used..=100 - used + 10;
    assert!(expected(used).contains(&left(&whole)), "{} of {used}", left(&whole));
    let hit = server.http().chat(&asking("What is tin?")).await;
    assert_eq!(hit.header("x-ish-cache"), "HIT");
    assert!(left(&hit) >= left(&whole));
    // Bypassed streams have no count of their own: one is asked for, and kept from the client.
    let mut body = asking("What is lead?");
    body["cache"] = json!({"mode": "off"});
    let stream = server.http().stream(&body).await.whole().await;
    assert!(stream.chunks().iter().all(|chunk| chunk["usage"].is_null()), "{:?}", stream.events());
    assert_eq!(stream.events().last().unwrap(), "[DONE]");
    body["cache"] = json!({"mode": "off"});
    let after = server.http().chat(&asking("What is tin?")).await;
    assert!(left(&after) <= left(&hit) - 20, "{} after {}", left(&after), left(&hit));
    let long = "word ".repeat(100);
    let too_large = server.http().chat(&asking(&long)).await;
    assert_eq!((too_large.status.as_u16(), too_large.header("x-should-retry")), (429, "false"));
    let refused = loop {
        let reply = server.http().chat(&asking(&format!("What is tin? {}", server.upstream_calls()))).await;
        if reply.status != 200 {
            break reply;
        }
    };
    assert_too_many(&refused);
    assert_eq!(
        (&refused.json()["error"]["type"], &refused.json()["error"]["code"]),
        (&json!("tokens"), &json!("rate_limit_exceeded"))
    );
    assert_eq!(server.http().chat(&asking("What is tin?")).await.status, 200, "what the cache has is still served");
    server.stop().await;
}

/// A server whose `mock` costs ten dollars a million tokens of output, and one of input.
async fn priced() -> Server {
    Server::start_with_keys_and(|config| {
        config.prices = vec![PriceConfig {
            model: "mock".to_owned(),
            input: 1.0,
            output: 10.0,
            cached_input: None,
            cache_write: None,
        }];
        config.cache.semantic = false;
    })
    .await
}

/// A key as it is listed.
async fn listed(server: &Server, id: &str) -> Value {
    let listed = server.http().with_key(ADMIN_KEY).get("/api/admin/keys").await.json();
    let keys = listed["data"].as_array().unwrap().clone();
    keys.into_iter().find(|key| key["id"] == id).unwrap()
}

/// US dollars spent by a key, once nothing is reserved any more.
async fn spent(server: &Server, id: &str) -> f64 {
    soon("every cost to be booked", async {
        loop {
            let key = listed(server, id).await;
            if key["reserved_usd"] == 0.0 {
                return key["spent_usd"].as_f64().unwrap();
            }
        }
    })
    .await
}

/// US dollars held for calls of a key.
async fn reserved(server: &Server, id: &str) -> f64 {
    listed(server, id).await["reserved_usd"].as_f64().unwrap()
}

fn cost_of(usage: &Value) -> f64 {
    (usage["prompt_tokens"].as_f64().unwrap() + 10.0 * usage["completion_tokens"].as_f64().unwrap()) / 1e6
}

fn uncached(prompt: &str) -> Value {
    let mut body = asking(prompt);
    body["cache"] = json!({"mode": "off"});
    body
}

fn assert_about(left: f64, right: f64) {
    assert!((left - right).abs() < 1e-9, "{left} is not {right}");
}

#[tokio::test]
async fn a_budget_is_charged_what_the_provider_counted_in_every_form_of_answer() {
    let server = priced().await;
    let (id, bearer) = key(&server, json!({"budget_usd": 1})).await;
    let http = server.http().with_key(&bearer);
    let whole = http.chat(&asking("What is gold?")).await;
    assert_eq!(whole.text(), answer_to("What is gold?"), "also where it had to be watched");
    let one = cost_of(&whole.json()["usage"]);
    assert_about(spent(&server, &id).await, one);
    let hit = http.chat(&asking("What is gold?")).await;
    assert_eq!(hit.header("x-ish-cache"), "HIT");
    assert_about(spent(&server, &id).await, one);
    let mut bounded = uncached("What is gold?");
    bounded["max_tokens"] = json!(64);
    let raw = http.chat(&bounded).await;
    assert_eq!(raw.json()["id"].as_str().unwrap().split('-').nth(1), Some("mock"), "bytes of the provider's own");
    assert_about(spent(&server, &id).await, 2.0 * one);
    let stream = http.stream(&uncached("What is gold?")).await.whole().await;
    assert_eq!(stream.text(), answer_to("What is gold?"));
    assert_about(spent(&server, &id).await, 3.0 * one);
    let miss = http.stream(&asking("What is iron?")).await.whole().await;
    assert_eq!(miss.text(), answer_to("What is iron?"));
    assert_about(spent(&server, &id).await, 4.0 * one);
    let failed = http.chat(&asking("What fails? [[fault=500]]")).await;
    assert_eq!(failed.status, 502);
    assert_about(spent(&server, &id).await, 4.0 * one);
    server.stop().await;
}

/// A provider that does not count, though it was asked to: what comes is paid for by its length, whichever way it takes.
#[tokio::test]
async fn a_stream_that_nobody_counts_is_not_free() {
    let server = priced().await;
    let (id, bearer) = key(&server, json!({"budget_usd": 1})).await;
    let http = server.http().with_key(&bearer);
    let mut before = 0.0;
    for (number, (mode, counts)) in [("off", false), ("off", true), ("on", false), ("on", true)].into_iter().enumerate()
    {
        let prompt = format!("Who counts this, {number}? [[uncounted]]");
        let mut body = asking(&prompt);
        body["cache"] = json!({"mode": mode});
        body["stream_options"] = json!({"include_usage": counts});
        let reply = http.stream(&body).await.whole().await;
        assert_eq!(reply.text(), answer_to(&prompt));
        assert!(reply.chunks().iter().all(|chunk| chunk["usage"].is_null()), "{:?}", reply.chunks());
        // A token for each three bytes, and four for the turn; output costs ten times as much.
        let tokens = |text: &str| text.len().div_ceil(3) as f64;
        let after = spent(&server, &id).await;
        assert_about(after - before, (tokens(&prompt) + 4.0 + 10.0 * tokens(&answer_to(&prompt))) / 1e6);
        before = after;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_spent_budget_refuses_what_costs_and_not_what_the_cache_has() {
    let server = priced().await;
    // One answer of 20 tokens and its question, with a reserve of 21 tokens.
    let (_, bearer) = key(&server, json!({"budget_usd": 0.000_3, "max_tokens_default": 21})).await;
    let http = server.http().with_key(&bearer);
    let bounded = |prompt: &str| {
        let mut body = asking(prompt);
        body["max_tokens"] = json!(20);
        body
    };
    assert_eq!(http.chat(&bounded("What is zinc?")).await.status, 200);
    let refused = http.chat(&bounded("What is gold?")).await;
    let error = &refused.json()["error"];
    assert_eq!((refused.status.as_u16(), &error["code"]), (429, &json!("insufficient_quota")), "{refused:?}");
    assert_eq!((&error["type"], refused.header("x-should-retry")), (&json!("insufficient_quota"), "false"));
    assert_eq!(refused.header("retry-after"), "");
    assert_eq!(http.chat(&bounded("What is zinc?")).await.header("x-ish-cache"), "HIT");
    let mut unpriced = bounded("What is gold?");
    unpriced["model"] = json!("mock-alt");
    let refused = http.chat(&unpriced).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["code"]), (403, &json!("model_without_price")));
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("mock-alt"));
    assert_eq!(server.http().with_key(ADMIN_KEY).chat(&unpriced).await.status, 200, "a key without a budget may");
    let (mut socket, _) =
        Socket::greeted_with(server.address, json!({"type": "hello", "protocol": 1, "token": bearer})).await;
    let (_, answer) = socket.ask_whole("a", "What is bronze?").await;
    let end = answer.end.unwrap();
    assert_eq!((&end["code"], &end["retryable"]), (&json!("insufficient_quota"), &json!(false)));
    let stored = http.post("/api/chat", &json!({"message": "What is bronze?"})).await;
    assert_eq!((stored.status.as_u16(), &stored.json()["code"]), (429, &json!("insufficient_quota")));
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn calls_of_tools_and_further_choices_outgrow_a_budget_too() {
    let server = priced().await;
    let tool = json!({"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}});
    let calls = |cache: &str| {
        let mut body = asking(&format!("Look everything up, {cache} [[tool_calls=600]]"));
        body["tools"] = json!([tool]);
        body
    };
    let choices = |cache: &str| {
        let mut body = asking(&format!("Say it four times, {cache} [[tokens=600]]"));
        body["n"] = json!(4);
        body
    };
    for cache in ["on", "off"] {
        for mut body in [calls(cache), choices(cache)] {
            let (id, bearer) = key(&server, json!({"budget_usd": 0.001, "max_tokens_default": 20})).await;
            body["cache"] = json!({"mode": cache});
            let reply = server.http().with_key(&bearer).stream(&body).await.whole().await;
            assert_eq!(reply.error()["code"], "budget_exceeded", "{body}");
            let spent = spent(&server, &id).await;
            assert!(spent > 0.000_3 && spent <= 0.001_2, "{spent}, {body}");
        }
    }
    server.provider.wait_until_idle().await;
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_outgrows_the_budget_is_ended_and_says_so() {
    let server = priced().await;
    for (whole, cache) in [(false, "on"), (false, "off"), (true, "on"), (true, "off")] {
        let (id, bearer) = key(&server, json!({"budget_usd": 0.001, "max_tokens_default": 20})).await;
        let http = server.http().with_key(&bearer);
        let mut body = asking(&format!("What never ends? {whole} {cache} [[tokens=3000]]"));
        body["cache"] = json!({"mode": cache});
        let reply = if whole { http.chat(&body).await } else { http.stream(&body).await.whole().await };
        assert_eq!(reply.status, if whole { 429 } else { 200 });
        let error = reply.error();
        assert_eq!(error["code"], "budget_exceeded", "{reply:?}");
        if !whole {
            assert_eq!(error["partial"], true);
            assert!(reply.text().len() > 100, "it went on as long as there was money");
        }
        let spent = spent(&server, &id).await;
        assert!(spent > 0.000_5 && spent <= 0.001_05, "{spent}");
    }
    let again = server.http().with_key(ADMIN_KEY).chat(&asking("What never ends? false on [[tokens=3000]]")).await;
    assert_eq!(again.header("x-ish-cache"), "MISS", "what was cut is not kept");
    server.provider.wait_until_idle().await;
    server.stop().await;
}

/// Prices of the two targets of a [`Pair`], in dollars a million tokens of input; output costs ten times as much.
async fn priced_pair(first: f64, second: f64, change: impl FnOnce(&mut Config)) -> Pair {
    Pair::start_with_keys(Strategy::Ordered, |config| {
        let price = |model: &str, input| PriceConfig {
            model: model.to_owned(),
            input,
            output: 10.0 * input,
            cached_input: None,
            cache_write: None,
        };
        config.prices = vec![price("openai/mock", first), price("second/mock", second)];
        config.upstream.first_token_timeout = Duration::from_secs(1);
        config.routing.breaker_failures = NonZeroU32::MAX;
        change(config);
    })
    .await
}

fn of_pair(prompt: &str, stream: bool) -> Value {
    json!({"model": "pair", "messages": [{"role": "user", "content": prompt}], "max_tokens": 30, "stream": stream,
        "stream_options": if stream { json!({"include_usage": true}) } else { Value::Null }, "cache": {"mode": "off"}})
}

/// What every attempt on the way to an answer costs: nothing, where its provider was not reached or refused; its input, where
/// it may be billed.
#[tokio::test]
async fn an_attempt_that_may_be_billed_is_charged_beside_the_answer() {
    let pair = priced_pair(1_000.0, 1.0, |_| ()).await;
    let (id, bearer) = key(&pair.server, json!({"budget_usd": 1})).await;
    let http = pair.server.http().with_key(&bearer);
    let (mut before, prompt) = (0.0, "Who pays for both?");
    // By the estimate: a token for each three bytes of the 18, and four for the turn.
    let input = 0.001 * 10.0;
    for (fault, charged) in [
        (Fault::Hang { after: 0 }, input),
        (Fault::Cut { after: 0 }, input),
        (Fault::Garbage, input),
        (Fault::Status(500), 0.0),
        (Fault::RateLimit { retry_after_seconds: 60 }, 0.0),
    ] {
        pair.server.provider.fail_next(1, fault);
        let reply = http.stream(&of_pair(prompt, true)).await.whole().await;
        assert_eq!((reply.status.as_u16(), reply.header("x-ish-provider")), (200, "second"), "{fault:?}");
        let usage =
            reply.chunks().into_iter().find_map(|chunk| chunk["usage"].is_object().then(|| chunk["usage"].clone()));
        let after = spent(&pair.server, &id).await;
        assert_about(after - before, cost_of(&usage.unwrap()) + charged);
        before = after;
    }
    pair.server.stop().await;
}

#[tokio::test]
async fn without_money_for_another_attempt_the_first_failure_is_the_answer() {
    let pair = priced_pair(1.0, 1.0, |_| ()).await;
    // Room for one reserve, of ten tokens of input and thirty of output, and not for the input twice.
    let (id, bearer) = key(&pair.server, json!({"budget_usd": 0.000_315})).await;
    pair.server.provider.fail_next(1, Fault::Cut { after: 0 });
    let reply = pair.server.http().with_key(&bearer).stream(&of_pair("Who pays for both?", true)).await.whole().await;
    assert_eq!((reply.status.as_u16(), &reply.error()["code"]), (502, &json!("upstream_error")));
    assert_eq!(pair.calls(), (1, 0));
    assert_about(spent(&pair.server, &id).await, 0.000_01);
    pair.server.stop().await;
}

#[tokio::test]
async fn who_leaves_a_providers_queue_pays_nothing() {
    let pair = priced_pair(1.0, 1.0, |config| {
        config.routing.max_in_flight = NonZeroUsize::new(1);
        config.routing.queue_timeout = Duration::from_secs(30);
        config.routes.clear();
    })
    .await;
    let server = &pair.server;
    let (id, bearer) = key(server, json!({"budget_usd": 1})).await;
    server.provider.hold_after(1);
    let holding = server.http().with_key(ADMIN_KEY).begin_chat(&uncached("Hold the only place."));
    server.provider.wait_until_held(1).await;
    for body in [uncached("Who waits and leaves?"), asking("Who waits in a flight and leaves?")] {
        let waiting = server.http().with_key(&bearer).begin_chat(&body);
        soon("its reserve", async { while reserved(server, &id).await == 0.0 {} }).await;
        drop(waiting);
        assert_about(spent(server, &id).await, 0.0);
    }
    server.provider.release();
    holding.reply().await;
    assert_eq!(server.upstream_calls(), 1);
    pair.server.stop().await;
}

#[tokio::test]
async fn two_hundred_callers_on_one_budget_spend_no_more_than_it() {
    let server = priced().await;
    // Ten answers or so, of which each reserves as much as it costs.
    let (id, bearer) = key(&server, json!({"budget_usd": 0.002_5})).await;
    let http = server.http().with_key(&bearer);
    let asked = (0..200).map(|number| {
        let http = http.clone();
        async move {
            let mut body = uncached(&format!("What is number {number}?"));
            body["max_tokens"] = json!(20);
            let reply = http.chat(&body).await;
            match reply.status.as_u16() {
                200 => cost_of(&reply.json()["usage"]),
                429 => 0.0,
                _ => panic!("{reply:?}"),
            }
        }
    });
    let told: f64 = futures_util::future::join_all(asked).await.into_iter().sum();
    let spent = spent(&server, &id).await;
    assert_about(spent, told);
    assert!(spent > 0.001 && spent <= 0.002_5, "{spent}");
    server.stop().await;
}

#[tokio::test]
async fn of_equal_requests_the_one_that_opens_the_call_pays() {
    let server = priced().await;
    let (payer, first) = key(&server, json!({"budget_usd": 1})).await;
    let (joiner, second) = key(&server, json!({"budget_usd": 0.000_000_1})).await;
    server.provider.hold_after(0);
    let body = asking("Who pays for this?");
    let opened = server.http().with_key(&first).begin_chat(&body);
    server.provider.wait_until_held(1).await;
    let joined = server.http().with_key(&second).begin_chat(&body);
    until("the second to join", || (server.metrics().flights_joined.get() == 1).then_some(())).await;
    server.provider.release();
    assert_eq!(
        (opened.reply().await.text(), joined.reply().await.status.as_u16()),
        (answer_to("Who pays for this?"), 200)
    );
    assert!(spent(&server, &payer).await > 0.0);
    assert_about(spent(&server, &joiner).await, 0.0);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_pays_for_what_was_made() {
    let server = priced().await;
    let (id, bearer) = key(&server, json!({"budget_usd": 1})).await;
    server.provider.hold_after(10);
    let mut coming = server.http().with_key(&bearer).stream(&uncached("Who leaves?")).await;
    server.provider.wait_until_held(1).await;
    coming.event().await.unwrap();
    drop(coming);
    server.provider.wait_until_idle().await;
    let spent = spent(&server, &id).await;
    assert!(spent > 0.0 && spent < 0.000_3, "{spent}");
    server.provider.release();
    server.stop().await;
}

/// The whole budget is one reserve, so that each call needs what the one before it did not use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_one_after_the_other_is_never_refused_for_his_own_call() {
    let server = priced().await;
    let (id, bearer) = key(&server, json!({"budget_usd": 0.023})).await;
    let http = server.http().with_key(&bearer);
    let mut told = 0.0;
    for number in 0..40 {
        let mut body = uncached(&format!("What is number {number}?"));
        body["max_tokens"] = json!(1_200);
        let reply = http.chat(&body).await;
        assert_eq!(reply.status, 200, "{number}: {reply:?}");
        told += cost_of(&reply.json()["usage"]);
    }
    assert_about(spent(&server, &id).await, told);
    server.stop().await;
}

/// A server that is killed while a call is under way has not forgotten what was spent, nor what may have been.
#[tokio::test]
async fn after_a_kill_what_was_spent_or_held_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let provider = Provider::start(ProviderOptions::default()).await.unwrap();
    let file = folder.path().join("ish.toml");
    std::fs::write(&file, "[prices.mock]\ninput = 1.0\noutput = 10.0\n").unwrap();
    let admin = folder.path().join("admin.key");
    std::fs::write(&admin, ADMIN_KEY).unwrap();
    let variables = [("ISH_CONFIG", file.to_str().unwrap()), ("ISH_ADMIN_KEY_FILE", admin.to_str().unwrap())];
    let base_url = provider.base_url();
    let start = || Process::start(folder.path(), &base_url, &variables);
    let process = start().await;
    let http = Http::new(process.address).with_key(ADMIN_KEY);
    let wish = json!({"name": "a test's", "budget_usd": 0.002, "max_tokens_default": 100});
    let made = http.post("/api/admin/keys", &wish).await.json();
    let holder = Http::new(process.address).with_key(made["key"].as_str().unwrap());
    let answered = holder.chat(&uncached("What is paid?")).await;
    let paid = cost_of(&answered.json()["usage"]);
    provider.hold_after(1);
    let cut = holder.begin_chat(&uncached("What is cut?"));
    provider.wait_until_held(1).await;
    process.kill().await;
    drop(cut);
    provider.release();
    let process = start().await;
    let listed = Http::new(process.address).with_key(ADMIN_KEY).get("/api/admin/keys").await.json();
    let key = listed["data"].as_array().unwrap().iter().find(|key| key["id"] == made["id"]).unwrap().clone();
    let spent = key["spent_usd"].as_f64().unwrap();
    assert_eq!(key["reserved_usd"], 0.0);
    assert!(spent >= paid + 0.001 && spent <= 0.002, "{spent}: the answer, and the reserve of the one that was cut");
    let holder = Http::new(process.address).with_key(made["key"].as_str().unwrap());
    let refused = holder.chat(&uncached("What is left?")).await;
    assert_eq!(refused.json()["error"]["code"], "insufficient_quota");
    process.kill().await;
}

/// So much in work, so many that wait.
fn room(in_flight: u32, max_waiting: u32) -> LimitsConfig {
    LimitsConfig {
        max_in_flight: NonZeroU32::new(in_flight),
        max_waiting,
        max_wait: Duration::from_secs(30),
        ..LimitsConfig::default()
    }
}

fn assert_overloaded(reply: &Reply) {
    assert_eq!(reply.status, 503, "{reply:?}");
    let ms: u64 = reply.header("retry-after-ms").parse().unwrap();
    assert!((1_000..=2_200).contains(&ms) && !reply.header("retry-after").is_empty(), "{reply:?}");
}

#[tokio::test]
async fn what_finds_neither_place_nor_room_is_refused_at_once() {
    let server = limited(room(2, 1)).await;
    server.provider.hold_after(1);
    let stream = server.http().stream(&uncached("Who is first?")).await;
    let whole = server.http().begin_chat(&uncached("Who is second?"));
    server.provider.wait_until_held(2).await;
    let waiting = server.http().begin_chat(&uncached("Who waits?"));
    let metrics = server.metrics();
    until("the third to wait", || (metrics.limits_waiting.get() == 1).then_some(())).await;
    let refused = server.http().chat(&uncached("Who is too many?")).await;
    assert_overloaded(&refused);
    assert_eq!(refused.json()["error"]["code"], "overloaded");
    assert_overloaded(&server.http().post("/api/chat", &json!({"message": "And I?"})).await);
    let mut socket = server.socket().await;
    socket.say(json!({"type": "send", "id": "a", "content": "And on the socket?"})).await;
    let frame = socket.hear().await;
    assert_eq!((&frame["code"], &frame["retryable"], &frame["id"]), (&json!("overloaded"), &json!(true), &json!("a")));
    assert!(frame["retry_after_ms"].as_u64() >= Some(1_000));
    for path in ["/livez", "/readyz", "/metrics", "/api/status", "/api/admin/keys", "/v1/models"] {
        assert_eq!(server.http().get(path).await.status, 200, "{path} stays reachable");
    }
    assert_eq!(server.upstream_calls(), 2);
    server.provider.release();
    assert_eq!(stream.whole().await.text(), answer_to("Who is first?"));
    assert_eq!(whole.reply().await.status, 200);
    assert_eq!(waiting.reply().await.text(), answer_to("Who waits?"));
    let (_, answer) = socket.ask_whole("b", "And now?").await;
    assert_eq!(answer.ending(), "done");
    drop(socket);
    until("every place to be free", || (metrics.limits_in_flight.get() == 0).then_some(())).await;
    let metrics = String::from_utf8(server.http().get("/metrics").await.body.to_vec()).unwrap();
    assert!(metrics.contains("ish_limits_refused_total{reason=\"overloaded\"} 3"), "{metrics}");
    assert!(metrics.contains("ish_limits_wait_seconds_count 1"), "{metrics}");
    server.stop().await;
}

#[tokio::test]
async fn a_place_is_free_when_its_holder_goes_away() {
    let server = limited(room(1, 0)).await;
    server.provider.hold_after(1);
    let stream = server.http().stream(&uncached("Who leaves a stream?")).await;
    assert_overloaded(&server.http().chat(&uncached("Who comes too early?")).await);
    drop(stream);
    let free = |server: &Server| (server.metrics().limits_in_flight.get() == 0).then_some(());
    until("the place of the stream", || free(&server)).await;
    let whole = server.http().begin_chat(&uncached("Who leaves before the answer?"));
    server.provider.wait_until_held(1).await;
    drop(whole);
    until("the place of the request", || free(&server)).await;
    server.provider.release();
    server.stop().await;
}

/// Whoever listens, and whoever has left: the call goes on, and so does its place.
#[tokio::test]
async fn a_stored_question_keeps_its_place_until_its_answer_has_ended() {
    let server = limited(room(1, 0)).await;
    server.provider.hold_after(1);
    let (mut first, mut second) = (server.socket().await, server.socket().await);
    let ack = first.ask("a", "Who listens to this?").await;
    for socket in [&mut first, &mut second] {
        socket.resume(&ack.stream, Answer::default()).await;
        socket.hear_until(&ack.stream, |answer| answer.seq > 0).await;
        assert_eq!(server.metrics().limits_in_flight.get(), 1);
        assert_overloaded(&server.http().chat(&uncached("Who comes too early?")).await);
    }
    drop((first, second));
    until("the end of both sockets", || (server.metrics().ws_connections.get() == 0).then_some(())).await;
    assert_overloaded(&server.http().chat(&uncached("Who comes too early again?")).await);
    server.provider.release();
    let free = || (server.metrics().limits_in_flight.get() == 0).then_some(());
    until("the end of the answer", free).await;
    assert_eq!((server.streams().running(), server.upstream_calls()), (0, 1));

    server.provider.hold_after(1);
    let asked = server.http().begin("/api/chat", &json!({"message": "Who waits over HTTP?"}));
    server.provider.wait_until_held(1).await;
    drop(asked);
    let path = format!("/api/sessions/{}/messages", ack.conversation);
    assert_overloaded(&server.http().post(&path, &json!({"content": "And who comes now?"})).await);
    server.provider.release();
    until("the end of that answer", free).await;
    let mut stream = server.http().open(Method::POST, &path, r#"{"content":"And now?","stream":true}"#).await;
    stream.until("done").await;
    until("the end of the stream", free).await;
    server.stop().await;
}
