//! The server's description of itself: every route of the router is in it, and every route in it is one of the router's.
//! That replies are as described is held by the tests' HTTP client, for every reply of every test.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::document::Document;
use crate::harness::{ADMIN_KEY, Reply, Server};

/// The route table, as the compiler reads it too.
const ROUTER: &str = include_str!("../../src/api.rs");

#[tokio::test]
async fn it_is_served_to_everyone_and_names_its_version() {
    let server = Server::start_with_keys().await;
    let reply = server.http().get("/openapi.json").await;
    assert_eq!((reply.status, reply.header("content-type")), (StatusCode::OK, "application/json"));
    let document = reply.json();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["paths"].as_object().unwrap().len(), paths_of_router().len());
    server.stop().await;
}

#[test]
fn its_paths_are_the_routers() {
    let described: BTreeSet<String> = Document::read().operations().into_iter().map(|(_, path)| path).collect();
    assert_eq!(described, paths_of_router());
}

/// A method that no route has is answered with those that the route does have.
#[tokio::test]
async fn its_methods_are_the_routers() {
    let server = Server::start_with_keys().await;
    let http = server.http().with_key(ADMIN_KEY);
    let described: BTreeSet<(String, String)> = Document::read().operations().into_iter().collect();
    for path in paths_of_router() {
        // What is no page's file is unknown, whatever the method.
        if path == "/{file}" {
            continue;
        }
        let asked = path
            .replace("{id}", "x")
            .replace("{message}", "x")
            .replace("{key}", "x")
            .replace("{cache}", "x")
            .replace("{name}", "x")
            .replace("{model}", "x");
        let reply = http.send(Method::from_bytes(b"BREW").unwrap(), &asked, Vec::new()).await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        let allowed = reply.header("allow").split(',').map(str::trim).filter(|method| *method != "HEAD");
        let allowed: BTreeSet<String> = allowed.map(str::to_owned).collect();
        let mine = described.iter().filter(|(_, of)| *of == path).map(|(method, _)| method.clone());
        assert_eq!(allowed, mine.collect(), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_reply_that_is_described_otherwise_is_found() {
    let server = Server::start().await;
    let mut reply = server.http().post("/api/sessions", &json!({})).await;
    let fault = |reply: &Reply| Document::read().fits(&Method::POST, "/api/sessions", reply).err();
    assert_eq!(fault(&reply), None);
    let mut session: Value = reply.json();
    session["colour"] = "red".into();
    reply.body = session.to_string().into();
    assert_eq!(fault(&reply).unwrap(), "body.colour is not described");
    reply.headers.insert("content-type", "text/html".parse().unwrap());
    assert!(fault(&reply).unwrap().contains("content types"));
    reply.status = StatusCode::IM_A_TEAPOT;
    assert!(fault(&reply).unwrap().contains("statuses"));
    server.stop().await;
}

/// The paths in `routes()`, in the description's notation.
fn paths_of_router() -> BTreeSet<String> {
    let (_, after) = ROUTER.split_once("fn routes()").unwrap();
    let (table, _) = after.split_once("\n}\n").unwrap();
    let named = table.split(".route(").skip(1).map(|route| route.split('"').nth(1).unwrap());
    named.map(|path| path.replace("{*", "{")).collect()
}
