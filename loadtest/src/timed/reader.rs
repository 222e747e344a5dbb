//! One socket with its streams: read to their ends, or asked and left.

use std::net::SocketAddr;

use anyhow::bail;
use hdrhistogram::Histogram;
use serde::Deserialize;
use serde_json::json;

use super::provider::Clock;
use crate::socket::Socket;

pub(crate) struct Reader(Socket);

#[derive(Deserialize)]
struct Said<'f> {
    r#type: &'f str,
    #[serde(default)]
    text: String,
}

impl Reader {
    pub(crate) async fn open(server: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self(Socket::of_server(server).await?))
    }

    /// Asks, and hears that it was stored; the answer is left to be read.
    pub(crate) async fn ask(&mut self, prompt: &str) -> anyhow::Result<()> {
        let send =
            json!({"type": "send", "id": prompt, "content": prompt, "model": "openai/mock", "cache": {"mode": "off"}});
        self.0.say(&send).await?;
        loop {
            let text = self.0.hear().await?;
            let said: Said = serde_json::from_str(&text)?;
            match said.r#type {
                "ack" => return Ok(()),
                "error" => bail!("the server said {text}"),
                _ => {}
            }
        }
    }

    /// Reads until the one stream has ended: how long each delta was on its way, in microseconds.
    pub(crate) async fn read_to_end(mut self, clock: Clock) -> anyhow::Result<Histogram<u64>> {
        let mut latencies = Histogram::<u64>::new(3)?;
        loop {
            let text = self.0.hear().await?;
            let now = clock.now_us();
            let said: Said = serde_json::from_str(&text)?;
            match said.r#type {
                "delta" => {
                    for sent in said.text.split_whitespace() {
                        latencies.record(now.saturating_sub(sent.parse()?))?;
                    }
                }
                "done" => return Ok(latencies),
                "error" | "cancelled" => bail!("the server said {text}"),
                _ => {}
            }
        }
    }

    /// Reads until so many streams have ended, and looks at nothing else.
    pub(crate) async fn read_all(mut self, streams: usize) -> anyhow::Result<()> {
        let mut left = streams;
        while left > 0 {
            let text = self.0.hear().await?;
            left -= usize::from(text.starts_with(r#"{"type":"done""#));
        }
        Ok(())
    }
}
