//! Keys that end while their sockets are open, and how many sockets there may be.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use ish::config::Config;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use crate::harness::{ADMIN_KEY, Server, Socket, until};

fn hello(key: &Value) -> Value {
    json!({"type": "hello", "protocol": 1, "token": key})
}

/// A server with keys whose sockets look after theirs often.
async fn attentive() -> Server {
    Server::start_with_keys_and(|config| config.server.heartbeat = Duration::from_millis(200)).await
}

async fn key_for(server: &Server, seconds: u32) -> Value {
    server.made_key(&json!({"name": "a test's", "tenant": "acme", "expires_in": seconds})).await
}

#[tokio::test]
async fn an_expired_key_is_401_over_http_and_4403_on_a_socket() {
    let server = attentive().await;
    let key = key_for(&server, 1).await;
    let (bearer, expires_at) = (key["key"].as_str().unwrap(), key["expires_at"].as_str().unwrap());
    let listed = server.http().with_key(ADMIN_KEY).get("/api/admin/keys").await.json();
    assert!(listed["data"].as_array().unwrap().iter().any(|listed| listed["expires_at"] == expires_at), "{listed}");
    let (mut socket, welcome) = Socket::greeted_with(server.address, hello(&key["key"])).await;
    assert_eq!(welcome["expires_at"], expires_at);
    let notice = socket.hear_type("notice").await;
    assert_eq!((&notice["kind"], &notice["expires_at"]), (&json!("key_expires"), &json!(expires_at)));
    assert!(notice["in_ms"].as_u64() <= Some(1_000), "{notice}");
    assert_eq!(socket.closed().await, 4403);
    let refused = server.http().with_key(bearer).get("/api/sessions").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (401, &json!("key_expired")));
    let refused = server.http().with_key(bearer).get("/v1/models").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["code"]), (401, &json!("key_expired")));
    let mut late = Socket::open(server.address).await;
    late.say(hello(&key["key"])).await;
    assert_eq!(late.closed().await, 4403);
    assert!(server.metrics().ws_closes.with_label_values(&["4403"]).get() >= 1);
    server.stop().await;
}

#[tokio::test]
async fn a_refresh_keeps_the_socket_and_its_answers() {
    let server = attentive().await;
    let (short, long) = (key_for(&server, 1).await, key_for(&server, 3_600).await);
    let (mut socket, _) = Socket::greeted_with(server.address, hello(&short["key"])).await;
    server.provider.hold_after(3);
    let ack = socket.ask("a", "What goes on when a key ends?").await;
    socket.say(json!({"type": "refresh", "token": long["key"]})).await;
    let refreshed = socket.hear_type("refreshed").await;
    assert_eq!(refreshed["expires_at"], long["expires_at"]);
    // By then the old key is refused.
    let old = server.http().with_key(short["key"].as_str().unwrap());
    loop {
        socket.say(json!({"type": "ping"})).await;
        socket.hear_type("pong").await;
        if old.get("/api/sessions").await.status == 401 {
            break;
        }
    }
    server.provider.release();
    assert_eq!(socket.answer(&ack.stream).await.ending(), "done");
    assert_eq!(socket.ask_whole("b", "And afterwards?").await.1.ending(), "done");
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_refresh_with_a_wrong_key_changes_nothing() {
    let server = attentive().await;
    let (key, foreign) = (server.new_key("acme").await, server.new_key("globex").await);
    let (mut socket, welcome) = Socket::greeted_with(server.address, hello(&json!(key))).await;
    assert!(welcome.get("expires_at").is_none(), "{welcome}");
    for (token, code) in [("ish_wrong", "invalid_api_key"), (foreign.as_str(), "wrong_tenant")] {
        socket.say(json!({"type": "refresh", "token": token})).await;
        assert_eq!(socket.hear_type("error").await["code"], code);
    }
    socket.say(json!({"type": "refresh", "token": key})).await;
    assert_eq!(socket.hear().await["type"], "refreshed", "the same key again is no fault");
    assert!(socket.is_silent().await);
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_key_closes_its_sockets_and_no_others() {
    let server = attentive().await;
    let key = server.made_key(&json!({"name": "a test's", "tenant": "acme"})).await;
    let (mut socket, _) = Socket::greeted_with(server.address, hello(&key["key"])).await;
    let (mut other, _) = Socket::greeted_with(server.address, hello(&json!(ADMIN_KEY))).await;
    let path = format!("/api/admin/keys/{}", key["id"].as_str().unwrap());
    assert_eq!(server.http().with_key(ADMIN_KEY).delete(&path).await.status, 204);
    assert_eq!(socket.closed().await, 4403);
    assert!(other.is_silent().await);
    drop(other);
    server.stop().await;
}

fn at_most(all: usize, per_key: usize, per_address: usize) -> impl FnOnce(&mut Config) {
    let most = |number| NonZeroUsize::new(number).unwrap();
    move |config| {
        config.server.max_connections = most(all);
        config.server.max_connections_per_key = most(per_key);
        config.server.max_connections_per_address = most(per_address);
    }
}

/// The status and the code that an upgrade is refused with.
async fn refused(server: &Server) -> (u16, String) {
    match Socket::open_with(server.address, &[]).await {
        Err(Error::Http(response)) => {
            let body: Value =
                serde_json::from_slice(response.body().as_deref().unwrap_or_default()).unwrap_or_default();
            (response.status().as_u16(), body["code"].as_str().unwrap_or_default().to_owned())
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the socket opened"),
    }
}

#[tokio::test]
async fn one_key_has_so_many_sockets() {
    let server = Server::start_with_keys_and(at_most(10, 2, 10)).await;
    let (key, other) = (json!(server.new_key("acme").await), json!(server.new_key("acme").await));
    let (first, _) = Socket::greeted_with(server.address, hello(&key)).await;
    let (mut second, _) = Socket::greeted_with(server.address, hello(&key)).await;
    let mut third = Socket::open(server.address).await;
    third.say(hello(&key)).await;
    assert_eq!(third.closed().await, 4429);
    let (mut third, _) = Socket::greeted_with(server.address, hello(&other)).await;
    third.say(json!({"type": "refresh", "token": key})).await;
    assert_eq!(third.hear().await["code"], "too_many_connections");
    second.say(json!({"type": "refresh", "token": other})).await;
    assert_eq!(second.hear().await["type"], "refreshed");
    third.say(json!({"type": "refresh", "token": key})).await;
    assert_eq!(third.hear().await["type"], "refreshed", "the second has made room");
    assert_eq!(server.metrics().ws_refused.with_label_values(&["key"]).get(), 2);
    drop((first, second, third));
    server.stop().await;
}

#[tokio::test]
async fn one_address_has_so_many_sockets_and_gives_them_back() {
    let server = Server::start_with_keys_and(at_most(10, 10, 2)).await;
    let first = Socket::open(server.address).await;
    let second = Socket::open(server.address).await;
    assert_eq!(refused(&server).await, (429, "too_many_connections".to_owned()));
    // However a socket ends, its place is free again.
    first.cut();
    until("the end of the first", || (server.metrics().ws_connections.get() == 1).then_some(())).await;
    let mut third = loop {
        if let Ok(socket) = Socket::open_with(server.address, &[]).await {
            break socket;
        }
    };
    third.say_text("no hello").await;
    assert_eq!(third.closed().await, 4400);
    drop(second);
    until("the end of all", || (server.metrics().ws_connections.get() == 0).then_some(())).await;
    server.stop().await;
}

#[tokio::test]
async fn all_together_are_so_many_and_local_mode_counts_no_address() {
    let server = Server::start_with(at_most(2, 1, 1)).await;
    let (first, second) = (server.socket().await, server.socket().await);
    assert_eq!(refused(&server).await, (503, "too_many_connections".to_owned()));
    assert_eq!(server.http().get("/livez").await.status, 200, "only sockets count");
    drop((first, second));
    server.stop().await;
}

#[tokio::test]
async fn frames_may_come_so_fast_and_no_faster() {
    let server = Server::start_with(|config| config.server.max_frames_per_second = NonZeroU32::MIN).await;
    let mut socket = server.socket().await;
    let code = loop {
        socket.say(json!({"type": "ping"})).await;
        if let Err(code) = socket.hear_any().await {
            break code;
        }
    };
    assert_eq!(code, 4429);
    server.stop().await;
}
