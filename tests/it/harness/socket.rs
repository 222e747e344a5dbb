//! A client of the WebSocket protocol that believes nothing: every frame is checked against the schema, every delta's
//! number against the one before, every text against its hash, and a stream may end once.

use std::collections::HashMap;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::schema::Schema;
use super::soon;

/// One socket.
pub struct Socket {
    inner: WebSocketStream<MaybeTlsStream<TcpStream>>,
    schema: Schema,
    answers: HashMap<String, Answer>,
}

/// What an acknowledged send is called.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ack {
    pub id: String,
    pub conversation: String,
    pub message: String,
    pub reply: String,
    pub stream: String,
    pub epoch: u64,
    pub duplicate: bool,
}

/// One answer as this socket has seen it.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub text: String,
    pub seq: u64,
    pub epoch: u64,
    /// How many `delta` frames came.
    pub frames: usize,
    /// How many deltas they held.
    pub deltas: u64,
    pub snapshots: usize,
    /// How often it was begun again.
    pub restarts: usize,
    /// The `status` frame's cache member.
    pub origin: Option<Value>,
    /// The frame that ended it.
    pub end: Option<Value>,
}

impl Answer {
    /// The type of the terminal frame.
    pub fn ending(&self) -> &str {
        self.end.as_ref().and_then(|end| end["type"].as_str()).unwrap_or("none yet")
    }
}

impl Socket {
    /// Connects without saying hello.
    pub async fn open(address: SocketAddr) -> Self {
        Self::open_with(address, &[]).await.expect("the socket opens")
    }

    /// Connects with further headers.
    pub async fn open_with(
        address: SocketAddr,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, tokio_tungstenite::tungstenite::Error> {
        let mut request = format!("ws://{address}/ws").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (inner, _) = soon("a socket", tokio_tungstenite::connect_async(request)).await?;
        Ok(Self { inner, schema: Schema::read(), answers: HashMap::new() })
    }

    /// Connects and says hello, and hears the welcome.
    pub async fn greeted(address: SocketAddr) -> Self {
        Self::greeted_with(address, json!({"type": "hello", "protocol": 1})).await.0
    }

    /// As [`Socket::greeted`], with a hello of the test's own; also returns the welcome.
    pub async fn greeted_with(address: SocketAddr, hello: Value) -> (Self, Value) {
        let mut socket = Self::open(address).await;
        socket.say(hello).await;
        let welcome = socket.hear().await;
        assert_eq!(welcome["type"], "welcome");
        (socket, welcome)
    }

    /// Connects and says hello, where the server may be gone already.
    pub async fn try_greeted(address: SocketAddr) -> Result<Self, tokio_tungstenite::tungstenite::Error> {
        let mut socket = Self::open_with(address, &[]).await?;
        socket.try_say(json!({"type": "hello", "protocol": 1})).await?;
        // A server that is gone shows at the next frame.
        let _ = socket.hear_any().await;
        Ok(socket)
    }

    /// Sends a frame, where the server may be gone already.
    pub async fn try_say(&mut self, frame: Value) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        self.schema.check_client_frame(&frame).unwrap();
        soon("a send", self.inner.send(Message::Text(frame.to_string().into()))).await
    }

    /// Sends a frame that a client may send.
    pub async fn say(&mut self, frame: Value) {
        self.schema.check_client_frame(&frame).unwrap();
        self.say_raw(Message::Text(frame.to_string().into())).await;
    }

    /// Sends whatever is wanted.
    pub async fn say_raw(&mut self, message: Message) {
        soon("a send", self.inner.send(message)).await.unwrap();
    }

    /// Sends bytes past the client's own framing.
    pub async fn say_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        soon("a send of bytes", self.inner.get_mut().write_all(bytes)).await
    }

    /// Sends text that may be no frame at all.
    pub async fn say_text(&mut self, text: &str) {
        self.say_raw(Message::Text(text.into())).await;
    }

    /// The next frame, checked.
    pub async fn hear(&mut self) -> Value {
        self.hear_any().await.unwrap_or_else(|code| panic!("the socket was closed with {code}"))
    }

    /// The next frame, or the code that the server closes with.
    pub async fn hear_any(&mut self) -> Result<Value, u16> {
        loop {
            match soon("a frame", self.inner.next()).await {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(text.as_str()).unwrap();
                    self.schema.check_server_frame(&frame).unwrap_or_else(|fault| panic!("{fault}\nin {frame}"));
                    self.note(&frame);
                    return Ok(frame);
                }
                Some(Ok(Message::Close(close))) => return Err(close.map_or(1005, |close| close.code.into())),
                Some(Ok(Message::Binary(_))) => panic!("the server sends no binary frames"),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(1006),
            }
        }
    }

    /// Reads what comes without answering a ping, and returns the code that the server closes with.
    pub async fn closed_unanswered(mut self) -> u16 {
        let mut bytes = Vec::new();
        soon("the close", self.inner.get_mut().read_to_end(&mut bytes)).await.unwrap();
        let mut frames = bytes.as_slice();
        loop {
            match frames {
                [0x89, 0, rest @ ..] => frames = rest,
                [0x88, _, high, low, ..] => return u16::from_be_bytes([*high, *low]),
                _ => panic!("neither a ping nor a close: {frames:?}"),
            }
        }
    }

    /// Reads until a ping of this payload is answered.
    pub async fn hear_pong(&mut self, payload: &str) {
        loop {
            let message = soon("a pong", self.inner.next()).await.expect("an open socket").unwrap();
            if matches!(message, Message::Pong(said) if said == payload.as_bytes()) {
                return;
            }
        }
    }

    /// Reads until the server pings; the pong goes out by itself.
    pub async fn pinged(&mut self) {
        while !matches!(soon("a ping", self.inner.next()).await, Some(Ok(Message::Ping(_)))) {}
    }

    /// Sends a ping of its own as far as that goes at once, and reads nothing.
    pub fn ping_blindly(&mut self) {
        // A socket that takes nothing now, or is closed, has said enough.
        let _ = self.inner.send(Message::Ping(Bytes::new())).now_or_never();
    }

    /// Reads frames until the server closes, and returns its code.
    pub async fn closed(&mut self) -> u16 {
        loop {
            if let Err(code) = self.hear_any().await {
                return code;
            }
        }
    }

    /// Reads frames until one of this type comes.
    pub async fn hear_type(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.hear().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Asks, and returns the acknowledgement.
    pub async fn ask(&mut self, id: &str, content: &str) -> Ack {
        self.ask_with(json!({"type": "send", "id": id, "content": content})).await
    }

    /// Sends a `send` or `regenerate` frame of the test's own, and returns the acknowledgement.
    pub async fn ask_with(&mut self, frame: Value) -> Ack {
        let id = frame["id"].clone();
        self.say(frame).await;
        loop {
            let frame = self.hear().await;
            if frame["id"] == id {
                assert_eq!(frame["type"], "ack", "{frame}");
                return serde_json::from_value(frame).unwrap();
            }
        }
    }

    /// Reads frames until this stream has ended, and returns what it was.
    pub async fn answer(&mut self, stream: &str) -> Answer {
        self.hear_until(stream, |answer| answer.end.is_some()).await
    }

    /// Reads frames until this stream has come so far.
    pub async fn hear_until(&mut self, stream: &str, enough: impl Fn(&Answer) -> bool) -> Answer {
        loop {
            if let Some(answer) = self.answers.get(stream).filter(|answer| enough(answer)) {
                return answer.clone();
            }
            self.hear().await;
        }
    }

    /// Asks and waits for the end.
    pub async fn ask_whole(&mut self, id: &str, content: &str) -> (Ack, Answer) {
        let ack = self.ask(id, content).await;
        let answer = self.answer(&ack.stream).await;
        (ack, answer)
    }

    /// What this socket knows of a stream, for the next one to go on from.
    pub fn known(&self, stream: &str) -> Answer {
        self.answers.get(stream).cloned().unwrap_or_default()
    }

    /// Goes on with a stream from what another socket knew of it.
    pub async fn resume(&mut self, stream: &str, known: Answer) {
        let (epoch, after) = (known.epoch.max(1), known.seq);
        self.answers.insert(stream.to_owned(), Answer { end: None, origin: None, ..known });
        self.say(json!({"type": "resume", "stream": stream, "epoch": epoch, "after": after})).await;
    }

    /// Forgets a stream, as before an answer that is sent from its start again.
    pub fn forget(&mut self, stream: &str) {
        self.answers.remove(stream);
    }

    /// Whether nothing more comes before the pong of a ping sent now.
    pub async fn is_silent(&mut self) -> bool {
        self.say(json!({"type": "ping", "nonce": "silence"})).await;
        self.hear().await["type"] == "pong"
    }

    /// Goes away without a word, as a lost network does.
    pub fn cut(self) {
        drop(self.inner);
    }

    fn note(&mut self, frame: &Value) {
        let kind = frame["type"].as_str().unwrap();
        if !matches!(kind, "delta" | "status" | "snapshot" | "done" | "cancelled" | "error")
            || frame.get("stream").is_none()
        {
            return;
        }
        let stream = frame["stream"].as_str().unwrap().to_owned();
        let answer = self.answers.entry(stream).or_default();
        assert!(answer.end.is_none(), "a frame after the end of its stream: {frame}");
        let epoch = frame["epoch"].as_u64().unwrap();
        let is_first = answer.epoch == 0 || frame["kind"] == "fallback" || kind == "snapshot";
        assert!(is_first || epoch == answer.epoch, "a new epoch says what it begins with: {frame}");
        match kind {
            "status" if frame["kind"] == "fallback" => {
                assert_eq!(epoch, answer.epoch.max(1) + 1, "an answer begun again has the next epoch: {frame}");
                let origin = Some(frame["cache"].clone());
                *answer = Answer { origin, restarts: answer.restarts + 1, ..Answer::default() };
            }
            "status" => {
                assert!(
                    answer.frames == 0 || answer.snapshots > 0 || answer.origin.is_none(),
                    "a late status: {frame}"
                );
                answer.origin = Some(frame["cache"].clone());
            }
            "delta" => {
                assert_eq!(frame["from"], answer.seq + 1, "a hole or a double: {frame}");
                assert!(frame["seq"].as_u64() >= frame["from"].as_u64(), "{frame}");
                answer.frames += 1;
                answer.deltas += frame["seq"].as_u64().unwrap() - answer.seq;
                answer.seq = frame["seq"].as_u64().unwrap();
                answer.text.push_str(frame["text"].as_str().unwrap());
            }
            "snapshot" => {
                answer.snapshots += 1;
                answer.seq = frame["seq"].as_u64().unwrap();
                frame["text"].as_str().unwrap().clone_into(&mut answer.text);
            }
            _ => end(answer, frame),
        }
        answer.epoch = epoch;
    }
}

/// The terminal frame: of the last number, with the hash of the whole text.
fn end(answer: &mut Answer, frame: &Value) {
    assert_eq!(frame["seq"], answer.seq, "the end is not where the text is: {frame}");
    if let Some(hash) = frame.get("text_blake3") {
        assert_eq!(hash, blake3::hash(answer.text.as_bytes()).to_hex().as_str(), "{frame}");
    }
    answer.end = Some(frame.clone());
}
