//! One kept-alive HTTP/1.1 connection.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Plan;
use super::reply::{self, Asked, Outcome};

/// An open connection and the parts of a request that never change.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
}

impl Connection {
    pub(super) async fn open(plan: &Plan) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(plan.target.address).await?;
        socket.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        tokio::spawn(async move {
            // How the connection ended shows in the exchange under way.
            let _ = connection.await;
        });
        Ok(Self { sender, uri: plan.target.path.parse()?, headers: headers(plan)? })
    }

    /// Sends request `number` and reads its reply; latency counts from `due`.
    pub(super) async fn exchange(&mut self, plan: &Plan, number: u64, due: Instant) -> Outcome {
        let mut request = Request::new(Full::new(plan.prompts.body(number, plan.stream)));
        *request.method_mut() = plan.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if self.sender.ready().await.is_err() {
            return Outcome::Broken;
        }
        match self.sender.send_request(request).await {
            Ok(response) => reply::read(plan, response, Asked { number, due }).await,
            Err(_) => Outcome::Broken,
        }
    }
}

fn headers(plan: &Plan) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_str(&plan.target.host)?);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer loadtest"));
    for (name, value) in &plan.headers {
        headers.insert(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
    }
    Ok(headers)
}
