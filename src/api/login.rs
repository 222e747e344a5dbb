//! Logins over REST: a key is given once, and a cookie speaks for it from then on. Everybody ends his own, and those with the
//! admin role anyone's.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::acting::named;
use super::address::{Path, Query};
use super::admin::admin;
use super::conversations::uuid;
use super::error::{ApiError, Problem};
use super::{Api, auth, body, cookie};
use crate::clock::rfc3339;
use crate::keys::{KeyRole, Principal};
use crate::logins::{LoginDigest, LoginFilter, Which};
use crate::message::InvalidRequest;
use crate::users::{NoUserName, UserName};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    key: String,
}

/// Who asks, as a page shows it.
#[derive(Serialize)]
struct Who {
    /// `local`, `key` or `cookie`.
    by: &'static str,
    /// What the key is called.
    name: Option<String>,
    tenant: String,
    role: KeyRole,
    user: Option<UserName>,
    /// When it ends, at the latest.
    expires_at: Option<String>,
    /// What `x-ish-csrf` has to hold in a change that has no Origin.
    csrf: Option<String>,
}

/// Begins a login. Whoever sends a cookie with it ends that one: a login is always a new one.
pub(super) async fn begin(State(api): State<Api>, request: Request<Body>) -> Result<Response, Problem> {
    if api.0.access.local {
        return Err(Problem(ApiError::new(StatusCode::CONFLICT, "conflict", "local mode has no keys: nobody logs in")));
    }
    let (head, body) = request.into_parts();
    cookie::check_page(&head.headers)?;
    let given: Given = body::json(body, api.0.facts.max_body_bytes).await?;
    let key = auth::holder(&api.0.keys, given.key.trim()).await.inspect_err(|_| api.0.logins.refused())?;
    let begun = api.0.logins.begin(&key).await?;
    if let Some(earlier) = cookie::value(&head.headers) {
        api.0.logins.end(Which::Cookie(LoginDigest::of(earlier))).await?;
    }
    let principal = Principal { expires_at_ms: Some(begun.expires_at_ms), ..key };
    let seconds = begun.expires_at_ms.saturating_sub(api.0.facts.clock.now_ms()) / 1_000;
    let who = who(&api, &principal, None, Some(&begun.cookie)).await?;
    Ok(with_cookie((StatusCode::CREATED, Json(who)), cookie::set(&head.headers, &begun.cookie, seconds)))
}

/// Who asks, by whichever means.
pub(super) async fn read(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    login: Option<Extension<LoginDigest>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let value = login.and_then(|_| cookie::value(&headers));
    let who = who(&api, &principal, named(&headers)?, value).await?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(who)).into_response())
}

async fn who(api: &Api, principal: &Principal, named: Option<UserName>, cookie: Option<&str>) -> Result<Who, ApiError> {
    let key = if principal.key.is_nil() { None } else { api.0.keys.get(principal.key).await? };
    let (name, owner) = key.map(|key| (key.name, key.user)).unzip();
    Ok(Who {
        by: match cookie {
            Some(_) => "cookie",
            None if api.0.access.local => "local",
            None => "key",
        },
        name,
        tenant: principal.tenant.clone(),
        role: principal.role,
        user: named.or_else(|| owner.flatten()),
        expires_at: principal.expires_at_ms.map(rfc3339),
        csrf: cookie.map(cookie::csrf),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndWish {
    /// Those of the same key on other browsers too.
    #[serde(default)]
    all: bool,
}

/// Ends the login that the request comes by, or all of its key.
pub(super) async fn end(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    login: Option<Extension<LoginDigest>>,
    Query(wish): Query<EndWish>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let which = match (wish.all, login) {
        (true, _) if !principal.key.is_nil() => Which::OfKey(principal.key),
        (false, Some(Extension(login))) => Which::Cookie(login),
        _ => {
            let message = "this request comes by no login; with a key, `all=true` ends those that began with it";
            return Err(InvalidRequest::of("all", message).into());
        }
    };
    api.0.logins.end(which).await?;
    Ok(with_cookie(StatusCode::NO_CONTENT, cookie::clear(&headers)))
}

fn with_cookie(response: impl IntoResponse, cookie: HeaderValue) -> Response {
    let mut response = response.into_response();
    response.headers_mut().insert(SET_COOKIE, cookie);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListWish {
    /// Those of this tenant.
    tenant: Option<String>,
    /// Those of this key.
    key: Option<String>,
    /// Those of this user's keys, `PROVIDER/ID`: the tenant's, else the asking key's own.
    user: Option<String>,
    /// Those that began before this one: the last of the page before.
    before: Option<String>,
}

/// The logins that go on, newest first, 500 at a time; only for the admin role.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Query(wish): Query<ListWish>,
) -> Result<Json<Value>, Problem> {
    admin(&principal)?;
    let (key, before) = (wish.key.as_deref().map(uuid).transpose()?, wish.before.as_deref().map(uuid).transpose()?);
    let mut filter = LoginFilter { tenant: wish.tenant, key, user: None, before };
    if let Some(name) = wish.user {
        let name = name.parse().map_err(|error: NoUserName| InvalidRequest::of("user", error.to_string()))?;
        let tenant = filter.tenant.as_ref().unwrap_or(&principal.tenant);
        let Some(user) = api.0.users.find(tenant, &name).await? else { return Ok(Json(json!({"data": []}))) };
        filter.user = Some(user);
    }
    Ok(Json(json!({"data": api.0.logins.list(filter).await?})))
}

/// Ends anyone's; only for the admin role.
pub(super) async fn end_any(
    State(api): State<Api>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    admin(&principal)?;
    match api.0.logins.end(Which::Id(uuid(&id)?)).await? {
        0 => Err(Problem(ApiError::not_found("no such login, or it has ended"))),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}
