//! Pools of connections, as operators see them and as callers feel them.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{ADMIN_KEY, Server, asking};

const STATS: &str = "/api/admin/services/stats";

fn pool<'a>(stats: &'a Value, name: &str) -> &'a Value {
    let pools = stats["pools"].as_array().unwrap();
    pools.iter().find(|pool| pool["name"] == name).unwrap_or_else(|| panic!("no pool {name}: {stats}"))
}

#[tokio::test]
async fn each_pool_is_told_to_an_admin() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin.key");
    std::fs::write(&file, ADMIN_KEY).unwrap();
    let server = Server::start_on_postgres(|config| config.server.admin_key_file = Some(file)).await;
    let admin = server.http().with_key(ADMIN_KEY);
    server.provider.hold_after(1);
    let mut held = admin.stream(&asking("Where do narwhals live?")).await;
    held.first_text().await;
    let stats = admin.get(STATS).await.json();
    let (postgres, http) = (pool(&stats, "postgres"), pool(&stats, "http"));
    assert_eq!((&postgres["limit"], &http["limit"]), (&50.into(), &1024.into()));
    assert_eq!((&http["in_use"], &http["use"], &http["size"]), (&1.into(), &(1.0 / 1024.0).into(), &Value::Null));
    assert!(http["created"].as_u64().unwrap() >= 1, "{http}");
    assert!(postgres["size"].as_u64().unwrap() >= 1 && postgres["acquired"].as_u64().unwrap() >= 5, "{postgres}");
    let text = String::from_utf8(admin.get("/metrics").await.body.to_vec()).unwrap();
    assert!(text.contains("ish_pool_in_use{pool=\"http\"} 1"), "{text}");
    assert!(text.contains("ish_pool_limit{pool=\"postgres\"} 50"), "{text}");
    server.provider.release();
    while held.event().await.is_some() {}

    let user = server.http().with_key(&server.new_key("ours").await);
    assert_eq!(user.get(STATS).await.status, 403);
    server.stop().await;
}

/// A call that finds no connection was not the provider's fault: it is not blamed, and asked as soon as there is one.
#[tokio::test]
async fn a_call_that_finds_no_connection_in_time_is_refused_and_blames_nobody() {
    let server = Server::start_with(|config| {
        config.upstream.max_connections = NonZeroUsize::MIN;
        config.upstream.acquire_timeout = Duration::from_millis(20);
    })
    .await;
    server.provider.hold_after(1);
    let mut held = server.http().stream(&asking("Where do narwhals live?")).await;
    held.first_text().await;
    for number in 0..6 {
        let refused = server.http().chat(&asking(&format!("What do {number} whales eat?"))).await;
        assert_eq!((refused.status.as_u16(), &refused.error()["code"]), (503, &"overloaded".into()), "{refused:?}");
    }
    let stats = server.http().get(STATS).await.json();
    assert_eq!(pool(&stats, "http")["acquire_timeouts"], 6);
    server.provider.release();
    while held.event().await.is_some() {}
    // One that has only just ended is given back a moment later.
    let mut answered = server.http().chat(&asking("What do whales eat?")).await;
    while answered.status == 503 {
        assert_eq!(answered.error()["code"], "overloaded", "{answered:?}");
        answered = server.http().chat(&asking("What do whales eat?")).await;
    }
    assert_eq!(answered.status, 200, "{answered:?}");
    server.stop().await;
}
