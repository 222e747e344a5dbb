//! Accepts connections, routes requests and answers them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use socket2::{SockRef, Socket};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Shared;
use super::answer::Answer;
use super::behaviour::{Behaviour, Fault};
use super::body::{Broken, ScriptBody, wait_before_headers};
use super::dialect::{self, Dialect};
use super::embeddings;
use super::log::{Arrival, Route, Tracker};
use super::refusal::Refusal;
use super::request::ChatRequest;
use super::script::{self, Script};
use super::strict;

const MAX_BODY_BYTES: usize = 64 << 20;
const JSON: &str = "application/json";

/// An answer, or a control reply that is no part of the act.
type ReplyBody = Either<ScriptBody, Full<Bytes>>;

/// Serves for ever. Dropping the future closes every connection.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(serve_connection(socket, Arc::clone(&shared)));
                }
                // Out of file descriptors, most likely: a moment later some are free again.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(socket: TcpStream, shared: Arc<Shared>) {
    let Ok(handle) = SockRef::from(&socket).try_clone() else {
        return;
    };
    // Without it a keep-alive stream waits 40 ms for the client's delayed acknowledgement.
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(|request| answer(Arc::clone(&shared), &handle, request));
    // An error is a client that went away or a break that was asked for; the log has both.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

/// Answers one request; an error closes the connection without a reply.
async fn answer(
    shared: Arc<Shared>,
    socket: &Socket,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Broken> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(|_| Broken)?.to_bytes();
    let path = head.uri.path();
    match (&head.method, path.strip_prefix("/v1").unwrap_or(path)) {
        (&Method::GET, "/_log") => return Ok(control(shared.log.to_json().to_string())),
        (&Method::GET, "/_counts") => return Ok(control(json!(shared.log.counts()).to_string())),
        (&Method::POST, "/_next") => return Ok(plan_next(&shared, &body)),
        (&Method::POST, "/_release") => return Ok(release(&shared, &body).await),
        _ => {}
    }
    let route = route(&head.method, path, &head.headers);
    let target = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let kind = route.kind();
    let id = shared.log.arrived(Arrival { route: kind, target, headers: head.headers.clone(), body: body.clone() });
    let tracker = Tracker::new(Arc::clone(&shared), id);
    match route {
        Routed::Chat(dialect) => answer_chat(&shared, dialect, tracker, socket, (path, &body)).await,
        Routed::Embeddings => Ok(answer_embeddings(tracker, &body)),
        Routed::Models(dialect) => Ok(whole(tracker, dialect.models(&shared.models))),
        Routed::Count => Ok(counted(tracker, &body)),
        Routed::Unknown => Ok(refuse(Dialect::OpenAi, tracker, &Refusal::not_found(path), false)),
    }
}

/// Where a request goes, and in whose dialect.
enum Routed {
    Chat(Dialect),
    Embeddings,
    Models(Dialect),
    Count,
    Unknown,
}

impl Routed {
    fn kind(&self) -> Route {
        match self {
            Self::Chat(_) => Route::Chat,
            Self::Embeddings => Route::Embeddings,
            Self::Models(_) => Route::Models,
            Self::Count => Route::Count,
            Self::Unknown => Route::Unknown,
        }
    }
}

fn route(method: &Method, path: &str, headers: &HeaderMap) -> Routed {
    if *method == Method::POST
        && let Some(dialect) = Dialect::of_chat(path)
    {
        return Routed::Chat(dialect);
    }
    match (method, path.strip_prefix("/v1").unwrap_or(path)) {
        (&Method::POST, "/embeddings") => Routed::Embeddings,
        (&Method::POST, "/messages/count_tokens") => Routed::Count,
        (&Method::GET, _) => Dialect::of_models(path, headers).map_or(Routed::Unknown, Routed::Models),
        _ => Routed::Unknown,
    }
}

async fn answer_chat(
    shared: &Shared,
    dialect: Dialect,
    mut tracker: Tracker,
    socket: &Socket,
    (path, body): (&str, &Bytes),
) -> Result<Response<ReplyBody>, Broken> {
    let mut behaviour = shared.next_behaviour();
    let Some(request) = dialect.read(path, body) else {
        return Ok(refuse(dialect, tracker, &Refusal::bad_request("not a chat completion request"), false));
    };
    if let Err(error) = behaviour.apply(request.last_user_text()) {
        return Ok(refuse(dialect, tracker, &Refusal::bad_request(error.to_string()), request.stream));
    }
    if behaviour.strict
        && let Some(name) = strict::unknown(dialect, body)
    {
        let refusal = Refusal::bad_request(format!("unknown member {name}"));
        return Ok(refuse(dialect, tracker, &refusal, request.stream));
    }
    tracker.answering(0, request.stream);
    break_before_reply(&behaviour, &mut tracker, socket).await?;
    if let Some(refusal) = behaviour.fault.and_then(|fault| Refusal::of_fault(fault, request.stream)) {
        return Ok(refuse(dialect, tracker, &refusal, request.stream));
    }
    Ok(complete(dialect, request, &behaviour, tracker).await)
}

/// The faults that leave the client without any reply.
async fn break_before_reply(behaviour: &Behaviour, tracker: &mut Tracker, socket: &Socket) -> Result<(), Broken> {
    match behaviour.fault {
        Some(Fault::NoReply) => std::future::pending().await,
        Some(Fault::Close) => {}
        Some(Fault::Reset) => {
            // Closing a socket that lingers for no time at all sends RST instead of FIN.
            socket.set_linger(Some(Duration::ZERO)).map_err(|_| Broken)?;
        }
        _ => return Ok(()),
    }
    tracker.broken();
    Err(Broken)
}

async fn complete(
    dialect: Dialect,
    request: ChatRequest,
    behaviour: &Behaviour,
    tracker: Tracker,
) -> Response<ReplyBody> {
    let (stream, include_usage) = (request.stream, request.include_usage && !behaviour.uncounted);
    let streaming = stream && behaviour.fault != Some(Fault::IgnoreStream);
    let answer = Answer::new(request, behaviour, tracker.id());
    let script = if behaviour.fault == Some(Fault::Garbage) {
        Script::garbage()
    } else if streaming {
        script::stream(dialect, &answer, behaviour, include_usage)
    } else {
        wait_before_headers(script::before_json(behaviour), &tracker).await;
        script::json(dialect, &answer, behaviour)
    };
    let content_type = match behaviour.fault {
        Some(Fault::WrongContentType) => "text/html",
        _ if streaming => dialect.stream_type(),
        _ => JSON,
    };
    tracker.answering(200, stream);
    respond(200, content_type, None, ScriptBody::new(script, tracker))
}

fn answer_embeddings(tracker: Tracker, body: &[u8]) -> Response<ReplyBody> {
    match embeddings::reply(body) {
        Some(reply) => whole(tracker, reply),
        None => refuse(Dialect::OpenAi, tracker, &Refusal::bad_request("not an embeddings request"), false),
    }
}

/// A token is a word of the messages. What only an answer needs is refused, as Anthropic does.
fn counted(tracker: Tracker, body: &Bytes) -> Response<ReplyBody> {
    match dialect::counted(body) {
        Ok(tokens) => whole(tracker, json!({ "input_tokens": tokens }).to_string().into_bytes()),
        Err(fault) => refuse(Dialect::Anthropic, tracker, &Refusal::bad_request(fault), false),
    }
}

fn whole(tracker: Tracker, body: Vec<u8>) -> Response<ReplyBody> {
    tracker.answering(200, false);
    respond(200, JSON, None, ScriptBody::new(Script::whole(body, 0), tracker))
}

fn refuse(dialect: Dialect, tracker: Tracker, refusal: &Refusal, stream: bool) -> Response<ReplyBody> {
    let (status, body) = dialect.refusal(refusal);
    tracker.answering(status, stream);
    // Gemini says it in its body.
    let retry_after = refusal.retry_after.filter(|_| dialect != Dialect::Gemini);
    respond(status, JSON, retry_after, ScriptBody::new(Script::whole(body, 0), tracker))
}

/// Gives the next chat request the directives in `body`, whatever its own prompt says.
fn plan_next(shared: &Shared, body: &[u8]) -> Response<ReplyBody> {
    match shared.plan_next(&String::from_utf8_lossy(body)) {
        Ok(()) => control("{}".to_owned()),
        Err(error) => not_done(&error),
    }
}

/// Waits until as many replies are held as `body` says, and lets them go on.
async fn release(shared: &Shared, body: &[u8]) -> Response<ReplyBody> {
    let count = match String::from_utf8_lossy(body).trim().parse() {
        Ok(count) => count,
        Err(error) => return not_done(&error),
    };
    if let Err(error) = shared.gate.wait_until_held(count).await {
        return not_done(&error);
    }
    shared.release();
    control("{}".to_owned())
}

/// What a checker asked for did not happen.
fn not_done(error: &dyn std::error::Error) -> Response<ReplyBody> {
    let mut response = control(json!({ "error": error.to_string() }).to_string());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

/// A reply to a checker; the log does not mention it.
fn control(body: String) -> Response<ReplyBody> {
    let mut response = Response::new(Either::Right(Full::from(body)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

fn respond(status: u16, content_type: &'static str, retry_after: Option<u64>, body: ScriptBody) -> Response<ReplyBody> {
    let request_id = HeaderValue::from(body.request_id());
    let mut response = Response::new(Either::Left(body));
    *response.status_mut() = StatusCode::from_u16(status).expect("invariant: faults carry statuses from 400 to 599");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert("x-request-id", request_id);
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
