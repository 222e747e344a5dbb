//! The tier that instances share in Redis: what is found there, what is believed of it, and that nothing needs it.

use ish::config::Config;
use loadtest::provider::answer::answer_to;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};

use crate::harness::{Line, Reply, Server, asking, redis_host, until};
use crate::on_redis::over;

/// Instances on one database and one Redis.
struct Instances {
    line: Line,
    one: Server,
    other: Server,
    redis: MultiplexedConnection,
    prefix: String,
    change: Box<dyn Fn(&mut Config)>,
}

impl Instances {
    async fn start() -> Self {
        let line = Line::to(redis_host()).await;
        let change = over(&line);
        let mut prefix = String::new();
        let one = Server::start_on_postgres(|config| {
            change(config);
            prefix.clone_from(&config.redis.as_ref().unwrap().prefix);
        });
        let one = one.await;
        let other = one.beside(&change).await;
        for server in [&one, &other] {
            knows_generations(server).await;
        }
        let client = redis::Client::open(format!("redis://{}", redis_host())).unwrap();
        let redis = client.get_multiplexed_async_connection().await.unwrap();
        Self { line, one, other, redis, prefix, change: Box::new(change) }
    }

    /// Asks one instance, and waits until all have what it answered, and the other has been told.
    async fn learn(&self, question: &str) -> Reply {
        let told = self.other.metrics().changes_followed.with_label_values(&["learned"]);
        let before = told.get();
        let reply = self.one.http().chat(&asking(question)).await;
        assert_eq!(found(&reply), "", "it is new");
        self.one.chat().cache().flush().await;
        until("the change", || (told.get() > before).then_some(())).await;
        reply
    }

    /// Everything that is in Redis, with its name.
    async fn values(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut values = Vec::new();
        for kind in ["entry", "alias"] {
            let names: Vec<String> = self.redis.keys(format!("{}{kind}:*", self.prefix)).await.unwrap();
            for name in names {
                let value = self.redis.get(&name).await.unwrap();
                values.push((name, value));
            }
        }
        values
    }

    async fn put(&mut self, values: &[(String, Vec<u8>)]) {
        for (name, value) in values {
            let () = self.redis.set_ex(name, value, 60).await.unwrap();
        }
    }

    async fn stop(self) {
        self.one.stop().await;
        self.other.stop().await;
    }
}

/// Before then nothing there is believed.
async fn knows_generations(server: &Server) {
    until("the load", || server.chat().cache().index_loaded().then_some(())).await;
}

/// How it matched and where it was, or nothing.
fn found(reply: &Reply) -> &str {
    reply.header("cache-status").split_once("detail=").map_or("", |(_, detail)| detail)
}

fn only(question: &str) -> Value {
    let mut body = asking(question);
    body["cache"] = json!({"mode": "only"});
    body
}

/// Resolves once `server` has followed an eviction.
async fn followed_evictions(server: &Server, count: u64) {
    let metric = server.metrics().changes_followed.with_label_values(&["evicted"]);
    until("the eviction", || (metric.get() >= count).then_some(())).await;
}

#[tokio::test]
async fn what_one_learns_another_finds_there_by_either_key() {
    let mut instances = Instances::start().await;
    for (question, again, how) in [
        ("Where do narwhals live?", "Where do narwhals live?", "exact"),
        ("Who painted the ceiling?", "who painted the ceiling", "normalized"),
    ] {
        instances.learn(question).await;
        let reply = instances.other.http().chat(&asking(again)).await;
        assert_eq!((found(&reply), reply.header("x-ish-cache-tier")), (&*format!("{how}-l2"), "l2"), "{again}");
        assert_eq!(reply.text(), answer_to(question));
        assert_eq!(found(&instances.other.http().chat(&asking(again)).await), format!("{how}-l1"));
    }
    for (name, _) in instances.values().await {
        let left_s: i64 = instances.redis.ttl(&name).await.unwrap();
        assert!(left_s > 0, "{name} would stay for ever");
    }
    assert_eq!(instances.one.upstream_calls(), 2);
    instances.stop().await;
}

#[tokio::test]
async fn what_the_store_has_is_put_back_there() {
    let mut instances = Instances::start().await;
    let question = "Where do narwhals live?";
    instances.learn(question).await;
    for (name, _) in instances.values().await {
        let () = instances.redis.del(&name).await.unwrap();
    }
    assert_eq!(found(&instances.other.http().chat(&asking(question)).await), "exact-l3");
    instances.other.chat().cache().flush().await;
    assert_eq!(instances.values().await.len(), 2);
    instances.stop().await;
}

/// Redis gives back what it had: a replica that was behind, or a restored file.
#[tokio::test]
async fn what_was_evicted_and_comes_back_there_is_not_served() {
    let mut instances = Instances::start().await;
    let question = "Where do narwhals live?";
    let made = instances.learn(question).await;
    let values = instances.values().await;
    assert_eq!(values.len(), 2);
    let evicted = instances.one.http().delete(&format!("/api/cache/entries/{}", made.header("x-ish-cache-key"))).await;
    assert_eq!(evicted.status, 200);
    instances.put(&values).await;
    assert_eq!(instances.one.http().chat(&only(question)).await.status, 504, "it knows of its own at once");
    followed_evictions(&instances.other, 1).await;
    assert_eq!(instances.other.http().chat(&only(question)).await.status, 504);
    instances.other = instances.other.restart_with(&instances.change).await;
    knows_generations(&instances.other).await;
    assert_eq!(instances.other.http().chat(&only(question)).await.status, 504, "it reads what generation it is");
    instances.learn(question).await;
    assert_eq!(found(&instances.other.http().chat(&asking(question)).await), "exact-l2", "a new answer is one");
    instances.stop().await;
}

#[tokio::test]
async fn what_is_damaged_there_is_a_miss() {
    let mut instances = Instances::start().await;
    let question = "Where do narwhals live?";
    instances.learn(question).await;
    let mut values = instances.values().await;
    for (_, value) in &mut values {
        let last = value.len() - 1;
        value[last] ^= 1;
    }
    instances.put(&values).await;
    let reply = instances.other.http().chat(&asking(question)).await;
    assert_eq!((found(&reply), reply.text()), ("exact-l3", answer_to(question)));
    assert_eq!(instances.other.metrics().cache_errors.with_label_values(&["l2"]).get(), 1);
    instances.stop().await;
}

#[tokio::test]
async fn without_it_instances_still_learn_and_evict() {
    let instances = Instances::start().await;
    instances.line.cut();
    let question = "Where do narwhals live?";
    let made = instances.learn(question).await;
    assert_eq!(found(&instances.other.http().chat(&asking(question)).await), "exact-l3");
    let evicted = instances.one.http().delete(&format!("/api/cache/entries/{}", made.header("x-ish-cache-key"))).await;
    assert_eq!(evicted.status, 200);
    followed_evictions(&instances.other, 1).await;
    assert_eq!(instances.other.http().chat(&only(question)).await.status, 504);
    instances.stop().await;
}

#[tokio::test]
async fn a_change_is_told_of_over_redis() {
    let instances = Instances::start().await;
    let told = &instances.other.metrics().changes_told;
    // The first one is its own, of having begun to listen.
    until("an open ear", || (told.get() >= 1).then_some(())).await;
    let before = told.get();
    instances.learn("Where do narwhals live?").await;
    until("a nudge", || (told.get() > before).then_some(())).await;
    instances.stop().await;
}
