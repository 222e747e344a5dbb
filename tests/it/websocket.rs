//! The WebSocket protocol of docs/websocket.md, frame by frame. What every test checks without saying so stands in
//! [`crate::harness::Socket`]: the schema of each frame, numbers without holes, hashes, one end per stream.

use std::time::{Duration, Instant};

use loadtest::provider::answer::answer_to;
use loadtest::provider::{Behaviour, Outcome};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::harness::{ADMIN_KEY, Ack, Answer, Server, Socket, until};

const HELLO: &str = r#"{"type":"hello","protocol":1}"#;

fn hello_with_token(token: &str) -> Value {
    json!({"type": "hello", "protocol": 1, "token": token})
}

/// The stored messages of a conversation, oldest first.
async fn stored(server: &Server, conversation: &str) -> Vec<Value> {
    let reply = server.http().get(&format!("/api/sessions/{conversation}/messages")).await;
    reply.json()["data"].as_array().unwrap().clone()
}

/// The stored answer of an acknowledged send.
async fn stored_answer(server: &Server, ack: &Ack) -> Value {
    let messages = stored(server, &ack.conversation).await;
    messages.into_iter().find(|message| message["id"] == ack.reply).unwrap()
}

/// Begins an answer that stands still after `tokens` tokens, and hears these.
async fn held(server: &Server, socket: &mut Socket, id: &str, prompt: &str, tokens: usize) -> Ack {
    server.provider.hold_after(tokens);
    let ack = socket.ask(id, prompt).await;
    server.provider.wait_until_held(1).await;
    socket.hear_until(&ack.stream, |answer| answer.seq == tokens as u64).await;
    ack
}

#[tokio::test]
async fn hello_is_answered_with_what_the_server_is() {
    let server = Server::start().await;
    let (socket, welcome) = Socket::greeted_with(server.address, json!({"type": "hello", "protocol": 1})).await;
    assert_eq!((&welcome["tenant"], &welcome["default_model"]), (&json!("local"), &json!("mock")));
    assert_eq!(welcome["models"], json!(["mock", "mock-alt", "demo"]));
    assert_eq!(welcome["limits"], json!({"frame_bytes": 1_048_576, "streams": 64, "frames_per_second": 1_000}));
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn two_conversations_share_one_socket() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    server.provider.hold_after(4);
    let first = socket.ask("a", "Why does the Moon have phases?").await;
    let second = socket.ask("b", "How do bees find their way home?").await;
    server.provider.wait_until_held(2).await;
    for ack in [&first, &second] {
        let so_far = socket.hear_until(&ack.stream, |answer| answer.seq == 4).await;
        assert!(so_far.end.is_none());
    }
    server.provider.release();
    let texts = [socket.answer(&first.stream).await.text, socket.answer(&second.stream).await.text];
    assert_eq!(texts, [answer_to("Why does the Moon have phases?"), answer_to("How do bees find their way home?")]);
    assert_ne!(first.conversation, second.conversation);
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn an_answer_is_numbered_stored_and_hashed() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let (ack, answer) = socket.ask_whole("a", "Why is the sky blue? [[reasoning=3]]").await;
    assert_eq!((answer.ending(), answer.deltas), ("done", 23), "20 of text and 3 of reasoning");
    let end = answer.end.unwrap();
    assert_eq!(
        (&end["finish_reason"], &end["model"], &end["message"]),
        (&json!("stop"), &json!("mock"), &json!(ack.reply))
    );
    assert_eq!(end["cache"]["status"], "miss");
    assert_eq!(end["cache"]["stored"], true);
    assert!(end["usage"]["output_tokens"].as_u64() >= Some(20));
    let messages = stored(&server, &ack.conversation).await;
    let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant"]);
    assert_eq!(messages[0]["id"], ack.message);
    assert_eq!(messages[1]["content"], answer.text);
    assert_eq!((&messages[1]["state"], &messages[1]["seq"]), (&json!("complete"), &json!(23)));
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_conversation_goes_on_with_its_history() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let system = json!({"type": "send", "id": "a", "content": "Name a harbour town.", "system": "Be brief."});
    let first = socket.ask_with(system).await;
    let answer = socket.answer(&first.stream).await;
    let next = json!({"type": "send", "id": "b", "content": "And another one?", "conversation": first.conversation});
    let second = socket.ask_with(next).await;
    socket.answer(&second.stream).await;
    assert_eq!(second.conversation, first.conversation);
    let turns: Vec<(Value, Value)> = server.upstream_bodies()[1]["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|turn| (turn["role"].clone(), turn["content"].clone()))
        .collect();
    let expected = [
        ("system", "Be brief."),
        ("user", "Name a harbour town."),
        ("assistant", answer.text.as_str()),
        ("user", "And another one?"),
    ];
    assert_eq!(turns, expected.map(|(role, text)| (json!(role), json!(text))));
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn the_same_question_again_is_a_hit_that_costs_nothing() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let (_, made) = socket.ask_whole("a", "Which metals are magnetic?").await;
    let (ack, replayed) = socket.ask_whole("b", "Which metals are magnetic?").await;
    assert_eq!(replayed.text, made.text);
    let origin = replayed.origin.unwrap();
    assert_eq!((&origin["status"], &origin["how"], &origin["tier"]), (&json!("hit"), &json!("exact"), &json!("l1")));
    let end = replayed.end.unwrap();
    assert_eq!(end["usage"], json!({"input_tokens": 0, "output_tokens": 0}));
    assert_eq!(end["cache"]["saved"]["output_tokens"], 20);
    assert_eq!(server.upstream_calls(), 1);
    assert_eq!(stored_answer(&server, &ack).await["content"], made.text, "a hit is stored like any answer");
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_send_is_idempotent_by_its_id() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let (ack, answer) = socket.ask_whole("same", "What is a glacier?").await;
    socket.forget(&ack.stream);
    let (again, repeated) = socket.ask_whole("same", "What is a glacier?").await;
    assert_eq!(again, Ack { duplicate: true, ..ack.clone() });
    assert_eq!((repeated.text, repeated.seq), (answer.text, answer.seq));
    assert_eq!(stored(&server, &ack.conversation).await.len(), 2);
    assert_eq!(server.upstream_calls(), 1);
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_send_repeated_while_it_is_answered_joins_it() {
    let server = Server::start().await;
    let (mut first, mut second) = (server.socket().await, server.socket().await);
    let ack = held(&server, &mut first, "same", "What is a fjord?", 2).await;
    let again = second.ask("same", "What is a fjord?").await;
    assert_eq!(again, Ack { duplicate: true, ..ack.clone() });
    server.provider.release();
    let texts = [first.answer(&ack.stream).await.text, second.answer(&ack.stream).await.text];
    assert_eq!(texts, [answer_to("What is a fjord?"), answer_to("What is a fjord?")]);
    assert_eq!((stored(&server, &ack.conversation).await.len(), server.upstream_calls()), (2, 1));
    drop((first, second));
    server.stop().await;
}

/// Both are committed in one group, so that either may be told first.
#[tokio::test]
async fn the_same_send_on_many_sockets_at_once_is_one() {
    let server = Server::start().await;
    for round in 0..20 {
        let (id, prompt) = (format!("same-{round}"), format!("What is the {round}. planet?"));
        let mut sockets = Vec::new();
        for _ in 0..6 {
            sockets.push(server.socket().await);
        }
        let frame = json!({"type": "send", "id": id, "content": prompt, "cache": {"mode": "off"}});
        for socket in &mut sockets {
            socket.say(frame.clone()).await;
        }
        let mut acks = Vec::new();
        for socket in &mut sockets {
            let ack: Ack = serde_json::from_value(socket.hear_type("ack").await).unwrap();
            assert_eq!(socket.answer(&ack.stream).await.text, answer_to(&prompt));
            acks.push(ack);
        }
        assert_eq!(acks.iter().filter(|ack| !ack.duplicate).count(), 1, "one of them was first");
        assert!(acks.iter().all(|ack| ack.reply == acks[0].reply));
        assert_eq!(stored(&server, &acks[0].conversation).await.len(), 2);
    }
    assert_eq!(server.upstream_calls(), 20);
    server.stop().await;
}

#[tokio::test]
async fn a_cut_socket_resumes_where_it_was() {
    let server = Server::start().await;
    for seen in [1, 7, 19] {
        let prompt = format!("What are {seen} kinds of cloud?");
        let mut socket = server.socket().await;
        let ack = held(&server, &mut socket, &format!("cut-{seen}"), &prompt, seen).await;
        let known = socket.known(&ack.stream);
        socket.cut();
        let mut next = server.socket().await;
        next.resume(&ack.stream, known).await;
        server.provider.release();
        let whole = next.answer(&ack.stream).await;
        assert_eq!((whole.text, whole.seq), (answer_to(&prompt), 20));
        assert_eq!((whole.deltas, whole.snapshots), (20, 0), "each delta once");
    }
    assert_eq!(server.upstream_calls(), 3);
    server.stop().await;
}

#[tokio::test]
async fn a_resume_from_before_what_was_seen_repeats_from_there() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let ack = held(&server, &mut socket, "a", "What is a comet?", 6).await;
    let mut known = socket.known(&ack.stream);
    socket.cut();
    // The third token ends the third word: the client lost what came behind it.
    known.text = known.text.split_inclusive(' ').take(3).collect::<String>().trim_end().to_owned();
    known.seq = 3;
    let mut next = server.socket().await;
    next.resume(&ack.stream, known).await;
    server.provider.release();
    assert_eq!(next.answer(&ack.stream).await.text, answer_to("What is a comet?"));
    drop(next);
    server.stop().await;
}

#[tokio::test]
async fn the_answer_goes_on_without_a_socket() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let ack = held(&server, &mut socket, "a", "What is amber made of?", 2).await;
    socket.cut();
    server.provider.release();
    until("the answer's end", || (server.streams().running() == 0).then_some(())).await;
    let answer = stored_answer(&server, &ack).await;
    assert_eq!(
        (&answer["state"], &answer["content"]),
        (&json!("complete"), &json!(answer_to("What is amber made of?")))
    );
    assert_eq!(server.provider.log().last().unwrap().outcome, Outcome::Completed);
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_nobody_comes_back_to_ends() {
    let server = Server::start_with(|config| config.chat.detach_limit = Duration::from_secs(1)).await;
    let mut socket = server.socket().await;
    let ack = held(&server, &mut socket, "a", "What is peat used for?", 2).await;
    socket.cut();
    let log = server
        .provider
        .wait_for("the upstream call's end", |log| log.last().is_some_and(|last| last.ended.is_some()))
        .await;
    assert_eq!(log.last().unwrap().outcome, Outcome::ClientGone);
    until("the stored end", || (server.streams().running() == 0).then_some(())).await;
    assert_eq!(stored_answer(&server, &ack).await["state"], "cancelled");
    server.stop().await;
}

#[tokio::test]
async fn an_ended_stream_resumes_from_memory_and_from_the_store() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let (ack, whole) = socket.ask_whole("a", "Who built the Colosseum?").await;
    // In memory: the deltas once more, or the end alone.
    socket.resume(&ack.stream, Answer::default()).await;
    let again = socket.answer(&ack.stream).await;
    assert_eq!((again.text.as_str(), again.ending(), again.snapshots), (whole.text.as_str(), "done", 0));
    let seen_all = Answer { end: None, ..whole.clone() };
    socket.resume(&ack.stream, seen_all.clone()).await;
    assert_eq!(socket.answer(&ack.stream).await.frames, whole.frames, "nothing is repeated");
    drop(socket);
    // From the store: a snapshot, or the end alone.
    let server = server.restart().await;
    let mut socket = server.socket().await;
    socket.resume(&ack.stream, Answer::default()).await;
    let stored = socket.answer(&ack.stream).await;
    assert_eq!((stored.text, stored.snapshots, stored.seq), (whole.text, 1, whole.seq));
    let (before, after) = (whole.end.unwrap(), stored.end.unwrap());
    assert_eq!(before, after, "the terminal frame is the same, told by the store");
    socket.resume(&ack.stream, seen_all).await;
    assert_eq!(socket.answer(&ack.stream).await.snapshots, 0);
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn an_answer_cut_by_a_restart_says_so() {
    let short = |config: &mut ish::config::Config| config.server.drain_timeout = Duration::from_millis(200);
    let server = Server::start_with(short).await;
    let mut socket = server.socket().await;
    let ack = held(&server, &mut socket, "a", "How deep is the sea?", 5).await;
    let known = socket.known(&ack.stream);
    let server = server.restart_with(short).await;
    socket.cut();
    let mut socket = server.socket().await;
    socket.resume(&ack.stream, Answer::default()).await;
    let cut = socket.answer(&ack.stream).await;
    let end = cut.end.unwrap();
    assert_eq!((&end["type"], &end["code"]), (&json!("error"), &json!("interrupted")));
    assert_eq!((&end["partial"], &end["retryable"]), (&json!(true), &json!(true)));
    assert_eq!((cut.text, cut.snapshots), (known.text, 1));
    // The answer can be asked for again.
    let again = socket.ask_with(json!({"type": "regenerate", "id": "b", "message": ack.reply})).await;
    server.provider.release();
    assert_eq!(socket.answer(&again.stream).await.text, answer_to("How deep is the sea?"));
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_resume_in_another_epoch_gets_a_snapshot() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let ack = held(&server, &mut socket, "a", "What do owls eat?", 3).await;
    let foreign = Answer { epoch: 7, seq: 2, text: "from another life".to_owned(), ..Answer::default() };
    let mut other = server.socket().await;
    other.resume(&ack.stream, foreign).await;
    let replaced = other.hear_until(&ack.stream, |answer| answer.snapshots == 1).await;
    assert_eq!((replaced.epoch, replaced.seq), (1, 3));
    server.provider.release();
    assert_eq!(other.answer(&ack.stream).await.text, answer_to("What do owls eat?"));
    drop((socket, other));
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_ones_own_is_gone() {
    let server = Server::start_with_keys().await;
    let (ours, theirs) = (server.new_key("ours").await, server.new_key("theirs").await);
    let (mut socket, welcome) = Socket::greeted_with(server.address, hello_with_token(&ours)).await;
    assert_eq!(welcome["tenant"], "ours");
    let running = held(&server, &mut socket, "a", "What is a sonnet?", 2).await;
    let (mut foreign, _) = Socket::greeted_with(server.address, hello_with_token(&theirs)).await;
    for stream in [running.stream.as_str(), "01890000-0000-7000-8000-000000000000"] {
        foreign.say(json!({"type": "resume", "stream": stream, "epoch": 1, "after": 0})).await;
        let frame = foreign.hear().await;
        assert_eq!((&frame["type"], &frame["stream"]), (&json!("gone"), &json!(stream)));
    }
    foreign.say(json!({"type": "cancel", "stream": running.stream})).await;
    assert!(foreign.is_silent().await);
    // The id of another tenant's send is free; its conversation is not there.
    let own = foreign.ask("a", "What is a limerick?").await;
    assert!(!own.duplicate);
    foreign.say(json!({"type": "send", "id": "b", "content": "x", "conversation": running.conversation})).await;
    let refused = foreign.hear_type("error").await;
    assert_eq!((&refused["code"], &refused["id"]), (&json!("not_found"), &json!("b")));
    server.provider.release();
    assert_eq!(socket.answer(&running.stream).await.ending(), "done");
    assert_eq!(foreign.answer(&own.stream).await.ending(), "done");
    drop((socket, foreign));
    server.stop().await;
}

#[tokio::test]
async fn cancel_is_idempotent_and_ends_the_upstream_call() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let ack = held(&server, &mut socket, "a", "What is a haiku?", 3).await;
    for _ in 0..3 {
        socket.say(json!({"type": "cancel", "stream": ack.stream})).await;
    }
    let answer = socket.answer(&ack.stream).await;
    assert_eq!((answer.ending(), answer.seq), ("cancelled", 3));
    assert!(socket.is_silent().await, "one terminal frame for three cancels");
    let log = server.provider.wait_until_idle().await;
    assert_eq!(log.last().unwrap().outcome, Outcome::ClientGone);
    let stored = stored_answer(&server, &ack).await;
    assert_eq!((&stored["state"], &stored["content"]), (&json!("cancelled"), &json!(answer.text)));
    // What was cancelled was not cached.
    server.provider.release();
    let (_, anew) = socket.ask_whole("b", "What is a haiku?").await;
    assert_eq!(anew.end.unwrap()["cache"]["status"], "miss");
    assert_eq!(server.upstream_calls(), 2);
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn any_socket_of_the_tenant_may_cancel() {
    let server = Server::start().await;
    let (mut asking, mut other) = (server.socket().await, server.socket().await);
    let ack = held(&server, &mut asking, "a", "What is an ode?", 1).await;
    other.say(json!({"type": "cancel", "stream": ack.stream})).await;
    assert_eq!(asking.answer(&ack.stream).await.ending(), "cancelled");
    assert!(other.is_silent().await, "it does not listen to this answer");
    server.provider.release();
    drop((asking, other));
    server.stop().await;
}

#[tokio::test]
async fn without_credit_the_server_waits() {
    let server = Server::start().await;
    let hello = json!({"type": "hello", "protocol": 1, "credit": 2});
    let (mut socket, _) = Socket::greeted_with(server.address, hello).await;
    let ack = socket.ask("a", "What is tin used for?").await;
    socket.hear_until(&ack.stream, |answer| answer.seq == 2).await;
    until("the whole answer in the log", || (server.streams().running() == 0).then_some(())).await;
    assert!(socket.is_silent().await, "the credit is used up");
    socket.say(json!({"type": "credit", "stream": ack.stream, "deltas": 5})).await;
    let more = socket.hear_until(&ack.stream, |answer| answer.seq > 2).await;
    assert_eq!((more.seq, more.frames), (7, more.frames), "what is ready goes out joined");
    assert!(socket.is_silent().await);
    socket.say(json!({"type": "credit", "stream": ack.stream, "deltas": 1_000})).await;
    assert_eq!(socket.answer(&ack.stream).await.text, answer_to("What is tin used for?"));
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn regenerate_asks_again_past_the_cache() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let (first, before) = socket.ask_whole("a", "Who named the planet Neptune? [[vary]]").await;
    let wish = json!({"type": "regenerate", "id": "b", "message": first.reply});
    let again = socket.ask_with(wish.clone()).await;
    let after = socket.answer(&again.stream).await;
    assert_eq!((&again.message, &again.conversation), (&first.message, &first.conversation));
    assert_ne!((&again.reply, &after.text), (&first.reply, &before.text));
    assert_eq!(server.upstream_calls(), 2);
    // The same wish once more is the same answer.
    socket.forget(&again.stream);
    assert_eq!(socket.ask_with(wish).await, Ack { duplicate: true, ..again.clone() });
    assert_eq!(socket.answer(&again.stream).await.text, after.text);
    // With the cache allowed, the newest answer is served.
    let cached = socket
        .ask_with(json!({"type": "regenerate", "id": "c", "message": first.reply, "cache": {"mode": "on"}}))
        .await;
    let served = socket.answer(&cached.stream).await;
    assert_eq!(served.end.unwrap()["cache"]["status"], "hit");
    assert_eq!((served.text, server.upstream_calls()), (after.text, 2));
    assert_eq!(stored(&server, &first.conversation).await.len(), 4, "one question, three answers");
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn ping_is_answered_with_its_nonce() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    for nonce in [json!("n"), json!(42)] {
        socket.say(json!({"type": "ping", "nonce": nonce})).await;
        assert_eq!(socket.hear().await, json!({"type": "pong", "nonce": nonce}));
    }
    socket.say(json!({"type": "ping"})).await;
    assert_eq!(socket.hear().await, json!({"type": "pong"}));
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn the_cache_switched_off_leaves_usage_unknown_and_says_bypass() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    for id in ["a", "b"] {
        let frame = json!({"type": "send", "id": id, "content": "What is zinc?", "cache": {"mode": "off"}});
        let ack = socket.ask_with(frame).await;
        let end = socket.answer(&ack.stream).await.end.unwrap();
        assert_eq!((&end["cache"]["status"], &end["cache"]["stored"]), (&json!("bypass"), &json!(false)));
        assert!(end["cache"]["reason"].is_string());
    }
    assert_eq!(server.upstream_calls(), 2);
    drop(socket);
    server.stop().await;
}

/// What is no frame of the protocol closes the socket with a code that says why.
#[tokio::test]
async fn what_is_no_frame_closes_the_socket() {
    let server = Server::start().await;
    let deep = format!(r#"{{"type":"send","id":"a","content":{}"#, "[".repeat(100_000));
    let large = format!(r#"{{"type":"send","id":"a","content":"{}"}}"#, "x".repeat(1_100_000));
    let texts = ["", "hello", "[]", "null", "{", r#"{"type":"ping"} {}"#, HELLO, &deep];
    for text in texts {
        let mut socket = server.socket().await;
        socket.say_text(text).await;
        assert_eq!(socket.closed().await, 4400, "{}", text.get(..40).unwrap_or(text));
    }
    let mut socket = server.socket().await;
    socket.say_text(&large).await;
    assert_eq!(socket.closed().await, 1009);
    let mut socket = server.socket().await;
    socket.say_raw(Message::Binary(HELLO.into())).await;
    assert_eq!(socket.closed().await, 1003);
    let mut socket = server.socket().await;
    socket.say_raw(Message::Frame(Frame::message(&b"\xff\xfe"[..], OpCode::Data(Data::Text), true))).await;
    assert_eq!(socket.closed().await, 1007);
    server.stop().await;
}

#[tokio::test]
async fn the_first_frame_must_be_hello() {
    let server = Server::start().await;
    for text in [r#"{"type":"ping"}"#, r#"{"type":"hello","protocol":2}"#, "x"] {
        let mut socket = Socket::open(server.address).await;
        socket.say_text(text).await;
        assert_eq!(socket.closed().await, 4400, "{text}");
    }
    // One that may be mended is told what is wrong first.
    let faults = [
        (r#"{"type":"hello"}"#, "protocol"),
        (r#"{"type":"hello","protocol":"1"}"#, "protocol"),
        (r#"{"type":"hello","protocol":1,"credit":0}"#, "credit"),
        (r#"{"type":"hello","protocol":1,"tokn":"x"}"#, "tokn"),
        ("{}", "type"),
    ];
    for (text, param) in faults {
        let mut socket = Socket::open(server.address).await;
        socket.say_text(text).await;
        let told = socket.hear().await;
        assert_eq!((&told["type"], &told["param"]), (&json!("error"), &json!(param)), "{text}: {told}");
        assert_eq!(socket.closed().await, 4400, "{text}");
    }
    let mut socket = Socket::open(server.address).await;
    socket.say_raw(Message::Binary(HELLO.into())).await;
    assert_eq!(socket.closed().await, 1003);
    server.stop().await;
}

/// A frame of a known type with a fault is answered, and the socket stays.
#[tokio::test]
async fn a_faulty_frame_is_refused_by_its_id() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let long = "x".repeat(65);
    let faults = [
        (json!({"type": "send", "id": "f", "content": ""}), "invalid_request_error"),
        (json!({"type": "send", "id": "f", "content": " \n"}), "invalid_request_error"),
        (json!({"type": "send", "id": "f", "content": 7}), "invalid_request_error"),
        (json!({"type": "send", "id": "f"}), "invalid_request_error"),
        (json!({"type": "send", "id": "f", "content": "x", "more": 1}), "invalid_request_error"),
        (json!({"type": "send", "id": "f", "content": "x", "conversation": "no uuid"}), "invalid_request_error"),
        (json!({"type": "send", "id": "f", "content": "x", "cache": {"mode": "maybe"}}), "invalid_request_error"),
        (json!({"type": "send", "id": "f", "content": "x", "cache": {"ttl": -1}}), "invalid_request_error"),
        (json!({"type": "send", "id": "f", "content": "x", "model": "no-such-model"}), "model_not_found"),
        (
            json!({"type": "send", "id": "f", "content": "x", "conversation": "01890000-0000-7000-8000-000000000000"}),
            "not_found",
        ),
        (json!({"type": "regenerate", "id": "f", "message": "01890000-0000-7000-8000-000000000000"}), "not_found"),
        (json!({"type": "send", "id": long, "content": "x"}), "invalid_request_error"),
        (json!({"type": "send", "id": "", "content": "x"}), "invalid_request_error"),
    ];
    for (frame, code) in faults {
        socket.say_text(&frame.to_string()).await;
        let error = loop {
            // A name that is no request identifier cannot come back as one.
            let text = if frame["id"] == "f" { socket.hear().await } else { socket.hear_type("error").await };
            if text["type"] == "error" {
                break text;
            }
        };
        assert_eq!(error["code"], code, "{frame}: {error}");
        assert_eq!((&error["retryable"], &error["partial"]), (&json!(false), &json!(false)), "{frame}");
        if frame["id"] == "f" {
            assert_eq!(error["id"], "f", "{error}");
        }
    }
    let (_, answer) = socket.ask_whole("a", "What is a lighthouse?").await;
    assert_eq!((answer.ending(), server.upstream_calls()), ("done", 1), "nothing of the faulty ones was asked");
    drop(socket);
    server.stop().await;
}

/// What would make the answer impossible is refused before the question is stored, with the member, its value and what it
/// takes; on the socket and over REST in the same words.
#[tokio::test]
async fn a_parameter_out_of_its_range_is_refused_before_the_ack() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let session = server.http().post("/api/sessions", &json!({})).await.json()["id"].clone();
    let path = format!("/api/sessions/{}/messages", session.as_str().unwrap());
    let faults = [
        (json!({"temperature": -3}), "params.temperature", "a number from 0 to 2, not -3"),
        (json!({"temperature": "hot"}), "params.temperature", "a number from 0 to 2, not \"hot\""),
        (json!({"top_p": 1.01}), "params.top_p", "a number from 0 to 1, not 1.01"),
        (json!({"max_tokens": 0}), "params.max_tokens", "a whole number of at least 1, not 0"),
        (json!({"max_tokens": 7.5}), "params.max_tokens", "a whole number of at least 1, not 7.5"),
        (json!({"seed": []}), "params.seed", "a whole number of at most 64 bits, not []"),
        (json!({"stop": [7]}), "params.stop", "a string or an array of strings, not [7]"),
        (json!({"best_of": 2}), "params.best_of", "takes temperature, top_p, max_tokens, seed, stop"),
        (json!([]), "params", "not a valid JSON object"),
    ];
    for (params, param, said) in faults {
        let frame = json!({"type": "send", "id": "f", "content": "x", "conversation": session, "params": params});
        socket.say_text(&frame.to_string()).await;
        let error = socket.hear().await;
        let told = (&error["type"], &error["id"], &error["param"], error["message"].as_str().unwrap());
        assert_eq!((told.0, told.1, told.2), (&json!("error"), &json!("f"), &json!(param)), "{error}");
        assert!(told.3.contains(said), "{error}");
        let refused = server.http().post(&path, &json!({"content": "x", "params": params})).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["param"]), (400, &json!(param)), "{refused:?}");
        assert_eq!(refused.json()["detail"], told.3);
    }
    let stored = server.http().get(&path).await.json();
    assert_eq!((&stored["data"], server.upstream_calls()), (&json!([]), 0), "nothing was stored, nobody was asked");
    drop(socket);
    server.stop().await;
}

/// A name stands for one question: who takes it for another one would read an answer to something else.
#[tokio::test]
async fn a_name_that_was_taken_for_another_question_is_refused() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let (first, _) = socket.ask_whole("a", "What is a lighthouse?").await;
    let (second, _) = socket.ask_whole("b", "What is a harbour?").await;
    let others = [
        json!({"type": "send", "id": "a", "content": "What is a harbour?"}),
        json!({"type": "send", "id": "a", "content": "And?", "conversation": first.conversation}),
        json!({"type": "regenerate", "id": "a", "message": second.reply}),
    ];
    for other in others {
        socket.say(other.clone()).await;
        let refused = socket.hear().await;
        assert_eq!((&refused["code"], &refused["id"]), (&json!("conflict"), &json!("a")), "{other}: {refused}");
    }
    let path = format!("/api/sessions/{}/messages", first.conversation);
    let refused = server.http().post(&path, &json!({"id": "a", "content": "And?"})).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (409, &json!("conflict")));
    assert_eq!(server.upstream_calls(), 2);
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn one_socket_listens_to_so_many_answers() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    server.provider.hold_after(1);
    let mut acks = Vec::new();
    for number in 0..64 {
        acks.push(socket.ask(&format!("n{number}"), &format!("What is the number {number}?")).await);
    }
    socket.say(json!({"type": "send", "id": "more", "content": "One more?"})).await;
    let refused = socket.hear_type("error").await;
    assert_eq!((&refused["code"], &refused["id"]), (&json!("too_many_streams"), &json!("more")));
    server.provider.wait_until_held(64).await;
    server.provider.release();
    for ack in acks {
        assert_eq!(socket.answer(&ack.stream).await.ending(), "done");
    }
    assert_eq!(socket.ask_whole("more", "One more?").await.1.ending(), "done");
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_drain_is_announced_and_lets_answers_end() {
    let server = Server::start().await;
    let (mut busy, mut idle) = (server.socket().await, server.socket().await);
    let mut silent = Socket::open(server.address).await;
    let ack = held(&server, &mut busy, "a", "What is a delta?", 2).await;
    server.begin_drain();
    assert!(idle.hear().await["reconnect_after_ms"].is_u64());
    assert_eq!(idle.closed().await, 1001);
    assert_eq!(silent.closed().await, 1001);
    busy.hear_type("draining").await;
    server.provider.release();
    assert_eq!(busy.answer(&ack.stream).await.text, answer_to("What is a delta?"));
    assert_eq!(busy.closed().await, 1001);
    server.stop().await;
}

#[tokio::test]
async fn keys_open_the_socket_in_each_documented_way() {
    let server = Server::start_with_keys().await;
    let key = server.new_key("acme").await;
    let (_, welcome) = Socket::greeted_with(server.address, hello_with_token(&key)).await;
    assert_eq!(welcome["tenant"], "acme");
    let protocols = format!("ish.v1, ish.token.{key}");
    let bearer = format!("Bearer {key}");
    for header in [("sec-websocket-protocol", protocols.as_str()), ("authorization", bearer.as_str())] {
        let mut socket = Socket::open_with(server.address, &[header]).await.unwrap();
        socket.say_text(HELLO).await;
        assert_eq!(socket.hear().await["tenant"], "acme");
    }
    let admin = ADMIN_KEY.to_uppercase();
    for hello in [HELLO.to_owned(), hello_with_token("ish_wrong").to_string(), hello_with_token(&admin).to_string()] {
        let mut socket = Socket::open(server.address).await;
        socket.say_text(&hello).await;
        assert_eq!(socket.closed().await, 4401, "{hello}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_foreign_page_opens_no_socket() {
    let server = Server::start().await;
    let foreign = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("host", "evil.example")];
    for header in foreign {
        let refused = Socket::open_with(server.address, &[header]).await.err().expect("the upgrade is refused");
        let tokio_tungstenite::tungstenite::Error::Http(response) = refused else { panic!("{refused}") };
        assert_eq!(response.status(), 403, "{header:?}");
    }
    server.stop().await;
}

/// An HTTP caller that goes away at any moment leaves no question without an answer.
#[tokio::test]
async fn a_question_posted_and_left_is_answered_all_the_same() {
    let server = Server::start().await;
    let session = server.http().post("/api/sessions", &json!({})).await.json()["id"].as_str().unwrap().to_owned();
    for number in 0..40 {
        let body = json!({"id": format!("left-{number}"), "content": format!("Who leaves at moment {number}?")});
        let path = format!("/api/sessions/{session}/messages");
        let http = server.http();
        let asking = tokio::spawn(async move { http.post(&path, &body).await });
        // A little later each time: before the commit, between it and the answer, after it.
        let moment = Instant::now() + Duration::from_micros(150) * number;
        while Instant::now() < moment {
            tokio::task::yield_now().await;
        }
        asking.abort();
    }
    until("the end of what was begun", || (server.streams().running() == 0).then_some(())).await;
    let settled = async {
        loop {
            let messages = stored(&server, &session).await;
            if messages.iter().all(|message| message["state"] == "complete") {
                return messages;
            }
        }
    };
    let messages = crate::harness::soon("an answer to each", settled).await;
    let count = |role: &str| messages.iter().filter(|message| message["role"] == role).count();
    assert_eq!(count("user"), count("assistant"));
    server.stop().await;
}

/// The messages route speaks the socket's words in server-sent events.
#[tokio::test]
async fn a_message_posted_for_events_is_answered_in_the_same_frames() {
    let server = Server::start().await;
    let session = server.http().post("/api/sessions", &json!({})).await.json()["id"].as_str().unwrap().to_owned();
    let schema = crate::harness::Schema::read();
    let body = json!({"content": "What is a geyser?", "id": "mine", "stream": true});
    let reply = server.http().post(&format!("/api/sessions/{session}/messages"), &body).await;
    let frames = reply.chunks();
    for frame in &frames {
        schema.check_server_frame(frame).unwrap_or_else(|fault| panic!("{fault}\nin {frame}"));
    }
    assert_eq!((&frames[0]["type"], &frames[0]["id"]), (&json!("ack"), &json!("mine")));
    let text: String = frames.iter().filter_map(|frame| frame["text"].as_str()).collect();
    assert_eq!(text, answer_to("What is a geyser?"));
    assert_eq!(frames.last().unwrap()["type"], "done");
    server.stop().await;
}

#[tokio::test]
async fn an_awkwardly_written_stream_reads_the_same() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let quirks = ["crlf", "comments", "bytewise", "batched", "nospace", "crlf,comments,bytewise"];
    for (quirk, thing) in quirks.into_iter().zip(["a reef", "snow", "a violin", "copper", "yeast", "chess"]) {
        let prompt = format!("What is {thing}? [[wire={quirk}]]");
        let (_, answer) = socket.ask_whole(quirk, &prompt).await;
        assert_eq!((answer.text, answer.deltas), (answer_to(&prompt), Behaviour::default().tokens as u64), "{quirk}");
    }
    drop(socket);
    server.stop().await;
}
