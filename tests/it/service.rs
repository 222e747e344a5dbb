//! The service of `examples/`, run: its handlers answer from the cache and tell tenants apart, its job runs, its model is asked
//! once, and what took how long is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State as Shared;
use axum::routing::post;
use axum::{Json, Router};
use http::Method;
use ish::config::{Config, Environment};
use ish::keys::{KeyRole, KeyWish};
use ish::tasks::State;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{ADMIN_KEY, Http, soon};
use market::Service;

#[expect(dead_code, reason = "nobody calls its main")]
#[path = "../../examples/service.rs"]
mod market;

/// A model that always sells a kettle, as JSON; the first time it forgets how.
#[derive(Clone, Default)]
struct Model {
    asked: Arc<AtomicUsize>,
}

impl Model {
    async fn start(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/v1/chat/completions", post(answer)).with_state(self.clone());
        tokio::spawn(async { axum::serve(listener, routes).await });
        address
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn answer(Shared(model): Shared<Model>, Json(question): Json<Value>) -> Json<Value> {
    let time = model.asked.fetch_add(1, Ordering::SeqCst);
    let system = question["messages"][0]["content"].as_str().unwrap();
    assert!(system.contains("JSON") && question["model"] == "gpt-4", "{question}");
    let pitch = "```json\n{\"headline\":\"It boils\",\"reasons\":[\"fast\"]}\n```";
    let text = if time == 0 { "It boils, and fast." } else { pitch };
    let message = json!({"role": "assistant", "content": text});
    Json(json!({
        "id": "1", "object": "chat.completion", "created": 1, "model": "gpt-4",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
    }))
}

/// The service with a model of its own, and the keys of its callers.
struct Market {
    service: Service,
    model: Model,
    acme: Http,
    umbrella: Http,
    _folder: TempDir,
}

impl Market {
    async fn open() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (folder, model) = (tempfile::tempdir().unwrap(), Model::default());
        let key_file = folder.path().join("admin.key");
        std::fs::write(&key_file, ADMIN_KEY).unwrap();
        let base_url = format!("http://{}/v1", model.start().await);
        let environment = Environment::from([
            ("ISH_DATA_DIR", folder.path().to_str().unwrap()),
            ("ISH_ADMIN_KEY_FILE", key_file.to_str().unwrap()),
            ("ISH_LISTEN", "127.0.0.1:0"),
            ("OPENAI_BASE_URL", &base_url),
            ("OPENAI_API_KEY", "sk-upstream"),
        ]);
        let service = Service::start(Config::read(&environment, None).unwrap()).await.unwrap();
        let http = Http::new(service.address);
        let keys = &service.app.keys;
        let acme = keys.create(KeyWish::new("a test's", "acme", KeyRole::User)).await.unwrap();
        let umbrella = keys.create(KeyWish::new("a test's", "umbrella", KeyRole::User)).await.unwrap();
        let (acme, umbrella) = (http.with_key(&acme.key), http.with_key(&umbrella.key));
        Self { service, model, acme, umbrella, _folder: folder }
    }

    fn asked(&self) -> u32 {
        self.service.shelf.asked.load(Ordering::Relaxed)
    }

    async fn price(&self) -> Value {
        self.acme.get("/products/1").await.json()["cents"].clone()
    }
}

#[tokio::test]
async fn answers_come_from_the_cache_for_whom_they_were_made() {
    let market = Market::open().await;
    assert_eq!((market.price().await, market.price().await), (json!(4_900), json!(4_900)));
    assert_eq!(market.asked(), 1);
    assert_eq!(market.umbrella.get("/products/1").await.status, 404, "it is acme's");
    assert_eq!(market.umbrella.get("/products/1").await.status, 404, "an error is not kept");
    assert_eq!(market.asked(), 3);
    let stranger = Http::new(market.service.address).with_key("ish_nobody").get("/products/1").await;
    assert_eq!((stranger.status.as_u16(), stranger.json()["code"].clone()), (401, json!("invalid_api_key")));
    // A search is the same for everybody, and every argument counts.
    for (path, found) in [("name=tea", 2), ("name=tea&most_cents=2000", 1), ("name=tea&most_cents=9000", 2)] {
        let search = format!("/products?{path}");
        assert_eq!(market.acme.get(&search).await.json().as_array().unwrap().len(), found);
        let asked = market.asked();
        assert_eq!(market.umbrella.get(&search).await.json().as_array().unwrap().len(), found);
        assert_eq!(market.asked(), asked);
    }
    market.service.stop().await.unwrap();
}

#[tokio::test]
async fn a_new_price_is_seen_at_once_and_told_in_the_background() {
    let market = Market::open().await;
    assert_eq!(market.price().await, 4_900);
    let repriced = market.acme.send(Method::PUT, "/products/1", json!({"cents": 4_500}).to_string()).await;
    assert_eq!(repriced.status, 200, "{repriced:?}");
    assert_eq!(market.price().await, 4_500);
    let (queue, id) = (&market.service.queue, std::str::from_utf8(&repriced.body).unwrap().parse().unwrap());
    let done = soon("the task's end", async {
        loop {
            let task = queue.task(id).await.unwrap();
            if task.state == State::Completed {
                return task;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let done = done.await;
    assert_eq!((done.kind.as_str(), done.queue.as_str(), done.max_attempts), ("tell_watchers", "mail", 6));
    assert_eq!((done.tenant.as_str(), done.unique_key.as_deref()), ("acme", Some("[1]")));
    assert_eq!(done.result.unwrap().get(), "\"kettle now costs 4500\"");
    assert_eq!(market.service.shelf.told.load(Ordering::Relaxed), 1);
    market.service.stop().await.unwrap();
}

#[tokio::test]
async fn a_model_is_asked_once_for_what_can_be_read() {
    let market = Market::open().await;
    let unreadable = market.acme.get("/products/1/pitch").await;
    assert_eq!((unreadable.status.as_u16(), market.model.asked()), (502, 1), "{unreadable:?}");
    let pitch = market.acme.get("/products/1/pitch").await;
    assert_eq!((pitch.status.as_u16(), market.model.asked()), (200, 2), "an answer that cannot be read is not reused");
    assert_eq!(pitch.json(), json!({"headline": "It boils", "reasons": ["fast"]}));
    assert_eq!(market.acme.get("/products/1/pitch").await.json(), pitch.json());
    assert_eq!(market.model.asked(), 2);
    market.service.stop().await.unwrap();
}
