//! What is taken out is gone from every tier, also what could never be stored.

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};

use crate::harness::{Http, Server, asking};

/// From here on the cache's store takes nothing in, as one that fails or whose queue is full.
async fn fill_store(server: &Server) {
    let path = server.folder.path().join("cache.db");
    let mut store = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let trigger = "CREATE TRIGGER full BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, 'full'); END";
    sqlx::query(trigger).execute(&mut store).await.unwrap();
    store.close().await.unwrap();
}

fn tagged() -> Value {
    let mut body = asking("Which mountain is the highest of the Pyrenees?");
    body["cache"] = json!({"tags": ["peaks"]});
    body
}

/// Asks twice, so that the answer is in memory; returns its key.
async fn ask_twice(http: &Http) -> String {
    let (made, again) = (http.chat(&tagged()).await, http.chat(&tagged()).await);
    assert_eq!((made.header("x-ish-cache"), again.header("x-ish-cache")), ("MISS", "HIT"));
    made.header("x-ish-cache-key").to_owned()
}

#[tokio::test]
async fn what_could_not_be_stored_is_taken_out_too() {
    let server = Server::start().await;
    fill_store(&server).await;
    let http = server.http();
    for wish in ["tag=peaks", "model=mock", "older_than_s=0", "all=true"] {
        ask_twice(&http).await;
        for other in ["tag=lakes", "model=mock-alt", "older_than_s=3600"] {
            let evicted = http.delete(&format!("/api/cache/entries?{other}")).await.json()["evicted"].clone();
            assert_eq!(evicted, 0, "{other}");
        }
        let evicted = http.delete(&format!("/api/cache/entries?{wish}")).await.json()["evicted"].clone();
        assert_eq!(evicted, 1, "{wish}");
    }
    let key = ask_twice(&http).await;
    assert_eq!(http.get(&format!("/api/cache/entries/{key}")).await.status, 200);
    assert_eq!(http.delete(&format!("/api/cache/entries/{key}")).await.json()["evicted"], 1);
    let key = ask_twice(&http).await;
    let told = http.post("/api/cache/feedback", &json!({"key": key, "verdict": "wrong"})).await;
    assert_eq!(told.json()["evicted"], true, "{told:?}");
    ask_twice(&http).await;
    assert_eq!(server.chat().cache().figures().await.unwrap().stored.entries, 0, "all of them were in memory only");
    server.stop().await;
}
