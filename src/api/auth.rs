//! Who may ask. Local mode: loopback only, no key needed, but a foreign web page must not reach through the browser, so
//! Host, Origin and fetch metadata are checked. Otherwise every route but the open ones needs a key, or the cookie of a login
//! with one; a key that is sent goes before a cookie.

use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS, AUTHORIZATION, CACHE_CONTROL, HOST, ORIGIN,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::acting::{acting, named};
use super::admin::admin;
use super::error::{ApiError, Dialect};
use super::peer::ClientAddress;
use super::{Api, cookie, headers, rate_limit};
use crate::config::Network;
use crate::keys::{Keys, Principal};
use crate::logins::{LoginDigest, Logins};
use crate::users::Users;

/// How access is decided; fixed at start.
#[derive(Debug, Clone)]
pub struct Access {
    /// No key needed.
    pub local: bool,
    /// Origins allowed besides the server's own.
    pub allowed_origins: Vec<String>,
    /// Proxies whose word on a client's address is taken.
    pub trusted_proxies: Vec<Network>,
    /// The command line's own token, from the lock file.
    pub cli_token: String,
    /// What opens `/metrics` to a scraper elsewhere.
    pub metrics_token: Option<SecretString>,
}

/// Where those who may ask are found.
#[derive(Clone, Copy)]
pub(super) struct Registers<'a> {
    pub keys: &'a Keys,
    pub logins: &'a Logins,
    pub users: &'a Users,
}

/// Routes that need no key.
const OPEN: &[&str] = &["/livez", "/readyz", "/metrics", "/", "/ws"];

/// Where a login begins, with `POST`.
const LOGIN: &str = "/api/session";

pub(super) async fn authorise(api: &Api, mut request: Request, next: Next) -> Response {
    let access = &api.0.access;
    let dialect = Dialect::of_path(request.uri().path());
    let unambiguous = headers::check(request.headers()).map_err(ApiError::from);
    if let Err(error) = unambiguous.and_then(|()| access.check_browser(request.headers())) {
        return error.respond(dialect);
    }
    let foreign_origin = access.foreign_origin(request.headers()).cloned();
    if request.method() == Method::OPTIONS && foreign_origin.is_some() {
        let asked = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        return preflight(with_cors(StatusCode::NO_CONTENT.into_response(), foreign_origin.as_ref()), asked);
    }
    let client = ClientAddress::of(&request, &access.trusted_proxies);
    if let Some(client) = client {
        if let Err(error) = rate_limit::take_address(api, client, request.uri().path()) {
            return with_cors(error.respond(dialect), foreign_origin.as_ref());
        }
        if request.uri().path() == "/ws" {
            request.extensions_mut().insert(client);
        }
    }
    let (only_admins, mut by_cookie) = (access.keeps_metrics_from(&request), false);
    if access.local || only_admins || !is_open(request.method(), request.uri().path()) {
        let asker = access.asker(api.registers(), request.method(), request.headers()).await;
        let allowed = |asker: Asker| if only_admins { admin(&asker.0).map(|()| asker) } else { Ok(asker) };
        match asker.and_then(allowed) {
            Ok((principal, login)) => {
                let extensions = request.extensions_mut();
                extensions.insert(principal.from_address(client.map(|ClientAddress(address)| address)));
                by_cookie = login.is_some();
                login.map(|login| extensions.insert(login));
            }
            Err(error) => return with_cors(error.respond(dialect), foreign_origin.as_ref()),
        }
    }
    let response = with_cors(rate_limit::run(api, request, next).await, foreign_origin.as_ref());
    if by_cookie { unstored(response) } else { response }
}

/// What a key opens no cache on the way keeps (RFC 9111 section 3.5); of a cookie it has to be said.
fn unstored(mut response: Response) -> Response {
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Whether a header is one that proxies write.
fn is_forwarded(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-forwarded-") || matches!(name.as_str(), "forwarded" | "via" | "x-real-ip")
}

fn is_open(method: &Method, path: &str) -> bool {
    OPEN.contains(&path)
        || !(path.starts_with("/v1/") || path.starts_with("/api/"))
        || (path == LOGIN && *method == Method::POST)
}

/// The key of a request, from either of the headers that clients use.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer =
        authorization.and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")));
    bearer.or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok())).map(str::trim)
}

/// Who asks, and the login by which, if it is one.
pub(super) type Asker = (Principal, Option<LoginDigest>);

/// Who holds this key.
pub(super) async fn holder(keys: &Keys, key: &str) -> Result<Principal, ApiError> {
    if let Some(principal) = keys.recognise(key).await? {
        return Ok(principal);
    }
    if keys.has_expired(key) {
        let message = "the key has expired; `ish keys new` makes another one";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "key_expired", message));
    }
    Err(wrong("the key is unknown or was revoked"))
}

fn wrong(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
}

/// 401 of a login that is none, or none any more.
pub(super) fn login_ended() -> ApiError {
    let message = "the login of this cookie has ended, or its key has: log in again";
    ApiError::new(StatusCode::UNAUTHORIZED, "login_ended", message)
}

impl Access {
    /// Who asks, and for whom.
    pub(super) async fn asker(
        &self,
        by: Registers<'_>,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Asker, ApiError> {
        let by_cookie = !self.local && bearer(headers).is_none();
        let login = if by_cookie { cookie::login(method, headers)? } else { None };
        let principal = match login {
            Some(login) => by.logins.recognise(login).await?.ok_or_else(login_ended)?,
            None => self.principal(by.keys, bearer(headers)).await?,
        };
        Ok((acting(by.users, principal, named(headers)?).await?, login))
    }

    /// Whose key this is.
    pub(super) async fn principal(&self, keys: &Keys, key: Option<&str>) -> Result<Principal, ApiError> {
        if key.is_some_and(|key| bool::from(key.as_bytes().ct_eq(self.cli_token.as_bytes()))) {
            let tenant = if self.local { "local" } else { "default" };
            return Ok(Principal::keyless(tenant));
        }
        if self.local {
            return Ok(Principal::local());
        }
        match key {
            Some(key) => holder(keys, key).await,
            None => Err(wrong("a key is needed: Authorization: Bearer ish_...; `ish keys new` makes one")),
        }
    }

    /// Whether these are metrics that their reader has no right to without an admin's key. They count everybody's questions, so
    /// where there are keys, only whoever asks from this machine itself needs none, as a scraper beside the server.
    fn keeps_metrics_from(&self, request: &Request) -> bool {
        if self.local || request.uri().path() != "/metrics" || self.is_scraper(request.headers()) {
            return false;
        }
        let client = ClientAddress::of(request, &self.trusted_proxies);
        !client.is_some_and(|client| client.0.is_loopback()) || request.headers().keys().any(is_forwarded)
    }

    /// Whether the token of metrics is shown.
    fn is_scraper(&self, headers: &HeaderMap) -> bool {
        let (Some(token), Some(shown)) = (&self.metrics_token, bearer(headers)) else { return false };
        token.expose_secret().as_bytes().ct_eq(shown.as_bytes()).into()
    }

    /// Keeps foreign web pages out.
    pub(super) fn check_browser(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let refused = |message: &str| ApiError::new(StatusCode::FORBIDDEN, "foreign_page", message);
        if let Some(origin) = headers.get(ORIGIN)
            && !is_own_origin(origin, headers)
            && !self.is_allowed(origin)
        {
            return Err(refused("this origin may not use the server: name it in server.allowed_origins"));
        }
        if !self.local {
            return Ok(());
        }
        if !headers.get(HOST).is_none_or(is_loopback_host) {
            return Err(refused(
                "local mode answers to localhost only (DNS rebinding); on another name the server needs keys",
            ));
        }
        if headers.keys().any(is_forwarded) {
            return Err(refused("local mode does not answer through a proxy: make a key with `ish keys new` first"));
        }
        let allowed = headers.get(ORIGIN).is_some_and(|origin| self.is_allowed(origin));
        if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") && !allowed && !is_navigation(headers)
        {
            return Err(refused("local mode does not answer to another site's page"));
        }
        Ok(())
    }

    /// An allowed origin that is not the server's own: its page needs CORS headers.
    fn foreign_origin<'h>(&self, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
        headers.get(ORIGIN).filter(|origin| !is_own_origin(origin, headers) && self.is_allowed(origin))
    }

    fn is_allowed(&self, origin: &HeaderValue) -> bool {
        self.allowed_origins
            .iter()
            .any(|allowed| origin.as_bytes().eq_ignore_ascii_case(allowed.trim_end_matches('/').as_bytes()))
    }
}

pub(super) fn is_own_origin(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let (Ok(origin), Some(Ok(host))) = (origin.to_str(), headers.get(HOST).map(HeaderValue::to_str)) else {
        return false;
    };
    origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host))
}

/// Following a link to the page is no use of the server by the other site.
fn is_navigation(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate") && headers.get(ORIGIN).is_none()
}

fn is_loopback_host(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost")
        || name == "[::1]"
        || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// What an allowed origin's page may send: whatever it asks for. Clients made for a browser bring headers of their own, such
/// as `x-stainless-os` and `anthropic-version`, and none of those that we read gives more rights than its key does.
fn preflight(mut response: Response, asked: Option<HeaderValue>) -> Response {
    if let Some(asked) = asked {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
    }
    response
}

fn with_cors(mut response: Response, origin: Option<&HeaderValue>) -> Response {
    let Some(origin) = origin else { return response };
    let headers = response.headers_mut();
    let set = [
        ("access-control-allow-methods", "GET, POST, PATCH, DELETE, OPTIONS"),
        (
            "access-control-expose-headers",
            "x-request-id, x-process-time, cache-status, x-ish-cache, x-ish-cache-tier, x-ish-cache-similarity, x-ish-cache-key, x-ish-provider, x-ish-cost-usd, age, server-timing, retry-after, retry-after-ms, x-should-retry, x-ratelimit-limit-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, x-ratelimit-reset-tokens",
        ),
        ("access-control-max-age", "600"),
        ("vary", "origin"),
    ];
    for (name, value) in set {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert(HeaderName::from_static("access-control-allow-origin"), origin.clone());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(local: bool) -> Access {
        Access {
            local,
            allowed_origins: vec!["https://ui.example".to_owned()],
            trusted_proxies: Vec::new(),
            cli_token: "t".to_owned(),
            metrics_token: None,
        }
    }

    fn verdict(local: bool, headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        access(local).check_browser(&headers).is_ok()
    }

    #[test]
    fn local_mode_keeps_foreign_pages_out() {
        assert!(verdict(true, &[("host", "127.0.0.1:8080")]));
        assert!(verdict(
            true,
            &[("host", "localhost:8080"), ("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")]
        ));
        assert!(verdict(true, &[("host", "[::1]:8080")]));
        assert!(verdict(
            true,
            &[("host", "localhost"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]
        ));
        assert!(!verdict(true, &[("host", "evil.example:8080")]));
        assert!(!verdict(true, &[("host", "localhost.evil.example")]));
        assert!(!verdict(true, &[("host", "127.0.0.1:8080"), ("origin", "https://evil.example")]));
        assert!(!verdict(true, &[("host", "127.0.0.1:8080"), ("origin", "null")]));
        assert!(!verdict(
            true,
            &[("host", "127.0.0.1:8080"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]
        ));
        assert!(!verdict(true, &[("host", "127.0.0.1:8080"), ("x-forwarded-for", "10.0.0.1")]));
        assert!(verdict(
            true,
            &[("host", "127.0.0.1:8080"), ("origin", "https://ui.example"), ("sec-fetch-site", "cross-site")]
        ));
    }

    #[test]
    fn with_keys_only_the_origin_matters() {
        assert!(verdict(false, &[("host", "chat.example"), ("via", "proxy")]));
        assert!(!verdict(false, &[("host", "chat.example"), ("origin", "https://evil.example")]));
    }
}
