//! People who share a scope do not learn from a reply that another one asked before: the first answer from another's
//! entry reads as a miss, the second one says where it comes from.

use std::time::{Duration, Instant};

use ish::config::{FirstTouch, PriceConfig};
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Http, Reply, Server, Socket, asking};

const PROMPT: &str = "Who designed the first suspension bridge?";
const REWORDED: &str = "Who was the designer of the first suspension bridge?";

/// All that a reply says about the cache, but for the key of the question itself.
fn said(reply: &Reply) -> Vec<(String, String)> {
    let told = |name: &str| name.starts_with("x-ish") || ["cache-status", "age", "server-timing"].contains(&name);
    let mut said: Vec<_> = reply
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .filter(|(name, _)| told(name) && name != "x-ish-cache-key")
        .map(|(name, value)| (name, value.split("; key=").next().unwrap().to_owned()))
        .collect();
    said.sort();
    said
}

/// What is left of a body without what differs between any two replies.
fn body(reply: &Reply) -> Value {
    let mut body = reply.json();
    for name in ["id", "created"] {
        assert!(body.as_object_mut().unwrap().remove(name).is_some(), "{body}");
    }
    body
}

async fn two_people(server: &Server) -> (Http, Http) {
    (server.http().with_key(&server.new_key("acme").await), server.http().with_key(&server.new_key("acme").await))
}

#[tokio::test]
async fn the_first_reply_from_anothers_entry_reads_as_a_miss() {
    let server = Server::start_with_keys().await;
    let (ann, ben) = two_people(&server).await;
    let miss = ann.chat(&asking(PROMPT)).await;
    server.chat().cache().flush().await;
    for prompt in [PROMPT, "please, who designed the first suspension bridge", REWORDED] {
        let cleo = server.http().with_key(&server.new_key("acme").await);
        let first = cleo.chat(&asking(prompt)).await;
        assert_eq!(said(&first), said(&miss), "{prompt}");
        assert_eq!(body(&first), body(&miss), "{prompt}");
        let second = cleo.chat(&asking(prompt)).await;
        assert_eq!(second.json()["usage"]["total_tokens"], 0, "{prompt}: {second:?}");
        assert!(second.header("x-ish-cache").ends_with("HIT"), "{prompt}: {second:?}");
    }
    assert_eq!(server.upstream_calls(), 1, "all of them were answered from one entry");
    assert_eq!(ann.chat(&asking(PROMPT)).await.header("x-ish-cache"), "HIT", "the maker always sees it");
    // The users behind one key are people too, and an admin's key sees everything.
    let mut named = asking(PROMPT);
    named["user"] = "ben's colleague".into();
    assert_eq!(ben.chat(&asking(PROMPT)).await.header("x-ish-cache"), "MISS");
    assert_eq!(ben.chat(&named).await.header("x-ish-cache"), "MISS");
    assert_eq!(ben.chat(&named).await.header("x-ish-cache"), "HIT");
    let admin = server.http().with_key(&server.new_admin_key("acme").await);
    assert_eq!(admin.chat(&asking(PROMPT)).await.header("x-ish-cache"), "HIT");
    assert_eq!(server.upstream_calls(), 1);
    server.stop().await;
}

#[tokio::test]
async fn the_maker_is_known_after_a_restart() {
    let server = Server::start_with_keys().await;
    let (ann, ben) = (server.new_key("acme").await, server.new_key("acme").await);
    server.http().with_key(&ann).chat(&asking(PROMPT)).await;
    server.http().with_key(&ben).chat(&asking(PROMPT)).await;
    let server = server.restart().await;
    let word =
        async |key: &str| server.http().with_key(key).chat(&asking(PROMPT)).await.header("x-ish-cache").to_owned();
    assert_eq!(word(&ann).await, "HIT");
    assert_eq!(word(&ben).await, "MISS", "what was forgotten is hidden once more");
    assert_eq!(word(&ben).await, "HIT");
    assert_eq!(server.upstream_calls(), 1);
    server.stop().await;
}

#[tokio::test]
async fn only_if_cached_and_a_shared_call_tell_nothing_either() {
    let server = Server::start_with_keys().await;
    let (ann, ben) = two_people(&server).await;
    let mut slow = asking("Who built the lighthouse of Pharos? [[first=300ms]]");
    let (one, other) = tokio::join!(ann.chat(&slow), ben.chat(&slow));
    assert_eq!((one.header("x-ish-cache"), other.header("x-ish-cache")), ("MISS", "MISS"));
    assert_eq!((said(&one), server.upstream_calls()), (said(&other), 1));
    for http in [&ann, &ben] {
        assert_eq!(http.chat(&slow).await.header("x-ish-cache"), "HIT", "both have touched it");
    }
    let cleo = server.http().with_key(&server.new_key("acme").await);
    slow["cache"] = json!({"mode": "only"});
    let mut unasked = asking("Who built the hanging gardens?");
    unasked["cache"] = json!({"mode": "only"});
    let (untouched, unknown) = (cleo.chat(&slow).await, cleo.chat(&unasked).await);
    assert_eq!((untouched.status, untouched.error()), (unknown.status, unknown.error()));
    assert_eq!(ann.chat(&slow).await.header("x-ish-cache"), "HIT");
    server.stop().await;
}

#[tokio::test]
async fn a_stream_and_a_socket_read_as_misses_too() {
    let server = Server::start_with_keys().await;
    let (ann, ben) = (server.new_key("acme").await, server.new_key("acme").await);
    let mut socket = greeted(&server, &ann).await;
    let (_, made) = socket.ask_whole("a", PROMPT).await;
    server.chat().cache().flush().await;
    let mut socket = greeted(&server, &ben).await;
    let (ack, first) = socket.ask_whole("b", REWORDED).await;
    let quiet = |end: &Value| {
        let mut cache = end["cache"].clone();
        cache.as_object_mut().unwrap().remove("key");
        cache
    };
    let (made, mut end) = (made.end.unwrap(), first.end.unwrap());
    assert_eq!(end["type"], "done");
    assert_eq!(quiet(&end), quiet(&made));
    assert_eq!(end["usage"], made["usage"]);
    assert_eq!(server.upstream_calls(), 1);
    // The recorded explanation tells no more than the frame.
    let http = server.http().with_key(&ben);
    let why = http.get(&format!("/api/sessions/{}/messages/{}/why", ack.conversation, ack.reply)).await.json();
    assert_eq!(
        (&why["decision"], &why["neighbours"], &why["steps"]),
        (&json!("miss"), &json!([]), &json!([])),
        "{why}"
    );
    let explained = http.post("/api/cache/explain", &json!({"prompt": PROMPT, "model": "mock"})).await.json();
    assert_eq!((&explained["neighbours"], &explained["steps"]), (&json!([]), &json!([])), "{explained}");
    for path in [
        "/api/cache/entries".to_owned(),
        format!("/api/cache/entries/{}", end["cache"]["key"].take().as_str().unwrap()),
    ] {
        assert_eq!(http.get(&path).await.json()["code"], "admin_only", "{path}");
    }
    // "Wrong answer" finds the entry although its key was not told.
    let told = http.post("/api/cache/feedback", &json!({"message": ack.reply, "verdict": "wrong"})).await.json();
    assert_eq!((&told["evicted"], &told["blocked"]), (&json!(true), &json!(true)), "{told}");
    // As a stream: the counted tokens come, and no extension object.
    let streamed = |prompt: &str| {
        let mut body = asking(prompt);
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
        body
    };
    let prompt = "Who painted the ceiling of the chapel?";
    let miss = server.http().with_key(&ann).stream(&streamed(prompt)).await.whole().await;
    let hit = server.http().with_key(&ben).stream(&streamed(prompt)).await.whole().await;
    assert_eq!(said(&hit), said(&miss));
    let usage = |reply: &Reply| reply.chunks().last().unwrap()["usage"].clone();
    assert_eq!(usage(&hit), usage(&miss));
    assert!(hit.chunks().iter().all(|chunk| chunk.get("ish").is_none()), "{hit:?}");
    server.stop().await;
}

/// Who has an answer that reads as new is told the key of the question; by that it can be reported, whichever of the key's
/// users asked, and by nobody else.
#[tokio::test]
async fn a_wrong_answer_is_found_by_the_key_that_a_user_was_told() {
    let server = Server::start_with_keys().await;
    let (ann, ben) = two_people(&server).await;
    let made = ann.chat(&asking(PROMPT)).await;
    server.chat().cache().flush().await;
    let mut named = asking(REWORDED);
    named["user"] = "ben's colleague".into();
    let told = ben.chat(&named).await;
    assert_eq!((told.header("x-ish-cache"), server.upstream_calls()), ("MISS", 1));
    assert_ne!(told.header("x-ish-cache-key"), made.header("x-ish-cache-key"));
    let wrong = json!({"key": told.header("x-ish-cache-key"), "verdict": "wrong"});
    let stranger = server.http().with_key(&server.new_key("umbrella").await);
    let cleo = server.http().with_key(&server.new_key("acme").await);
    for other in [&stranger, &cleo] {
        let reported = other.post("/api/cache/feedback", &wrong).await;
        assert_eq!((reported.status.as_u16(), &reported.json()["evicted"]), (200, &json!(false)), "{reported:?}");
    }
    assert_eq!(ann.chat(&asking(PROMPT)).await.header("x-ish-cache"), "HIT");
    let reported = ben.post("/api/cache/feedback", &wrong).await;
    assert_eq!(reported.json()["evicted"], true, "{reported:?}");
    assert_eq!(ann.chat(&asking(PROMPT)).await.header("x-ish-cache"), "MISS");
    server.stop().await;
}

/// Whoever could report any key would learn from the reply whether somebody has asked, and take the answer away.
#[tokio::test]
async fn feedback_tells_nothing_of_others() {
    let server = Server::start_with_keys().await;
    let (ann, ben) = two_people(&server).await;
    ann.chat(&asking(PROMPT)).await;
    let report = async |http: &Http, prompt: &str| {
        let explained = http.post("/api/cache/explain", &json!({"prompt": prompt, "model": "mock"})).await.json();
        let wrong = json!({"key": explained["keys"]["exact"], "verdict": "wrong"});
        http.post("/api/cache/feedback", &wrong).await.json()
    };
    let nothing = json!({"evicted": false, "blocked": false});
    assert_eq!(report(&ben, PROMPT).await, nothing, "it is there, but ben was never told");
    assert_eq!(report(&ben, "Who built the hanging gardens?").await, nothing, "it is not there");
    assert_eq!(ann.chat(&asking(PROMPT)).await.header("x-ish-cache"), "HIT");
    assert_eq!(ben.chat(&asking(PROMPT)).await.header("x-ish-cache"), "MISS", "he is given it now");
    assert_eq!(report(&ben, PROMPT).await["evicted"], true);
    assert_eq!(ann.chat(&asking(PROMPT)).await.header("x-ish-cache"), "MISS");
    let server = server.restart().await;
    assert_eq!(report(&server.http().with_key(ADMIN_KEY), PROMPT).await["evicted"], false, "another tenant's");
    server.stop().await;
}

#[tokio::test]
async fn who_made_an_entry_may_report_it_after_a_restart() {
    let server = Server::start_with_keys().await;
    let (ann, ben) = (server.new_key("acme").await, server.new_key("acme").await);
    let made = server.http().with_key(&ann).chat(&asking(PROMPT)).await;
    let wrong = json!({"key": made.header("x-ish-cache-key"), "verdict": "wrong"});
    let server = server.restart().await;
    for (key, evicted) in [(&ben, false), (&ann, true)] {
        let reported = server.http().with_key(key).post("/api/cache/feedback", &wrong).await;
        assert_eq!(reported.json()["evicted"], evicted, "{reported:?}");
    }
    server.stop().await;
}

/// Exact counts would tell what the replies do not.
#[tokio::test]
async fn figures_are_for_admins() {
    let server = Server::start_with_keys().await;
    let user = server.http().with_key(&server.new_key("acme").await);
    let admin = server.http().with_key(ADMIN_KEY);
    let stats = "/api/cache/stats";
    assert_eq!((user.get(stats).await.status.as_u16(), admin.get(stats).await.status.as_u16()), (403, 200));
    assert_eq!(user.get("/api/status").await.json()["cache"], Value::Null);
    assert_eq!(admin.get("/api/status").await.json()["cache"]["index_loaded"], true);
    assert_eq!(server.http().get("/metrics").await.status, 200, "a scraper beside the server");
    for (http, status) in [(server.http(), 401), (user, 403), (admin, 200)] {
        let through_proxy = http.with("x-forwarded-for", "127.0.0.1").get("/metrics").await;
        assert_eq!(through_proxy.status, status);
    }
    server.stop().await;
}

async fn greeted(server: &Server, key: &str) -> Socket {
    let hello = json!({"type": "hello", "protocol": 1, "token": key});
    Socket::greeted_with(server.address, hello).await.0
}

#[tokio::test]
async fn a_paced_reply_takes_as_long_as_the_answer_did() {
    let server = Server::start_with_keys_and(|config| config.cache.first_touch = FirstTouch::Paced).await;
    let (ann, ben) = two_people(&server).await;
    let slow = asking("Who wrote the first sonnet? [[first=400ms]]");
    ann.chat(&slow).await;
    let mut streamed = slow.clone();
    streamed["stream"] = true.into();
    let (begun, reply) = (Instant::now(), ben.chat(&slow).await);
    assert!(begun.elapsed() >= Duration::from_millis(400), "a lower bound holds on any machine");
    assert_eq!((reply.header("x-ish-cache"), server.upstream_calls()), ("MISS", 1));
    let cleo = server.http().with_key(&server.new_key("acme").await);
    let (begun, reply) = (Instant::now(), cleo.stream(&streamed).await.whole().await);
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert!(reply.body.ends_with(b"data: [DONE]\n\n"));
    assert_eq!(server.upstream_calls(), 1);
    server.stop().await;
}

#[tokio::test]
async fn an_operator_may_show_all_hits() {
    let server = Server::start_with_keys_and(|config| config.cache.first_touch = FirstTouch::Open).await;
    let (ann, ben) = two_people(&server).await;
    ann.chat(&asking(PROMPT)).await;
    let hit = ben.chat(&asking(PROMPT)).await;
    assert_eq!((hit.header("x-ish-cache"), hit.header("x-ish-cache-tier")), ("HIT", "l1"));
    assert_eq!(ben.get("/api/cache/entries").await.status, 200);
    assert_eq!(server.http().with_key(ADMIN_KEY).get("/api/cache/entries").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn what_a_stream_says_of_its_cost_tells_nothing_either() {
    let price =
        PriceConfig { model: "mock".to_owned(), input: 1.0, output: 1.0, cached_input: None, cache_write: None };
    let server = Server::start_with_keys_and(|config| config.prices = vec![price]).await;
    let (ann, ben) = two_people(&server).await;
    let miss = ann.stream(&asking(PROMPT)).await.whole().await;
    let hit = ben.stream(&asking(PROMPT)).await.whole().await;
    assert_eq!(server.upstream_calls(), 1);
    assert_eq!(said(&hit), said(&miss));
    let cost = |reply: &Reply| {
        let text = String::from_utf8(reply.body.to_vec()).unwrap();
        text.lines().find(|line| line.starts_with(": x-ish-cost-usd ")).map(str::to_owned)
    };
    assert!(cost(&miss).is_some(), "{miss:?}");
    assert_eq!(cost(&hit), cost(&miss));
    server.stop().await;
}
