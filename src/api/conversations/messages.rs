//! The messages of a session over REST. One posted here is stored before it is answered, as on the socket; the answer
//! comes whole or as events in the socket's own words.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Request};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::uuid;
use crate::api::address::{Path, Query};
use crate::api::error::Problem;
use crate::api::fields::Fields;
use crate::api::node::Node;
use crate::api::prepared::control_headers;
use crate::api::ws::frames::{Frame, SendFrame, frame_of};
use crate::api::{Api, body};
use crate::cache::CacheControl;
use crate::conversations::{Conversations, Slice};
use crate::keys::Principal;
use crate::message::{InvalidRequest, JsonObject};
use crate::streams::{Found, Piece, Question, Subscription, Terminal, interrupted};

/// What `fields` may name of a message.
const FIELDS: &[&str] = &[
    "id",
    "parent",
    "role",
    "content",
    "reasoning",
    "state",
    "model",
    "created_at",
    "finish_reason",
    "usage",
    "cache",
    "error",
    "stream",
    "epoch",
    "seq",
    "elapsed_ms",
    "siblings",
];

#[derive(Deserialize)]
pub(in crate::api) struct MessagesWish {
    limit: Option<usize>,
    offset: Option<usize>,
    /// `before` is the older name of `cursor`.
    #[serde(alias = "before")]
    cursor: Option<Uuid>,
    leaf: Option<Leaf>,
    fields: Option<String>,
}

/// Which branch.
#[derive(Deserialize)]
#[serde(untagged)]
enum Leaf {
    /// The one that ends with this message.
    Message(Uuid),
    /// The one that the session has selected.
    Selected(Selected),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Selected {
    Selected,
}

pub(in crate::api) async fn messages(
    State(conversations): State<Conversations>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Query(wish): Query<MessagesWish>,
) -> Result<Json<Value>, Problem> {
    let slice = Slice::new(wish.limit, wish.offset)?;
    let fields = Fields::parse(wish.fields.as_deref(), FIELDS)?;
    let (tenant, id) = (&principal.tenant, uuid(&id)?);
    let page = match wish.leaf {
        None => conversations.messages(tenant, id, slice, wish.cursor).await?,
        Some(Leaf::Selected(Selected::Selected)) => conversations.branch(tenant, id, None, slice, wish.cursor).await?,
        Some(Leaf::Message(leaf)) => conversations.branch(tenant, id, Some(leaf), slice, wish.cursor).await?,
    };
    Ok(Json(fields.of_page(&page)))
}

pub(in crate::api) async fn why(
    State(conversations): State<Conversations>,
    Extension(principal): Extension<Principal>,
    Path((_, message)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let explanation = conversations.explanation(&principal.tenant, uuid(&message)?).await?;
    Ok(([(CONTENT_TYPE, "application/json")], explanation).into_response())
}

/// A question to a stored conversation. `stream: true` answers with server-sent events that hold the socket's frames.
pub(in crate::api) async fn send(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let place = head.extensions.get().cloned();
    let body = body::read(body, api.0.facts.max_body_bytes).await?;
    let wish = Node::root(JsonObject::parse(&body).map_err(InvalidRequest::from)?);
    let as_stream = wish.read("stream", "a boolean")?.unwrap_or(false);
    let frame = SendFrame::of_body(&wish, uuid(&id)?)?;
    let client_id = frame.id.clone();
    let control = CacheControl::of_request(wish.get("cache"), &control_headers(&head.headers)?)?;
    let question = Question { control, ..frame.into_question() };
    let begun = api.0.streams.send(&principal, question, place).await?;
    let subscription = match api.0.streams.seek(&principal.tenant, begun.stream, 0).await? {
        Found::Live(subscription) => subscription,
        Found::Stored(message) => return Ok(Json(message).into_response()),
    };
    if as_stream {
        return Ok(events(client_id, subscription));
    }
    if let Terminal::Error(facts) = wait(subscription).await {
        return Err(facts.into());
    }
    let question = api.0.conversations.message(&principal.tenant, begun.message).await?;
    let answer = api.0.conversations.message(&principal.tenant, begun.reply).await?;
    Ok(Json(json!({"conversation": begun.conversation, "question": question, "answer": answer})).into_response())
}

/// Waits for the end of an answer. One that goes on elsewhere has been cut for those who cannot follow it there.
pub(in crate::api) async fn wait(mut subscription: Subscription) -> Terminal {
    while let Some(piece) = subscription.next(u64::MAX).await {
        if let Piece::End { terminal, .. } = piece {
            return terminal;
        }
    }
    Terminal::Error(interrupted(subscription.seen() > 0))
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
        epoch: subscription.epoch(),
        duplicate: begun.duplicate,
    };
    let state = (subscription, Some(ack), false);
    let pieces = futures_util::stream::unfold(state, |(mut subscription, ack, mut is_over)| async move {
        let text = match ack {
            Some(ack) => format!("data: {}\n\n", ack.to_json()),
            None if is_over => return None,
            None => match tokio::time::timeout(Duration::from_secs(15), subscription.next(u64::MAX)).await {
                Ok(piece) => {
                    let seq = subscription.seen();
                    // Who reads events cannot follow an answer that goes on elsewhere.
                    let piece = piece.unwrap_or(Piece::End { seq, terminal: Terminal::Error(interrupted(seq > 0)) });
                    is_over = matches!(piece, Piece::End { .. });
                    format!("data: {}\n\n", frame_of(&subscription, piece).to_json())
                }
                Err(_) => ": keep-alive\n\n".to_owned(),
            },
        };
        Some((Ok::<_, std::convert::Infallible>(text), (subscription, None, is_over)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversations::{MessageState, StoredMessage};

    #[test]
    fn every_field_of_a_message_is_known() {
        let message = StoredMessage {
            id: Uuid::nil(),
            conversation: Uuid::nil(),
            parent: None,
            role: "user".to_owned(),
            content: String::new(),
            reasoning: "so".to_owned(),
            state: MessageState::Complete,
            model: None,
            created_at: String::new(),
            finish_reason: None,
            usage: None,
            cache: None,
            error: None,
            stream: None,
            epoch: 1,
            seq: 0,
            elapsed_ms: None,
            siblings: Some(Vec::new()),
        };
        let shown = serde_json::to_value(&message).unwrap();
        let mut known = FIELDS.to_vec();
        known.sort_unstable();
        assert_eq!(shown.as_object().unwrap().keys().collect::<Vec<_>>(), known);
    }
}
