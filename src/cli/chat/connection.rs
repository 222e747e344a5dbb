//! The socket of `ish chat`: it comes back by itself, and puts another key in the place of one that ends. What concerns the
//! connection alone is dealt with here; what concerns an answer is handed on.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::http::Response;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::app::RunningServer;

/// Attempts to come back: about half a minute.
const ATTEMPTS: u32 = 8;

/// Close codes after which the same client gets no further by coming back.
const FINAL: [u16; 7] = [1002, 1003, 1007, 1009, 4400, KEY_UNKNOWN, KEY_ENDED];
const KEY_UNKNOWN: u16 = 4401;
const KEY_ENDED: u16 = 4403;

/// Where the key is read, and read again when it ends.
pub(super) enum KeySource {
    Nothing,
    Given(String),
    File(PathBuf),
    /// The server on this data folder: each start of it has another token.
    Server(PathBuf),
}

impl KeySource {
    fn read(&self) -> anyhow::Result<Option<String>> {
        match self {
            Self::Nothing => Ok(None),
            Self::Given(key) => Ok(Some(key.clone())),
            Self::Server(folder) => Ok(RunningServer::find(folder).map(|server| server.token)),
            Self::File(path) => {
                let key = std::fs::read_to_string(path)
                    .with_context(|| format!("the key file {} (--key-file) cannot be read", path.display()))?;
                Ok(Some(key.trim().to_owned()))
            }
        }
    }

    /// What a person does to have another key used.
    fn remedy(&self) -> String {
        match self {
            Self::File(path) => format!("write another key into {}", path.display()),
            Self::Nothing => "start again with --key, --key-file or ISH_KEY".to_owned(),
            Self::Given(_) | Self::Server(_) => {
                "start again with another --key or ISH_KEY; a --key-file is read again when its key ends".to_owned()
            }
        }
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// An open socket that has been greeted, or one that is to come back.
pub(super) struct Connection {
    url: String,
    keys: KeySource,
    /// The key that the server knows of.
    key: Option<String>,
    /// When it ends, once that is near.
    ends: Option<String>,
    /// Whether the server has yet to say what it thinks of another one.
    is_refreshing: bool,
    socket: Option<Socket>,
}

/// Why the socket has ended.
struct Ended {
    code: u16,
    reason: String,
}

impl Connection {
    pub(super) async fn open(url: String, keys: KeySource) -> anyhow::Result<Self> {
        let key = keys.read()?;
        let mut connection = Self { url, keys, key, ends: None, is_refreshing: false, socket: None };
        if let Err(ended) = connection.connect().await? {
            bail!("{}", connection.explained(&ended));
        }
        Ok(connection)
    }

    /// Sends a frame, coming back first where the socket was lost. Whether it arrived, only an answer can tell.
    pub(super) async fn say(&mut self, frame: &Value) -> anyhow::Result<()> {
        if self.socket.is_none() {
            self.come_back().await?;
        }
        if let Some(socket) = &mut self.socket {
            // The next frame that is heard, or is not, says whether it is lost.
            let _ = socket.send(Message::text(frame.to_string())).await;
        }
        Ok(())
    }

    /// The next frame that concerns an answer; `None` once the socket was lost and has come back.
    pub(super) async fn hear(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            match self.receive().await {
                Ok(Some(frame)) => {
                    if let Some(frame) = self.take(frame).await? {
                        return Ok(Some(frame));
                    }
                }
                Ok(None) => self.renew().await?,
                Err(ended) => {
                    self.lose(&ended)?;
                    self.come_back().await?;
                    return Ok(None);
                }
            }
        }
    }

    /// Reads what comes while nothing is asked, until something has come. A socket that is lost meanwhile comes back with the
    /// next question. Cancel-safe.
    pub(super) async fn idle(&mut self) {
        if self.socket.is_none() {
            return std::future::pending().await;
        }
        let taken = match self.receive().await {
            Ok(Some(frame)) => self.take(frame).await.map(drop),
            Ok(None) => self.renew().await,
            Err(ended) => self.lose(&ended),
        };
        if let Err(error) = taken {
            eprintln!("[{error:#}]");
        }
    }

    /// The next frame; `None` for a ping and the like. Cancel-safe.
    async fn receive(&mut self) -> Result<Option<Value>, Ended> {
        let lost = |reason: String| Ended { code: 1006, reason };
        let Some(socket) = &mut self.socket else { return Err(lost("it was lost".to_owned())) };
        match socket.next().await {
            None => Err(lost("without a word".to_owned())),
            Some(Err(error)) => Err(lost(error.to_string())),
            Some(Ok(Message::Text(text))) => Ok(serde_json::from_str(text.as_str()).ok()),
            Some(Ok(Message::Close(close))) => {
                let close = close.map(|close| Ended { code: close.code.into(), reason: close.reason.to_string() });
                Err(close.unwrap_or_else(|| lost("without a word".to_owned())))
            }
            Some(Ok(_)) => Ok(None),
        }
    }

    /// Deals with a frame that concerns the connection; hands on any other.
    async fn take(&mut self, frame: Value) -> anyhow::Result<Option<Value>> {
        let expires_at = frame["expires_at"].as_str().map(str::to_owned);
        match frame["type"].as_str().unwrap_or_default() {
            "notice" => {
                self.ends = expires_at;
                self.renew().await?;
                if let (Some(ends), false) = (&self.ends, self.is_refreshing) {
                    eprintln!("[the key ends at {ends}: {}]", self.keys.remedy());
                }
            }
            "refreshed" => {
                (self.ends, self.is_refreshing) = (None, false);
                eprintln!("[another key has taken the old one's place]");
            }
            "error" if self.is_refreshing && frame.get("stream").is_none() && frame.get("id").is_none() => {
                self.is_refreshing = false;
                eprintln!("[the other key is not taken: {}]", frame["message"].as_str().unwrap_or_default());
            }
            "draining" => eprintln!("[the server is about to stop]"),
            _ => return Ok(Some(frame)),
        }
        Ok(None)
    }

    /// While the key is about to end: says another one, if there is one by now.
    async fn renew(&mut self) -> anyhow::Result<()> {
        if self.ends.is_none() || self.is_refreshing {
            return Ok(());
        }
        match self.read_key() {
            Ok(true) => self.is_refreshing = true,
            Ok(false) => return Ok(()),
            // Until its end the old one holds.
            Err(error) => {
                eprintln!("[{error:#}]");
                return Ok(());
            }
        }
        let refresh = json!({"type": "refresh", "token": self.key});
        self.say(&refresh).await
    }

    /// Reads the key again; whether it is another one.
    fn read_key(&mut self) -> anyhow::Result<bool> {
        let key = self.keys.read()?;
        let is_new = key.is_some() && key != self.key;
        if is_new {
            self.key = key;
        }
        Ok(is_new)
    }

    /// The socket is gone. An error, where it would be of no use to come back.
    fn lose(&mut self, ended: &Ended) -> anyhow::Result<()> {
        self.socket = None;
        (self.ends, self.is_refreshing) = (None, false);
        let has_another_key = matches!(ended.code, KEY_UNKNOWN | KEY_ENDED) && self.read_key()?;
        if FINAL.contains(&ended.code) && !has_another_key {
            bail!("{}", self.explained(ended));
        }
        Ok(())
    }

    fn explained(&self, Ended { code, reason }: &Ended) -> String {
        let remedy = match *code {
            KEY_UNKNOWN | KEY_ENDED => format!(": {}", self.keys.remedy()),
            _ => String::new(),
        };
        format!("the server closed the connection: {reason} ({code}){remedy}")
    }

    /// Connects again, with the key that holds by now; gives up after about half a minute.
    async fn come_back(&mut self) -> anyhow::Result<()> {
        for attempt in 0..ATTEMPTS {
            let wait_s = (0.25 * f64::from(1 << attempt)).min(8.0) * (0.5 + crate::clock::jitter() / 2.0);
            tokio::time::sleep(Duration::from_secs_f64(wait_s)).await;
            self.read_key()?;
            match self.connect().await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(ended)) => self.lose(&ended)?,
                // Nobody listens, as while a server starts again.
                Err(_) => {}
            }
        }
        bail!("the server does not come back")
    }

    /// Connects and says hello. The inner error is the server's own word.
    async fn connect(&mut self) -> anyhow::Result<Result<(), Ended>> {
        let (mut socket, _) = match tokio_tungstenite::connect_async(&self.url).await {
            Err(Error::Http(response)) => bail!("{} refuses the socket: {}", self.url, refusal(&response)),
            opened => {
                opened.with_context(|| format!("no server answers at {}; start one with `ish serve`", self.url))?
            }
        };
        let mut hello = json!({"type": "hello", "protocol": 1});
        if let Some(key) = &self.key {
            hello["token"] = key.as_str().into();
        }
        socket.send(Message::text(hello.to_string())).await?;
        self.socket = Some(socket);
        loop {
            match self.receive().await {
                Ok(Some(frame)) if frame["type"] == "welcome" => return Ok(Ok(())),
                Ok(Some(frame)) => bail!("the server did not welcome us: {frame}"),
                Ok(None) => {}
                Err(ended) => {
                    self.socket = None;
                    return Ok(Err(ended));
                }
            }
        }
    }
}

/// What an upgrade was refused with, in the server's own words where it has some.
fn refusal(response: &Response<Option<Vec<u8>>>) -> String {
    let body: Value = serde_json::from_slice(response.body().as_deref().unwrap_or_default()).unwrap_or_default();
    body["detail"].as_str().map_or_else(|| response.status().to_string(), str::to_owned)
}
