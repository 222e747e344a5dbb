//! What the server leans on, as operators see it: parts that come up by themselves, and the health of the rest.

use std::num::NonZeroU32;
use std::time::Duration;

use loadtest::provider::Fault;
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Http, Server, asking, soon};

const STATS: &str = "/api/admin/services/stats";
const HEALTH: &str = "/api/admin/services/health";

async fn service(http: &Http, path: &str, name: &str) -> Value {
    let told = http.get(path).await.json();
    let services = told["services"].as_array().unwrap();
    services.iter().find(|service| service["name"] == name).unwrap_or_else(|| panic!("no {name}: {told}")).clone()
}

/// Looks until the part has come up.
async fn ready(http: &Http, name: &str) -> Value {
    soon(name, async {
        loop {
            let part = service(http, STATS, name).await;
            if part["state"] == "ready" {
                return part;
            }
            assert!(part["state"] == "idle" || part["state"] == "starting", "{part}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_part_that_nobody_needs_is_not_started_by_looking() {
    let server = Server::start().await;
    let http = server.http();
    for name in ["embedder", "index"] {
        let part = ready(&http, name).await;
        assert!(part["init_ms"].as_f64().unwrap() >= 0.0 && part["starts"] == 1, "{part}");
    }
    for path in [STATS, HEALTH] {
        service(&http, path, "tokens").await;
    }
    let idle = json!({"name": "tokens", "state": "idle", "init_ms": null, "starts": 0, "last_error": null});
    assert_eq!(service(&http, STATS, "tokens").await, idle);

    let tokens = json!({"model": "all-minilm-l6-v2", "input": [9906, 1917]});
    let (one, two) = tokio::join!(http.post("/v1/embeddings", &tokens), http.post("/v1/embeddings", &tokens));
    assert_eq!((one.status.as_u16(), two.status.as_u16()), (200, 200), "{one:?}");
    let part = service(&http, STATS, "tokens").await;
    assert_eq!((&part["state"], &part["starts"]), (&json!("ready"), &json!(1)));
    assert!(part["init_ms"].as_f64().unwrap() > 0.0, "{part}");
    let unknown = json!({"model": "all-minilm-l6-v2", "input": [4_000_000_000_u32]});
    assert_eq!(http.post("/v1/embeddings", &unknown).await.status, 400);
    server.stop().await;
}

#[tokio::test]
async fn health_names_what_is_not_well_and_since_when() {
    let server = Server::start_with(|config| {
        config.routing.max_retries = 0;
        config.routing.breaker_failures = NonZeroU32::MIN;
        config.routing.breaker_open = Duration::from_mins(10);
        config.routing.breaker_max_open = Duration::from_mins(10);
    })
    .await;
    let http = server.http();
    ready(&http, "index").await;
    assert_eq!(http.get(HEALTH).await.json()["healthy"], true);
    server.provider.fail_next(1, Fault::Status(500));
    assert_eq!(http.chat(&asking("Who is there?")).await.status, 502);
    let told = http.get(HEALTH).await.json();
    assert_eq!(told["healthy"], false, "{told}");
    let providers = service(&http, HEALTH, "providers").await;
    assert_eq!((&providers["healthy"], &providers["error"]), (&json!(false), &json!("not asked for now: openai/mock")));
    assert_eq!(providers["last_error"]["error"], providers["error"]);
    assert!(providers["last_error"]["at"].as_str().unwrap().ends_with('Z'), "{providers}");
    server.stop().await;
}

#[tokio::test]
async fn only_an_admin_is_told_and_a_database_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin.key");
    std::fs::write(&file, ADMIN_KEY).unwrap();
    let server = Server::start_on_postgres(|config| config.server.admin_key_file = Some(file)).await;
    let postgres = service(&server.http().with_key(ADMIN_KEY), HEALTH, "postgres").await;
    assert!(postgres["healthy"] == true && postgres["ms"].as_f64().unwrap() > 0.0, "{postgres}");
    let user = server.http().with_key(&server.new_key("ours").await);
    for path in [STATS, HEALTH] {
        assert_eq!((user.get(path).await.status.as_u16(), server.http().get(path).await.status.as_u16()), (403, 401));
    }
    server.stop().await;
}
