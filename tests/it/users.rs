//! Users of one tenant: what one of them has stored is no other's, over every way to it; and who may act as whom.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Answer, Http, Server, Socket, asking};

/// A server, and a key that acts for users of the tenant `acme`.
async fn service() -> (Server, String) {
    let server = Server::start_with_keys().await;
    let made = server.made_key(&json!({"name": "web", "tenant": "acme", "service": true})).await;
    assert_eq!((&made["role"], &made["user"]), (&json!("service"), &Value::Null));
    (server, made["key"].as_str().unwrap().to_owned())
}

async fn key_of(server: &Server, user: &str) -> String {
    let made = server.made_key(&json!({"name": "hers", "tenant": "acme", "user": user})).await;
    assert_eq!((&made["role"], &made["user"]), (&json!("user"), &json!(user)));
    made["key"].as_str().unwrap().to_owned()
}

async fn told(http: &Http, message: &str) -> Value {
    let reply = http.post("/api/chat", &json!({"message": message, "model": "mock"})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
}

/// Everything by which a session could be reached is answered as if there were none.
async fn sees_nothing_of(http: &Http, session: &str, message: &str) {
    let path = format!("/api/sessions/{session}");
    let messages = format!("{path}/messages");
    for asked in [&path, &messages, &format!("{path}/export"), &format!("{messages}/{message}/why")] {
        assert_eq!(http.get(asked).await.status, 404, "{asked}");
    }
    let asked = json!({"content": "And then?", "model": "mock"});
    assert_eq!(http.post(&messages, &asked).await.status, 404);
    assert_eq!(http.send(Method::PATCH, &path, json!({"title": "mine"}).to_string()).await.status, 404);
    assert_eq!(http.delete(&path).await.status, 404);
    let wrong = json!({"message": message, "verdict": "wrong"});
    assert_eq!(http.post("/api/cache/feedback", &wrong).await.status, 404);
    let explained = json!({"prompt": "And then?", "conversation": session});
    assert_eq!(http.post("/api/cache/explain", &explained).await.status, 404);
    let listed = http.get("/api/sessions").await.json();
    assert!(!ids(&listed).contains(&session), "{listed}");
    let found = http.get("/api/sessions?q=narwhals").await.json();
    assert!(!ids(&found).contains(&session), "{found}");
}

#[tokio::test]
async fn a_users_sessions_are_his_alone() {
    let (server, key) = service().await;
    let tenant = server.http().with_key(&key);
    let [ann, bob] = ["google/ann", "google/bob"].map(|user| tenant.with("x-ish-user", user));
    let told = told(&ann, "Where do narwhals live?").await;
    let session = told["session"].as_str().unwrap();
    let messages = ann.get(&format!("/api/sessions/{session}/messages")).await.json();
    let answer = messages["data"][1]["id"].as_str().unwrap();

    let admin = server.http().with_key(ADMIN_KEY);
    let of_tenant = server.new_admin_key("acme").await;
    let elsewhere = server.made_key(&json!({"name": "web", "tenant": "globex", "service": true})).await;
    let elsewhere = server.http().with_key(elsewhere["key"].as_str().unwrap()).with("x-ish-user", "google/ann");
    let bobs = server.http().with_key(&key_of(&server, "google/bob").await);
    let others = [&tenant, &bob, &bobs, &admin, &server.http().with_key(&of_tenant), &elsewhere];
    for other in others {
        sees_nothing_of(other, session, answer).await;
    }

    // Nothing of that has changed anything for her, by any key that is hers.
    let own = server.http().with_key(&key_of(&server, "google/ann").await);
    let by_admin = server.http().with_key(&of_tenant).with("x-ish-user", "google/ann");
    for http in [&ann, &own, &by_admin, &own.with("x-ish-user", "google/ann")] {
        assert_eq!(ids(&http.get("/api/sessions").await.json()), [session]);
        assert_eq!(ids(&http.get("/api/sessions?q=narwhals").await.json()), [session]);
        assert_eq!(http.get(&format!("/api/sessions/{session}/messages")).await.json(), messages);
        assert_eq!(http.get(&format!("/api/sessions/{session}/export")).await.status, 200);
    }
    server.stop().await;
}

#[tokio::test]
async fn nobody_resumes_or_cancels_a_users_answer_but_himself() {
    let (server, key) = service().await;
    let hello = |key: &str, user: Option<&str>| match user {
        Some(user) => json!({"type": "hello", "protocol": 1, "token": key, "user": user}),
        None => json!({"type": "hello", "protocol": 1, "token": key}),
    };
    server.provider.hold_after(3);
    let (mut ann, _) = Socket::greeted_with(server.address, hello(&key, Some("google/ann"))).await;
    let ack = ann.ask("a", "Where do narwhals live?").await;
    let own = key_of(&server, "google/ann").await;
    let bobs = key_of(&server, "google/bob").await;
    for (key, user) in [(&key, Some("google/bob")), (&key, None), (&bobs, None)] {
        let (mut other, _) = Socket::greeted_with(server.address, hello(key, user)).await;
        other.say(json!({"type": "resume", "stream": ack.stream, "epoch": 1, "after": 0})).await;
        assert_eq!(other.hear_type("gone").await["stream"], ack.stream, "{user:?}");
        other.say(json!({"type": "cancel", "stream": ack.stream})).await;
        assert!(other.is_silent().await);
        let mut send = json!({"type": "send", "id": "b", "content": "And then?", "model": "mock"});
        send["conversation"] = json!(ack.conversation);
        other.say(send).await;
        assert_eq!(other.hear_type("error").await["code"], "not_found", "{user:?}");
    }
    let (mut again, _) = Socket::greeted_with(server.address, hello(&own, None)).await;
    again.resume(&ack.stream, Answer::default()).await;
    server.provider.release();
    assert_eq!(again.answer(&ack.stream).await.ending(), "done");
    assert_eq!(ann.answer(&ack.stream).await.ending(), "done");
    drop((ann, again));
    server.stop().await;
}

#[tokio::test]
async fn a_key_acts_only_for_whom_it_may() {
    let (server, key) = service().await;
    let plain = server.http().with_key(&server.new_key("acme").await);
    let bobs = server.http().with_key(&key_of(&server, "google/bob").await);
    let refused = |http: Http| async move {
        let reply = http.with("x-ish-user", "google/ann").get("/api/sessions").await;
        (reply.status.as_u16(), reply.json()["code"].as_str().unwrap_or_default().to_owned())
    };
    let wrong = (403, "wrong_user".to_owned());
    // The second time she exists.
    for _ in 0..2 {
        assert_eq!((refused(plain.clone()).await, refused(bobs.clone()).await), (wrong.clone(), wrong.clone()));
        let service = server.http().with_key(&key).with("x-ish-user", "google/ann");
        assert_eq!(service.get("/api/sessions").await.status, 200);
    }
    for name in ["ann", "google/", "/ann", "goo gle/ann"] {
        let reply = server.http().with_key(&key).with("x-ish-user", name).get("/api/sessions").await;
        assert_eq!(reply.status, 400, "{name}");
        let mut socket = Socket::open(server.address).await;
        socket.say_text(&json!({"type": "hello", "protocol": 1, "token": key, "user": name}).to_string()).await;
        assert_eq!(socket.closed().await, 4400, "{name}");
    }
    for (key, code) in [(server.new_key("acme").await, 4401), (key_of(&server, "google/bob").await, 4401)] {
        let mut socket = Socket::open(server.address).await;
        socket.say(json!({"type": "hello", "protocol": 1, "token": key, "user": "google/ann"})).await;
        assert_eq!(socket.closed().await, code);
    }
    let admin = server.http().with_key(ADMIN_KEY);
    let users = admin.get("/api/admin/users?tenant=acme").await.json();
    let names: Vec<&str> =
        users["data"].as_array().unwrap().iter().map(|user| user["user"].as_str().unwrap()).collect();
    assert_eq!(names, ["google/ann", "google/bob"], "names that were refused made nobody");
    assert_eq!(admin.get("/api/admin/users").await.json()["data"], json!([]));
    assert_eq!(server.http().with_key(&key).get("/api/admin/users").await.status, 403);
    for wish in
        [json!({"admin": true, "service": true}), json!({"service": true, "user": "google/ann"}), json!({"user": "x"})]
    {
        let mut wish = wish;
        wish["name"] = json!("a test's");
        assert_eq!(admin.post("/api/admin/keys", &wish).await.status, 400, "{wish}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_socket_keeps_its_user_with_another_key() {
    let (server, key) = service().await;
    let another = server.made_key(&json!({"name": "web 2", "tenant": "acme", "service": true})).await;
    let (ann, bob) = (key_of(&server, "google/ann").await, key_of(&server, "google/bob").await);
    let hello = json!({"type": "hello", "protocol": 1, "token": key, "user": "google/ann"});
    let (mut socket, _) = Socket::greeted_with(server.address, hello).await;
    let (ack, _) = socket.ask_whole("a", "Where do narwhals live?").await;
    for wrong in [&bob, &server.new_key("acme").await] {
        socket.say(json!({"type": "refresh", "token": wrong})).await;
        assert_eq!(socket.hear_type("error").await["code"], "wrong_user");
    }
    for (id, right) in [("b", another["key"].as_str().unwrap()), ("c", &ann)] {
        socket.say(json!({"type": "refresh", "token": right})).await;
        socket.hear_type("refreshed").await;
        let conversation = &ack.conversation;
        let more =
            json!({"type": "send", "id": id, "content": "And then?", "model": "mock", "conversation": conversation});
        assert_eq!(&socket.ask_with(more).await.conversation, conversation);
    }
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_personal_answer_is_served_to_its_user_only() {
    let (server, key) = service().await;
    let service = server.http().with_key(&key);
    let [ann, bob] = ["google/ann", "google/bob"].map(|user| service.with("x-ish-user", user));
    let asked = asking("When is my turn to water the plants?");
    let word = |reply: &crate::harness::Reply| reply.header("x-ish-cache").to_owned();
    assert_eq!(word(&ann.chat(&asked).await), "MISS");
    assert_eq!(word(&ann.chat(&asked).await), "HIT");
    assert_eq!(word(&bob.chat(&asked).await), "MISS");
    assert_eq!(word(&service.chat(&asked).await), "BYPASS", "it names nobody");
    // What a body says opens nothing: neither by her name nor by what the server calls her.
    let users = server.http().with_key(ADMIN_KEY).get("/api/admin/users?tenant=acme").await.json();
    for name in ["google/ann", users["data"][0]["id"].as_str().unwrap()] {
        let mut claimed = asked.clone();
        claimed["user"] = json!(name);
        let before = server.upstream_calls();
        assert_eq!(word(&service.chat(&claimed).await), "MISS", "{name}");
        bob.chat(&claimed).await;
        assert_eq!(word(&ann.chat(&claimed).await), "HIT", "hers is hers, whatever she calls herself");
        assert_eq!(server.upstream_calls(), before + 1, "{name}");
    }
    server.stop().await;
}
