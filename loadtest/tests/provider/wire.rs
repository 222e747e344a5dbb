//! A client on a bare socket: it sees chunk borders, line ends and how the connection ended.

use loadtest::provider::RunningProvider;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A JSON chat request.
pub fn chat(prompt: &str) -> Value {
    json!({ "model": "mock", "messages": [{ "role": "user", "content": prompt }] })
}

/// A streamed chat request.
pub fn stream(prompt: &str) -> Value {
    json!({ "model": "mock", "stream": true, "messages": [{ "role": "user", "content": prompt }] })
}

/// Sends a chat request and reads until the provider closes.
pub async fn ask(provider: &RunningProvider, request: Value) -> Reply {
    open(provider, &request).await.finish().await
}

/// Sends any request and reads until the provider closes.
pub async fn ask_body(provider: &RunningProvider, method: &str, path: &str, body: &[u8]) -> Reply {
    send(provider, method, path, body).await.finish().await
}

/// Sends a chat request and leaves the reply unread.
pub async fn open(provider: &RunningProvider, request: &Value) -> Exchange {
    send(provider, "POST", "/v1/chat/completions", request.to_string().as_bytes()).await
}

/// Whether the connection ends without a single byte.
pub async fn refused(provider: &RunningProvider, request: &Value) -> bool {
    let mut exchange = open(provider, request).await;
    matches!(exchange.socket.read_buf(&mut exchange.received).await, Ok(0) | Err(_))
}

async fn send(provider: &RunningProvider, method: &str, path: &str, body: &[u8]) -> Exchange {
    let mut socket = TcpStream::connect(provider.address()).await.expect("the provider listens");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer test\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    socket.write_all(&[head.as_bytes(), body].concat()).await.expect("a request that is taken");
    Exchange { socket, received: Vec::new() }
}

/// A request whose reply is under way.
pub struct Exchange {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Exchange {
    /// Reads until the reply holds this text, and no further than needed.
    pub async fn read_until(&mut self, text: &[u8]) {
        while !contains(&self.received, text) {
            let read = self.socket.read_buf(&mut self.received).await.expect("more to come");
            assert!(read > 0, "ended early: {}", String::from_utf8_lossy(&self.received));
        }
    }

    /// Reads to the end of the connection.
    pub async fn finish(mut self) -> Reply {
        // A reset ends a reply as well; what came before it is what counts.
        let _ = self.socket.read_to_end(&mut self.received).await;
        Reply::read(&self.received)
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// A reply as it came over the wire.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    head: String,
    chunks: Vec<Vec<u8>>,
    ended_properly: bool,
}

impl Reply {
    fn read(received: &[u8]) -> Self {
        let split = received.windows(4).position(|window| window == b"\r\n\r\n").expect("a complete head");
        let head = String::from_utf8(received[..split].to_vec()).expect("a head in ASCII").to_lowercase();
        let body = &received[split + 4..];
        let status = head[9..12].parse().expect("a status");
        let chunked = head.contains("transfer-encoding: chunked");
        let (chunks, ended_properly) = if chunked { dechunk(body) } else { (vec![body.to_vec()], true) };
        Self { status, head, chunks, ended_properly }
    }

    /// A header's value; names in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The body without the framing of HTTP.
    pub fn body(&self) -> Vec<u8> {
        self.chunks.concat()
    }

    /// The chunks of a chunked body.
    pub fn chunks(&self) -> &[Vec<u8>] {
        &self.chunks
    }

    /// Whether a chunked body came to its last chunk.
    pub fn ended_properly(&self) -> bool {
        self.ended_properly
    }

    /// Whether the stream's last event is `[DONE]`.
    pub fn is_done(&self) -> bool {
        self.data_lines().last().is_some_and(|line| line == "[DONE]")
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body()).expect("a JSON body")
    }

    /// The JSON of every complete event, `[DONE]` left out.
    pub fn events(&self) -> Vec<Value> {
        self.data_lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn data_lines(&self) -> Vec<String> {
        let body = self.body();
        let text = String::from_utf8_lossy(&body);
        text.lines().filter_map(|line| line.strip_prefix("data:")).map(|line| line.trim_start().to_owned()).collect()
    }
}

/// The chunks of a chunked body, and whether the last one (of length 0) was there.
fn dechunk(mut body: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut chunks = Vec::new();
    loop {
        let Some(line_end) = body.windows(2).position(|window| window == b"\r\n") else {
            return (chunks, false);
        };
        let size = std::str::from_utf8(&body[..line_end]).expect("a chunk size");
        let size = usize::from_str_radix(size, 16).expect("a hexadecimal chunk size");
        let rest = &body[line_end + 2..];
        if size == 0 {
            return (chunks, true);
        }
        if rest.len() < size + 2 {
            chunks.push(rest[..rest.len().min(size)].to_vec());
            return (chunks, false);
        }
        chunks.push(rest[..size].to_vec());
        body = &rest[size + 2..];
    }
}
