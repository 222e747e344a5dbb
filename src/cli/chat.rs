//! `ish chat`: a client of our own protocol in the terminal. It reconnects and resumes, as any client should.

use std::io::Write;

use anyhow::{Context, bail};
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::app::RunningServer;
use crate::clock::new_id;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct Chat {
    /// One question; without it, questions are read line by line.
    prompt: Option<String>,
    /// The server's socket; by default that of the server on this data folder, else of server.listen.
    #[arg(long, value_name = "ws://HOST/ws")]
    url: Option<String>,
    /// A key, where the server needs one.
    #[arg(long, env = "ISH_KEY", hide_env_values = true)]
    key: Option<String>,
    /// The model.
    #[arg(long)]
    model: Option<String>,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The answer being read, and where.
struct Client {
    url: String,
    key: Option<String>,
    socket: Socket,
    conversation: Option<String>,
    model: Option<String>,
}

impl Chat {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<()> {
        let running = RunningServer::find(&config.server.data_dir);
        let address = running.as_ref().and_then(|server| server.address).unwrap_or(config.server.listen);
        let url = self.url.unwrap_or_else(|| format!("ws://{address}/ws"));
        let key = self.key.or_else(|| running.map(|server| server.token));
        let socket = connect(&url, key.as_deref())
            .await
            .with_context(|| format!("no server answers at {url}; start one with `ish serve`"))?;
        let mut client = Client { url, key, socket, conversation: None, model: self.model };
        if let Some(prompt) = self.prompt {
            return client.ask(&prompt).await;
        }
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = next_line(&mut lines).await? {
            client.ask(&line).await?;
        }
        Ok(())
    }
}

async fn next_line(lines: &mut Lines<BufReader<Stdin>>) -> anyhow::Result<Option<String>> {
    loop {
        eprint!("> ");
        std::io::stderr().flush()?;
        match lines.next_line().await? {
            Some(line) if line.trim().is_empty() => {}
            line => return Ok(line),
        }
    }
}

async fn connect(url: &str, key: Option<&str>) -> anyhow::Result<Socket> {
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await?;
    socket.send(Message::text(json!({"type": "hello", "protocol": 1, "token": key}).to_string())).await?;
    let welcome = frame(&mut socket).await?;
    if welcome["type"] != "welcome" {
        bail!("the server did not welcome us: {welcome}");
    }
    Ok(socket)
}

/// The next frame as JSON.
async fn frame(socket: &mut Socket) -> anyhow::Result<Value> {
    loop {
        match socket.next().await.context("the server closed the connection")?? {
            Message::Text(text) => return Ok(serde_json::from_str(text.as_str())?),
            Message::Close(Some(close)) => {
                bail!("the server closed the connection: {} {}", u16::from(close.code), close.reason)
            }
            _ => {}
        }
    }
}

impl Client {
    async fn ask(&mut self, prompt: &str) -> anyhow::Result<()> {
        let send = json!({"type": "send", "id": new_id().to_string(), "content": prompt, "conversation": self.conversation, "model": self.model});
        self.socket.send(Message::text(send.to_string())).await?;
        let mut seen: u64 = 0;
        let mut place = Value::Null;
        loop {
            let frame = match frame(&mut self.socket).await {
                Ok(frame) => frame,
                Err(error) => {
                    self.reconnect(&place, seen).await.context(error)?;
                    continue;
                }
            };
            match frame["type"].as_str().unwrap_or_default() {
                "ack" => {
                    self.conversation = frame["conversation"].as_str().map(str::to_owned);
                    place = json!({"stream": frame["stream"], "epoch": frame["epoch"]});
                }
                "status" if frame["kind"] == "fallback" => {
                    (place["epoch"], seen) = (frame["epoch"].clone(), 0);
                    println!("\n[the provider failed; another begins anew]");
                }
                "delta" => {
                    seen = frame["seq"].as_u64().unwrap_or(seen);
                    print!("{}", frame["text"].as_str().unwrap_or_default());
                    std::io::stdout().flush()?;
                }
                "snapshot" => {
                    seen = frame["seq"].as_u64().unwrap_or(seen);
                    print!("\n{}", frame["text"].as_str().unwrap_or_default());
                }
                "notice" => eprintln!("[the key ends at {}]", frame["expires_at"].as_str().unwrap_or_default()),
                "draining" => eprintln!("[the server is about to stop]"),
                "done" => {
                    println!();
                    eprintln!("{}", badge(&frame));
                    return Ok(());
                }
                "cancelled" => {
                    return {
                        println!();
                        Ok(())
                    };
                }
                "error" => bail!(
                    "{} ({})",
                    frame["message"].as_str().unwrap_or_default(),
                    frame["code"].as_str().unwrap_or_default()
                ),
                _ => {}
            }
        }
    }

    /// Connects again and goes on behind the last number seen; gives up after about half a minute.
    async fn reconnect(&mut self, place: &Value, seen: u64) -> anyhow::Result<()> {
        if place.is_null() {
            bail!("the connection was lost before the question was acknowledged");
        }
        for attempt in 0..8 {
            let wait = (0.25 * f64::from(1 << attempt)).min(8.0) * (0.5 + crate::clock::jitter() / 2.0);
            tokio::time::sleep(std::time::Duration::from_secs_f64(wait)).await;
            if let Ok(socket) = connect(&self.url, self.key.as_deref()).await {
                self.socket = socket;
                let resume =
                    json!({"type": "resume", "stream": place["stream"], "epoch": place["epoch"], "after": seen});
                self.socket.send(Message::text(resume.to_string())).await?;
                return Ok(());
            }
        }
        bail!("the server does not come back")
    }
}

/// One line on where the answer came from.
fn badge(done: &Value) -> String {
    let cache = &done["cache"];
    let status = cache["how"].as_str().or(cache["status"].as_str()).unwrap_or("miss");
    let similarity = cache["similarity"].as_f64().map_or_else(String::new, |similarity| format!(" {similarity:.3}"));
    let tier = cache["tier"].as_str().map_or_else(String::new, |tier| format!(" {tier}"));
    format!("[{status}{tier}{similarity} · {} ms · {}]", done["elapsed_ms"], done["model"].as_str().unwrap_or_default())
}
