//! Stored conversations over REST, where they are called sessions: made, listed, searched, renamed, deleted.

mod export;
mod messages;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

pub(super) use export::export;
pub(super) use messages::{messages, send, wait, why};

use super::address::{Path, Query};
use super::error::{ApiError, Problem};
use super::fields::Fields;
use super::{Api, body};
use crate::conversations::{ConversationError, Conversations, SearchQuery, Slice};
use crate::db::DbError;
use crate::keys::Principal;
use crate::message::InvalidRequest;

/// What `fields` may name of a session.
const FIELDS: &[&str] = &["id", "title", "model", "created_at", "updated_at", "messages", "leaf"];

/// And of one that a search found.
const FOUND_FIELDS: &[&str] = &["id", "title", "model", "created_at", "updated_at", "messages", "leaf", "match"];

#[derive(Deserialize)]
pub(super) struct ListWish {
    q: Option<String>,
    limit: Option<usize>,
    offset: Option<usize>,
    cursor: Option<String>,
    fields: Option<String>,
}

/// The newest first; with `q`, those that hold its words, best first.
pub(super) async fn list(
    State(conversations): State<Conversations>,
    Extension(principal): Extension<Principal>,
    Query(wish): Query<ListWish>,
) -> Result<Json<Value>, Problem> {
    let slice = Slice::new(wish.limit, wish.offset)?;
    if wish.cursor.is_some() && wish.offset.is_some() {
        return Err(
            InvalidRequest::of("cursor", "`cursor` and `offset` both say where the page begins; give one").into()
        );
    }
    let Some(q) = wish.q else {
        let fields = Fields::parse(wish.fields.as_deref(), FIELDS)?;
        let after = wish.cursor.map(|cursor| cursor.parse()).transpose()?;
        return Ok(Json(fields.of_page(&conversations.list(&principal.space(), slice, after).await?)));
    };
    if wish.cursor.is_some() {
        return Err(InvalidRequest::of("cursor", "a search is ordered by rank and has no cursors; use `offset`").into());
    }
    let fields = Fields::parse(wish.fields.as_deref(), FOUND_FIELDS)?;
    let found = conversations.search(&principal.space(), &SearchQuery::parse(&q), slice).await?;
    Ok(Json(fields.of_page(&found)))
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
    let made = api.0.conversations.create(&principal.space(), wish.title.as_deref()).await?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

#[derive(Deserialize)]
pub(super) struct ReadWish {
    fields: Option<String>,
}

pub(super) async fn read(
    State(conversations): State<Conversations>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Query(wish): Query<ReadWish>,
) -> Result<Json<Value>, Problem> {
    let fields = Fields::parse(wish.fields.as_deref(), FIELDS)?;
    Ok(Json(fields.of(&conversations.get(&principal.space(), uuid(&id)?).await?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    title: Option<String>,
    leaf: Option<Uuid>,
}

/// Renames, or selects the branch that goes through a message, or both.
pub(super) async fn change(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Result<Json<Value>, Problem> {
    let id = uuid(&id)?;
    let change: Change = body::json(request.into_body(), api.0.facts.max_body_bytes).await?;
    let conversations = &api.0.conversations;
    if change.title.is_none() && change.leaf.is_none() {
        let message = "name what is to change: `title`, `leaf`, or both".to_owned();
        return Err(InvalidRequest { message, param: None }.into());
    }
    if let Some(leaf) = change.leaf {
        conversations.select(&principal.space(), id, leaf).await?;
    }
    if let Some(title) = change.title {
        conversations.rename(&principal.space(), id, &title).await?;
    }
    Ok(Json(Fields::all().of(&conversations.get(&principal.space(), id).await?)))
}

pub(super) async fn delete(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = uuid(&id)?;
    let tasks = api.0.tasks.clone();
    // A long one is deleted in parts: a client that goes away must not leave half of it.
    let deleted = tasks.spawn(async move {
        api.0.conversations.delete(&principal.space(), id).await?;
        api.0.streams.cancel_conversation(&principal.space(), id);
        Ok::<_, ConversationError>(())
    });
    deleted.await.unwrap_or(Err(ConversationError::Store(DbError::Closed)))?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn uuid(text: &str) -> Result<Uuid, ApiError> {
    let shown: String = text.chars().take(50).collect();
    text.parse().map_err(|_| ApiError::not_found(format!("{shown:?} is no identifier of ours")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversations::{Conversation, Found, Match};

    fn names(item: &impl serde::Serialize) -> Vec<String> {
        serde_json::to_value(item).unwrap().as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn every_field_of_a_session_is_known() {
        let conversation = Conversation {
            id: Uuid::nil(),
            title: String::new(),
            model: None,
            created_at: String::new(),
            updated_at: String::new(),
            messages: 0,
            leaf: None,
        };
        let mut known = FIELDS.to_vec();
        known.sort_unstable();
        assert_eq!(names(&conversation), known);
        let r#match = Match { message: None, role: None, texts: 1, snippet: Vec::new() };
        let mut known = FOUND_FIELDS.to_vec();
        known.sort_unstable();
        assert_eq!(names(&Found { conversation, r#match }), known);
    }
}
