//! The server with the Redis that instances share: it lives without it, and finds it again.

use std::num::NonZeroUsize;

use ish::config::Config;
use loadtest::provider::answer::answer_to;
use serde_json::json;

use crate::harness::{Line, Server, asking, redis_host, soon};

/// Uses the Redis at the end of `line`, under names of this test's own.
pub fn over(line: &Line) -> impl Fn(&mut Config) + use<> {
    let (address, prefix) = (line.address, format!("test-{}:", uuid::Uuid::now_v7().simple()));
    move |config| {
        let (url, timeout) = (format!("redis://{address}"), "5");
        let pairs = [("DATABASE_URL", "postgres://other"), ("REDIS_URL", &*url), ("ISH_REDIS_TIMEOUT", timeout)];
        let pairs = [pairs[0], pairs[1], pairs[2], ("ISH_REDIS_PREFIX", &*prefix)];
        config.redis = Config::read(&pairs.into(), None).unwrap().redis;
    }
}

/// Waits until the server says so of its Redis.
async fn redis_is(server: &Server, word: &str) {
    soon("what the server says of Redis", async {
        while server.http().get("/api/status").await.json()["redis"] != word {}
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_goes_and_comes_stops_nothing() {
    let line = Line::to(redis_host()).await;
    line.cut();
    let server = Server::start_on_postgres(over(&line)).await;
    redis_is(&server, "away").await;
    assert_eq!(server.http().chat(&asking("Is Redis needed?")).await.text(), answer_to("Is Redis needed?"));
    line.mend();
    redis_is(&server, "up").await;
    line.cut();
    assert_eq!(server.http().chat(&asking("And now?")).await.text(), answer_to("And now?"));
    redis_is(&server, "away").await;
    line.mend();
    redis_is(&server, "up").await;
    server.stop().await;
}

/// One at a time, each in its turn.
#[tokio::test]
async fn no_more_commands_are_under_way_than_may_be() {
    let line = Line::to(redis_host()).await;
    let server = Server::start_on_postgres(|config| {
        over(&line)(config);
        config.redis.as_mut().unwrap().max_connections = NonZeroUsize::MIN;
    })
    .await;
    redis_is(&server, "up").await;
    let http = &server.http();
    let asked = (0..40).map(|number| async move {
        let prompt = format!("Who is number {number}?");
        assert_eq!(http.chat(&asking(&prompt)).await.text(), answer_to(&prompt));
    });
    futures_util::future::join_all(asked.collect::<Vec<_>>()).await;
    let stats = server.http().get("/api/admin/services/stats").await.json();
    let redis = stats["pools"].as_array().unwrap().iter().find(|pool| pool["name"] == "redis").unwrap().clone();
    let whole = |name: &str| redis[name].as_u64().unwrap();
    assert_eq!((whole("limit"), whole("size"), whole("created")), (1, 1, 1), "{redis}");
    assert!(whole("acquired") >= 40 && redis["wait_seconds"].as_f64().unwrap() > 0.0, "{redis}");
    assert_eq!((whole("acquire_timeouts"), whole("errors")), (0, 0), "{redis}");
    server.stop().await;
}

#[tokio::test]
async fn without_one_there_is_none() {
    let server = Server::start_on_postgres(|_| ()).await;
    assert_eq!(server.http().get("/api/status").await.json()["redis"], json!(null));
    server.stop().await;
}
