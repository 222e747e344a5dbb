//! What a request's address says, its path and its query: axum's extractors, with a fault told in the dialect's form.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::Response;
use serde::de::DeserializeOwned;

use super::error::{ApiError, Dialect};
use crate::message::InvalidRequest;

/// The parameters of the matched route.
pub(super) struct Path<T>(pub T);

/// The members of the query.
pub(super) struct Query<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(refused(parts, "path", &rejection.body_text())),
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(refused(parts, "query", &rejection.body_text())),
        }
    }
}

fn refused(parts: &Parts, part: &str, fault: &str) -> Response {
    let message = format!("the {part} is not what this route takes: {fault}");
    ApiError::from(InvalidRequest { message, param: None }).respond(Dialect::of_path(parts.uri.path()))
}
