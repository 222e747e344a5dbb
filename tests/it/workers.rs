//! A process that only runs tasks, as who watches it sees it.

use http::Method;
use serde_json::json;
use url::Url;

use crate::harness::{Database, Http, Line, Process, Server, Talk, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_answers_to_who_watches_it_and_to_nobody_else() {
    let database = Database::new().await;
    let (url, direct_url) = (database.url.clone(), database.direct_url.clone());
    let server = Server::start_on(database, |config| config.tasks.workers = false).await;
    let folder = tempfile::tempdir().unwrap();
    let variables = [("DATABASE_URL", url.as_str()), ("DATABASE_DIRECT_URL", direct_url.as_str())];
    let mut worker = Process::worker(folder.path(), &variables).await;
    let http = Http::new(worker.address);
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(http.get(path).await.status, 200, "{path}");
    }
    // Not as the server's description has it: nobody is served.
    for path in ["/", "/api/status", "/api/tasks", "/ops", "/openapi.json"] {
        assert_eq!(http.open(Method::GET, path, "").await.status, 404, "{path}");
    }

    let task = server.http().post("/api/tasks", &json!({"kind": "ish.tidy", "arguments": {}})).await;
    assert_eq!(task.status, 201, "{task:?}");
    let done = r#"ish_tasks_ended_total{kind="ish.tidy",outcome="completed"} "#;
    soon("the task, as measured", async {
        while !String::from_utf8_lossy(&http.get("/metrics").await.body).contains(done) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    worker.terminate();
    assert!(worker.end().await.success());
    server.stop().await;
}

/// The pooler's address over a line that can be cut, and the server's own over the same.
async fn over_a_line(database: &Database) -> (Line, String, String) {
    let [url, direct_url] = [&database.url, &database.direct_url].map(|url| Url::parse(url).unwrap());
    let server = format!("{}:{}", direct_url.host_str().unwrap(), direct_url.port().unwrap());
    let line = Line::to(server).await;
    let carried = |mut url: Url| {
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(line.address.port())).unwrap();
        url.to_string()
    };
    // Both lead to the server itself: the login is the pooler's.
    let (url, direct_url) = (carried(url), carried(direct_url));
    (line, url, direct_url)
}

#[tokio::test]
async fn a_worker_that_starts_while_its_database_is_away_waits_for_it() {
    let database = Database::new().await;
    let (line, url, direct_url) = over_a_line(&database).await;
    line.cut();
    let folder = tempfile::tempdir().unwrap();
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("DATABASE_DIRECT_URL", direct_url.as_str()),
        ("ISH_DATA_DIR", folder.path().to_str().unwrap()),
    ];
    let mut worker = Talk::begin(&["worker"], &variables);
    worker.hear("the database is away: this start waits for it").await;
    line.mend();
    worker.hear("runs tasks").await;
    worker.terminate();
    let (status, said) = worker.end().await;
    assert!(status.success(), "{said}");

    line.cut();
    let impatient = [&variables[..], &[("ISH_DATABASE_START_TIMEOUT", "0.2")]].concat();
    let said = Process::verb(&["worker"], &impatient).await.unwrap_err();
    assert!(said.contains("the database of DATABASE_URL cannot be used"), "{said}");
}
