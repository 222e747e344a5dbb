//! Work in the background as operators see it: over REST, and from the command line.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{ADMIN_KEY, Database, Http, Process, Reply, Server, Talk, soon};

/// The task once it is in this state.
async fn once(http: &Http, id: &str, state: &str) -> Value {
    soon("a task's state", async {
        loop {
            let task = http.get(&format!("/api/tasks/{id}")).await.json();
            if task["state"] == state {
                return task;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
}

async fn enqueue(http: &Http, wish: Value) -> String {
    let reply = http.post("/api/tasks", &wish).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_enqueued_run_shown_and_purged() {
    let server = Server::start().await;
    let http = server.http();
    let id = enqueue(&http, json!({"kind": "ish.tidy", "arguments": {}, "tenant": "acme"})).await;
    let task = once(&http, &id, "completed").await;
    assert_eq!(
        (&task["result"], &task["tenant"], &task["attempt"]),
        (&json!({"tasks": 0, "runs": 0}), &json!("acme"), &json!(1))
    );
    let listed = http.get("/api/tasks?tenant=acme&state=completed&limit=5").await.json();
    assert_eq!(listed["data"], json!([task]));
    assert_eq!(http.get(&format!("/api/tasks?tenant=acme&before={id}")).await.json()["data"], json!([]));
    let stats = http.get("/api/tasks/stats").await.json();
    let kinds = json!(["ish.benchmark", "ish.expire", "ish.reembed", "ish.summarise", "ish.tidy"]);
    assert_eq!(stats["kinds"], kinds);
    assert!(stats["states"]["completed"].as_u64() >= Some(1), "{stats}");
    // A schedule's slot may have come meanwhile.
    let tidied = stats["by_kind"].as_array().unwrap().iter().find(|of| of["kind"] == "ish.tidy").unwrap();
    assert_eq!(tidied["queue"], "ish");
    assert!(tidied["states"]["completed"].as_u64() >= Some(1), "{stats}");
    assert_eq!(http.post(&format!("/api/tasks/{id}/retry"), &json!({})).await.status, 409);
    assert_eq!(http.delete("/api/tasks?tenant=acme").await.json(), json!({"purged": 1}));
    assert_eq!(http.get(&format!("/api/tasks/{id}")).await.status, 404);
    let metrics = metrics(&http).await;
    assert!(metrics.contains("ish_tasks_duration_seconds_count{kind=\"ish.tidy\"} "), "{metrics}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_benchmark_tells_what_each_part_took() {
    let server = Server::start_with_keys().await;
    let http = server.http().with_key(ADMIN_KEY);
    // Something to be found in the index.
    let question = json!({"model": "mock", "messages": [{"role": "user", "content": "What is measured by itself?"}]});
    assert_eq!(http.post("/v1/chat/completions", &question).await.status, 200);
    soon("the entry's place in the index", async {
        while !metrics(&http).await.contains("\nish_index_entries 1\n") {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let reply = http.post("/api/admin/benchmarks", &json!({})).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let task = once(&http, reply.json()["id"].as_str().unwrap(), "completed").await;
    let result = &task["result"];
    assert_eq!((&result["index_entries"], &result["skipped"]), (&json!(1), &Value::Null), "{task}");
    for part in ["store", "embedding", "index"] {
        let (p50, max) = (result["parts"][part]["p50_ms"].as_f64(), result["parts"][part]["max_ms"].as_f64());
        assert!(p50 > Some(0.0) && p50 <= max, "{part}: {task}");
        let count = format!("ish_benchmark_seconds_count{{part=\"{part}\"}} 16\n");
        assert!(metrics(&http).await.contains(&count), "{part}");
    }
    assert_eq!(http.get("/api/admin/benchmarks?limit=1").await.json(), json!({"data": [task]}));
    assert_eq!(http.get("/api/admin/benchmarks?limit=0").await.status, 400);
    let key = http.post("/api/admin/keys", &json!({"name": "user"})).await.json()["key"].as_str().unwrap().to_owned();
    let user = server.http().with_key(&key);
    assert_eq!(user.get("/api/admin/benchmarks").await.status, 403);
    assert_eq!(user.post("/api/admin/benchmarks", &json!({})).await.status, 403);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn benchmarks_come_by_themselves_where_that_is_wished() {
    let often = std::time::Duration::from_millis(50);
    let server = Server::start_with(|config| config.tasks.benchmark_every = Some(often)).await;
    let http = server.http();
    soon("two benchmarks", async {
        loop {
            let listed = http.get("/api/admin/benchmarks").await.json();
            let tasks = listed["data"].as_array().unwrap();
            if tasks.iter().filter(|task| task["state"] == "completed").count() >= 2 {
                // There is nothing in the index to look through.
                assert!(tasks.iter().all(|task| task["result"]["parts"]["index"].is_null()), "{listed}");
                return;
            }
            tokio::time::sleep(often).await;
        }
    })
    .await;
    server.stop().await;
}

async fn metrics(http: &Http) -> String {
    String::from_utf8(http.get("/metrics").await.body.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_paused_cancelled_and_begun_again() {
    let server = Server::start().await;
    let http = server.http();
    let pause = json!({"scope": "kind", "name": "ish.tidy"});
    assert_eq!(http.post("/api/tasks/pauses", &pause).await.status, 204);
    assert_eq!(http.get("/api/tasks/stats").await.json()["pauses"], json!([pause]));
    let wish = json!({"kind": "ish.tidy", "arguments": {}, "unique": "u", "priority": "critical", "max_attempts": 7.0});
    let id = enqueue(&http, wish.clone()).await;
    let twin = http.post("/api/tasks", &wish).await;
    assert_eq!((twin.status.as_u16(), twin.json()), (200, json!({"id": id, "is_new": false})));
    let task = http.post(&format!("/api/tasks/{id}/cancel"), &json!({})).await.json();
    assert_eq!((&task["state"], &task["max_attempts"]), (&json!("cancelled"), &json!(7)));
    assert_eq!(http.post(&format!("/api/tasks/{id}/cancel"), &json!({})).await.status, 409);
    assert_eq!(http.post(&format!("/api/tasks/{id}/retry"), &json!({})).await.json()["state"], "available");
    assert_eq!(http.delete("/api/tasks/pauses?scope=kind&name=ish.tidy").await.status, 204);
    once(&http, &id, "completed").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_that_cannot_be_a_task_is_refused_clearly() {
    let server = Server::start_with_keys().await;
    let admin = server.http().with_key(ADMIN_KEY);
    let refused = |reply: &Reply, status: u16, says: &str| {
        let problem = reply.json();
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(reply.status == status && detail.contains(says), "{status} {says}: {reply:?}");
    };
    for (wish, status, says) in [
        (json!({"kind": "novel", "arguments": {}}), 400, "there is no job \"novel\""),
        (json!({"kind": "ish.tidy", "arguments": [1]}), 400, "the arguments are not the job's"),
        (json!({"kind": "ish.tidy", "arguments": {}, "version": 0}), 400, "takes arguments of version 1, not 0"),
        (json!({"kind": "ish.tidy", "arguments": {}, "delay": -1}), 400, "`delay` takes seconds"),
        (json!({"kind": "ish.tidy", "arguments": {}, "queue": "a b"}), 400, "is no name"),
        (json!({"kind": "ish.tidy", "arguments": {}, "unique": ""}), 400, "is no key"),
        (json!({"kind": "ish.tidy", "arguments": {}, "urgent": true}), 400, "unknown field `urgent`"),
        (json!({"kind": "ish.tidy", "arguments": {"x": "x".repeat(300_000)}}), 413, "bytes"),
    ] {
        refused(&admin.post("/api/tasks", &wish).await, status, says);
    }
    enqueue(&admin, json!({"kind": "ish.tidy", "arguments": {}, "idempotency": "k"})).await;
    let other = json!({"kind": "ish.tidy", "arguments": {"more": 1}, "idempotency": "k"});
    refused(&admin.post("/api/tasks", &other).await, 409, "with other arguments");
    refused(&admin.post("/api/tasks/pauses", &json!({"scope": "kind", "name": "a b"})).await, 400, "is no name");
    refused(&admin.delete("/api/tasks").await, 400, "all=true");
    refused(&admin.get("/api/tasks?limit=501").await, 400, "1 to 500");
    refused(&admin.get("/api/tasks?state=novel").await, 400, "query");
    refused(&admin.get(&format!("/api/tasks/{}", Uuid::nil())).await, 404, "no such task");
    let user = server.http().with_key(&server.new_key("acme").await);
    for path in ["/api/tasks", "/api/tasks/stats", "/api/tasks/workers", "/api/tasks/x"] {
        refused(&user.get(path).await, 403, "admin role");
    }
    refused(&user.post("/api/tasks", &json!({"kind": "ish.tidy", "arguments": {}})).await, 403, "admin role");
    server.stop().await;
}

#[tokio::test]
async fn the_command_line_does_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let verb = async |arguments: &[&str]| {
        let variables = [("ISH_DATA_DIR", data_dir), ("ISH_LOG", "error")];
        Process::verb(&[&["tasks"], arguments].concat(), &variables).await
    };
    let said = verb(&["enqueue", "ish.tidy", "--delay", "3600", "--priority", "high"]).await.unwrap();
    let id = said.trim().strip_prefix("enqueued ").unwrap();
    let listed: Value =
        serde_json::from_str(verb(&["list", "--json", "--state", "available"]).await.unwrap().trim()).unwrap();
    assert_eq!((listed["id"].as_str(), &listed["priority"]), (Some(id), &json!("high")));
    assert!(verb(&["show", id]).await.unwrap().contains("\"kind\": \"ish.tidy\""));
    assert_eq!(verb(&["cancel", id]).await.unwrap(), "cancelled\n");
    assert_eq!(verb(&["retry", id]).await.unwrap(), "it runs again\n");
    assert_eq!(verb(&["pause", "--kind", "ish.tidy"]).await.unwrap(), "paused\n");
    assert!(verb(&["stats", "--json"]).await.unwrap().contains("\"pauses\":[{"));
    assert_eq!(verb(&["resume", "--kind", "ish.tidy"]).await.unwrap(), "resumed\n");
    assert_eq!(verb(&["purge", "--all"]).await.unwrap(), "purged 0\n", "what waits stays");
    assert!(verb(&["enqueue", "novel"]).await.unwrap_err().contains("there is no job"));
    assert!(verb(&["enqueue", "ish.tidy", "{"]).await.unwrap_err().contains("not JSON"));
}

/// The page is the same for everybody, and leads from where it is asked for.
#[tokio::test]
async fn the_page_of_operations_is_there() {
    let server = Server::start_with_keys().await;
    let to = server.http().get("/ops").await;
    assert_eq!((to.status.as_u16(), to.header("location")), (307, "ops/tasks"));
    for path in ["/ops/tasks", "/ops/workflows"] {
        let page = server.http().get(path).await;
        assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
        assert!(page.header("content-security-policy").contains("default-src 'self'"));
        let text = String::from_utf8(page.body.to_vec()).unwrap();
        for named in text.split("=\"../").skip(1).map(|rest| rest.split(['"', '#']).next().unwrap()) {
            assert_eq!(server.http().get(&format!("/{named}")).await.status, 200, "{named}");
        }
    }
    server.stop().await;
}

/// A process of workers runs what is enqueued beside it, says so, and drains.
#[tokio::test]
async fn a_worker_runs_what_is_enqueued_beside_it() {
    let (database, folders) = (Database::new().await, [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let folders = folders.each_ref().map(|folder| folder.path().to_str().unwrap());
    let variables = |folder| {
        let database = [("DATABASE_URL", database.url.as_str()), ("DATABASE_DIRECT_URL", &database.direct_url)];
        [database[0], database[1], ("ISH_DATA_DIR", folder), ("ISH_LOG", "warn"), ("DB_MAX_CONNECTIONS", "8")]
    };
    let mut server = Talk::begin(&["serve", "--no-workers", "--listen", "127.0.0.1:0"], &variables(folders[0]));
    server.hear("try ").await;
    let verb = async |arguments: &[&str]| {
        Process::verb(&[&["tasks"], arguments].concat(), &variables(folders[0])).await.unwrap()
    };
    let said = verb(&["enqueue", "ish.tidy"]).await;
    let id = said.trim().strip_prefix("enqueued ").unwrap();
    let mut worker = Talk::begin(&["worker"], &variables(folders[1]));
    worker.hear("runs tasks").await;
    let done = async { while !verb(&["show", id, "--json"]).await.contains("\"state\":\"completed\"") {} };
    soon("the task's end", done).await;
    let workers = async || {
        let said = verb(&["workers", "--json"]).await;
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let known = workers().await;
    let [worker_there] = known.as_slice() else { panic!("one process runs tasks: {known:?}") };
    assert!(
        worker_there["name"].as_str().unwrap().contains('#') && worker_there["is_draining"] == false,
        "{worker_there}"
    );
    for process in [worker, server] {
        process.terminate();
        let (status, said) = process.end().await;
        assert!(status.success(), "{said}");
    }
}
