//! The only place that turns errors into statuses and bodies: each dialect's own form on its routes, problem+json
//! (RFC 9457) on all others. Bodies of 5xx say nothing internal; the cause is logged here, once.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::chat::ChatError;
use crate::conversations::ConversationError;
use crate::db::DbError;
use crate::limits::Refusal;
use crate::message::InvalidRequest;
use crate::profiler::FlameError;
use crate::streams::{ErrorFacts, SendError};
use crate::tasks::TaskError;
use crate::upstream::{Failure, FailureKind};
use crate::workflows::WorkflowError;

/// Whose form an error takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// `{"type": "error", "error": {"type", "message"}, "request_id"}`.
    Anthropic,
    /// `{"error": "..."}`.
    Ollama,
    /// `application/problem+json`.
    Problem,
    /// The same with an `error` beside it, where it is not known yet who asks.
    Either,
}

impl Dialect {
    /// The dialect of a (normalized) path.
    pub fn of_path(path: &str) -> Self {
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
        if begins(&["/v1/messages", "/messages"]) {
            Self::Anthropic
        } else if begins(&["/v1/", "/chat/", "/models", "/embeddings", "/responses"]) {
            Self::OpenAi
        } else if path == "/api/chat" {
            Self::Either
        } else if OLLAMA.contains(&path) {
            Self::Ollama
        } else {
            Self::Problem
        }
    }
}

/// Paths of Ollama's API, also those that are no routes here.
const OLLAMA: &[&str] = &[
    "/api/copy",
    "/api/create",
    "/api/delete",
    "/api/embed",
    "/api/embeddings",
    "/api/generate",
    "/api/ps",
    "/api/pull",
    "/api/push",
    "/api/show",
    "/api/tags",
    "/api/version",
];

/// An error's body that still wants the request's identifier, which only the observer knows. It travels as an extension
/// of the response.
#[derive(Debug, Clone)]
pub(super) struct Unidentified(Value);

impl Unidentified {
    /// The body.
    pub fn identified(mut self, request_id: &HeaderValue) -> String {
        self.0["request_id"] = request_id.to_str().unwrap_or_default().into();
        self.0.to_string()
    }
}

/// Anthropic's status for an overload.
const OVERLOADED: u16 = 529;

/// An error on its way to a client.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    /// The stable word.
    code: Box<str>,
    message: Box<str>,
    param: Option<Box<str>>,
    /// OpenAI's `type`, where the status does not say it.
    kind: Option<&'static str>,
    retry_after: Option<Duration>,
    retryable: bool,
    /// A provider's own error object, passed on.
    upstream: Option<Value>,
}

impl ApiError {
    /// An error of this status, word and sentence; 429 and 5xx count as worth another try.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into().into(),
            param: None,
            kind: None,
            retry_after: None,
            retryable: status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error(),
            upstream: None,
        }
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 404 of a model that nobody here has.
    pub fn unknown_model(message: impl Into<String>) -> Self {
        Self { param: Some("model".into()), ..Self::new(StatusCode::NOT_FOUND, "model_not_found", message) }
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request_too_large",
            format!("the body is larger than {limit} bytes (server.max_body_bytes)"),
        )
    }

    /// The stable word.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The field at fault, if it is one.
    pub fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// When to come back, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// The response in the dialect's form.
    pub fn respond(self, dialect: Dialect) -> Response {
        let body = match dialect {
            Dialect::OpenAi => json!({"error": self.openai()}),
            Dialect::Anthropic => self.anthropic(),
            Dialect::Ollama => json!({"error": self.message}),
            Dialect::Problem => self.problem(),
            Dialect::Either => {
                let mut problem = self.problem();
                problem["error"] = json!(self.message);
                problem
            }
        };
        let mut response = (self.status_in(dialect), body.to_string()).into_response();
        if dialect == Dialect::Anthropic {
            response.extensions_mut().insert(Unidentified(body));
        }
        let kind = match dialect {
            Dialect::Problem | Dialect::Either => "application/problem+json",
            _ => "application/json",
        };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            response.headers_mut().insert(HeaderName::from_static("retry-after-ms"), HeaderValue::from(ms));
        }
        if !self.is_retryable() {
            // The official SDKs obey this and do not try again in vain.
            response.headers_mut().insert(HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false"));
        }
        response
    }

    /// OpenAI's error object, also for an event inside a stream.
    pub fn openai(&self) -> Value {
        if let Some(Value::Object(upstream)) = &self.upstream {
            let mut error = upstream.clone();
            for (name, value) in [
                ("message", json!(self.message)),
                ("type", json!(self.kind())),
                ("param", Value::Null),
                ("code", json!(self.code)),
            ] {
                error.entry(name).or_insert(value);
            }
            return Value::Object(error);
        }
        json!({"message": self.message, "type": self.kind(), "param": self.param, "code": self.code})
    }

    /// Anthropic's error object, also for an event inside a stream.
    pub fn anthropic(&self) -> Value {
        let kind = match self.status_in(Dialect::Anthropic).as_u16() {
            402 => "billing_error",
            413 => "request_too_large",
            503 | OVERLOADED => "overloaded_error",
            504 => "timeout_error",
            _ => self.kind_of_status(),
        };
        json!({"type": "error", "error": {"type": kind, "message": self.message}})
    }

    /// Anthropic's clients know a provider's overload by a status of its own.
    fn status_in(&self, dialect: Dialect) -> StatusCode {
        let is_overload = dialect == Dialect::Anthropic && &*self.code == FailureKind::Overloaded.code();
        if is_overload { StatusCode::from_u16(OVERLOADED).unwrap_or(self.status) } else { self.status }
    }

    fn kind(&self) -> &'static str {
        self.kind.unwrap_or_else(|| self.kind_of_status())
    }

    fn kind_of_status(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            408 | 425 => "api_error",
            400..500 => "invalid_request_error",
            _ => "api_error",
        }
    }

    fn problem(&self) -> Value {
        json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "detail": self.message,
            "code": self.code,
            "param": self.param,
        })
    }
}

impl From<InvalidRequest> for ApiError {
    fn from(fault: InvalidRequest) -> Self {
        Self {
            param: fault.param.map(Into::into),
            ..Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", fault.message)
        }
    }
}

impl From<FlameError> for ApiError {
    fn from(error: FlameError) -> Self {
        if let FlameError::Failed(cause) = &error {
            tracing::error!(%cause, "a flame graph could not be made");
            return Self::new(StatusCode::INTERNAL_SERVER_ERROR, "flame_graph_failed", error.to_string());
        }
        let (status, code) = match &error {
            FlameError::NoMemory { .. } => (StatusCode::SERVICE_UNAVAILABLE, "flame_graph_no_memory"),
            _ => (StatusCode::CONFLICT, "flame_graph_running"),
        };
        Self { retryable: false, ..Self::new(status, code, error.to_string()) }
    }
}

impl From<ChatError> for ApiError {
    fn from(error: ChatError) -> Self {
        let code = error.code();
        match error {
            ChatError::UnknownModel(unknown) => Self::unknown_model(unknown.to_string()),
            // The status is RFC 9111's; nothing enters the cache by asking again.
            ChatError::OnlyIfCached => {
                Self { retryable: false, ..Self::new(StatusCode::GATEWAY_TIMEOUT, code, error.to_string()) }
            }
            ChatError::Refused(refusal) => refusal.into(),
            ChatError::Upstream(failure) => failure.into(),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        if let Refusal::Store(error) = refusal {
            return error.into();
        }
        let (status, kind) = match &refusal {
            Refusal::Rate { measure, .. } | Refusal::Address { measure, .. } => {
                (StatusCode::TOO_MANY_REQUESTS, Some(measure.as_str()))
            }
            Refusal::TooLarge { .. } => (StatusCode::TOO_MANY_REQUESTS, Some("tokens")),
            Refusal::Budget { .. } => (StatusCode::TOO_MANY_REQUESTS, Some("insufficient_quota")),
            Refusal::NoPrice { .. } => (StatusCode::FORBIDDEN, None),
            Refusal::Overloaded { .. } | Refusal::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, None),
        };
        let (retry_after, retryable) = (refusal.retry_after(), refusal.is_retryable());
        Self { kind, retry_after, retryable, ..Self::new(status, refusal.code(), refusal.to_string()) }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        if !matches!(failure.kind, FailureKind::Unsupported | FailureKind::Malformed | FailureKind::Stopped) {
            // Not its message: providers quote prompts, and keys, in theirs.
            tracing::warn!(kind = failure.kind.as_str(), status = failure.status, "a provider failed");
        }
        let status = match failure.kind {
            FailureKind::RateLimited | FailureKind::SpendLimit | FailureKind::Budget => StatusCode::TOO_MANY_REQUESTS,
            // 401 and 403 upstream are about our key, not the caller's.
            FailureKind::Rejected if matches!(failure.status, Some(401 | 403)) => StatusCode::BAD_GATEWAY,
            FailureKind::Rejected | FailureKind::NotNow => {
                failure.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::BAD_REQUEST)
            }
            FailureKind::Unsupported | FailureKind::Malformed => StatusCode::BAD_REQUEST,
            FailureKind::Overloaded | FailureKind::Unavailable | FailureKind::Full | FailureKind::Stopped => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            FailureKind::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            FailureKind::Connect
            | FailureKind::Server
            | FailureKind::Garbage
            | FailureKind::Cut
            | FailureKind::Reported => StatusCode::BAD_GATEWAY,
        };
        let ours = failure.kind == FailureKind::Rejected && status == StatusCode::BAD_GATEWAY;
        let message = if ours { "the provider refused this server's key".to_owned() } else { failure.message };
        let upstream = failure.error.filter(|_| !ours);
        Self {
            retry_after: failure.retry_after,
            retryable: failure.kind.is_retryable(),
            param: failure.param.map(Into::into),
            upstream,
            ..Self::new(status, failure.kind.code(), message)
        }
    }
}

impl From<ConversationError> for ApiError {
    fn from(error: ConversationError) -> Self {
        match error {
            ConversationError::NotFound(_) => Self::not_found(error.to_string()),
            ConversationError::Conflict(message) => Self::new(StatusCode::CONFLICT, "conflict", message),
            ConversationError::Invalid(fault) => fault.into(),
            ConversationError::Store(error) => error.into(),
        }
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        if matches!(error, DbError::TooLong) {
            let message = "the search took too long; look for fewer or rarer words";
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, "search_timeout", message);
        }
        tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
        let message = match error {
            DbError::Commit(_) => "the store did not confirm the change; it may have been made",
            _ => "the store does not answer; nothing was changed",
        };
        Self {
            retry_after: Some(Duration::from_secs(1)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", message)
        }
    }
}

impl From<TaskError> for ApiError {
    fn from(error: TaskError) -> Self {
        let message = error.to_string();
        let param = match error {
            TaskError::Store(error) => return error.into(),
            TaskError::NotFound => return Self::not_found(message),
            TaskError::Unfit(_) | TaskError::HasTwin | TaskError::Conflict => {
                return Self::new(StatusCode::CONFLICT, "conflict", message);
            }
            TaskError::TooLarge { .. } => {
                return Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message);
            }
            TaskError::UnknownKind(_) => "kind",
            TaskError::Version { .. } => "version",
            TaskError::Arguments(_) => "arguments",
            TaskError::Name(_) | TaskError::Key(_) => return InvalidRequest { message, param: None }.into(),
        };
        InvalidRequest::of(param, message).into()
    }
}

impl From<WorkflowError> for ApiError {
    fn from(error: WorkflowError) -> Self {
        let message = error.to_string();
        let param = match error {
            WorkflowError::Store(error) => return error.into(),
            WorkflowError::NotFound => return Self::not_found(message),
            WorkflowError::Unfit(_) | WorkflowError::Conflict | WorkflowError::UnknownVersion { .. } => {
                return Self::new(StatusCode::CONFLICT, "conflict", message);
            }
            WorkflowError::TooLarge { .. } => {
                return Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message);
            }
            WorkflowError::Unknown(_) => "name",
            WorkflowError::Input(_) => "input",
            WorkflowError::Key(_) => return InvalidRequest { message, param: None }.into(),
        };
        InvalidRequest::of(param, message).into()
    }
}

impl From<SendError> for ApiError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Conversation(error) => error.into(),
            SendError::Invalid(fault) => fault.into(),
            SendError::Chat(error) => error.into(),
            SendError::Draining => Self {
                retry_after: Some(Duration::from_secs(1)),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "draining", error.to_string())
            },
        }
    }
}

impl From<ErrorFacts> for ApiError {
    /// Of a stored answer that failed: a provider's failure, unless the caller's own limits ended it.
    fn from(facts: ErrorFacts) -> Self {
        let status = match facts.code.as_str() {
            "rate_limit_exceeded" | "insufficient_quota" | "budget_exceeded" => StatusCode::TOO_MANY_REQUESTS,
            "model_without_price" => StatusCode::FORBIDDEN,
            "unsupported_parameter" | "invalid_request_error" => StatusCode::BAD_REQUEST,
            "upstream_overloaded"
            | "overloaded"
            | "upstream_unavailable"
            | "store_unavailable"
            | "store_failed"
            | "interrupted" => StatusCode::SERVICE_UNAVAILABLE,
            "upstream_timeout" | "not_cached" => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        };
        // Ours to mend, and soon.
        let ours = matches!(facts.code.as_str(), "store_failed" | "interrupted").then_some(Duration::from_secs(1));
        let retry_after = facts.retry_after_ms.map(Duration::from_millis).or(ours);
        Self { retry_after, retryable: facts.retryable, ..Self::new(status, &facts.code, facts.message) }
    }
}

/// An error of a route that is not OpenAI's.
#[derive(Debug)]
pub struct Problem(pub ApiError);

impl<E: Into<ApiError>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.0.respond(Dialect::Problem)
    }
}

/// An error of one of OpenAI's routes.
#[derive(Debug)]
pub struct OpenAiProblem(pub ApiError);

impl<E: Into<ApiError>> From<E> for OpenAiProblem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for OpenAiProblem {
    fn into_response(self) -> Response {
        self.0.respond(Dialect::OpenAi)
    }
}

/// An error of one of Anthropic's routes.
#[derive(Debug)]
pub struct AnthropicProblem(pub ApiError);

impl<E: Into<ApiError>> From<E> for AnthropicProblem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for AnthropicProblem {
    fn into_response(self) -> Response {
        self.0.respond(Dialect::Anthropic)
    }
}

/// An error of one of Ollama's routes.
#[derive(Debug)]
pub struct OllamaProblem(pub ApiError);

impl<E: Into<ApiError>> From<E> for OllamaProblem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for OllamaProblem {
    fn into_response(self) -> Response {
        self.0.respond(Dialect::Ollama)
    }
}
