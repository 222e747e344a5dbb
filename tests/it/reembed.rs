//! After another embedder was configured, the answers made under the old one are found again, on either store.

use ish::cache::KeptUnder;
use ish::config::{Config, RemoteEmbedderConfig};
use serde_json::{Value, json};

use crate::harness::{Http, Reply, Server, asking, soon};

/// The provider's embedder, in place of the one that is built in.
fn remote(config: &mut Config) {
    let base_url = config.providers.iter().find(|provider| provider.name == "openai").unwrap().base_url.clone();
    config.embedding.remote = Some(RemoteEmbedderConfig { base_url, model: "another".to_owned(), api_key: None });
}

fn word(reply: &Reply) -> &str {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.header("x-ish-cache")
}

/// Looks until that is what is noted.
async fn kept_under(server: &Server, expected: KeptUnder) {
    soon("the note", async {
        while server.chat().cache().kept_under().await.unwrap() != expected {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// What a task came to.
async fn result(http: &Http, id: &str) -> Value {
    soon("the job", async {
        loop {
            let task = http.get(&format!("/api/tasks/{id}")).await.json();
            if task["state"] == "completed" {
                return task["result"].clone();
            }
            assert!(task["failures"].as_array().unwrap().is_empty(), "{task}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
}

/// What `ish.reembed` came to, enqueued by hand.
async fn reembedded(http: &Http) -> Value {
    let reply = http.post("/api/tasks", &json!({"kind": "ish.reembed", "arguments": {}})).await;
    result(http, reply.json()["id"].as_str().unwrap()).await
}

/// The tasks of the kind that there are.
async fn reembeds(http: &Http) -> Vec<Value> {
    http.get("/api/tasks?kind=ish.reembed").await.json()["data"].as_array().unwrap().clone()
}

/// The one that the server has enqueued by itself.
async fn enqueued(http: &Http) -> Value {
    soon("the task", async {
        loop {
            if let [one] = reembeds(http).await.as_slice() {
                return one.clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
}

async fn what_was_answered_under_another_embedder_is_found_again(server: Server) {
    let http = server.http();
    let told = json!({"model": "mock", "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why do leaves change their colour in autumn?"},
    ]});
    // A question that stands alone behind another, and one that leans on what was said.
    let behind = |question: &str| {
        json!({"model": "mock", "messages": [
            {"role": "user", "content": "Hello there!"}, {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": question},
        ]})
    };
    let [alone, leaning] = ["Where do narwhals usually live and sleep?", "And why is that so?"].map(behind);
    let plain = asking("How do I boil an egg?");
    for asked in [&told, &alone, &leaning, &plain] {
        assert_eq!(word(&http.chat(asked).await), "MISS");
    }
    server.chat().cache().flush().await;
    kept_under(&server, KeptUnder::This).await;
    assert_eq!(reembeds(&http).await, [] as [Value; 0], "the first embedder is no other one");

    let server = server.restart_with(|config| config.embedding.remote = None).await;
    let http = server.http();
    let task = enqueued(&http).await;
    assert!(task["arguments"]["to"].as_str().unwrap().starts_with("minilm"), "{task}");
    assert_eq!(result(&http, task["id"].as_str().unwrap()).await, json!({"moved": 3, "left": 1}));
    assert_eq!(reembedded(&http).await, json!({"moved": 0, "left": 1}), "nothing is done twice");
    for (asked, found) in [(&told, "HIT"), (&alone, "NORMALIZED_HIT"), (&plain, "HIT")] {
        let reply = http.chat(asked).await;
        assert_eq!(word(&reply), found, "{asked}: {reply:?}");
    }
    assert_eq!(word(&http.chat(&leaning).await), "MISS");
    let reworded = http.chat(&asking("How can I boil an egg?")).await;
    assert_eq!(word(&reworded), "SEMANTIC_HIT", "{reworded:?}");

    kept_under(&server, KeptUnder::This).await;
    let server = server.restart_with(|config| config.embedding.remote = None).await;
    kept_under(&server, KeptUnder::This).await;
    assert_eq!(reembeds(&server.http()).await.len(), 2, "the same embedder again enqueues nothing");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_under_another_embedder_is_found_again_in_a_file() {
    what_was_answered_under_another_embedder_is_found_again(Server::start_with(remote).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_under_another_embedder_is_found_again_in_postgres() {
    what_was_answered_under_another_embedder_is_found_again(Server::start_on_postgres(remote).await).await;
}

/// It is not for this one to move entries to an embedder that it does not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_with_another_embedder_leaves_the_task_to_those_who_have_it() {
    let server = Server::start_on_postgres(remote).await;
    let wish = json!({"kind": "ish.reembed", "arguments": {"to": "minilm-of-others"}});
    let http = server.http();
    let id = http.post("/api/tasks", &wish).await.json()["id"].as_str().unwrap().to_owned();
    let task = soon("an attempt", async {
        loop {
            let task = http.get(&format!("/api/tasks/{id}")).await.json();
            if task["state"] == "retryable" {
                return task;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let error = task["failures"][0]["error"].as_str().unwrap();
    assert!(error.contains("whose embedder is minilm-of-others, and this one's is remote:another"), "{error}");
    server.stop().await;
}
