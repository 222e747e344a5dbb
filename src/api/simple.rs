//! The simplest client: `POST /api/chat {"message": "..."}`, answered whole and stored like any other message.

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Api;
use super::conversations::wait;
use super::error::ApiError;
use crate::conversations::NewTurn;
use crate::keys::Principal;
use crate::limits::Pass;
use crate::streams::{Question, Terminal};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    message: String,
    session: Option<Uuid>,
    model: Option<String>,
}

pub(super) async fn chat(
    api: &Api,
    principal: &Principal,
    place: Option<Pass>,
    body: &[u8],
) -> Result<Value, ApiError> {
    let wish: Wish = super::body::parse(body)?;
    let model = wish.model.unwrap_or_else(|| api.0.facts.default_model.clone());
    let turn = NewTurn { conversation: wish.session, content: wish.message, model, ..NewTurn::default() };
    let begun = api.0.streams.send(principal, Question { turn, ..Question::default() }, place).await?;
    if let Some(subscription) = api.0.streams.subscribe(&principal.tenant, begun.stream, 0)
        && let Some(Terminal::Error(facts)) = wait(subscription).await
    {
        return Err(facts.into());
    }
    let answer = api.0.conversations.message(&principal.tenant, begun.reply).await?;
    Ok(
        json!({"session": begun.conversation, "message": answer.content, "model": answer.model, "cache": answer.cache, "usage": answer.usage}),
    )
}
