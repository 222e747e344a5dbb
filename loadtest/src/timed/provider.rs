//! A provider whose deltas say when they were sent, at an even pace; a bulky prompt gets bulky deltas.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::post;
use futures_util::stream;
use memchr::memmem;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};

/// Bytes of a bulky delta.
const BULK_BYTES: usize = 16 * 1024;

/// The one clock of this process's two ends.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now_us(self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

/// How long an answer is, and how fast it comes.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) tokens: u64,
    pub(crate) every: Duration,
}

/// Serves on a port of its own as long as the runtime lives.
pub(crate) async fn serve(clock: Clock, pace: Pace) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let chat = move |body: Bytes| async move { answer(clock, pace, memmem::find(&body, b" bulky ").is_some()) };
    let routes = Router::new().route("/v1/chat/completions", post(chat));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(address)
}

fn answer(clock: Clock, pace: Pace, is_bulky: bool) -> Response {
    let mut ticks = interval(pace.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = stream::unfold((ticks, 0), move |(mut ticks, sent)| async move {
        if sent > pace.tokens {
            return None;
        }
        ticks.tick().await;
        let event = if sent == pace.tokens { end() } else { delta(clock, is_bulky) };
        Some((Ok::<_, Infallible>(event), (ticks, sent + 1)))
    });
    Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(events)).unwrap_or_default()
}

fn delta(clock: Clock, is_bulky: bool) -> Bytes {
    let bulk = if is_bulky { "x".repeat(BULK_BYTES) } else { String::new() };
    event(&json!({"content": format!("{} {bulk}", clock.now_us())}), None)
}

fn end() -> Bytes {
    let mut last = event(&json!({}), Some("stop")).to_vec();
    last.extend_from_slice(b"data: [DONE]\n\n");
    last.into()
}

fn event(delta: &serde_json::Value, finish_reason: Option<&str>) -> Bytes {
    let chunk = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "mock",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    });
    format!("data: {chunk}\n\n").into()
}
