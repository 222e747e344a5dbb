//! Stored conversations over REST, where they are called sessions. A message posted here is stored before it is answered,
//! as on the socket; the answer comes whole or as events in the socket's own words.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::address::{Path, Query};
use super::error::{ApiError, Problem};
use super::ws::frames::{Frame, SendFrame, frame_of};
use super::{Api, body};
use crate::conversations::{Conversation, Conversations, Page, StoredMessage};
use crate::keys::Principal;
use crate::message::InvalidRequest;
use crate::streams::{Piece, Subscription, Terminal};

#[derive(Deserialize)]
pub(super) struct Paging {
    limit: Option<usize>,
    cursor: Option<String>,
    before: Option<Uuid>,
}

impl Paging {
    /// 50 by default, 200 at most.
    fn limit(&self) -> usize {
        self.limit.unwrap_or(50).clamp(1, 200)
    }
}

pub(super) async fn list(
    State(conversations): State<Conversations>,
    Extension(principal): Extension<Principal>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Conversation>>, Problem> {
    Ok(Json(conversations.list(&principal.tenant, paging.limit(), paging.cursor.as_deref()).await?))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct NewSession {
    title: Option<String>,
}

pub(super) async fn create(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    body: Body,
) -> Result<Response, Problem> {
    let bytes = body::read(body, api.0.facts.max_body_bytes).await?;
    let wish: NewSession = if bytes.is_empty() {
        NewSession::default()
    } else {
        serde_json::from_slice(&bytes).map_err(|error| InvalidRequest {
            message: format!("the body is not what this route takes: {error}"),
            param: None,
        })?
    };
    let made = api.0.conversations.create(&principal.tenant, wish.title.as_deref()).await?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

pub(super) async fn read(
    State(conversations): State<Conversations>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Json<Conversation>, Problem> {
    Ok(Json(conversations.get(&principal.tenant, uuid(&id)?).await?))
}

pub(super) async fn delete(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = uuid(&id)?;
    api.0.conversations.delete(&principal.tenant, id).await?;
    api.0.streams.cancel_conversation(&principal.tenant, id);
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn messages(
    State(conversations): State<Conversations>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<StoredMessage>>, Problem> {
    Ok(Json(conversations.messages(&principal.tenant, uuid(&id)?, paging.limit(), paging.before).await?))
}

pub(super) async fn why(
    State(conversations): State<Conversations>,
    Extension(principal): Extension<Principal>,
    Path((_, message)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let explanation = conversations.explanation(&principal.tenant, uuid(&message)?).await?;
    Ok(([(CONTENT_TYPE, "application/json")], explanation).into_response())
}

/// A question to a stored conversation. `stream: true` answers with server-sent events that hold the socket's frames.
pub(super) async fn send(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Wish {
        #[serde(default)]
        stream: bool,
        #[serde(flatten)]
        send: Value,
    }
    let mut wish: Wish = body::json(request.into_body(), api.0.facts.max_body_bytes).await?;
    if let Value::Object(members) = &mut wish.send {
        members.insert("conversation".to_owned(), uuid(&id)?.to_string().into());
        members.entry("id").or_insert_with(|| crate::clock::new_id().to_string().into());
    }
    let frame: SendFrame = serde_json::from_value(wish.send).map_err(|error| InvalidRequest {
        message: format!("the body is not what this route takes: {error}"),
        param: None,
    })?;
    let client_id = frame.id.clone();
    let question = frame.into_question(&api.0.facts.default_model)?;
    let begun = api.0.streams.send(&principal, question).await?;
    let Some(subscription) = api.0.streams.subscribe(&principal.tenant, begun.stream, 0) else {
        return Ok(Json(api.0.conversations.message(&principal.tenant, begun.reply).await?).into_response());
    };
    if wish.stream {
        return Ok(events(client_id, subscription));
    }
    let terminal = wait(subscription).await;
    if let Some(Terminal::Error(facts)) = terminal {
        return Err(Problem(ApiError::new(StatusCode::BAD_GATEWAY, &facts.code, facts.message)));
    }
    let question = api.0.conversations.message(&principal.tenant, begun.message).await?;
    let answer = api.0.conversations.message(&principal.tenant, begun.reply).await?;
    Ok(Json(json!({"conversation": begun.conversation, "question": question, "answer": answer})).into_response())
}

/// Waits for the end of an answer.
pub(super) async fn wait(mut subscription: Subscription) -> Option<Terminal> {
    while let Some(piece) = subscription.next(u64::MAX).await {
        if let Piece::End { terminal, .. } = piece {
            return Some(terminal);
        }
    }
    None
}

/// The answer's frames as server-sent events. Closing the connection does not end the answer: it is stored.
fn events(id: String, subscription: Subscription) -> Response {
    let begun = subscription.stream.begun;
    let ack = Frame::Ack {
        id,
        conversation: begun.conversation,
        message: begun.message,
        reply: begun.reply,
        stream: begun.stream,
        epoch: subscription.stream.epoch,
        duplicate: begun.duplicate,
    };
    let state = (subscription, Some(ack));
    let pieces = futures_util::stream::unfold(state, |(mut subscription, ack)| async move {
        let text = match ack {
            Some(ack) => format!("data: {}\n\n", ack.to_json()),
            None => match tokio::time::timeout(Duration::from_secs(15), subscription.next(u64::MAX)).await {
                Ok(piece) => format!("data: {}\n\n", frame_of(&subscription.stream, piece?).to_json()),
                Err(_) => ": keep-alive\n\n".to_owned(),
            },
        };
        Some((Ok::<_, std::convert::Infallible>(text), (subscription, None)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

pub(super) fn uuid(text: &str) -> Result<Uuid, ApiError> {
    let shown: String = text.chars().take(50).collect();
    text.parse().map_err(|_| ApiError::not_found(format!("{shown:?} is no identifier of ours")))
}
