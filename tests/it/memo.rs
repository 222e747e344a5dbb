//! What is kept that is no answer, on two instances with one Postgres and one Redis: what one makes the other finds, what
//! falls on one is gone on the other, and nothing needs Redis.

use std::time::Duration;

use ish::config::Config;
use ish::memo::{Key, Memo, Scope, Space, Tag};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Line, Server, redis_host, soon, until};
use crate::on_redis::over;

const TTL: Duration = Duration::from_mins(5);

struct Instances {
    line: Line,
    one: Server,
    other: Server,
    redis: MultiplexedConnection,
    prefix: String,
}

impl Instances {
    async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    async fn start_with(change: impl Fn(&mut Config)) -> Self {
        let line = Line::to(redis_host()).await;
        let (over, mut prefix) = (over(&line), String::new());
        let one = Server::start_on_postgres(|config| {
            over(config);
            change(config);
            prefix.clone_from(&config.redis.as_ref().unwrap().prefix);
        });
        let one = one.await;
        let other = one
            .beside(|config| {
                over(config);
                change(config);
            })
            .await;
        let client = redis::Client::open(format!("redis://{}", redis_host())).unwrap();
        let redis = client.get_multiplexed_async_connection().await.unwrap();
        Self { line, one, other, redis, prefix }
    }

    /// What is in Redis of ours, once there are so many values.
    async fn values(&self, count: usize) -> Vec<(String, Vec<u8>)> {
        let pattern = format!("{}memo:*", self.prefix);
        let mut redis = self.redis.clone();
        let names = soon("the values", async {
            loop {
                let names: Vec<String> = redis.keys(&pattern).await.unwrap();
                if names.len() == count {
                    return names;
                }
            }
        });
        let names = names.await;
        let mut values = Vec::new();
        for name in names {
            let value = redis.get(&name).await.unwrap();
            let left_s: i64 = redis.ttl(&name).await.unwrap();
            assert!(left_s > 0, "{name} would stay for ever");
            values.push((name, value));
        }
        values
    }

    async fn stop(self) {
        self.one.stop().await;
        self.other.stop().await;
    }
}

fn key(name: &str) -> Key {
    Key::of("test", 1, Scope::Tenant("t"), name)
}

fn tags() -> [Tag; 1] {
    [Tag::of(Scope::Tenant("t"), "orders")]
}

/// What `memo` finds, or makes as `made`.
async fn ask(memo: &Memo, made: &str) -> String {
    let op = || async { Ok::<_, std::convert::Infallible>(made.to_owned()) };
    memo.with(&key("a")).ttl(TTL).tags(&tags()).run(op).await.unwrap()
}

fn count(server: &Server, cache: &str, outcome: &str) -> u64 {
    server.metrics().memo_lookups.with_label_values(&[cache, outcome]).get()
}

/// Resolves once the other has followed so many falls.
async fn followed(server: &Server, count: u64) {
    let followed = server.metrics().changes_followed.with_label_values(&["fallen"]);
    until("the fall", || (followed.get() >= count).then_some(())).await;
}

#[tokio::test]
async fn what_one_makes_another_finds_until_it_falls_on_either() {
    let instances = Instances::start().await;
    let (one, other) = (instances.one.memo(), instances.other.memo());
    assert_eq!(ask(one, "first").await, "first");
    instances.values(1).await;
    assert_eq!(ask(other, "second").await, "first");
    assert_eq!(ask(other, "second").await, "first");
    assert_eq!(["l2", "l1", "miss"].map(|outcome| count(&instances.other, "general", outcome)), [1, 1, 0]);
    assert_eq!(other.get::<String>(&key("a")).await.as_deref(), Some("first"));

    one.invalidate_tags(&tags()).await.unwrap();
    assert_eq!(ask(one, "third").await, "third", "at once where it was said");
    followed(&instances.other, 1).await;
    assert_ne!(ask(other, "fourth").await, "first");

    one.delete(&key("a")).await.unwrap();
    followed(&instances.other, 2).await;
    assert_eq!(other.get::<String>(&key("a")).await, None);
    instances.stop().await;
}

/// Redis gives back what it had: a replica that was behind, or a restored file. And one that begins later knows what fell.
#[tokio::test]
async fn what_fell_and_comes_back_there_is_not_served() {
    let instances = Instances::start().await;
    assert_eq!(ask(instances.one.memo(), "old").await, "old");
    let values = instances.values(1).await;
    instances.one.memo().invalidate_tags(&tags()).await.unwrap();
    followed(&instances.other, 1).await;
    let mut redis = instances.redis.clone();
    let over = over(&instances.line);
    let prefix = instances.prefix.clone();
    let third = instances.one.beside(|config| {
        over(config);
        config.redis.as_mut().unwrap().prefix = prefix;
    });
    let third = third.await;
    for server in [&instances.one, &instances.other, &third] {
        let () = redis.set_ex(&values[0].0, &values[0].1, 60).await.unwrap();
        assert_eq!(server.memo().get::<String>(&key("a")).await, None);
        assert_eq!(server.metrics().memo_errors.with_label_values(&["general", "unreadable"]).get(), 0);
    }
    third.stop().await;
    instances.stop().await;
}

#[tokio::test]
async fn what_is_there_is_sealed_and_a_damaged_value_is_a_miss() {
    let instances = Instances::start().await;
    assert_eq!(ask(instances.one.memo(), "a plain secret").await, "a plain secret");
    let (name, mut value) = instances.values(1).await.remove(0);
    assert!(!value.windows(6).any(|part| part == b"secret"));
    *value.last_mut().unwrap() ^= 1;
    let mut redis = instances.redis.clone();
    let () = redis.set_ex(&name, &value, 60).await.unwrap();
    assert_eq!(ask(instances.other.memo(), "made anew").await, "made anew");
    assert_eq!(instances.other.metrics().memo_errors.with_label_values(&["general", "unreadable"]).get(), 1);
    instances.stop().await;
}

#[tokio::test]
async fn without_redis_each_keeps_its_own_and_falls_still_reach_it() {
    let instances = Instances::start().await;
    instances.line.cut();
    let (one, other) = (instances.one.memo(), instances.other.memo());
    assert_eq!(ask(one, "one").await, "one");
    assert_eq!(ask(other, "other").await, "other", "nothing is exchanged");
    assert_eq!((ask(one, "-").await, ask(other, "-").await), ("one".to_owned(), "other".to_owned()));
    one.invalidate_tags(&tags()).await.unwrap();
    followed(&instances.other, 1).await;
    assert_eq!((ask(one, "two").await, ask(other, "three").await), ("two".to_owned(), "three".to_owned()));
    instances.line.mend();
    instances.stop().await;
}

#[tokio::test]
async fn a_text_is_embedded_by_one_instance_for_all() {
    let instances = Instances::start().await;
    let wish = json!({"model": "all-minilm-l6-v2", "input": "Where do narwhals live?"});
    let mut vectors = Vec::new();
    for server in [&instances.one, &instances.other] {
        let reply = server.http().post("/v1/embeddings", &wish).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        vectors.push(reply.json()["data"][0]["embedding"].clone());
        for (_, value) in instances.values(1).await {
            assert!(!value.windows(8).any(|part| part == b"narwhals"));
        }
    }
    let close = |one: &Value, other: &Value| (one.as_f64().unwrap() - other.as_f64().unwrap()).abs() < 1e-5;
    let pairs = vectors[0].as_array().unwrap().iter().zip(vectors[1].as_array().unwrap());
    assert!(pairs.into_iter().all(|(one, other)| close(one, other)));
    assert_eq!(count(&instances.one, "embeddings", "miss"), 1);
    assert_eq!((count(&instances.other, "embeddings", "l2"), count(&instances.other, "embeddings", "miss")), (1, 0));
    instances.stop().await;
}

fn cache<'a>(stats: &'a Value, name: &str) -> &'a Value {
    let caches = stats["caches"].as_array().unwrap();
    caches.iter().find(|cache| cache["cache"] == name).unwrap_or_else(|| panic!("no cache {name}: {stats}"))
}

#[tokio::test]
async fn an_admin_sees_each_cache_and_empties_it_on_all_instances() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin.key");
    std::fs::write(&file, ADMIN_KEY).unwrap();
    let instances = Instances::start_with(|config| config.server.admin_key_file = Some(file.clone())).await;
    let admin = instances.one.http().with_key(ADMIN_KEY);
    let queries = key("q").within(Space::Queries);
    let make = || async { Ok::<_, std::convert::Infallible>(7) };
    for memo in [instances.one.memo(), instances.one.memo(), instances.other.memo()] {
        assert_eq!(memo.with(&queries).run(make).await, Ok(7));
        instances.values(1).await;
    }
    let stats = admin.get("/api/admin/cache/stats").await.json();
    let of_queries = cache(&stats, "queries");
    assert_eq!(
        (&of_queries["hits"], &of_queries["misses"], &of_queries["hit_rate"]),
        (&1.into(), &1.into(), &0.5.into())
    );
    for name in ["responses", "embeddings", "general", "users"] {
        assert_eq!(cache(&stats, name)["tiers"]["l1"]["hits"], 0, "{name}");
    }
    let text = String::from_utf8(admin.get("/metrics").await.body.to_vec()).unwrap();
    assert!(text.contains("ish_memo_entries{cache=\"queries\"} 1"), "{text}");

    for name in ["queries", "embeddings", "general"] {
        let reply = admin.post(&format!("/api/admin/cache/clear/{name}"), &json!({})).await;
        assert_eq!(reply.json(), json!({"cleared": name}), "{reply:?}");
    }
    assert_eq!(admin.post("/api/admin/cache/clear/responses", &json!({})).await.json()["evicted"], 0);
    assert_eq!(admin.post("/api/admin/cache/clear/cookies", &json!({})).await.status, 404);
    followed(&instances.other, 3).await;
    for memo in [instances.one.memo(), instances.other.memo()] {
        assert_eq!(memo.get::<i32>(&queries).await, None);
    }

    let user = instances.one.http().with_key(&instances.one.new_key("ours").await);
    assert_eq!(user.get("/api/admin/cache/stats").await.status, 403);
    assert_eq!(user.post("/api/admin/cache/clear/queries", &json!({})).await.status, 403);
    instances.stop().await;
}
