//! Who asks, for handlers of other routers: the same keys, logins, users and rules about foreign pages as on our own routes.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::response::Response;

use super::auth::{Access, Registers};
use super::error::{ApiError, Dialect};
use super::headers;
use crate::endpoint::Scoped;
use crate::keys::{Keys, Principal};
use crate::logins::Logins;
use crate::memo::Scope;
use crate::users::Users;

/// Recognises callers. Part of the state of a router whose handlers take a [`Caller`]. Cloning is cheap.
#[derive(Clone)]
pub struct Callers {
    access: Arc<Access>,
    keys: Keys,
    logins: Logins,
    users: Users,
}

impl Callers {
    /// By these keys and rules.
    pub fn new(access: Access, keys: Keys, logins: Logins, users: Users) -> Self {
        Self { access: Arc::new(access), keys, logins, users }
    }

    /// Who sent these headers, with a request of this method.
    ///
    /// # Errors
    /// Why they are refused.
    pub async fn caller(&self, method: &Method, headers: &HeaderMap) -> Result<Caller, ApiError> {
        headers::check(headers)?;
        self.access.check_browser(headers)?;
        let by = Registers { keys: &self.keys, logins: &self.logins, users: &self.users };
        let (principal, _) = self.access.asker(by, method, headers).await?;
        Ok(Caller(principal))
    }
}

/// Who asks: an argument of a handler, where the router's state holds [`Callers`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Principal);

impl std::ops::Deref for Caller {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.0
    }
}

impl Scoped for Caller {
    fn scope(&self) -> Scope<'_> {
        self.0.scope()
    }
}

impl<S> FromRequestParts<S> for Caller
where
    Callers: FromRef<S>,
    S: Sync,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let caller = Callers::from_ref(state).caller(&parts.method, &parts.headers).await;
        caller.map_err(|error| error.respond(Dialect::Problem))
    }
}
