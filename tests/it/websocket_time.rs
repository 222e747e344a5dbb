//! The WebSocket protocol where somebody is silent for too long: which code closes the socket, and that nothing is left of
//! it. The heartbeats are shorter than the default; no test asserts how long anything takes.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Server, Socket, until};

/// A server whose sockets beat once a second.
async fn lively() -> Server {
    Server::start_with(|config| config.server.heartbeat = Duration::from_secs(1)).await
}

#[tokio::test]
async fn a_socket_that_never_says_hello_is_closed_as_no_client_of_ours() {
    let server = Server::start().await;
    let mut silent = Socket::open(server.address).await;
    assert_eq!(silent.closed().await, 4400);
    server.stop().await;
}

#[tokio::test]
async fn a_socket_that_answers_no_ping_is_closed_as_slow() {
    let server = lively().await;
    let (socket, welcome) = Socket::greeted_with(server.address, json!({"type": "hello", "protocol": 1})).await;
    assert_eq!(welcome["heartbeat_ms"], 1_000);
    assert_eq!(socket.closed_unanswered().await, 4408);
    server.stop().await;
}

#[tokio::test]
async fn a_socket_that_answers_pings_stays_though_it_says_nothing() {
    let server = lively().await;
    let mut socket = server.socket().await;
    // Silence ends a socket after two and a half heartbeats.
    for _ in 0..4 {
        socket.pinged().await;
    }
    assert!(socket.is_silent().await, "it is open, and nothing else was said");
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_socket_that_talks_and_reads_nothing_is_closed_all_the_same() {
    let server = lively().await;
    let mut socket = server.socket().await;
    let (ack, _) = socket.ask_whole("a", "Tell it all. [[fault=huge bytes=3000000]]").await;
    // More than the buffers between here and there hold, and less than would stop the session from reading.
    for _ in 0..5 {
        socket.say(json!({"type": "resume", "stream": ack.stream, "epoch": 7, "after": 0})).await;
    }
    until("the end of the socket", || {
        socket.ping_blindly();
        let held = server.metrics().ws_held_bytes.get();
        assert!(held < 3_200_000, "no second frame waits beside one that is larger than the bound: {held}");
        (server.metrics().ws_connections.get() == 0).then_some(())
    })
    .await;
    assert_eq!(server.metrics().ws_held_bytes.get(), 0);
    assert_eq!(server.metrics().ws_closes.with_label_values(&["4408"]).get(), 1);
    drop(socket);
    server.stop().await;
}

/// What waits for credit may not fill the memory: beyond the bound it is let go, and comes from the store.
#[tokio::test]
async fn ended_answers_without_credit_hold_no_more_memory_than_they_may() {
    let server = Server::start_with(|config| config.chat.replay_bytes = 200_000).await;
    let hello = json!({"type": "hello", "protocol": 1, "credit": 1});
    let (mut socket, _) = Socket::greeted_with(server.address, hello).await;
    let mut asked = Vec::new();
    for number in 0..4 {
        let question = format!("Who pays for {number}? [[fault=huge bytes=100000]]");
        let ack = socket.ask(&number.to_string(), &question).await;
        let stored = format!("/api/sessions/{}/messages", ack.conversation);
        socket.hear_until(&ack.stream, |answer| answer.deltas == 1).await;
        asked.push((ack, stored));
    }
    let bytes = || server.metrics().stream_ended_bytes.get();
    until("the end of all four", || (server.streams().running() == 0).then_some(())).await;
    until("room", || (bytes() <= 200_000).then_some(())).await;
    assert!(server.metrics().streams_let_go.get() >= 2, "two of four have room at most");
    let mut snapshots = 0;
    for (ack, stored) in asked {
        socket.say(json!({"type": "credit", "stream": ack.stream, "deltas": 1_000})).await;
        let answer = socket.answer(&ack.stream).await;
        let messages = server.http().get(&stored).await.json();
        assert_eq!((answer.ending(), &json!(answer.text)), ("done", &messages["data"][1]["content"]));
        snapshots += answer.snapshots as u64;
    }
    assert_eq!(snapshots, server.metrics().streams_let_go.get());
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_given_no_credit_closes_its_socket() {
    let server = Server::start_with(|config| config.server.heartbeat = Duration::from_millis(100)).await;
    let hello = json!({"type": "hello", "protocol": 1, "credit": 2});
    let (mut socket, _) = Socket::greeted_with(server.address, hello).await;
    let ack = socket.ask("a", "Who reads this to the end?").await;
    let so_far = socket.hear_until(&ack.stream, |answer| answer.deltas == 2).await;
    assert_eq!(socket.closed().await, 4408);
    let mut next = server.socket().await;
    next.resume(&ack.stream, so_far).await;
    assert_eq!(next.answer(&ack.stream).await.ending(), "done", "the answer has lost nothing");
    drop(next);
    server.stop().await;
}
