//! Logins of browsers: a key is given once, and a cookie speaks for it; what other pages may not do with it; how it ends.

use std::num::NonZeroU32;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Database, Http, Reply, Server, Socket, until};

/// A server with keys whose sockets look after theirs often.
async fn attentive() -> Server {
    Server::start_with_keys_and(|config| config.server.heartbeat = Duration::from_millis(200)).await
}

async fn log_in(http: &Http, key: &str) -> Reply {
    let reply = http.post("/api/session", &json!({"key": key})).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply
}

/// The name and value that a reply sets.
fn cookie(reply: &Reply) -> &str {
    reply.header("set-cookie").split(';').next().unwrap()
}

/// A browser at this server's page, which has logged in.
async fn browser(server: &Server, key: &str) -> Http {
    let own = format!("http://{}", server.address);
    let reply = log_in(&server.http().with("origin", &own), key).await;
    server.http().with("cookie", cookie(&reply)).with("origin", &own).with("sec-fetch-site", "same-origin")
}

fn refused(reply: &Reply) -> (u16, String) {
    (reply.status.as_u16(), reply.json()["code"].as_str().unwrap_or_default().to_owned())
}

fn ended() -> (u16, String) {
    (401, "login_ended".to_owned())
}

async fn who(http: &Http) -> Reply {
    http.get("/api/session").await
}

#[tokio::test]
async fn a_key_is_given_once_and_the_cookie_speaks_for_it() {
    let server = attentive().await;
    let made = server.made_key(&json!({"name": "her laptop", "tenant": "acme", "user": "google/ann"})).await;
    let key = made["key"].as_str().unwrap();
    let port = server.address.port();
    let reply = log_in(&server.http(), key).await;
    let (cookie_is, flags) = reply.header("set-cookie").split_once("; ").unwrap();
    let (name, value) = cookie_is.split_once('=').unwrap();
    assert_eq!((name, value.len()), (format!("ish-{port}").as_str(), 64));
    assert!(flags.starts_with("Path=/; Max-Age=259") && flags.ends_with("; HttpOnly; SameSite=Strict"), "{flags}");
    assert_eq!(reply.header("cache-control"), "no-store");
    let told = reply.json();
    for (member, is) in
        [("by", "cookie"), ("name", "her laptop"), ("tenant", "acme"), ("role", "user"), ("user", "google/ann")]
    {
        assert_eq!(told[member], is, "{told}");
    }
    assert!(!reply.json().to_string().contains(value), "a script cannot read it");

    let http = browser(&server, key).await;
    assert_eq!(who(&http).await.json()["name"], "her laptop");
    let told = http.post("/api/chat", &json!({"message": "Where do narwhals live?", "model": "mock"})).await;
    assert_eq!(told.status, 200, "{told:?}");
    assert_eq!(http.get("/api/sessions").await.header("cache-control"), "no-store");
    let by_key = server.http().with_key(key);
    assert_eq!(by_key.get("/api/sessions").await.json(), http.get("/api/sessions").await.json());
    assert_eq!(
        (who(&by_key).await.json()["by"].clone(), who(&by_key).await.json()["csrf"].clone()),
        (json!("key"), Value::Null)
    );
    assert_eq!(http.get("/api/admin/keys").await.status, 403, "never more than its key");
    assert_eq!(http.with("x-ish-user", "google/bob").get("/api/sessions").await.status, 403);

    let out = http.delete("/api/session").await;
    assert_eq!(out.status, 204, "{out:?}");
    assert_eq!(out.header("set-cookie"), format!("ish-{port}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"));
    assert_eq!(refused(&who(&http).await), ended());
    assert_eq!(by_key.get("/api/sessions").await.status, 200);
    assert_eq!(server.metrics().logins.with_label_values(&["begun"]).get(), 2);
    server.stop().await;
}

#[tokio::test]
async fn over_https_the_cookie_is_bound_to_the_host() {
    let server = attentive().await;
    let proxied = server.http().with("host", "chat.example").with("x-forwarded-proto", "https");
    let own = proxied.with("origin", "https://chat.example");
    let reply = log_in(&own, ADMIN_KEY).await;
    assert!(reply.header("set-cookie").starts_with("__Host-ish=") && reply.header("set-cookie").ends_with("; Secure"));
    let value = cookie(&reply).split_once('=').unwrap().1;
    assert_eq!(who(&proxied.with("cookie", cookie(&reply))).await.status, 200);
    let tossed = proxied.with("cookie", &format!("ish={value}"));
    assert_eq!(refused(&who(&tossed).await).1, "invalid_api_key", "a neighbour's cookie is none");
    let plain_page = proxied.with("cookie", cookie(&reply)).with("origin", "http://chat.example");
    assert_eq!(refused(&plain_page.delete("/api/session").await), (403, "foreign_page".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn a_key_goes_before_a_cookie_and_what_is_wrong_is_named() {
    let server = attentive().await;
    let http = browser(&server, &server.new_key("acme").await).await;
    assert_eq!(who(&http.with_key(ADMIN_KEY)).await.json()["role"], "admin");
    assert_eq!(
        refused(&who(&http.with_key("ish_wrong")).await).1,
        "invalid_api_key",
        "a good cookie helps no wrong key"
    );
    let nobody = server.http().with("cookie", &format!("ish-{}={}", server.address.port(), "0".repeat(64)));
    assert_eq!(refused(&who(&nobody).await), ended());
    let both = refused(&who(&nobody.with_key("ish_wrong")).await);
    assert_eq!(both, (401, "invalid_api_key".to_owned()));
    assert_eq!(refused(&who(&server.http()).await), (401, "invalid_api_key".to_owned()));
    let openai = nobody.get("/v1/models").await;
    assert_eq!((openai.status.as_u16(), &openai.json()["error"]["code"]), (401, &json!("login_ended")));
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_key_begins_nothing() {
    let server = attentive().await;
    let short = server.made_key(&json!({"name": "a test's", "expires_in": 1})).await;
    let given = async |key: Value| server.http().post("/api/session", &json!({"key": key})).await;
    let wrong = given(json!("ish_wrong")).await;
    assert_eq!((refused(&wrong), wrong.header("set-cookie")), ((401, "invalid_api_key".to_owned()), ""));
    assert_eq!(given(json!(5)).await.status, 400);
    let reply = loop {
        let reply = given(short["key"].clone()).await;
        if reply.status != 201 {
            break reply;
        }
    };
    assert_eq!(refused(&reply), (401, "key_expired".to_owned()));
    assert_eq!(server.metrics().logins.with_label_values(&["refused"]).get(), 2);
    server.stop().await;

    let local = Server::start().await;
    assert_eq!(refused(&local.http().post("/api/session", &json!({"key": "any"})).await), (409, "conflict".to_owned()));
    assert_eq!(who(&local.http()).await.json()["by"], "local");
    assert_eq!(local.http().delete("/api/session").await.status, 400);
    // A cookie from a time with keys is nothing there.
    let stale = format!("ish-{}=00", local.address.port());
    let mut socket = Socket::open_with(local.address, &[("cookie", &stale)]).await.unwrap();
    socket.say(json!({"type": "hello", "protocol": 1})).await;
    assert_eq!(socket.hear().await["type"], "welcome");
    socket.ask("a", "What is local?").await;
    drop(socket);
    local.stop().await;
}

/// What makes a browser send a cookie is no page of ours.
#[tokio::test]
async fn another_page_changes_nothing_with_it() {
    let server = Server::start_with_keys_and(|config| {
        config.server.allowed_origins = vec!["https://ui.example".to_owned()];
    })
    .await;
    let reply = log_in(&server.http(), &server.new_key("acme").await).await;
    let bare = server.http().with("cookie", cookie(&reply));
    let own = format!("http://{}", server.address);
    let neighbour = format!("http://127.0.0.1:{}", server.address.port() ^ 1);
    let session = json!({"title": "mine"});
    let foreign = [
        bare.with("origin", "https://evil.example"),
        bare.with("origin", "https://ui.example"),
        bare.with("origin", &neighbour),
        bare.with("origin", "null"),
        bare.with("sec-fetch-site", "same-site"),
        bare.with("sec-fetch-site", "cross-site"),
        bare.with("sec-fetch-site", "cross-site").with("origin", &own),
        bare.with("x-ish-csrf", "anything"),
        bare.clone(),
    ];
    for (at, page) in foreign.iter().enumerate() {
        assert_eq!(refused(&page.post("/api/sessions", &session).await), (403, "foreign_page".to_owned()), "{at}");
        assert_eq!(page.send(Method::DELETE, "/api/session", Vec::new()).await.status, 403, "{at}");
        if at < 7 {
            assert_eq!(page.get("/api/sessions").await.status, 403, "{at}");
            let login = page.post("/api/session", &json!({"key": ADMIN_KEY})).await;
            assert_eq!(login.status, 403, "{at}: nobody is logged in from elsewhere");
        }
    }
    assert_eq!(bare.get("/api/sessions").await.json()["data"], json!([]));
    let csrf = who(&bare).await.json()["csrf"].as_str().unwrap().to_owned();
    assert_eq!(bare.with("x-ish-csrf", &csrf).post("/api/sessions", &session).await.status, 201);
    assert_eq!(bare.with("origin", &own).post("/api/sessions", &session).await.status, 201);
    // With a key of its own the allowed page works as before.
    let page = foreign[1].with_key(ADMIN_KEY);
    assert_eq!(page.post("/api/sessions", &session).await.status, 201);
    let opened = |origin: &str| {
        let (address, origin, cookie) = (server.address, origin.to_owned(), cookie(&reply).to_owned());
        async move {
            let mut socket = Socket::open_with(address, &[("origin", &origin), ("cookie", &cookie)]).await.ok()?;
            socket.say(json!({"type": "hello", "protocol": 1})).await;
            Some(socket.hear_any().await.map(|frame| frame["type"].clone()))
        }
    };
    assert_eq!(opened("https://evil.example").await, None, "refused before the upgrade");
    assert_eq!(opened("https://ui.example").await, Some(Err(4401)));
    assert_eq!(opened(&own).await, Some(Ok(json!("welcome"))));
    let mut bare = Socket::open_with(server.address, &[("cookie", cookie(&reply))]).await.unwrap();
    bare.say(json!({"type": "hello", "protocol": 1})).await;
    assert_eq!(bare.closed().await, 4401, "what has no Origin is no page, and brings a key");
    server.stop().await;
}

#[tokio::test]
async fn a_login_is_always_a_new_one() {
    let server = attentive().await;
    let key = server.new_key("acme").await;
    let planted = format!("ish-{}={}", server.address.port(), "a".repeat(64));
    let first = log_in(&server.http().with("cookie", &planted), &key).await;
    assert_ne!(cookie(&first), planted);
    let earlier = server.http().with("cookie", cookie(&first));
    let second = log_in(&earlier, &key).await;
    assert_ne!(cookie(&second), cookie(&first));
    assert_eq!(refused(&who(&earlier).await), ended(), "the earlier one has ended");
    assert_eq!(who(&server.http().with("cookie", cookie(&second))).await.status, 200);
    assert_eq!(refused(&who(&server.http().with("cookie", &planted)).await), ended());
    server.stop().await;
}

#[tokio::test]
async fn logging_out_everywhere_ends_those_of_the_key_and_no_others() {
    let server = attentive().await;
    let (key, other) = (server.new_key("acme").await, server.new_key("acme").await);
    let (one, two, others) =
        (browser(&server, &key).await, browser(&server, &key).await, browser(&server, &other).await);
    assert_eq!(one.delete("/api/session?all=true").await.status, 204);
    for http in [&one, &two] {
        assert_eq!(refused(&who(http).await), ended());
    }
    assert_eq!(who(&others).await.status, 200);
    assert_eq!(server.http().with_key(&other).delete("/api/session").await.status, 400, "a key is no login");
    assert_eq!(server.http().with_key(&other).delete("/api/session?all=true").await.status, 204);
    assert_eq!(refused(&who(&others).await), ended());
    server.stop().await;
}

#[tokio::test]
async fn an_admin_sees_logins_and_ends_them() {
    let server = attentive().await;
    let made = server.made_key(&json!({"name": "hers", "tenant": "acme", "user": "google/ann"})).await;
    let (ann, admin) = (browser(&server, made["key"].as_str().unwrap()).await, browser(&server, ADMIN_KEY).await);
    assert_eq!(ann.get("/api/admin/sessions").await.status, 403);
    let listed = async |query: &str| {
        let reply = admin.get(&format!("/api/admin/sessions{query}")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["data"].as_array().unwrap().clone()
    };
    let all = listed("").await;
    assert_eq!((all.len(), &all[0]["role"], &all[1]["user"]), (2, &json!("admin"), &json!("google/ann")));
    let (id, key) = (all[1]["id"].as_str().unwrap(), made["id"].as_str().unwrap());
    for query in [
        format!("?key={key}"),
        "?tenant=acme&user=google/ann".to_owned(),
        "?tenant=acme".to_owned(),
        format!("?before={}", all[0]["id"].as_str().unwrap()),
    ] {
        assert_eq!(listed(&query).await, all[1..], "{query}");
    }
    assert!(listed("?user=google/ann").await.is_empty(), "she is another tenant's");
    assert_eq!(admin.get("/api/admin/sessions?key=x").await.status, 404);
    assert_eq!(ann.delete(&format!("/api/admin/sessions/{id}")).await.status, 403);
    assert_eq!(admin.delete(&format!("/api/admin/sessions/{id}")).await.status, 204);
    assert_eq!(admin.delete(&format!("/api/admin/sessions/{id}")).await.status, 404);
    assert_eq!(refused(&who(&ann).await), ended());
    let stats = admin.get("/api/admin/cache/stats").await.json();
    let logins = stats["caches"].as_array().unwrap().iter().find(|cache| cache["cache"] == "logins").unwrap();
    assert!(logins["hits"].as_u64() > Some(0) && logins["misses"].as_u64() > Some(0), "{logins}");
    server.stop().await;
}

async fn socket_of(server: &Server, http_cookie: &str) -> Socket {
    let own = format!("http://{}", server.address);
    let headers = [("cookie", http_cookie), ("origin", own.as_str())];
    let mut socket = Socket::open_with(server.address, &headers).await.unwrap();
    socket.say(json!({"type": "hello", "protocol": 1})).await;
    let welcome = socket.hear().await;
    assert_eq!(welcome["type"], "welcome", "{welcome}");
    assert!(welcome["expires_at"].is_string(), "{welcome}");
    socket
}

#[tokio::test]
async fn sockets_end_with_their_login_and_with_its_key() {
    let server = attentive().await;
    let made = server.made_key(&json!({"name": "a test's", "tenant": "acme"})).await;
    let key = made["key"].as_str().unwrap();
    let (out, revoked) = (log_in(&server.http(), key).await, log_in(&server.http(), key).await);
    let (mut first, mut second) = (socket_of(&server, cookie(&out)).await, socket_of(&server, cookie(&revoked)).await);
    let (mut by_key, _) =
        Socket::greeted_with(server.address, json!({"type": "hello", "protocol": 1, "token": key})).await;
    first.ask_whole("a", "Who speaks for a key?").await;
    let csrf = out.json()["csrf"].as_str().unwrap().to_owned();
    let leaving = server.http().with("cookie", cookie(&out)).with("x-ish-csrf", &csrf);
    assert_eq!(leaving.delete("/api/session").await.status, 204);
    assert_eq!(first.closed().await, 4403);
    assert!(second.is_silent().await && by_key.is_silent().await);
    let path = format!("/api/admin/keys/{}", made["id"].as_str().unwrap());
    assert_eq!(server.http().with_key(ADMIN_KEY).delete(&path).await.status, 204);
    assert_eq!((second.closed().await, by_key.closed().await), (4403, 4403));
    let own = format!("http://{}", server.address);
    let headers = [("cookie", cookie(&revoked)), ("origin", own.as_str())];
    let mut late = Socket::open_with(server.address, &headers).await.unwrap();
    late.say(json!({"type": "hello", "protocol": 1})).await;
    assert_eq!(late.closed().await, 4403);
    server.stop().await;
}

#[tokio::test]
async fn a_socket_asks_nothing_once_its_login_has_ended() {
    let server = Server::start_with_keys().await;
    let reply = log_in(&server.http(), &server.new_key("acme").await).await;
    let mut socket = socket_of(&server, cookie(&reply)).await;
    let csrf = reply.json()["csrf"].as_str().unwrap().to_owned();
    let leaving = server.http().with("cookie", cookie(&reply)).with("x-ish-csrf", &csrf);
    assert_eq!(leaving.delete("/api/session").await.status, 204);
    // Long before the next heartbeat.
    socket.say(json!({"type": "send", "id": "late", "content": "Is anybody there?", "model": "mock"})).await;
    let error = socket.hear_type("error").await;
    assert_eq!((&error["code"], &error["id"]), (&json!("login_ended"), &json!("late")));
    // A key in its place lets it go on, for the same tenant.
    let key = server.new_key("acme").await;
    socket.say(json!({"type": "refresh", "token": key})).await;
    assert_eq!(socket.hear().await["type"], "refreshed");
    socket.ask_whole("again", "Is anybody there?").await;
    drop(socket);
    server.stop().await;
}

/// What ends on one instance is refused on the others, once they have read the log.
#[tokio::test]
async fn instances_know_of_each_others_logins() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin.key");
    std::fs::write(&file, ADMIN_KEY).unwrap();
    let with_key = |config: &mut ish::config::Config| {
        config.server.admin_key_file = Some(file.clone());
        config.server.heartbeat = Duration::from_millis(200);
    };
    let one = Server::start_on(Database::new().await, with_key).await;
    let other = one.beside(with_key).await;
    let changes = || other.metrics().changes_followed.with_label_values(&["key"]).get();
    let followed = async |before: u64| until("a change of a key", || (changes() > before).then_some(())).await;
    let made = one.made_key(&json!({"name": "a test's", "tenant": "acme"})).await;
    let key = made["key"].as_str().unwrap();
    // A browser that is at both through one address.
    let at = |server: &Server, cookie: &str| server.http().with("host", "chat.example").with("cookie", cookie);
    let own = one.http().with("host", "chat.example").with("origin", "http://chat.example");
    let (out, by_key) = (log_in(&own, key).await, log_in(&own, key).await);
    for reply in [&out, &by_key] {
        assert_eq!(who(&at(&one, cookie(reply))).await.json(), who(&at(&other, cookie(reply))).await.json());
    }
    let mut socket = Socket::open_with(
        other.address,
        &[("host", "chat.example"), ("origin", "http://chat.example"), ("cookie", cookie(&out))],
    )
    .await
    .unwrap();
    socket.say(json!({"type": "hello", "protocol": 1})).await;
    assert_eq!(socket.hear().await["type"], "welcome");
    let (before, leaving) = (changes(), at(&one, cookie(&out)).with("origin", "http://chat.example"));
    assert_eq!(leaving.delete("/api/session").await.status, 204);
    followed(before).await;
    assert_eq!(refused(&who(&at(&other, cookie(&out))).await), ended());
    assert_eq!(socket.closed().await, 4403);
    assert_eq!(who(&at(&other, cookie(&by_key))).await.status, 200);
    let (before, path) = (changes(), format!("/api/admin/keys/{}", made["id"].as_str().unwrap()));
    assert_eq!(one.http().with_key(ADMIN_KEY).delete(&path).await.status, 204);
    followed(before).await;
    assert_eq!(refused(&who(&at(&other, cookie(&by_key))).await), ended());
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn attempts_count_by_address() {
    let server =
        Server::start_with_keys_and(|config| config.limits.address_requests_per_minute = NonZeroU32::new(3)).await;
    for _ in 0..3 {
        assert_eq!(server.http().post("/api/session", &json!({"key": "ish_guessed"})).await.status, 401);
    }
    let refused_now = server.http().post("/api/session", &json!({"key": ADMIN_KEY})).await;
    assert_eq!(refused(&refused_now), (429, "rate_limit_exceeded".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn a_login_outlives_a_restart() {
    let server = attentive().await;
    let reply = log_in(&server.http().with("host", "chat.example"), ADMIN_KEY).await;
    let server = server.restart().await;
    let back = server.http().with("host", "chat.example").with("cookie", cookie(&reply));
    assert_eq!(who(&back).await.json()["role"], "admin");
    server.stop().await;
}
