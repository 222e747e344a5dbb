//! Keys over REST; only for the admin role.

use std::num::NonZeroU32;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::address::{Path, Query};
use super::conversations::uuid;
use super::error::{ApiError, Problem};
use super::whole::{plain_value, whole};
use super::{Api, body};
use crate::keys::{Allowance, BudgetPeriod, KeyInfo, KeyRole, KeyWish, Money, Principal};
use crate::limits::Spent;
use crate::message::InvalidRequest;
use crate::users::{NoUserName, UserName};

pub(super) async fn list_keys(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let spending = api.0.limits.spending().await?;
    let shown = |key: KeyInfo| ShownKey { spent: spending.get(&key.id).copied().unwrap_or_default(), key };
    let keys: Vec<ShownKey> = api.0.keys.list().await?.into_iter().map(shown).collect();
    Ok(Json(json!({"data": keys})))
}

/// A key with its money in the current period.
#[derive(Serialize)]
struct ShownKey {
    #[serde(flatten)]
    key: KeyInfo,
    #[serde(flatten)]
    spent: Spent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WishedKey {
    name: String,
    tenant: Option<String>,
    #[serde(default)]
    admin: bool,
    /// For any user of the tenant, whom each request names.
    #[serde(default)]
    service: bool,
    /// Whose key it is to be, as `PROVIDER/ID`.
    user: Option<String>,
    #[serde(default, deserialize_with = "whole")]
    requests_per_minute: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "whole")]
    request_burst: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "whole")]
    tokens_per_minute: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "whole")]
    token_burst: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "whole")]
    max_tokens_default: Option<NonZeroU32>,
    budget_usd: Option<Money>,
    budget_period: Option<BudgetPeriod>,
    /// Seconds from now.
    #[serde(default, deserialize_with = "whole")]
    expires_in: Option<NonZeroU32>,
}

impl WishedKey {
    /// What the key may do: one of the three at most is said.
    fn role(&self) -> Result<KeyRole, InvalidRequest> {
        match (self.admin, self.service, &self.user) {
            (true, false, None) => Ok(KeyRole::Admin),
            (false, true, None) => Ok(KeyRole::Service),
            (false, false, _) => Ok(KeyRole::User),
            _ => Err(InvalidRequest::of("user", "a key takes one of `admin`, `service` and `user`")),
        }
    }

    fn allowance(&self) -> Allowance {
        Allowance {
            requests_per_minute: self.requests_per_minute,
            request_burst: self.request_burst,
            tokens_per_minute: self.tokens_per_minute,
            token_burst: self.token_burst,
            max_tokens_default: self.max_tokens_default,
            budget: self.budget_usd,
            budget_period: self.budget_period,
        }
    }
}

pub(super) async fn create_key(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    request: Request<Body>,
) -> Result<Response, Problem> {
    admin(&principal)?;
    let wish: WishedKey = body::json(request.into_body(), api.0.facts.max_body_bytes).await?;
    let allowance = wish.allowance();
    let role = wish.role()?;
    let tenant = wish.tenant.unwrap_or_else(|| "default".to_owned());
    if tenant.is_empty()
        || tenant.len() > 64
        || !tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    {
        return Err(InvalidRequest::of("tenant", "`tenant` takes 1 to 64 letters, digits, '-', '_' and '.'").into());
    }
    let user = match wish.user {
        Some(name) => {
            let name: UserName =
                name.parse().map_err(|error: NoUserName| InvalidRequest::of("user", error.to_string()))?;
            Some((api.0.users.identify(&tenant, &name).await?, name))
        }
        None => None,
    };
    let lasts_ms = |seconds: NonZeroU32| u64::from(seconds.get()) * 1_000;
    let expires_at_ms = wish.expires_in.map(|seconds| api.0.facts.clock.now_ms() + lasts_ms(seconds));
    let made = api.0.keys.create(KeyWish { name: wish.name, tenant, role, user, allowance, expires_at_ms }).await?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

/// Changes what a key may use: a member that is given replaces the old one, `null` takes it away.
pub(super) async fn change_key(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Result<Json<KeyInfo>, Problem> {
    admin(&principal)?;
    let id = uuid(&id)?;
    let wish: Map<String, Value> = body::json(request.into_body(), api.0.facts.max_body_bytes).await?;
    let unknown = || Problem(ApiError::not_found("no such key"));
    let mut key = api.0.keys.get(id).await?.ok_or_else(unknown)?;
    key.allowance = changed(key.allowance, wish)?;
    if !api.0.keys.allow(id, key.allowance).await? {
        return Err(unknown());
    }
    Ok(Json(key))
}

fn changed(allowance: Allowance, wish: Map<String, Value>) -> Result<Allowance, InvalidRequest> {
    let mut members = json!(allowance);
    if let Value::Object(members) = &mut members {
        members.extend(wish.into_iter().map(|(name, value)| (name, plain_value(value))));
    }
    let fault =
        |error| InvalidRequest { message: format!("the body is not what this route takes: {error}"), param: None };
    serde_json::from_value(members).map_err(fault)
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UsersWish {
    /// Whose users; else those of the key's own tenant.
    tenant: Option<String>,
    /// The name that the last page ended with.
    after: Option<String>,
}

/// A tenant's users by name, 500 at a time.
pub(super) async fn users(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Query(wish): Query<UsersWish>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let after = wish.after.map(|name| name.parse::<UserName>()).transpose();
    let after = after.map_err(|error| InvalidRequest::of("after", error.to_string()))?;
    let tenant = wish.tenant.unwrap_or(principal.tenant);
    let users = api.0.users.list(&tenant, after.as_ref()).await?;
    Ok(Json(json!({"data": users})))
}

/// Only for the admin role.
pub(super) fn admin(principal: &Principal) -> Result<(), ApiError> {
    if principal.role == KeyRole::Admin {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::FORBIDDEN, "admin_only", "this route needs a key with the admin role"))
}
