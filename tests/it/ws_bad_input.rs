//! What a hostile or broken client may put on a socket: frames that RFC 6455 forbids, and frames of ours with anything in
//! them. The socket answers or closes with a code that says why; the server goes on, which each test's end checks.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use crate::harness::{Server, Socket, until};

/// One masked frame; the mask is zero, which changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | u8::try_from(short).unwrap()),
        long => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;

/// Sends these bytes on a new socket, and returns the code that it is closed with.
async fn closed_after(server: &Server, bytes: &[u8]) -> u16 {
    let mut socket = server.socket().await;
    socket.say_bytes(bytes).await.unwrap();
    socket.closed().await
}

#[tokio::test]
async fn what_rfc_6455_forbids_closes_with_its_code() {
    let server = Server::start().await;
    let cases: &[(&str, Vec<u8>, u16)] = &[
        ("a reserved bit", frame(FIN | 0x40 | TEXT, b"{}"), 1002),
        ("a reserved kind of data", frame(FIN | 0x3, b""), 1002),
        ("a reserved kind of control", frame(FIN | 0xB, b""), 1002),
        ("a ping in fragments", frame(PING, b""), 1002),
        ("a large ping", frame(FIN | PING, &[0; 126]), 1002),
        ("a continuation of nothing", frame(FIN | CONTINUATION, b"{}"), 1002),
        ("text inside text", [frame(TEXT, b"{"), frame(FIN | TEXT, b"}")].concat(), 1002),
        ("no mask", vec![FIN | TEXT, 2, b'{', b'}'], 1002),
        ("bad UTF-8", frame(FIN | TEXT, b"\xc3("), 1007),
        ("a surrogate", frame(FIN | TEXT, b"\xed\xa0\x80"), 1007),
        ("a length of eight exabytes", [&[FIN | TEXT, 0xff][..], &[0x7f; 8], &[0; 4]].concat(), 1009),
    ];
    for (what, bytes, code) in cases {
        assert_eq!(closed_after(&server, bytes).await, *code, "{what}");
    }
    server.stop().await;
}

/// The client's own library refuses some codes, so that the answer is read as bytes where that matters.
#[tokio::test]
async fn a_close_is_answered_with_a_close() {
    let server = Server::start().await;
    for payload in [&b""[..], b"\x03\xe8", b"\x03\xe8bye", b"\x0f\xa0of our own"] {
        let code = closed_after(&server, &frame(FIN | CLOSE, payload)).await;
        assert!(matches!(code, 1000 | 1005 | 4000), "{payload:?}: {code}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_frame_may_come_in_many_pieces_with_pings_between() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let text = br#"{"type":"ping","nonce":"in pieces"}"#;
    let mut bytes = frame(TEXT, &text[..1]);
    for piece in &text[1..] {
        bytes.extend(frame(FIN | PING, b"between"));
        bytes.extend(frame(CONTINUATION, &[*piece]));
        bytes.extend(frame(CONTINUATION, b""));
    }
    bytes.extend(frame(FIN | CONTINUATION, b""));
    socket.say_bytes(&bytes).await.unwrap();
    assert_eq!(socket.hear().await, json!({"type": "pong", "nonce": "in pieces"}));
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_message_that_never_ends_is_cut_at_the_bound() {
    let server = Server::start_with(|config| config.server.max_frame_bytes = 10_000).await;
    let mut socket = server.socket().await;
    socket.say_bytes(&frame(TEXT, b"{")).await.unwrap();
    // To the byte, so that nothing unread turns the close into a reset.
    for _ in 0..99 {
        socket.say_bytes(&frame(CONTINUATION, &[b' '; 101])).await.unwrap();
    }
    socket.say_bytes(&frame(CONTINUATION, b"  ")).await.unwrap();
    assert_eq!(socket.closed().await, 1009);
    server.stop().await;
}

/// Fragments that hold nothing never reach that bound, and pings between them are no silence: what they take on the wire
/// ends them.
#[tokio::test]
async fn empty_pieces_without_end_are_cut_too() {
    let server = Server::start_with(|config| config.server.max_frame_bytes = 10_000).await;
    let mut socket = server.socket().await;
    socket.say_bytes(&frame(TEXT, b"{")).await.unwrap();
    let some = [frame(CONTINUATION, b"").repeat(100), frame(FIN | PING, b"still here")].concat();
    // 8 times the bound, of which pings are no part.
    for _ in 0..80_000 / 600 {
        socket.say_bytes(&some).await.unwrap();
    }
    socket.say_bytes(&frame(FIN | PING, b"the last")).await.unwrap();
    socket.hear_pong("the last").await;
    socket.say_bytes(&frame(CONTINUATION, b"").repeat(100)).await.unwrap();
    assert!(matches!(socket.closed().await, 1009 | 1006), "1006: what was not read any more has reset the connection");
    let counted = || (server.metrics().ws_closes.with_label_values(&["1009"]).get() == 1).then_some(());
    until("the close to be counted", counted).await;
    server.stop().await;
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![Just(0_i64), Just(-1), Just(i64::MIN), Just(i64::MAX)].prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("x".repeat(70_000))),
        Just(Value::from("01890000-0000-7000-8000-000000000000")),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z]{1,8}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A frame of ours, with members that exist and ones that do not, holding anything.
fn anything() -> impl Strategy<Value = Value> {
    const KINDS: &[&str] =
        &["hello", "send", "regenerate", "cancel", "resume", "credit", "refresh", "ping", "delta", "dance"];
    const NAMES: &[&str] = &[
        "id",
        "content",
        "conversation",
        "parent_id",
        "model",
        "system",
        "cache",
        "params",
        "message",
        "stream",
        "epoch",
        "after",
        "deltas",
        "token",
        "nonce",
        "protocol",
        "credit",
        "more",
    ];
    let members = prop::collection::vec((prop::sample::select(NAMES), value()), 0..6);
    (prop::sample::select(KINDS), members).prop_map(|(kind, members)| {
        let mut frame: Map<_, _> = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        frame.insert("type".to_owned(), kind.into());
        Value::Object(frame)
    })
}

/// Says a text and a ping behind it; true when the socket lived on.
async fn survives(socket: &mut Socket, text: &str) -> bool {
    socket.say_text(text).await;
    // What comes next is the answer, or a close that ends the reading.
    let _ = socket.try_say(json!({"type": "ping", "nonce": "behind"})).await;
    loop {
        match socket.hear_any().await {
            Ok(frame) if frame["nonce"] == "behind" => return true,
            Ok(_) => {}
            // 1006: the ping behind it was unread when the socket closed, and the reset overtook the close.
            Err(code) => {
                assert!(matches!(code, 4400 | 1006), "{code} after {}", text.get(..200).unwrap_or(text));
                return false;
            }
        }
    }
}

#[tokio::test]
async fn whatever_a_frame_holds_is_answered_or_closed() {
    let server = Server::start().await;
    let mut runner = TestRunner::deterministic();
    let strategy = anything();
    let mut socket = server.socket().await;
    for _ in 0..400 {
        let frame = strategy.new_tree(&mut runner).unwrap().current();
        if !survives(&mut socket, &frame.to_string()).await {
            assert_eq!(frame["type"], "hello", "any other object is answered, and the socket stays");
            socket = server.socket().await;
        }
    }
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn whatever_text_comes_is_answered_or_closed() {
    let server = Server::start().await;
    let mut runner = TestRunner::deterministic();
    let strategy = prop_oneof![".{0,40}", r#"\{"type":"(send|ping|resume)"[\[\]{}:",a-z0-9\\]{0,30}"#];
    let mut socket = server.socket().await;
    for _ in 0..200 {
        let text = strategy.new_tree(&mut runner).unwrap().current();
        if !survives(&mut socket, &text).await {
            socket = server.socket().await;
        }
    }
    drop(socket);
    server.stop().await;
}

/// The faults that people make, each with one clear error, after which the socket is as good as new.
#[tokio::test]
async fn one_fault_is_one_error_and_the_socket_lives_on() {
    let server = Server::start().await;
    let mut socket = server.socket().await;
    let nested = format!(r#"{{"type":"send","id":"f","content":"x","cache":{}1{}}}"#, "[".repeat(100), "]".repeat(100));
    let faults = [
        r#"{"type":"credit","stream":"01890000-0000-7000-8000-000000000000","deltas":-1}"#,
        r#"{"type":"credit","stream":"01890000-0000-7000-8000-000000000000","deltas":1.5}"#,
        r#"{"type":"credit","stream":"01890000-0000-7000-8000-000000000000","deltas":18446744073709551616}"#,
        r#"{"type":"credit","deltas":1}"#,
        r#"{"type":"cancel","stream":7}"#,
        r#"{"type":"cancel","stream":"no uuid"}"#,
        r#"{"type":"resume","stream":"01890000-0000-7000-8000-000000000000","epoch":4294967296,"after":0}"#,
        r#"{"type":"resume","stream":"01890000-0000-7000-8000-000000000000","epoch":1,"after":-1}"#,
        r#"{"type":"resume","stream":"01890000-0000-7000-8000-000000000000"}"#,
        r#"{"type":"refresh"}"#,
        r#"{"type":"refresh","token":null}"#,
        r#"{"type":"ping","nonce":{"a":1}}"#,
        r#"{"type":"ping","nonce":"a","nonce":"b"}"#,
        r#"{"type":"ping","type":"ping"}"#,
        r#"{"type":"ping","\u0074ype":"cancel"}"#,
        r#"{"type":"dance"}"#,
        r#"{"type":7}"#,
        r#"{"id":"a"}"#,
        "{}",
        r#"{"type":"send","id":"f","content":"x","params":{"seed":1e400}}"#,
        &nested,
    ];
    for fault in faults {
        socket.say_text(fault).await;
        let said = socket.hear().await;
        assert_eq!((&said["type"], &said["code"]), (&json!("error"), &json!("invalid_request_error")), "{fault}");
        assert!(!said["message"].as_str().unwrap().is_empty(), "{said}");
        assert!(socket.is_silent().await, "one fault is one error: {fault}");
    }
    // The name comes back where there is one; which of two it is, nobody can say.
    let named = [
        (r#"{"type":"send","type":"send","id":"f","content":"x"}"#, json!("f")),
        (r#"{"type":"send","id":"f","content":"x","content":"y"}"#, json!("f")),
        (r#"{"type":"dance","id":"f"}"#, json!("f")),
        (r#"{"type":"send","id":"f","id":"g","content":"x"}"#, json!(null)),
        (r#"{"type":"send","id":"f","id":"f","content":"x"}"#, json!(null)),
    ];
    for (fault, id) in named {
        socket.say_text(fault).await;
        let said = socket.hear().await;
        assert_eq!((&said["type"], &said["id"]), (&json!("error"), &id), "{fault}: {said}");
        assert!(socket.is_silent().await, "one fault is one error: {fault}");
    }
    // No fault: nothing to give credit to, and nothing to cancel.
    socket
        .say_text(r#"{"type":"credit","stream":"01890000-0000-7000-8000-000000000000","deltas":18446744073709551615}"#)
        .await;
    socket.say_text(r#"{"type":"cancel","stream":"01890000-0000-7000-8000-000000000000"}"#).await;
    assert!(socket.is_silent().await);
    assert_eq!((socket.ask_whole("a", "What is a lighthouse?").await.1.ending(), server.upstream_calls()), ("done", 1));
    drop(socket);
    server.stop().await;
}
