//! Clients that leave: plain sockets, which close the moment they are dropped, and one WebSocket.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};
use loadtest::generator;
use memchr::memmem;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::socket::Socket;

/// Sockets that this process has opened so far.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// Asks for a stream and reads until its first content.
pub(crate) async fn stream(server: SocketAddr, prompt: &str) -> anyhow::Result<TcpStream> {
    let mut socket = post(server, &generator::chat(prompt, true)).await?;
    let mut received = Vec::new();
    while memmem::find(&received, b"\"content\":\"A").is_none() {
        if socket.read_buf(&mut received).await? == 0 {
            bail!("the reply ended with {:?}", String::from_utf8_lossy(&received));
        }
    }
    Ok(socket)
}

/// Asks for a JSON reply and reads nothing.
pub(crate) async fn whole(server: SocketAddr, prompt: &str) -> anyhow::Result<TcpStream> {
    post(server, &generator::chat(prompt, false)).await
}

async fn post(server: SocketAddr, body: &[u8]) -> anyhow::Result<TcpStream> {
    let mut socket = TcpStream::connect(server).await?;
    socket.set_nodelay(true)?;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {server}\r\ncontent-type: application/json\r\n\
         authorization: Bearer loadtest\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(&[head.as_bytes(), body].concat()).await?;
    Ok(socket)
}

/// A greeted socket.
pub(crate) struct Chat {
    nth: u64,
    socket: Socket,
    asked: u64,
}

impl Chat {
    pub(crate) async fn open(server: SocketAddr) -> anyhow::Result<Self> {
        let nth = OPENED.fetch_add(1, Ordering::Relaxed);
        Ok(Self { socket: Socket::of_server(server).await?, nth, asked: 0 })
    }

    /// Asks and waits for the first words; returns the stream's id.
    pub(crate) async fn ask(&mut self, prompt: &str) -> anyhow::Result<String> {
        self.asked += 1;
        // A name stands for one question on its server, whichever socket it came over.
        let id = format!("ask-{}-{}-{}", std::process::id(), self.nth, self.asked);
        self.socket.say(&json!({ "type": "send", "id": id, "content": prompt, "model": "mock" })).await?;
        let ack = self.hear("ack", |frame| frame["id"] == id.as_str()).await?;
        let stream = ack["stream"].as_str().context("an ack without a stream")?.to_owned();
        self.hear("delta", |frame| frame["stream"] == stream.as_str()).await?;
        Ok(stream)
    }

    /// Cancels and waits until the server has said so.
    pub(crate) async fn cancel(&mut self, stream: &str) -> anyhow::Result<()> {
        self.socket.say(&json!({ "type": "cancel", "stream": stream })).await?;
        self.hear("cancelled", |frame| frame["stream"] == stream).await?;
        Ok(())
    }

    /// The next frame of this type that fits; others are passed over, but an error ends the run.
    async fn hear(&mut self, kind: &str, fits: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        loop {
            let frame: Value = serde_json::from_str(&self.socket.hear().await?)?;
            if frame["type"] == kind && fits(&frame) {
                return Ok(frame);
            }
            if frame["type"] == "error" {
                bail!("the server said {frame}");
            }
        }
    }
}
