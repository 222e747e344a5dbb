//! A client's end of `/ws` (docs/websocket.md): a greeted socket, and its frames as text.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use loadtest::generator::Target;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Who opens a socket, where a server asks for that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// The loopback address that it comes from; the system's choice where there is none.
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) key: Option<String>,
    /// `PROVIDER/ID`.
    pub(crate) user: Option<String>,
}

/// A socket that was welcomed.
pub(crate) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Opens the socket of the server at this address, as nobody in particular.
    pub(crate) async fn of_server(server: SocketAddr) -> anyhow::Result<Self> {
        Self::open(&Target::of(server, "/ws"), &Caller::default()).await
    }

    pub(crate) async fn open(target: &Target, caller: &Caller) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(address) = caller.address {
            socket.bind((address, 0).into()).with_context(|| format!("cannot come from {address}"))?;
        }
        let stream = socket.connect(target.address).await?;
        stream.set_nodelay(true)?;
        let url = format!("ws://{}{}", target.host, target.path);
        // As they come they would be 128 KiB for each of a thousand sockets.
        let buffers = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
        let (socket, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(buffers)).await?;
        let mut socket = Self(socket);
        socket.say(&json!({ "type": "hello", "protocol": 1, "token": caller.key, "user": caller.user })).await?;
        let said = socket.hear().await?;
        if !said.starts_with(r#"{"type":"welcome""#) {
            bail!("instead of a welcome the server said {said}");
        }
        Ok(socket)
    }

    pub(crate) async fn say(&mut self, frame: &Value) -> anyhow::Result<()> {
        Ok(self.0.send(Message::text(frame.to_string())).await?)
    }

    /// The next frame. Dropping the future loses none; while nobody waits here, no ping is answered.
    pub(crate) async fn hear(&mut self) -> anyhow::Result<Utf8Bytes> {
        loop {
            match self.0.next().await.context("the socket ended")?? {
                Message::Text(text) => return Ok(text),
                Message::Close(Some(close)) => bail!("the socket was closed: {} {}", close.code, close.reason),
                _ => {}
            }
        }
    }
}
