//! The profiler over HTTP and in the terminal: what is slow is named, advice comes with its cause and not without, a flame graph shows
//! who runs; and only admins see any of it.

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use futures_util::future::join_all;
use ish::config::SETTINGS;
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Process, Server, Talk, asking, soon};

const PROFILE: &str = "/api/admin/profile";
const FLAME: &str = "/api/admin/profile/flamegraph";

/// The settings that are to be changed, by what is said of them.
fn advised(report: &Value) -> Vec<&str> {
    report["recommendations"].as_array().unwrap().iter().filter_map(|one| one["setting"].as_str()).collect()
}

fn bottleneck<'a>(report: &'a Value, name: &str) -> Option<&'a Value> {
    report["bottlenecks"].as_array().unwrap().iter().find(|one| one["name"] == name)
}

/// The page names a setting as `section.name`; what else stands so is a file.
#[test]
fn the_page_names_settings_that_there_are() {
    let page = include_str!("../../docs/tuning.md");
    let settings: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
    let sections: BTreeSet<&str> = settings.iter().filter_map(|key| Some(key.split_once('.')?.0)).collect();
    let words = page.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split(' ').next());
    let named: BTreeSet<&str> =
        words.filter(|word| word.split_once('.').is_some_and(|(section, _)| sections.contains(section))).collect();
    assert!(named.len() >= 25, "{named:?}");
    assert_eq!(named.difference(&settings).collect::<Vec<_>>(), Vec::<&&str>::new());
}

#[tokio::test]
async fn a_slow_provider_is_named_with_its_share() {
    let server = Server::start().await;
    let http = server.http();
    let before = http.get(PROFILE).await.json();
    assert_eq!(bottleneck(&before, "provider/whole"), None, "{before}");
    server.provider.change_behaviour(|behaviour| behaviour.first_token = Duration::from_millis(200));
    for number in 0..3 {
        assert_eq!(http.chat(&asking(&format!("What do {number} whales eat?"))).await.status, 200);
    }
    let report = http.get(PROFILE).await.json();
    assert_eq!(report["bottlenecks"][0]["name"], "provider/whole", "{report}");
    assert_eq!(report["bottlenecks"][0]["severity"], "high", "{report}");
    assert_eq!((&report["questions"], &report["hit_rate"]), (&3.into(), &0.0.into()), "{report}");
    let operations = report["operations"].as_array().unwrap();
    let provider = operations.iter().find(|one| one["operation"] == "whole").unwrap();
    assert!(provider["count"] == 3 && provider["p95_ms"].as_f64().unwrap() >= 200.0, "{provider}");
    assert!(operations.iter().any(|one| one["component"] == "http" && one["operation"] == "request"), "{report}");
    server.stop().await;
}

#[tokio::test]
async fn a_pool_of_one_under_load_is_to_be_raised_and_one_of_many_is_not() {
    for (connections, wanted) in [(1, true), (50, false)] {
        let few = NonZeroU32::new(connections).unwrap();
        let server = Server::start_on_postgres(|config| {
            let database = config.database.as_mut().unwrap();
            database.max_connections = few;
            // On a machine that is busy, all are to have their turn.
            database.acquire_timeout = Duration::from_secs(20);
        })
        .await;
        let http = server.http();
        let (sessions, named) = ("/api/sessions", json!({"title": "whales"}));
        for _ in 0..3 {
            let asked = (0..30).map(|_| http.begin(sessions, &named).reply());
            for reply in join_all(asked).await {
                assert_eq!(reply.status, 201, "{reply:?}");
            }
        }
        let report = http.get(PROFILE).await.json();
        assert_eq!(advised(&report).contains(&"database.max_connections"), wanted, "{report}");
        assert_eq!(bottleneck(&report, "pool postgres").is_some(), wanted, "{report}");
        server.stop().await;
    }
}

#[tokio::test]
async fn calls_that_found_no_connection_name_the_pool_of_providers() {
    let server = Server::start_with(|config| {
        config.upstream.max_connections = NonZeroUsize::MIN;
        config.upstream.acquire_timeout = Duration::from_millis(20);
    })
    .await;
    let http = server.http();
    server.provider.hold_after(1);
    let mut held = http.stream(&asking("Where do narwhals live?")).await;
    held.first_text().await;
    assert_eq!(advised(&http.get(PROFILE).await.json()), Vec::<&str>::new());
    assert_eq!(http.chat(&asking("What do whales eat?")).await.status, 503);
    let report = http.get(PROFILE).await.json();
    assert_eq!(advised(&report), ["upstream.max_connections"]);
    assert_eq!(bottleneck(&report, "pool http").unwrap()["severity"], "critical", "{report}");
    let advice = &report["recommendations"][0];
    assert_eq!((&advice["current"], &advice["figures"]["timeouts"]), (&1.0.into(), &1.0.into()), "{advice}");
    server.provider.release();
    while held.event().await.is_some() {}
    server.stop().await;
}

#[tokio::test]
async fn the_process_is_looked_at_while_it_serves() {
    let server = Server::start().await;
    let http = server.http();
    let report = soon("three samples", async {
        loop {
            let report = http.get(PROFILE).await.json();
            if report["process"]["minute"]["samples"].as_u64().is_some_and(|samples| samples >= 3) {
                return report;
            }
        }
    })
    .await;
    let minute = &report["process"]["minute"];
    assert!(minute["memory_bytes"].as_u64().unwrap() > 1_000_000, "{report}");
    assert!(minute["cpu_cores"].as_f64().unwrap() > 0.0, "{report}");
    assert!(report["kept"]["bytes"].as_u64().unwrap() < 4 << 20, "{report}");
    server.stop().await;

    let server = Server::start_with(|config| config.monitoring.enabled = false).await;
    let report = server.http().get(PROFILE).await.json();
    assert_eq!((&report["enabled"], &report["process"]["minute"]), (&false.into(), &Value::Null), "{report}");
    server.stop().await;
}

#[tokio::test]
async fn a_flame_graph_shows_who_runs_one_at_a_time() {
    let server = Server::start().await;
    let http = server.http();
    let asked = async {
        loop {
            assert_eq!(http.chat(&asking("What do whales eat?")).await.status, 200);
        }
    };
    let two_seconds = format!("{FLAME}?seconds=2");
    let drawn = async { tokio::join!(http.get(&two_seconds), http.get(&two_seconds)) };
    let (one, other) = tokio::select! {
        drawn = drawn => drawn,
        () = asked => unreachable!("it asks for ever"),
    };
    let (drawn, refused) = if one.status == 200 { (one, other) } else { (other, one) };
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (409, &"flame_graph_running".into()), "{refused:?}");
    assert_eq!(drawn.header("content-type"), "image/svg+xml");
    let picture = String::from_utf8_lossy(&drawn.body);
    assert!(picture.contains("ish::"), "{picture}");
    for wrong in ["0", "61", "soon"] {
        assert_eq!(http.get(&format!("{FLAME}?seconds={wrong}")).await.status, 400, "{wrong}");
    }
    server.stop().await;
}

#[tokio::test]
async fn only_admins_see_it() {
    let server = Server::start_with_keys().await;
    let user = server.http().with_key(&server.new_key("ours").await);
    for path in [PROFILE, FLAME] {
        assert_eq!(user.get(path).await.status, 403, "{path}");
        assert_eq!(server.http().get(path).await.status, 401, "{path}");
    }
    assert_eq!(server.http().with_key(ADMIN_KEY).get(PROFILE).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn the_terminal_prints_it_and_the_log_sums_up() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let variables = [("ISH_DATA_DIR", data)];
    let refused = Process::verb(&["profile"], &variables).await.unwrap_err();
    assert!(refused.contains("no server runs"), "{refused}");

    let serving =
        [variables[0], ("ISH_MONITORING_INTERVAL", "0.2"), ("ISH_CACHE_SEMANTIC", "false"), ("ISH_LOG", "info")];
    let mut server = Talk::begin(&["serve", "--listen", "127.0.0.1:0"], &serving);
    server.hear("http://").await;
    // The first question is the first operation that there is.
    Process::verb(&["profile"], &variables).await.unwrap();
    let printed = Process::verb(&["profile"], &variables).await.unwrap();
    assert!(printed.contains("operations") && printed.contains("P95_MS"), "{printed}");
    let json: Value = serde_json::from_str(&Process::verb(&["profile", "--json"], &variables).await.unwrap()).unwrap();
    assert_eq!(json["enabled"], true);
    let picture = folder.path().join("flame.svg");
    let arguments = ["profile", "--flamegraph", picture.to_str().unwrap(), "--seconds", "1"];
    Process::verb(&arguments, &variables).await.unwrap();
    assert!(std::fs::read_to_string(&picture).unwrap().contains("<svg"));
    server.hear("summary").await;
    server.terminate();
    let (_, said) = server.end().await;
    for figure in ["requests=", "questions=", "hits=", "saved_usd=", "cpu_cores=", "memory_mb="] {
        assert!(said.contains(figure), "{figure} is not in {said}");
    }
}
