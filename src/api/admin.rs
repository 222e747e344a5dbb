//! Keys over REST; only for the admin role.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::address::Path;
use super::conversations::uuid;
use super::error::{ApiError, Problem};
use super::{Api, body};
use crate::keys::{KeyRole, Principal};
use crate::message::InvalidRequest;

pub(super) async fn list_keys(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    Ok(Json(json!({"data": api.0.keys.list().await?})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyWish {
    name: String,
    tenant: Option<String>,
    #[serde(default)]
    admin: bool,
}

pub(super) async fn create_key(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    admin(&principal)?;
    let wish: KeyWish = body::json(request.into_body(), api.0.facts.max_body_bytes).await?;
    let tenant = wish.tenant.unwrap_or_else(|| "default".to_owned());
    if tenant.is_empty()
        || tenant.len() > 64
        || !tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    {
        return Err(InvalidRequest::of("tenant", "`tenant` takes 1 to 64 letters, digits, '-', '_' and '.'").into());
    }
    let role = if wish.admin { KeyRole::Admin } else { KeyRole::User };
    let made = api.0.keys.create(&wish.name, &tenant, role).await?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

pub(super) async fn revoke_key(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    admin(&principal)?;
    if api.0.keys.revoke(uuid(&id)?).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem(ApiError::not_found("no such key, or it is revoked already")))
}

/// Only for the admin role.
pub(super) fn admin(principal: &Principal) -> Result<(), ApiError> {
    if principal.role == KeyRole::Admin {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::FORBIDDEN, "admin_only", "this route needs a key with the admin role"))
}
