//! `ish chat`: a client of our own protocol in the terminal. It reconnects and resumes, as any client should.

mod connection;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::app::RunningServer;
use crate::clock::new_id;
use crate::config::Config;
use connection::{Connection, KeySource};

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
    /// A file that holds the key; read again when the key ends, so that another one can take its place.
    #[arg(long, env = "ISH_KEY_FILE", value_name = "FILE", conflicts_with = "key")]
    key_file: Option<PathBuf>,
    /// The model.
    #[arg(long)]
    model: Option<String>,
}

impl Chat {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<()> {
        let running = RunningServer::find(&config.server.data_dir);
        let address = running.as_ref().and_then(|server| server.address).unwrap_or(config.server.listen);
        let keys = match (self.key, self.key_file, &self.url) {
            (Some(key), _, _) => KeySource::Given(key),
            (None, Some(file), _) => KeySource::File(file),
            // The token of the server on this machine is for no other one.
            (None, None, None) if running.is_some() => KeySource::Server(config.server.data_dir),
            (None, None, _) => KeySource::Nothing,
        };
        let url = self.url.unwrap_or_else(|| format!("ws://{address}/ws"));
        let mut client =
            Client { connection: Connection::open(url, keys).await?, conversation: None, model: self.model };
        match self.prompt {
            Some(prompt) => client.ask(&prompt).await,
            None => client.converse().await,
        }
    }
}

/// One conversation.
struct Client {
    connection: Connection,
    conversation: Option<String>,
    model: Option<String>,
}

/// How far an answer has been read; without a stream, before its question is acknowledged.
#[derive(Default)]
struct Place {
    stream: Option<String>,
    epoch: u64,
    seen: u64,
}

impl Client {
    /// Asks line by line. Between two lines the socket is read too: who answers no ping is closed.
    async fn converse(&mut self) -> anyhow::Result<()> {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        prompt()?;
        loop {
            let line = tokio::select! {
                line = lines.next_line() => line?,
                () = self.connection.idle() => continue,
            };
            let Some(line) = line else { return Ok(()) };
            if !line.trim().is_empty() {
                self.ask(&line).await?;
            }
            prompt()?;
        }
    }

    /// Asks, and prints the answer as it comes. Where the connection is lost, the question is sent again under its name,
    /// or its answer resumed.
    async fn ask(&mut self, question: &str) -> anyhow::Result<()> {
        let mut send = json!({"type": "send", "id": new_id().to_string(), "content": question});
        for (name, value) in [("conversation", &self.conversation), ("model", &self.model)] {
            if let Some(value) = value {
                send[name] = value.as_str().into();
            }
        }
        let mut place = Place::default();
        self.connection.say(&send).await?;
        loop {
            let Some(frame) = self.connection.hear().await? else {
                let Place { stream, epoch, seen } = &place;
                let resume = json!({"type": "resume", "stream": stream, "epoch": epoch, "after": seen});
                self.connection.say(if stream.is_some() { &resume } else { &send }).await?;
                continue;
            };
            if frame["type"] == "ack" {
                self.conversation = frame["conversation"].as_str().map(str::to_owned);
                place = Place { stream: frame["stream"].as_str().map(str::to_owned), epoch: 1, seen: 0 };
            } else if print(&frame, &mut place)? {
                return Ok(());
            }
        }
    }
}

/// Prints a frame of an answer; true with the last one.
fn print(frame: &Value, place: &mut Place) -> anyhow::Result<bool> {
    let text = |name: &str| frame[name].as_str().unwrap_or_default();
    place.epoch = frame["epoch"].as_u64().unwrap_or(place.epoch);
    match text("type") {
        "status" if frame["kind"] == "fallback" => {
            place.seen = 0;
            println!("\n[the provider failed; another begins anew]");
        }
        "delta" => print!("{}", text("text")),
        "snapshot" => print!("\n{}", text("text")),
        "done" => {
            println!();
            eprintln!("{}", badge(frame));
            return Ok(true);
        }
        "cancelled" => {
            println!("\n[stopped]");
            return Ok(true);
        }
        "gone" => bail!("the server knows this answer no more: ask again"),
        "error" => bail!("{} ({})", text("message"), text("code")),
        _ => {}
    }
    place.seen = frame["seq"].as_u64().unwrap_or(place.seen);
    std::io::stdout().flush().context("what was said cannot be printed")?;
    Ok(false)
}

fn prompt() -> std::io::Result<()> {
    eprint!("> ");
    std::io::stderr().flush()
}

/// One line on where the answer came from.
fn badge(done: &Value) -> String {
    let cache = &done["cache"];
    let status = cache["how"].as_str().or(cache["status"].as_str()).unwrap_or("miss");
    let similarity = cache["similarity"].as_f64().map_or_else(String::new, |similarity| format!(" {similarity:.3}"));
    let tier = cache["tier"].as_str().map_or_else(String::new, |tier| format!(" {tier}"));
    format!("[{status}{tier}{similarity} · {} ms · {}]", done["elapsed_ms"], done["model"].as_str().unwrap_or_default())
}
