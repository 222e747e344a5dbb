//! The same streams over plain HTTP, through the floor that passes everything on: what the machine itself takes.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use loadtest::generator;
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::provider::Clock;

const CONTENT: &[u8] = b"\"content\":\"";

/// Asks for a stream and reads it to its end: how long each delta was on its way, in microseconds.
pub(crate) async fn read_to_end(floor: SocketAddr, prompt: String, clock: Clock) -> anyhow::Result<Histogram<u64>> {
    let mut socket = TcpStream::connect(floor).await?;
    socket.set_nodelay(true)?;
    let body = generator::chat(&prompt, true);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {floor}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(&[head.as_bytes(), &body].concat()).await?;
    let mut latencies = Histogram::<u64>::new(3)?;
    let mut received = Vec::new();
    loop {
        let read = socket.read_buf(&mut received).await?;
        let now = clock.now_us();
        ensure!(read > 0, "the stream ended early");
        let lines = memmem::rfind(&received, b"\n").map_or(0, |end| end + 1);
        for line in received[..lines].split(|byte| *byte == b'\n') {
            if let Some(sent) = sent_us(line)? {
                latencies.record(now.saturating_sub(sent))?;
            }
        }
        if memmem::find(&received[..lines], b"[DONE]").is_some() {
            return Ok(latencies);
        }
        received.drain(..lines);
    }
}

/// When this delta was sent, if the line holds one.
fn sent_us(line: &[u8]) -> anyhow::Result<Option<u64>> {
    let Some(at) = memmem::find(line, CONTENT) else { return Ok(None) };
    let digits: Vec<u8> = line[at + CONTENT.len()..].iter().copied().take_while(u8::is_ascii_digit).collect();
    if digits.is_empty() {
        return Ok(None);
    }
    Ok(Some(std::str::from_utf8(&digits)?.parse().context("a delta without its time")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_says_when_it_was_sent_and_other_lines_say_nothing() {
        assert_eq!(sent_us(br#"data: {"choices":[{"delta":{"content":"1234 "}}]}"#).unwrap(), Some(1234));
        assert_eq!(sent_us(br#"data: {"choices":[{"delta":{"content":""}}]}"#).unwrap(), None);
        assert_eq!(sent_us(b"data: [DONE]\r").unwrap(), None);
    }
}
