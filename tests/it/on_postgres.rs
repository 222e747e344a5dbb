//! The server on Postgres behind PgBouncer: it finds again what it stored, keeps tenants apart, and lives without its
//! database as long as it must. `ISH_TEST_STORE=postgres` runs all the other tests there too.

use std::num::NonZeroUsize;

use ish::config::{Config, VectorIndex};
use serde_json::json;
use url::Url;

use crate::harness::{ADMIN_KEY, Database, Line, Process, Reply, Server, asking, soon, until};

fn word(reply: &Reply) -> (u16, &str, &str) {
    (reply.status.as_u16(), reply.header("x-ish-cache"), reply.header("x-ish-cache-tier"))
}

#[tokio::test]
async fn a_restart_finds_answers_and_conversations_again() {
    let server = Server::start_on_postgres(|_| ()).await;
    let asked = asking("Where do narwhals live?");
    assert_eq!(word(&server.http().chat(&asked).await), (200, "MISS", ""));
    let told = server.http().post("/api/chat", &json!({"message": "What do whales eat?", "model": "mock"})).await;
    let session = told.json()["session"].as_str().unwrap().to_owned();
    server.chat().cache().flush().await;

    let server = server.restart().await;
    assert_eq!(word(&server.http().chat(&asked).await), (200, "HIT", "l3"));
    assert_eq!(word(&server.http().chat(&asked).await), (200, "HIT", "l1"));
    let messages = server.http().get(&format!("/api/sessions/{session}/messages")).await.json();
    assert_eq!(messages["data"][0]["content"], "What do whales eat?");
    assert_eq!(messages["data"][1]["state"], "complete");
    let found = server.http().get("/api/sessions?q=whales").await.json();
    assert_eq!(found["data"][0]["id"], session.as_str());

    let evicted = server.http().delete("/api/cache/entries?all=true").await;
    assert_eq!(evicted.status, 200, "{evicted:?}");
    let server = server.restart().await;
    assert_eq!(word(&server.http().chat(&asked).await), (200, "MISS", ""));
    server.stop().await;
}

#[tokio::test]
async fn tenants_share_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin.key");
    std::fs::write(&file, ADMIN_KEY).unwrap();
    let server = Server::start_on_postgres(|config| config.server.admin_key_file = Some(file)).await;
    let ours = server.http().with_key(&server.new_admin_key("ours").await);
    let theirs = server.http().with_key(&server.new_admin_key("theirs").await);
    let told = ours.post("/api/chat", &json!({"message": "What do whales eat?", "model": "mock"})).await.json();
    let session = told["session"].as_str().unwrap();
    assert_eq!(theirs.get(&format!("/api/sessions/{session}")).await.status, 404);
    assert_eq!(theirs.get("/api/sessions").await.json()["data"], json!([]));
    let asked = asking("Where do narwhals live?");
    assert_eq!(word(&ours.chat(&asked).await).1, "MISS");
    assert_eq!(word(&theirs.chat(&asked).await).1, "MISS");
    server.chat().cache().flush().await;
    // The stored answer to the whales' question is an entry too.
    for (client, entries) in [(&ours, 2), (&theirs, 1)] {
        assert_eq!(client.get("/api/cache/entries").await.json()["data"].as_array().unwrap().len(), entries);
        assert_eq!(word(&client.chat(&asked).await).1, "HIT");
    }
    server.stop().await;
}

#[tokio::test]
async fn without_its_database_it_says_so_and_serves_what_it_remembers() {
    let database = Database::new().await;
    let mut url = Url::parse(&database.url).unwrap();
    let line = Line::to(format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())).await;
    url.set_port(Some(line.address.port())).unwrap();
    let server = Server::start_on(database, |config| {
        let database = config.database.as_mut().unwrap();
        database.url = url.to_string().into();
        database.acquire_timeout = std::time::Duration::from_millis(300);
    });
    let server = server.await;
    let http = server.http();
    let asked = asking("Where do narwhals live?");
    assert_eq!(word(&http.chat(&asked).await).1, "MISS");
    server.chat().cache().flush().await;
    assert_eq!(http.get("/readyz").await.status, 200);

    line.cut();
    let send = json!({"message": "What do whales eat?", "model": "mock"});
    let refused = soon("an answer without a database", http.post("/api/chat", &send)).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "1"), "{refused:?}");
    assert_eq!(http.get("/readyz").await.status, 503);
    assert_eq!(word(&http.chat(&asked).await), (200, "HIT", "l1"));
    assert_eq!(
        word(&http.chat(&asking("Who painted the ceiling?")).await),
        (200, "MISS", ""),
        "a tier that is away is a miss"
    );

    line.mend();
    let told = http.post("/api/chat", &send).await;
    assert_eq!(told.status, 200, "{told:?}");
    assert_eq!(http.get("/readyz").await.status, 200);
    server.stop().await;
}

/// An index with room for one leaves the others to the store, which finds them by meaning as well; but not without vectors.
#[tokio::test]
async fn what_the_index_does_not_hold_the_store_finds_by_meaning() {
    let small = |config: &mut Config| config.cache.index_max_entries = NonZeroUsize::MIN;
    let server = Server::start_on_postgres(small).await;
    for prompt in ["Why do leaves change their colour in autumn?", "What causes the tides in the ocean?"] {
        assert_eq!(word(&server.http().chat(&asking(prompt)).await).1, "MISS");
    }
    server.chat().cache().flush().await;
    let reworded = ["What makes leaves change colour in autumn?", "What is the cause of ocean tides?"];

    let server = server.restart_with(small).await;
    until("the index", || server.chat().cache().index_loaded().then_some(())).await;
    let explain = json!({"model": "mock", "prompt": reworded[0]});
    let explained = server.http().post("/api/cache/explain", &explain).await.json();
    let steps = explained["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["step"] == "index" && step["tier"] == "l3"), "{explained}");

    let server = server.restart_with(small).await;
    until("the index", || server.chat().cache().index_loaded().then_some(())).await;
    for prompt in reworded {
        assert_eq!(word(&server.http().chat(&asking(prompt)).await), (200, "SEMANTIC_HIT", "l3"), "{prompt}");
    }

    let server = server
        .restart_with(|config| {
            small(config);
            config.database.as_mut().unwrap().vector_index = VectorIndex::Off;
        })
        .await;
    until("the index", || server.chat().cache().index_loaded().then_some(())).await;
    let mut hits = 0;
    for prompt in reworded {
        hits += usize::from(word(&server.http().chat(&asking(prompt)).await).1 == "SEMANTIC_HIT");
    }
    assert_eq!(hits, 1);
    server.stop().await;
}

/// An answer whose end could not be stored is said to have failed, and once the database is back that is what it holds.
#[tokio::test]
async fn an_end_that_could_not_be_stored_is_stored_later() {
    let database = Database::new().await;
    let mut url = Url::parse(&database.url).unwrap();
    let line = Line::to(format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())).await;
    url.set_port(Some(line.address.port())).unwrap();
    let server = Server::start_on(database, |config| {
        let database = config.database.as_mut().unwrap();
        database.url = url.to_string().into();
        database.acquire_timeout = std::time::Duration::from_millis(300);
    });
    let server = server.await;
    server.provider.hold_after(3);
    let mut socket = server.socket().await;
    let ack = socket.ask("a", "Is it stored in the end?").await;
    socket.hear_until(&ack.stream, |answer| answer.seq == 3).await;
    line.cut();
    server.provider.release();
    let answer = socket.answer(&ack.stream).await;
    assert_eq!(answer.end.unwrap()["code"], "store_failed");
    line.mend();
    let stored = soon("the end in the store", async {
        loop {
            let page = server.http().get(&format!("/api/sessions/{}/messages", ack.conversation)).await.json();
            if page["data"][1]["state"] != "streaming" && page["data"].is_array() {
                return page["data"][1].clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    let stored = stored.await;
    assert_eq!((&stored["state"], &stored["error"]["code"]), (&json!("failed"), &json!("store_failed")), "{stored}");
    assert_eq!(stored["content"], loadtest::provider::answer::answer_to("Is it stored in the end?"));
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn the_doctor_knows_the_server_and_shows_no_password() {
    let database = Database::new().await;
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let with_password = |address: &str| {
        let mut url = Url::parse(address).unwrap();
        url.set_password(Some("sesame")).unwrap();
        url.to_string()
    };
    let (url, direct_url) = (with_password(&database.url), with_password(&database.direct_url));
    let variables = [
        ("ISH_DATA_DIR", data_dir),
        ("DATABASE_URL", &url),
        ("DATABASE_DIRECT_URL", &direct_url),
        ("ISH_LISTEN", "127.0.0.1:0"),
    ];
    let said = Process::verb(&["doctor"], &variables).await.unwrap();
    let line = said.lines().find(|line| line.contains("database")).unwrap();
    assert!(line.starts_with("ok") && line.contains("PostgreSQL"), "{line}");
    let shown = Process::verb(&["config", "show"], &variables).await.unwrap();
    assert!(shown.contains("database.url") && !said.contains("sesame") && !shown.contains("sesame"), "{shown}");

    let nowhere = "postgres://ish:sesame@127.0.0.1:1/ish";
    let variables = [("ISH_DATA_DIR", data_dir), ("DATABASE_URL", nowhere)];
    let refused = Process::verb(&["keys", "list"], &variables).await.unwrap_err();
    assert!(refused.contains("DATABASE_URL") && !refused.contains("sesame"), "{refused}");
}
