//! Workflows as operators see them: over REST, and from the command line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ish::tasks::{JobError, Policy};
use ish::workflows::{Definitions, Step, StepContext, Workflow};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{ADMIN_KEY, Http, Process, Server, soon};

/// `order`: a list, its parts, and an end that fails until it may not; the first is undone when it does.
fn order(is_mended: &Arc<AtomicBool>) -> Definitions {
    let is_mended = Arc::clone(is_mended);
    let end = move |context: StepContext| {
        let is_mended = is_mended.load(Ordering::SeqCst);
        async move {
            if !is_mended && context.input::<Value>()?["fail"] == true {
                return Err(JobError::fatal("<img src=x onerror=alert(1)>"));
            }
            context.output::<Vec<u32>>("parts")
        }
    };
    let listen = |context: StepContext| async move {
        context.job().cancelled().await;
        Err::<(), _>(JobError::retry("it was interrupted"))
    };
    let order = Workflow::new("order", 3)
        .step(Step::new("list", |_| async { Ok([1, 2, 3]) }).undo(|_| async { Ok(()) }))
        .step(Step::each("parts", "list", |context: StepContext| async move { Ok(context.element::<u32>()? * 2) }))
        .step(Step::new("end", end).after(["parts"]).policy(Policy { max_attempts: 1, ..Policy::DEFAULT }));
    let long = Workflow::new("long", 1).step(Step::new("listens", listen));
    Definitions::new().with(order).unwrap().with(long).unwrap()
}

async fn started(http: &Http, wish: Value) -> String {
    let reply = http.post("/api/workflows", &wish).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()["id"].as_str().unwrap().to_owned()
}

/// The run once it is in this state.
async fn once(http: &Http, id: &str, state: &str) -> Value {
    soon("a run's state", async {
        loop {
            let run = http.get(&format!("/api/workflows/{id}")).await.json();
            if run["state"] == state {
                return run;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_started_shown_and_listed() {
    let server = Server::start_with_workflows(order(&Arc::default())).await;
    let http = server.http();
    let wish = json!({"name": "order", "input": {"fail": false}, "key": "k", "tenant": "acme"});
    let id = started(&http, wish.clone()).await;
    let again = http.post("/api/workflows", &wish).await;
    assert_eq!((again.status.as_u16(), again.json()), (200, json!({"id": id, "is_new": false})));
    let run = once(&http, &id, "completed").await;
    assert_eq!((&run["workflow"], &run["version"], &run["tenant"]), (&json!("order"), &json!(3), &json!("acme")));
    assert_eq!((&run["input"], &run["output"]), (&json!({"fail": false}), &json!([2, 4, 6])));
    let parts = &run["steps"][1];
    assert_eq!((&parts["name"], &parts["kind"], &parts["after"]), (&json!("parts"), &json!("each"), &json!(["list"])));
    assert_eq!(parts["items"], json!({"total": 3, "completed": 3, "failed": 0, "running": 0}));
    let task = http.get(&format!("/api/tasks/{}", run["steps"][2]["task"].as_str().unwrap())).await.json();
    assert_eq!((&task["kind"], &task["tenant"]), (&json!("order:3:end"), &json!("acme")));
    let listed = http.get("/api/workflows?workflow=order&state=completed&tenant=acme&limit=5").await.json();
    assert_eq!(listed["data"], json!([run]));
    assert_eq!(http.get(&format!("/api/workflows?before={id}")).await.json()["data"], json!([]));
    let known = http.get("/api/workflows/definitions").await.json();
    let end = json!({"name": "end", "kind": "one", "after": ["parts"], "has_compensation": false});
    assert_eq!((&known["data"][1]["name"], &known["data"][1]["steps"][2]), (&json!("order"), &end));
    let metrics = String::from_utf8(http.get("/metrics").await.body.to_vec()).unwrap();
    assert!(metrics.contains(r#"ish_workflows_ended_total{outcome="completed",workflow="order"} 1"#), "{metrics}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_failed_is_retried_and_one_that_is_under_way_is_cancelled() {
    let is_mended = Arc::new(AtomicBool::new(false));
    let server = Server::start_with_workflows(order(&is_mended)).await;
    let http = server.http();
    let failed = started(&http, json!({"name": "order", "input": {"fail": true}})).await;
    let run = once(&http, &failed, "failed").await;
    assert_eq!(run["error"], "end: <img src=x onerror=alert(1)>");
    let undo = run["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&undo["name"], &undo["compensates"], &undo["state"]),
        (&json!("list:undo"), &json!("list"), &json!("completed"))
    );
    is_mended.store(true, Ordering::SeqCst);
    assert_eq!(http.post(&format!("/api/workflows/{failed}/retry"), &json!({})).await.status, 200);
    once(&http, &failed, "completed").await;
    assert_eq!(http.post(&format!("/api/workflows/{failed}/retry"), &json!({})).await.status, 409);
    let long = started(&http, json!({"name": "long", "input": null})).await;
    once(&http, &long, "running").await;
    assert_eq!(http.post(&format!("/api/workflows/{long}/cancel"), &json!({})).await.status, 200);
    once(&http, &long, "cancelled").await;
    assert_eq!(http.post(&format!("/api/workflows/{long}/cancel"), &json!({})).await.status, 409);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_that_cannot_be_a_run_is_refused_clearly() {
    let server = Server::start_with_workflows(order(&Arc::default())).await;
    let http = server.http();
    started(&http, json!({"name": "order", "input": 1, "key": "k"})).await;
    for (wish, status, said) in [
        (json!({"name": "other", "input": 1}), 400, "there is no workflow"),
        (json!({"name": "order"}), 400, "input"),
        (json!({"name": "order", "input": 1, "keys": "k"}), 400, "keys"),
        (json!({"name": "order", "input": 1, "key": ""}), 400, "is no key"),
        (json!({"name": "order", "input": 2, "key": "k"}), 409, "with another input"),
        (json!({"name": "order", "input": "x".repeat(256 * 1024)}), 413, "store what is large, and name it"),
    ] {
        let reply = http.post("/api/workflows", &wish).await;
        assert!(reply.status == status && String::from_utf8_lossy(&reply.body).contains(said), "{said}: {reply:?}");
    }
    for path in ["/api/workflows?limit=0", "/api/workflows?limit=101", "/api/workflows?state=dead"] {
        assert_eq!(http.get(path).await.status, 400, "{path}");
    }
    let unknown = Uuid::now_v7();
    assert_eq!(http.get(&format!("/api/workflows/{unknown}")).await.status, 404);
    assert_eq!(http.post(&format!("/api/workflows/{unknown}/cancel"), &json!({})).await.status, 404);
    server.stop().await;
}

#[tokio::test]
async fn only_the_admin_role_has_them() {
    let server = Server::start_with_keys().await;
    let user = server.http().with_key(&server.new_key("acme").await);
    for path in ["/api/workflows", "/api/workflows/definitions", "/api/workflows/x"] {
        assert_eq!(user.get(path).await.status, 403, "{path}");
    }
    for path in ["/api/workflows", "/api/workflows/x/cancel", "/api/workflows/x/retry"] {
        assert_eq!(user.post(path, &json!({"name": "order", "input": 1})).await.status, 403, "{path}");
    }
    let admin = server.http().with_key(ADMIN_KEY);
    assert_eq!(
        admin.get("/api/workflows/definitions").await.json(),
        json!({"data": []}),
        "the product has none of its own"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_does_the_same() {
    let is_mended = Arc::new(AtomicBool::new(false));
    let server = Server::start_with_workflows(order(&is_mended)).await;
    let data_dir = server.folder.path().to_str().unwrap().to_owned();
    let verb = async |arguments: &[&str]| {
        let variables = [("ISH_DATA_DIR", data_dir.as_str()), ("ISH_LOG", "error")];
        Process::verb(&[&["workflows"], arguments].concat(), &variables).await
    };
    let said = verb(&["start", "order", r#"{"fail": true}"#, "--key", "k"]).await.unwrap();
    let id = said.trim().strip_prefix("started ").unwrap().to_owned();
    let again = verb(&["start", "order", r#"{"fail": true}"#, "--key", "k"]).await.unwrap();
    assert_eq!(again.trim().strip_prefix("there is already "), Some(&*id));
    once(&server.http(), &id, "failed").await;
    let listed = verb(&["list", "--json", "--state", "failed", "--workflow", "order"]).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(listed.trim()).unwrap()["id"], json!(id));
    is_mended.store(true, Ordering::SeqCst);
    assert_eq!(verb(&["retry", &id]).await.unwrap(), "running\n");
    once(&server.http(), &id, "completed").await;
    assert!(verb(&["show", &id]).await.unwrap().contains("\"state\": \"completed\""));
    assert!(verb(&["cancel", &id]).await.unwrap_err().contains("the run is completed"));
    assert!(verb(&["definitions", "--json"]).await.unwrap().contains(r#""name":"long""#));
    assert!(verb(&["start", "other"]).await.unwrap_err().contains("there is no workflow"));
    assert!(verb(&["start", "order", "{"]).await.unwrap_err().contains("not JSON"));
    server.stop().await;
}
