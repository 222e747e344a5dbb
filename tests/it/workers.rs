//! A process that only runs tasks, as who watches it sees it.

use http::Method;
use serde_json::json;

use crate::harness::{Database, Http, Process, Server, soon};

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
