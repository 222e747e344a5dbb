//! A server that stops while somebody reads an answer that nobody stores: each dialect gets one end that says so, over a
//! connection that ends as it should; who is connected when it stops may still ask; and a reader that takes nothing holds nothing.

use hyper::Method;
use loadtest::provider::{Provider, ProviderOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Http, Process, Server, soon, until};

const PROMPT: &str = "[[tokens=9 hold=3]] Who turns the light off?";

/// The streaming routes, and what each is asked with.
fn dialects() -> [(&'static str, Value); 4] {
    let messages = json!([{"role": "user", "content": PROMPT}]);
    [
        ("/v1/chat/completions", json!({"model": "mock", "messages": messages, "stream": true})),
        ("/v1/messages", json!({"model": "mock", "messages": messages, "stream": true, "max_tokens": 99})),
        ("/v1/responses", json!({"model": "mock", "input": PROMPT, "stream": true})),
        ("/api/chat", json!({"model": "mock", "messages": messages, "stream": true})),
    ]
}

#[tokio::test]
async fn each_dialect_is_told_that_the_server_stops() {
    for cache in ["on", "off"] {
        let folder = tempfile::tempdir().unwrap();
        let provider = Provider::start(ProviderOptions::default()).await.unwrap();
        let variables = [("ISH_DRAIN_TIMEOUT", "0.3")];
        let mut process = Process::start(folder.path(), &provider.base_url(), &variables).await;
        let client = Http::new(process.address).with("x-ish-cache", cache);
        let mut readers = Vec::new();
        for (path, body) in dialects() {
            let mut reader = client.open(Method::POST, path, body.to_string()).await;
            // Nothing of a stream comes before its first visible token.
            reader.until("\"").await;
            readers.push((path, reader));
        }
        process.terminate();
        for (path, reader) in readers {
            let said = String::from_utf8(reader.whole().await.body.to_vec()).unwrap();
            assert_eq!(
                said.matches("the server stopped in the middle of this answer").count(),
                1,
                "{path}, cache {cache}: {said}"
            );
        }
        assert!(process.end().await.success());
    }
}

/// Asks over a connection that may be used again; returns what is said up to the end of an object.
async fn ask(connection: &mut TcpStream, path: &str, body: &Value) -> String {
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while !is_whole(&said) {
        assert_ne!(soon("a reply", connection.read_buf(&mut said)).await.unwrap(), 0, "closed before its reply's end");
    }
    String::from_utf8(said).unwrap()
}

fn is_whole(said: &[u8]) -> bool {
    let body = said.windows(4).position(|end| end == b"\r\n\r\n").map(|end| &said[end + 4..]);
    body.is_some_and(|body| serde_json::from_slice::<Value>(body).is_ok())
}

/// A proxy keeps connections, and must not send a question twice: one that it sends as the server begins to stop is answered.
#[tokio::test]
async fn who_is_connected_is_answered_once_more_and_nobody_else_comes_in() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start(ProviderOptions::default()).await.unwrap());
    let mut process = Process::start(folder.path(), &provider.base_url(), &[]).await;
    let (mut kept, mut new) =
        (TcpStream::connect(process.address).await.unwrap(), TcpStream::connect(process.address).await.unwrap());
    let question = json!({"message": "Who may still ask?"});
    let first = ask(&mut kept, "/api/chat", &question).await;
    assert!(first.starts_with("HTTP/1.1 200 ") && !first.contains("connection: close"), "{first}");
    process.terminate();
    until("it takes no connection", || std::net::TcpStream::connect(process.address).err()).await;
    for connection in [&mut kept, &mut new] {
        let last = ask(connection, "/api/chat", &question).await;
        assert!(last.starts_with("HTTP/1.1 200 ") && last.contains("connection: close"), "{last}");
        let mut rest = String::new();
        soon("its end", connection.read_to_string(&mut rest)).await.unwrap();
        assert_eq!(rest.trim(), "");
    }
    assert!(process.end().await.success());
}

#[tokio::test]
async fn a_reader_that_takes_nothing_gives_its_places_back() {
    let server = Server::start_with(|config| config.server.heartbeat = std::time::Duration::from_millis(400)).await;
    for cache in ["on", "off"] {
        let small = TcpSocket::new_v4().unwrap();
        small.set_recv_buffer_size(4096).unwrap();
        let mut stalled = small.connect(server.address).await.unwrap();
        // Far more than the buffers of both sides hold.
        let body = json!({"model": "mock", "stream": true, "messages": [{"role": "user", "content": "[[tokens=60000]] go on"}]});
        let body = body.to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-ish-cache: {cache}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stalled.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let metrics = server.metrics();
        until("the request is in work", || (metrics.limits_in_flight.get() == 1).then_some(())).await;
        // Not a byte is read, and the connection stays open on this side.
        until("its place is free", || (metrics.limits_in_flight.get() == 0).then_some(())).await;
        drop(stalled);
    }
    server.stop().await;
}
