//! Limits as clients meet them: over HTTP and the WebSocket, by key and by address.

use std::num::NonZeroU32;
use std::time::Instant;

use ish::config::LimitsConfig;
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Http, Reply, Server, Socket, asking};

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
    let changed = change(json!({"requests_per_minute": 50})).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["requests_per_minute"]), (200, &json!(50)));
    assert_eq!(holder.chat(&asking("Thrice?")).await.header("x-ratelimit-remaining-requests"), "49");
    let taken_away = change(json!({"requests_per_minute": null})).await;
    assert_eq!(taken_away.json()["requests_per_minute"], Value::Null);
    assert_eq!(holder.chat(&asking("Again?")).await.header("x-ratelimit-limit-requests"), "100");
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
