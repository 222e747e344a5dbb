//! A small HTTP client: one connection a request, answers whole or as they come, and dropping one closes its
//! connection at once. It sends whatever bytes and paths a test names, right or wrong, and holds every whole answer to
//! the server's own description of its routes.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{document, soon};

/// The client.
#[derive(Clone)]
pub struct Http {
    address: SocketAddr,
    headers: Vec<(String, String)>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An answer that is still coming. Dropping it closes the connection.
pub struct Coming {
    /// What was asked.
    method: Method,
    path: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    received: Vec<u8>,
    _connection: Connection,
}

/// A connection's task; dropping it closes the socket.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Http {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, headers: Vec::new() }
    }

    /// A client that sends this header with everything.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    /// A client that shows this key.
    pub fn with_key(&self, key: &str) -> Self {
        self.with("authorization", &format!("Bearer {key}"))
    }

    /// Sends a request and returns its answer's head, with the body to come.
    pub async fn open(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Coming {
        self.try_open(method, path, body.into()).await.unwrap()
    }

    async fn try_open(&self, method: Method, path: &str, body: Bytes) -> hyper::Result<Coming> {
        let socket = soon("a connection", TcpStream::connect(self.address)).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        let connection = Connection(tokio::spawn(async move {
            // Its error is the request's, which says it.
            let _ = connection.await;
        }));
        let mut request = Request::builder().method(method.clone()).uri(path);
        if !self.headers.iter().any(|(name, _)| name == "host") {
            request = request.header("host", self.address.to_string());
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let response = soon(path, sender.send_request(request.body(Full::new(body)).unwrap())).await?;
        let (head, body) = response.into_parts();
        let (status, headers) = (head.status, head.headers);
        let path = path.to_owned();
        Ok(Coming { method, path, status, headers, body, received: Vec::new(), _connection: connection })
    }

    /// Sends a request and waits for the whole answer.
    pub async fn send(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Reply {
        self.open(method, path, body).await.whole().await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, Bytes::new()).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::POST, path, body.to_string()).await
    }

    /// Asks `/v1/chat/completions` for a whole answer.
    pub async fn chat(&self, body: &Value) -> Reply {
        self.post("/v1/chat/completions", body).await
    }

    /// Asks `/v1/chat/completions` for a stream, and returns once its head is there.
    pub async fn stream(&self, body: &Value) -> Coming {
        let mut body = body.clone();
        body["stream"] = true.into();
        self.open(Method::POST, "/v1/chat/completions", body.to_string()).await
    }

    /// Begins a chat request, whole or streamed, whose answer nobody waits for yet: dropping it is going away.
    pub fn begin_chat(&self, body: &Value) -> Connecting {
        self.begin("/v1/chat/completions", body)
    }

    /// As [`Http::begin_chat`], on any route.
    pub fn begin(&self, path: &'static str, body: &Value) -> Connecting {
        let (client, body) = (self.clone(), Bytes::from(body.to_string()));
        Connecting(tokio::spawn(async move {
            let answer = client.try_open(Method::POST, path, body).await;
            match answer {
                Ok(coming) => coming.whole().await,
                Err(error) => panic!("no answer: {error}"),
            }
        }))
    }
}

/// A request under way. Dropping it closes its connection, whether or not an answer has begun.
pub struct Connecting(JoinHandle<Reply>);

impl Connecting {
    /// Waits for the whole answer.
    pub async fn reply(mut self) -> Reply {
        soon("an answer", &mut self.0).await.unwrap()
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Coming {
    /// The rest of the body.
    pub async fn whole(self) -> Reply {
        let Self { method, path, status, headers, body, received, _connection } = self;
        let is_whole = received.is_empty();
        let rest = soon("the rest of a body", body.collect()).await.unwrap().to_bytes();
        let reply = Reply { status, headers, body: [received, rest.to_vec()].concat().into() };
        if is_whole {
            document::check(&method, &path, &reply);
        }
        reply
    }

    /// The next server-sent event's data; `None` at the end of the body. Comments are skipped.
    pub async fn event(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.received.drain(..end + 2).collect();
                let block = String::from_utf8(block).unwrap();
                if let Some(data) = data_of(&block) {
                    return Some(data);
                }
                continue;
            }
            let frame = soon("the next event", self.body.frame()).await?.unwrap();
            self.received.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }

    /// Reads until what has come holds `text`.
    pub async fn until(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.received).contains(text) {
            let frame = soon(text, self.body.frame()).await.expect("the stream goes on").unwrap();
            self.received.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }

    /// Reads events until one carries text.
    pub async fn first_text(&mut self) -> String {
        loop {
            let event = self.event().await.expect("the stream goes on");
            let text = chunk_text(&serde_json::from_str(&event).unwrap_or_default());
            if !text.is_empty() {
                return text;
            }
        }
    }
}

/// The data of one event; only `data:` fields and comments are allowed on OpenAI's streams.
fn data_of(block: &str) -> Option<String> {
    let lines = block.lines().filter(|line| !line.is_empty() && !line.starts_with(':'));
    let data: Vec<&str> = lines
        .map(|line| line.strip_prefix("data: ").unwrap_or_else(|| panic!("a field that breaks clients: {line:?}")))
        .collect();
    (!data.is_empty()).then(|| data.join("\n"))
}

fn chunk_text(chunk: &Value) -> String {
    chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The answer's text, of a whole answer or of a streamed one.
    pub fn text(&self) -> String {
        if self.header("content-type").starts_with("text/event-stream") {
            return self.chunks().iter().map(chunk_text).collect();
        }
        self.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
    }

    /// The data of all events, the final `[DONE]` included.
    pub fn events(&self) -> Vec<String> {
        let text = std::str::from_utf8(&self.body).unwrap();
        text.split_inclusive("\n\n").filter_map(data_of).collect()
    }

    /// The JSON of all events.
    pub fn chunks(&self) -> Vec<Value> {
        let events = self.events();
        let json = events.iter().filter(|event| *event != "[DONE]");
        json.map(|event| serde_json::from_str(event).unwrap()).collect()
    }

    /// The events of a dialect that names them, each with its data.
    pub fn named_events(&self) -> Vec<(String, Value)> {
        let text = std::str::from_utf8(&self.body).unwrap();
        let event = |block: &str| {
            let (name, data) = block.split_once('\n').unwrap_or_else(|| panic!("an event without a name: {block:?}"));
            let name = name.strip_prefix("event: ").unwrap_or_else(|| panic!("no name: {block:?}"));
            let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("no data: {block:?}"));
            (name.to_owned(), serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}")))
        };
        text.split_terminator("\n\n").map(event).collect()
    }

    /// The JSON of each line.
    pub fn lines(&self) -> Vec<Value> {
        let text = std::str::from_utf8(&self.body).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// The error of a stream that broke off, or of an answer that never began.
    pub fn error(&self) -> Value {
        if self.header("content-type").starts_with("text/event-stream") {
            let broken = self.chunks().into_iter().find(|chunk| chunk.get("error").is_some());
            return broken.map_or(Value::Null, |chunk| chunk["error"].clone());
        }
        self.json()["error"].clone()
    }
}

/// A chat request of one user's turn.
pub fn asking(prompt: &str) -> Value {
    json!({"model": "mock", "messages": [{"role": "user", "content": prompt}]})
}
