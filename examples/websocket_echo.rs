//! Says everything back, over a WebSocket with exactly the settings of `/ws`: what a conformance suite talks to, since
//! the chat's own socket is no echo. Its one argument is the largest frame in bytes.
//!
//! `scripts/autobahn.sh` runs Autobahn's suite against it.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use ish::api::{Door, Heartbeat, Wires};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let max_frame_bytes: usize = std::env::args().nth(1).unwrap_or_else(|| "1048576".to_owned()).parse()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("echo at ws://{}", listener.local_addr()?);
    let routes = Router::new().route("/", any(echo)).with_state(max_frame_bytes);
    let heartbeat = Heartbeat::every(Duration::from_secs(20));
    Ok(axum::serve(Wires::of(listener, Door::default(), heartbeat)?, routes).await?)
}

async fn echo(State(max_frame_bytes): State<usize>, upgrade: WebSocketUpgrade) -> Response {
    ish::api::socket_settings(upgrade, max_frame_bytes).on_upgrade(|mut socket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            let said = matches!(message, Message::Text(_) | Message::Binary(_));
            if said && socket.send(message).await.is_err() {
                break;
            }
        }
    })
}
