//! The simplest client: `POST /api/chat {"message": "..."}`, answered whole and stored like any other message.

use axum::http::request::Parts;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Api;
use super::conversations::wait;
use super::error::ApiError;
use super::prepared::control_headers;
use crate::cache::CacheControl;
use crate::conversations::NewTurn;
use crate::keys::Principal;
use crate::streams::{Found, Question, Terminal};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    message: String,
    session: Option<Uuid>,
    model: Option<String>,
}

pub(super) async fn chat(api: &Api, principal: &Principal, head: &Parts, body: &[u8]) -> Result<Value, ApiError> {
    let wish: Wish = super::body::parse(body)?;
    let control = CacheControl::of_request(None, &control_headers(&head.headers)?)?;
    let turn = NewTurn { conversation: wish.session, content: wish.message, ..NewTurn::default() };
    let question = Question { turn, model: wish.model, control, ..Question::default() };
    let begun = api.0.streams.send(principal, question, head.extensions.get().cloned()).await?;
    if let Found::Live(subscription) = api.0.streams.seek(&principal.tenant, begun.stream, 0).await?
        && let Terminal::Error(facts) = wait(subscription).await
    {
        return Err(facts.into());
    }
    let answer = api.0.conversations.message(&principal.tenant, begun.reply).await?;
    Ok(
        json!({"session": begun.conversation, "message": answer.content, "model": answer.model, "cache": answer.cache, "usage": answer.usage}),
    )
}
