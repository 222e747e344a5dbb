//! The WebSocket: opening, reading frames, and one writer per socket. Answers belong to [`crate::streams`]; a socket
//! only listens to them.

mod close;
mod forward;
pub(in crate::api) mod frames;
mod pace;
mod seats;
mod session;
mod writer;

use std::sync::Arc;

use axum::Extension;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::time::{Duration, timeout};

use super::error::{ApiError, Problem};
use super::observe::RequestId;
use super::peer::ClientAddress;
use super::wire::{Inbound, Peer};
use super::{Api, acting, auth, cookie};
use crate::clock::{new_id, rfc3339};
use crate::keys::Principal;
use crate::logins::LoginDigest;
use crate::message::InvalidRequest;
use crate::traces::Incoming;
use crate::users::UserName;
use close::Close;
use frames::{BadFrame, ClientFrame, Frame, HelloFrame, Limits};
use seats::Seat;
pub use seats::{SeatLimits, Seats};
use session::{Asker, Session};

const PROTOCOL: u64 = 1;
const SUBPROTOCOL: &str = "ish.v1";
const TOKEN_SUBPROTOCOL: &str = "ish.token.";

/// How long the first frame may take, and how many pings and pongs may come before it.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
const HELLO_PATIENCE: usize = 16;

/// How a socket's peer shows that it is there: it answers pings, and it reads.
#[derive(Debug, Clone, Copy)]
pub struct Heartbeat(Duration);

impl Heartbeat {
    /// With this time between two pings of the server.
    pub fn every(between_pings: Duration) -> Self {
        Self(between_pings)
    }

    fn between_pings(self) -> Duration {
        self.0
    }

    /// How long a stream may stand for want of credit.
    fn without_credit(self) -> Duration {
        self.0 * 15
    }

    /// How long a peer may say nothing: two pings, and time to answer the second.
    fn silence(self) -> Duration {
        self.0 * 5 / 2
    }

    /// How long one write may take, on a socket as on any connection.
    pub(super) fn one_write(self) -> Duration {
        self.0 * 3 / 2
    }
}

/// A message may take so many times `limits.frame_bytes` on the wire: one in fragments of a byte each takes seven.
const WIRE_FACTOR: usize = 8;

/// Answers that one socket may listen to at once.
const MAX_STREAMS: usize = 64;

pub(super) async fn upgrade(
    State(api): State<Api>,
    principal: Option<Extension<Principal>>,
    client: Option<Extension<ClientAddress>>,
    peer: Option<Extension<ConnectInfo<Peer>>>,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|rejection| {
        Problem(ApiError::new(
            StatusCode::UPGRADE_REQUIRED,
            "not_a_websocket",
            format!("/ws speaks WebSocket, described in docs/websocket.md: {rejection}"),
        ))
    })?;
    let offered = headers.get_all("sec-websocket-protocol").iter().filter_map(|value| value.to_str().ok());
    let token = offered
        .flat_map(|list| list.split(','))
        .find_map(|name| name.trim().strip_prefix(TOKEN_SUBPROTOCOL).map(str::to_owned));
    let token = token.or_else(|| auth::bearer(&headers).map(str::to_owned));
    // A socket changes what it likes. One that may not come by a cookie may still bring a key in its hello.
    let login = cookie::login(&Method::POST, &headers).ok().flatten().filter(|_| !api.0.access.local);
    let user = acting::named(&headers).map_err(ApiError::from)?;
    let request_id = request_id.0.to_str().unwrap_or_default().to_owned();
    let limit = api.0.facts.max_frame_bytes;
    let inbound = peer.map(|Extension(ConnectInfo(peer))| peer.inbound).unwrap_or_default();
    let client = client.map(|Extension(client)| client);
    // In local mode everybody is one person on one machine.
    let counted = client.filter(|_| !api.0.access.local).map(|ClientAddress(address)| address);
    let opened = Opened {
        seat: api.0.seats.take(counted)?,
        api: api.clone(),
        principal: principal.map(|Extension(principal)| principal),
        client,
        inbound,
        token,
        login,
        user,
        request_id,
        trace: Incoming::of(&headers),
    };
    Ok(socket_settings(upgrade.protocols([SUBPROTOCOL]), limit).on_upgrade(move |socket| async move {
        let tasks = api.0.tasks.clone();
        tasks.track_future(run(opened, socket)).await;
    }))
}

/// The settings of every socket: small buffers, since most sockets are idle, and one bound on a frame and on a message
/// of many fragments.
pub fn socket_settings(upgrade: WebSocketUpgrade, max_frame_bytes: usize) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(4096)
        .write_buffer_size(4096)
        .max_frame_size(max_frame_bytes)
        .max_message_size(max_frame_bytes)
}

/// A socket before its `hello`.
struct Opened {
    api: Api,
    seat: Seat,
    principal: Option<Principal>,
    client: Option<ClientAddress>,
    inbound: Arc<Inbound>,
    token: Option<String>,
    /// The login of the opening's cookie; `None` once it is not by this that the socket is greeted.
    login: Option<LoginDigest>,
    /// The user whom the opening named.
    user: Option<UserName>,
    request_id: String,
    /// The trace that the opening was in.
    trace: Incoming,
}

async fn run(mut opened: Opened, socket: WebSocket) {
    opened.seat.open();
    opened.inbound.bound((opened.api.0.facts.max_frame_bytes * WIRE_FACTOR) as u64);
    let metrics = opened.api.0.metrics.clone();
    let (mut sink, mut stream) = socket.split();
    let close = match greet(&mut opened, &mut stream).await {
        Ok((principal, hello)) => serve(opened, principal, hello, sink, stream).await,
        Err(Unwelcome { fault, close }) => {
            // The peer may be gone already; there is nobody to tell then.
            if let Some(fault) = fault {
                let error = refusal(None, &opened.request_id, &fault.into());
                let _ = timeout(Duration::from_secs(5), sink.send(Message::Text(error.to_json().into()))).await;
            }
            let _ = timeout(Duration::from_secs(5), sink.send(Message::Close(Some(close.frame())))).await;
            let _ = timeout(Duration::from_secs(1), sink.close()).await;
            close
        }
    };
    metrics.ws_closes.with_label_values(&[close.code().to_string()]).inc();
}

/// A greeted socket, until its end.
async fn serve(
    opened: Opened,
    principal: Principal,
    hello: HelloFrame,
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
) -> Close {
    let Opened { api, seat, client, inbound, login, request_id, trace, .. } = opened;
    let welcome = welcome(&api, &principal).await;
    let (writer, frames) = writer::start(&api, sink);
    // The queue is new and has room.
    let _ = frames.send(&welcome).await;
    let principal = principal.from_address(client.map(|ClientAddress(address)| address));
    let asker = Asker { principal, seat, login };
    let session = Session::new(api, asker, hello.credit, (request_id, trace), frames.clone());
    let (close, _seat) = session.read(stream, &inbound).await;
    let _ = timeout(Duration::from_secs(5), frames.close(close)).await;
    drop(frames);
    writer.await.ok().flatten().unwrap_or(close)
}

/// Reads `hello` and finds out who it is.
async fn greet(opened: &mut Opened, stream: &mut SplitStream<WebSocket>) -> Result<(Principal, HelloFrame), Unwelcome> {
    let draining = opened.api.0.streams.draining();
    let hello = tokio::select! {
        hello = timeout(HELLO_LIMIT, first_text(stream)) => hello.map_err(|_| Close::Protocol("no hello within 10 s"))??,
        () = draining => return Err(Close::GoingAway.into()),
    };
    let mut hello = match ClientFrame::read(&hello) {
        Ok(ClientFrame::Hello(hello)) => hello,
        Ok(_) | Err(BadFrame::NoObject) => return Err(Close::Protocol("the first frame must be hello").into()),
        Err(BadFrame::Fault { fault, .. }) => {
            return Err(Unwelcome { fault: Some(fault), close: Close::Protocol("the first frame must be hello") });
        }
    };
    if hello.protocol != PROTOCOL {
        return Err(Close::Protocol("this server speaks protocol 1").into());
    }
    let principal = match opened.principal.take() {
        Some(principal) => principal,
        None => recognised(opened, hello.token.take()).await?,
    };
    let user = hello.user.take().or_else(|| opened.user.take());
    let principal = acting::acting(&opened.api.0.users, principal, user).await.map_err(|error| unwelcome(&error))?;
    Ok((principal, hello))
}

/// Whose key it is that `hello`, or else the opening of the socket, brought; without one, whose login it came by.
async fn recognised(opened: &mut Opened, token: Option<String>) -> Result<Principal, Close> {
    let key = token.or_else(|| opened.token.take());
    opened.login = opened.login.filter(|_| key.is_none());
    let api = &opened.api.0;
    let principal = match opened.login {
        Some(login) => match api.logins.recognise(login).await {
            Ok(principal) => principal.ok_or_else(auth::login_ended),
            Err(error) => Err(error.into()),
        },
        None => api.access.principal(&api.keys, key.as_deref()).await,
    };
    let principal = principal.map_err(|error| unwelcome(&error))?;
    opened.seat.change_key(principal.key).map_err(|_| Close::TooMany("too many sockets with this key"))?;
    Ok(principal)
}

fn unwelcome(error: &ApiError) -> Close {
    match error.code() {
        "key_expired" => Close::KeyEnded("the key has expired"),
        "login_ended" => Close::LOGIN_ENDED,
        _ if error.is_retryable() => Close::TryLater,
        _ => Close::Unauthorised,
    }
}

/// Why a socket is not greeted, with what the client may mend.
struct Unwelcome {
    fault: Option<InvalidRequest>,
    close: Close,
}

impl From<Close> for Unwelcome {
    fn from(close: Close) -> Self {
        Self { fault: None, close }
    }
}

async fn first_text(stream: &mut SplitStream<WebSocket>) -> Result<String, Close> {
    for _ in 0..HELLO_PATIENCE {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
            Some(Ok(Message::Binary(_))) => return Err(Close::Binary),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Err(error)) => return Err(Close::of_read(&error)),
            Some(Ok(Message::Close(_))) => return Err(Close::Bye),
            None => return Err(Close::Lost),
        }
    }
    Err(Close::Protocol("the first frame must be hello"))
}

async fn welcome(api: &Api, principal: &Principal) -> Frame {
    let models = api.0.chat.router().models().await.into_iter().map(|model| model.id).collect();
    Frame::Welcome {
        protocol: PROTOCOL,
        connection: new_id(),
        tenant: principal.tenant.clone(),
        heartbeat_ms: u64::try_from(api.0.facts.heartbeat.0.as_millis()).unwrap_or(u64::MAX),
        expires_at: principal.expires_at_ms.map(rfc3339),
        limits: Limits {
            frame_bytes: api.0.facts.max_frame_bytes,
            streams: MAX_STREAMS,
            frames_per_second: api.0.facts.max_frames_per_second.get(),
        },
        models,
        default_model: api.0.facts.default_model.clone(),
    }
}

/// The error frame of a request that was not taken; it names the request where that had a name that can be one.
fn refusal(id: Option<String>, request_id: &str, error: &ApiError) -> Frame {
    Frame::Error {
        code: error.code().to_owned(),
        message: error.message().to_owned(),
        retryable: error.is_retryable(),
        partial: false,
        param: error.param().map(str::to_owned),
        id: id.filter(|id| frames::is_request_id(id)),
        stream: None,
        epoch: None,
        seq: None,
        reply: None,
        retry_after_ms: error.retry_after().and_then(|wait| u64::try_from(wait.as_millis()).ok()),
        request_id: Some(request_id.to_owned()),
    }
}
