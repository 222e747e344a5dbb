//! Several instances on one Postgres: what one of them learns, evicts or revokes, the others know.

use serde_json::json;

use crate::harness::{ADMIN_KEY, Reply, Server, asking, until};

/// Two instances on one database.
async fn two() -> (Server, Server) {
    let one = Server::start_on_postgres(|_| ()).await;
    let other = one.beside(|_| ()).await;
    (one, other)
}

/// Resolves once `server` has followed `count` changes of this kind.
async fn followed(server: &Server, kind: &str, count: u64) {
    let metric = server.metrics().changes_followed.with_label_values(&[kind]);
    until(&format!("{count} changes of kind {kind}"), || (metric.get() >= count).then_some(())).await;
}

/// How it matched and where it was, or nothing.
fn found(reply: &Reply) -> &str {
    reply.header("cache-status").split_once("detail=").map_or("", |(_, detail)| detail)
}

async fn stop(servers: [Server; 2]) {
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test]
async fn what_one_learns_another_finds_by_meaning() {
    let (one, other) = two().await;
    one.http().chat(&asking("How do I boil an egg?")).await;
    followed(&other, "learned", 1).await;
    let asked = asking("How can I boil an egg?");
    assert_eq!(found(&other.http().chat(&asked).await), "semantic-l3");
    assert_eq!(found(&other.http().chat(&asked).await), "semantic-l1");
    assert_eq!(one.upstream_calls(), 1);
    stop([one, other]).await;
}

#[tokio::test]
async fn what_one_evicts_no_other_has() {
    let (one, other) = two().await;
    let mut asked = asking("Which mountain is the highest of the Pyrenees?");
    asked["cache"] = json!({"tags": ["peaks"]});
    let alike = asking("Which mountain is highest of the Pyrenees?");
    for (round, wish) in (1..).zip(["?tag=peaks", "?model=mock", "?older_than_s=0", "?all=true", "KEY"]) {
        let made = one.http().chat(&asked).await;
        assert_eq!(found(&made), "", "{wish}");
        one.chat().cache().flush().await;
        followed(&other, "learned", round).await;
        assert_eq!(found(&other.http().chat(&asked).await), "exact-l3", "{wish}");
        assert_eq!(found(&other.http().chat(&asked).await), "exact-l1", "{wish}");
        let wish = wish.replace("KEY", &format!("/{}", made.header("x-ish-cache-key")));
        let evicted = one.http().delete(&format!("/api/cache/entries{wish}")).await;
        assert_eq!(evicted.json()["evicted"], 1, "{evicted:?}");
        followed(&other, "evicted", round).await;
        for asked in [&asked, &alike] {
            let mut only = asked.clone();
            only["cache"] = json!({"mode": "only"});
            assert_eq!(other.http().chat(&only).await.status, 504, "{wish}");
        }
        assert_eq!(other.chat().cache().figures().await.unwrap().index_entries, 0, "{wish}");
    }
    assert_eq!(one.upstream_calls(), 5);
    stop([one, other]).await;
}

#[tokio::test]
async fn a_pair_that_one_is_told_of_never_matches_on_another() {
    let (one, other) = two().await;
    let (first, second) = ("How do I boil an egg?", "How can I boil an egg?");
    let stored = |text: &str| json!({"message": text, "model": "mock"});
    one.http().post("/api/chat", &stored(first)).await;
    one.chat().cache().flush().await;
    let answer = one.http().post("/api/chat", &stored(second)).await.json();
    assert_eq!(answer["cache"]["how"], "semantic", "{answer}");
    let session = answer["session"].as_str().unwrap();
    let messages = one.http().get(&format!("/api/sessions/{session}/messages")).await.json();
    let told = json!({"message": messages["data"][1]["id"], "verdict": "wrong"});
    let told = one.http().post("/api/cache/feedback", &told).await;
    assert_eq!(told.json()["blocked"], true, "{told:?}");
    one.http().chat(&asking(first)).await;
    one.chat().cache().flush().await;
    followed(&other, "learned", 2).await;
    let answer = other.http().post("/api/chat", &stored(second)).await.json();
    assert_eq!(answer["cache"]["status"], "miss", "{answer}");
    stop([one, other]).await;
}

#[tokio::test]
async fn a_key_that_one_revokes_opens_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin.key");
    std::fs::write(&file, ADMIN_KEY).unwrap();
    let one = Server::start_on_postgres(|config| config.server.admin_key_file = Some(file.clone())).await;
    let other = one.beside(|config| config.server.admin_key_file = Some(file.clone())).await;
    let made = one.made_key(&json!({"name": "a test's", "tenant": "t"})).await;
    let theirs = other.http().with_key(made["key"].as_str().unwrap());
    let known = other.metrics().changes_followed.with_label_values(&["key"]).get();
    assert_eq!(theirs.get("/api/sessions").await.status, 200);
    let id = made["id"].as_str().unwrap();
    assert_eq!(one.http().with_key(ADMIN_KEY).delete(&format!("/api/admin/keys/{id}")).await.status, 204);
    followed(&other, "key", known + 1).await;
    assert_eq!(theirs.get("/api/sessions").await.status, 401);
    stop([one, other]).await;
}
