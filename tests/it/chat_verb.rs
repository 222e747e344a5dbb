//! `ish chat` as a person uses it: a key that ends while it talks, a pause between two questions, and whom it shows a key.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use loadtest::provider::answer::answer_to;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::{Process, Server, Talk, soon, until};

/// A server with keys whose sockets beat five times a second.
async fn attentive() -> Server {
    Server::start_with_keys_and(|config| config.server.heartbeat = Duration::from_millis(200)).await
}

/// A key that ends so soon.
async fn key_for(server: &Server, seconds: u32) -> String {
    let wish = json!({"name": "a test's", "tenant": "acme", "expires_in": seconds});
    server.made_key(&wish).await["key"].as_str().unwrap().to_owned()
}

fn chat(server: &Server, folder: &Path, key_file: &Path, further: &[&str]) -> Talk {
    let url = format!("ws://{}/ws", server.address);
    let (folder, key_file) = (folder.to_str().unwrap(), key_file.to_str().unwrap());
    let arguments = [&["chat", "--url", &url, "--model", "mock", "--key-file", key_file], further].concat();
    Talk::begin(&arguments, &[("ISH_DATA_DIR", folder)])
}

#[tokio::test]
async fn another_key_in_the_file_takes_an_ending_ones_place() {
    let server = attentive().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, key_for(&server, 50).await).unwrap();
    server.provider.hold_after(3);
    let question = "Who outlives a key?";
    let mut talk = chat(&server, folder.path(), &file, &[question]);
    talk.hear("[the key ends at ").await;
    std::fs::write(&file, format!("{}\n", key_for(&server, 3_600).await)).unwrap();
    talk.hear("[another key has taken the old one's place]").await;
    server.provider.wait_until_held(1).await;
    server.provider.release();
    let (status, said) = talk.end().await;
    assert!(status.success() && said.contains(&answer_to(question)), "{status}: {said}");
    assert_eq!(server.metrics().ws_closes.with_label_values(&["4403"]).get(), 0, "one socket did it all");
    server.stop().await;
}

#[tokio::test]
async fn a_key_that_has_ended_is_told_with_what_to_do() {
    let server = attentive().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, key_for(&server, 2).await).unwrap();
    server.provider.hold_after(3);
    let talk = chat(&server, folder.path(), &file, &["Who ends with a key?"]);
    let (status, said) = talk.end().await;
    assert!(!status.success(), "{said}");
    let remedy = format!("the key has expired (4403): write another key into {}", file.display());
    assert!(said.contains(&remedy), "{said}");
    server.provider.release();
    server.stop().await;
}

/// The socket is read between two questions, too: who answers no ping is closed.
#[tokio::test]
async fn a_pause_between_two_questions_ends_nothing() {
    let server = attentive().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, key_for(&server, 3_600).await).unwrap();
    let mut talk = chat(&server, folder.path(), &file, &[]);
    talk.type_line("What comes before a pause?");
    talk.hear("· mock]").await;
    // Silence ends a socket after two and a half heartbeats, and each one is a frame.
    let frames = || server.metrics().ws_frames.with_label_values(&["out"]).get();
    let before = frames();
    until("some heartbeats", || (frames() >= before + 6).then_some(())).await;
    talk.type_line("And what after it?");
    talk.hear("· mock]").await;
    assert_eq!(server.metrics().ws_connections.get(), 1);
    let (status, said) = talk.end().await;
    assert!(status.success(), "{said}");
    assert_eq!(server.metrics().ws_closes.with_label_values(&["4408"]).get(), 0, "{said}");
    server.stop().await;
}

#[tokio::test]
async fn the_local_servers_token_is_shown_to_no_other_server() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Process::start(folder.path(), "http://127.0.0.1:1/v1", &[]).await;
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", other.local_addr().unwrap());
    let talk = Talk::begin(&["chat", "--url", &url, "hello"], &[("ISH_DATA_DIR", folder.path().to_str().unwrap())]);
    let (stream, _) = soon("a connection", other.accept()).await.unwrap();
    let mut socket = soon("an upgrade", tokio_tungstenite::accept_async(stream)).await.unwrap();
    let hello = soon("hello", socket.next()).await.unwrap().unwrap();
    let hello: Value = serde_json::from_str(hello.to_text().unwrap()).unwrap();
    assert_eq!(hello, json!({"type": "hello", "protocol": 1}));
    drop(socket);
    drop(talk);
    ours.kill().await;
}
