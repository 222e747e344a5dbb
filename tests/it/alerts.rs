//! Alerts inside the process: something is broken, a webhook is told of it and of its end, and operators see both; what a receiver
//! does never holds it up.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use ish::alerts::FIGURES;
use ish::app::App;
use ish::config::{AlertConfig, Comparison, Config, Environment, Severity, WebhookConfig};
use loadtest::provider::{Behaviour, Fault};
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Http, Process, Server, asking, soon, until};

/// Who is told of alerts, with a server of its own.
#[derive(Clone, Default)]
struct Receiver {
    told: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
    /// What the next ones are answered with; then 200.
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
}

impl Receiver {
    async fn start(&self) -> WebhookConfig {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let routes = Router::new().route("/hook", post(take)).with_state(self.clone());
        tokio::spawn(async { axum::serve(listener, routes).await });
        WebhookConfig { url: format!("http://{address}/hook").parse().unwrap(), token: None }
    }

    /// The next answers, by status and `location`.
    fn answering(self, answers: &[(u16, &str)]) -> Self {
        let answers = answers.iter().map(|(status, location)| (*status, (*location).to_owned()));
        self.answers.lock().unwrap().extend(answers);
        self
    }

    fn messages(&self) -> Vec<Value> {
        self.told.lock().unwrap().iter().map(|(_, message)| message.clone()).collect()
    }

    /// What was told of an alert's beginning or end.
    fn of(&self, name: &str, status: &str) -> Option<Value> {
        let alerts = self.messages().into_iter().flat_map(|message| message["alerts"].as_array().unwrap().clone());
        let is_it = |alert: &Value| alert["labels"]["alertname"] == name && alert["status"] == status;
        alerts.into_iter().find(is_it)
    }
}

async fn take(Shared(receiver): Shared<Receiver>, headers: HeaderMap, body: Bytes) -> (StatusCode, HeaderMap) {
    receiver.told.lock().unwrap().push((headers, serde_json::from_slice(&body).unwrap()));
    let (status, location) = receiver.answers.lock().unwrap().pop_front().unwrap_or((200, String::new()));
    let mut headers = HeaderMap::new();
    headers.insert("location", location.parse().unwrap());
    (StatusCode::from_u16(status).unwrap(), headers)
}

/// An alert that has no patience.
fn at_once(name: &str, metric: &str, threshold: f64) -> AlertConfig {
    let (hold, keep, window) = (Duration::ZERO, Duration::ZERO, Duration::from_secs(1));
    AlertConfig { hold, keep, window, least_events: 3, ..AlertConfig::new(name, metric, threshold) }
}

/// Looks all the time, at these alone.
fn looking(config: &mut Config, rules: Vec<AlertConfig>, webhook: Option<WebhookConfig>) {
    config.monitoring.interval = Duration::from_millis(20);
    config.alerts.rules = rules;
    config.alerts.webhook = webhook;
}

async fn alert(http: &Http, name: &str) -> Value {
    let listed = http.get("/api/alerts").await.json();
    listed["data"].as_array().unwrap().iter().find(|alert| alert["name"] == name).unwrap().clone()
}

/// The alert once it stands there.
async fn once(http: &Http, name: &str, state: &str) -> Value {
    soon(&format!("{name} {state}"), async {
        loop {
            let alert = alert(http, name).await;
            if alert["state"] == state {
                return alert;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// Asks what no cache answers, until the receiver was told.
async fn asks_until_told(server: &Server, receiver: &Receiver, status: &str) -> Value {
    let (http, mut number) = (server.http(), 0);
    soon(&format!("word of {status}"), async {
        loop {
            number += 1;
            let mut question = asking(&format!("What is {status} in {number}?"));
            question["cache"] = json!({"mode": "off"});
            http.chat(&question).await;
            if let Some(alert) = receiver.of("ProviderFails", status) {
                return alert;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_fails_is_told_and_so_is_its_return() {
    let receiver = Receiver::default();
    let mut webhook = receiver.start().await;
    webhook.token = Some("s3cret".into());
    let rule = AlertConfig {
        hold: Duration::from_millis(60),
        keep: Duration::from_millis(60),
        severity: Severity::Critical,
        runbook: Some("docs/runbooks.md#ishproviderfailing".to_owned()),
        ..at_once("ProviderFails", "provider_failure_rate", 0.5)
    };
    let server = Server::start_with(|config| {
        looking(config, vec![rule], Some(webhook));
        config.routing.max_retries = 0;
        config.routing.breaker_failures = std::num::NonZeroU32::MAX;
    })
    .await;
    let http = server.http();
    assert_eq!(alert(&http, "ProviderFails").await["state"], "inactive");

    server.provider.set_behaviour(Behaviour::with_fault(Fault::Status(500)));
    let told = asks_until_told(&server, &receiver, "firing").await;
    assert_eq!((&told["labels"]["severity"], &told["labels"]["job"]), (&json!("critical"), &json!("ish")));
    assert_eq!(told["annotations"]["runbook_url"], "docs/runbooks.md#ishproviderfailing");
    let summary = told["annotations"]["summary"].as_str().unwrap();
    assert!(summary.contains("calls to a provider") && summary.contains("provider=\"openai\""), "{summary}");
    assert_eq!(told["endsAt"], "0001-01-01T00:00:00Z");
    let shown = alert(&http, "ProviderFails").await;
    assert_eq!((&shown["state"], &shown["threshold"]), (&json!("firing"), &json!(0.5)), "{shown}");
    assert!(shown["worst"].as_f64().unwrap() > 0.5, "{shown}");
    let (headers, message) = receiver.told.lock().unwrap()[0].clone();
    assert_eq!(headers["authorization"], "Bearer s3cret");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!((&message["version"], &message["status"]), (&json!("4"), &json!("firing")));
    assert_eq!(message["groupLabels"]["instance"], http.get("/api/alerts").await.json()["instance"]);
    assert_eq!(server.metrics().alerts_firing.with_label_values(&["critical"]).get(), 1);

    server.provider.set_behaviour(Behaviour::default());
    let over = asks_until_told(&server, &receiver, "resolved").await;
    assert_eq!((&over["startsAt"], &over["fingerprint"]), (&told["startsAt"], &told["fingerprint"]));
    assert_eq!(receiver.messages().last().unwrap()["status"], "resolved");
    let ended = http.get("/api/alerts").await.json()["ended"][0].clone();
    assert_eq!(
        (&ended["name"], &ended["fired_at"], &ended["resolved_at"]),
        (&json!("ProviderFails"), &told["startsAt"], &over["endsAt"])
    );
    assert_eq!(server.metrics().alerts_firing.with_label_values(&["critical"]).get(), 0);
    server.stop().await;
}

/// Always: one process lives.
fn always(name: &str) -> AlertConfig {
    AlertConfig { comparison: Comparison::AtLeast, ..at_once(name, "ish_instances", 1.0) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_stumbles_is_told_again() {
    let receiver = Receiver::default().answering(&[(500, ""), (429, "")]);
    let webhook = receiver.start().await;
    let server = Server::start_with(|config| looking(config, vec![always("Lives")], Some(webhook))).await;
    let messages = |outcome: &str| server.metrics().alert_messages.with_label_values(&[outcome]).get();
    until("the message taken", || (messages("sent") == 1).then_some(())).await;
    let told = receiver.messages();
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|message| message == &told[0]), "the same each time");
    assert_eq!((messages("failed"), messages("dropped")), (0, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_not_followed_and_a_refusal_is_final() {
    let elsewhere = Receiver::default();
    let location = elsewhere.start().await.url.to_string();
    let receiver = Receiver::default().answering(&[(307, &location)]);
    let webhook = receiver.start().await;
    let server = Server::start_with(|config| looking(config, vec![always("Lives")], Some(webhook))).await;
    let messages = |outcome: &str| server.metrics().alert_messages.with_label_values(&[outcome]).get();
    until("the message given up", || (messages("failed") == 1).then_some(())).await;
    assert_eq!((receiver.messages().len(), elsewhere.messages().len()), (1, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_of_what_is_silenced_until_it_is_no_longer() {
    let receiver = Receiver::default();
    let webhook = receiver.start().await;
    let rules = ["Silent", "Loud"].map(|name| at_once(name, "ish_ws_connections", 0.0)).to_vec();
    let server = Server::start_with(|config| looking(config, rules, Some(webhook))).await;
    let http = server.http();
    let silenced = http.post("/api/alerts/Silent/silence", &json!({"seconds": 600})).await;
    assert!(silenced.json()["silenced_until"].is_string(), "{silenced:?}");
    let socket = server.socket().await;
    until("word of the other", || receiver.of("Loud", "firing")).await;
    once(&http, "Silent", "firing").await;
    assert_eq!(receiver.messages()[0]["alerts"].as_array().unwrap().len(), 1, "both began in one look");
    let unsilenced = http.delete("/api/alerts/Silent/silence").await;
    assert_eq!((unsilenced.status.as_u16(), &unsilenced.json()["silenced_until"]), (200, &Value::Null));
    until("word of it", || receiver.of("Silent", "firing")).await;
    drop(socket);
    until("word of both ends", || receiver.of("Silent", "resolved").and(receiver.of("Loud", "resolved"))).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_are_for_admins_and_those_that_are_built_in_have_a_runbook() {
    let server = Server::start_with_keys().await;
    let (user, admin) = (server.http().with_key(&server.new_key("acme").await), server.http().with_key(ADMIN_KEY));
    let wish = json!({"seconds": 60});
    for http in [server.http(), user] {
        let status = http.get("/api/alerts").await.status.as_u16();
        assert!(matches!(status, 401 | 403), "{status}");
        assert_eq!(http.post("/api/alerts/IshCpu/silence", &wish).await.status.as_u16(), status);
        assert_eq!(http.delete("/api/alerts/IshCpu/silence").await.status.as_u16(), status);
    }
    let listed = admin.get("/api/alerts").await.json();
    let (interval, listed) = (&listed["interval_s"], listed["data"].as_array().unwrap());
    assert_eq!((interval, listed.len() > 25), (&json!(60.0), true));
    let runbooks = read("docs/runbooks.md");
    for alert in listed {
        let section = format!("\n## {}\n", alert["name"].as_str().unwrap());
        assert!(runbooks.contains(&section), "{section}");
        assert_eq!(alert["runbook"], format!("docs/runbooks.md#{}", alert["name"].as_str().unwrap().to_lowercase()));
    }
    for (path, wish, status) in [
        ("/api/alerts/IshCpu/silence", json!({"seconds": 60}), 200),
        ("/api/alerts/IshGpu/silence", json!({"seconds": 60}), 404),
        ("/api/alerts/IshCpu/silence", json!({"seconds": 0}), 400),
        ("/api/alerts/IshCpu/silence", json!({"seconds": 604_801}), 400),
        ("/api/alerts/IshCpu/silence", json!({"second": 60}), 400),
    ] {
        assert_eq!(admin.post(path, &wish).await.status.as_u16(), status, "{path} {wish}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_lists_and_silences_those_of_a_running_server() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("ish.toml"), folder.path().join("data"));
    fs::write(&file, "[alerts.rules.Lives]\nmetric = \"ish_instances\"\nthreshold = 0\nfor = 0\n").unwrap();
    let variables = [("ISH_CONFIG", file.to_str().unwrap()), ("ISH_DATA_DIR", data.to_str().unwrap())];
    let none = Process::verb(&["alerts", "list"], &variables).await.unwrap_err();
    assert!(none.contains("no server runs on this data folder"), "{none}");
    let more = [variables[0], ("MONITORING_INTERVAL", "0.05")];
    let server = Process::start(&data, "http://127.0.0.1:1/v1", &more).await;
    let http = Http::new(server.address);
    once(&http, "Lives", "firing").await;
    let verb = async |arguments: &[&str]| Process::verb(arguments, &variables).await.unwrap();
    let listed = verb(&["alerts", "list", "--json"]).await;
    let first: Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    assert_eq!((&first["name"], &first["value"]), (&json!("Lives"), &json!(1.0)), "those that fire come first");
    let table = verb(&["alerts", "list"]).await;
    assert!(table.starts_with("NAME") && table.contains("IshErrorRate"), "{table}");
    assert!(verb(&["alerts", "silence", "Lives", "60"]).await.starts_with("silent until 20"));
    assert!(alert(&http, "Lives").await["silenced_until"].is_string());
    assert_eq!(verb(&["alerts", "unsilence", "Lives"]).await, "firing\n");
    assert_eq!(verb(&["alerts", "ended", "--json"]).await, "");
    server.kill().await;
}

#[tokio::test]
async fn an_alert_of_nothing_stops_the_start_and_says_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ish.toml");
    fs::write(&file, "[alerts.rules.Slow]\nmetric = \"respons_time_p95\"\nthreshold = 1\n").unwrap();
    let environment = Environment::from([("ISH_DATA_DIR", folder.path().to_str().unwrap())]);
    let config = Config::read(&environment, Some(&file)).unwrap();
    let fault = App::build(config).await.err().unwrap().to_string();
    for said in ["alerts.rules.Slow.metric = \"respons_time_p95\"", "did you mean response_time_p95?", "error_rate"] {
        assert!(fault.contains(said), "{fault}");
    }
    let checked = Process::verb(&["config", "check"], &[("ISH_CONFIG", file.to_str().unwrap())]).await.unwrap_err();
    assert!(checked.contains("did you mean response_time_p95?"), "{checked}");
}

/// One runbook serves both: what is built in has the name, the severity and the patience of its like in Prometheus's rules.
#[test]
fn those_that_are_built_in_are_prometheus_own() {
    let rules = read("prometheus/prometheus.rules.yml");
    let of_prometheus = |name: &str| {
        let (_, after) =
            rules.split_once(&format!("- alert: {name}\n")).unwrap_or_else(|| panic!("{name} is no alert"));
        let own = after.split("- alert: ").next().unwrap();
        let value = |key: &str| own.split_once(key).map(|(_, rest)| rest.split(['\n', '}']).next().unwrap().trim());
        let patience = value("\n        for: ").map_or(0, |text| {
            let (number, unit) = text.split_at(text.len() - 1);
            number.parse::<u64>().unwrap() * if unit == "h" { 3_600 } else { 60 }
        });
        (value("{severity: ").unwrap().to_owned(), patience)
    };
    for rule in Config::read(&Environment::default(), None).unwrap().alerts.rules {
        let own = (rule.severity.as_str().to_owned(), rule.hold.as_secs());
        assert_eq!(own, of_prometheus(&rule.name), "{}", rule.name);
    }
}

/// A value that is misspelt would choose nothing, in silence.
#[test]
fn figures_choose_series_that_there_are() {
    let (page, router) = (read("docs/metrics.md"), read("src/api.rs"));
    for figure in FIGURES {
        let mut metric = "";
        for (place, part) in figure.expression.split('"').enumerate() {
            let mut words = part.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
            if place % 2 == 0 {
                metric = words.rfind(|word| word.starts_with("ish_")).unwrap_or(metric);
                continue;
            }
            let row = page.lines().find(|line| line.starts_with(&format!("| `{metric}` |"))).unwrap();
            for value in part.split('|') {
                let is_there = row.contains(&format!("`{value}`")) || router.contains(&format!("\"{value}\""));
                assert!(is_there, "{}: {metric} has no {value}", figure.name);
            }
        }
    }
}

#[test]
fn the_page_names_every_figure() {
    let page = read("docs/alerts.md");
    let (_, table) = page.split_once("| figure | what it says |\n|---|---|\n").unwrap();
    let rows: BTreeSet<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    let figures = FIGURES.iter().map(|figure| format!("| `{}` | {} |", figure.name, figure.says)).collect::<Vec<_>>();
    assert_eq!(rows, figures.iter().map(String::as_str).collect());
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}
