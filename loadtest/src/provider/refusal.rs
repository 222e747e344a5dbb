//! Error replies in `OpenAI`'s format.

use serde_json::json;

use super::behaviour::Fault;

/// A status with an error body.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// Seconds for the `retry-after` header.
    pub(super) retry_after: Option<u64>,
    kind: &'static str,
    pub(super) code: Option<&'static str>,
    pub(super) message: String,
}

impl Refusal {
    /// The refusal that this fault asks for, in a reply of the given mode.
    pub(super) fn of_fault(fault: Fault, stream: bool) -> Option<Self> {
        match fault {
            Fault::RateLimit { retry_after_seconds } => {
                let refusal = Self::new(429, "requests", "rate_limit_exceeded", "Rate limit reached for requests");
                Some(Self { retry_after: Some(retry_after_seconds), ..refusal })
            }
            Fault::InsufficientQuota => {
                let message = "You exceeded your current quota, please check your plan and billing details.";
                Some(Self::new(429, "insufficient_quota", "insufficient_quota", message))
            }
            Fault::QuotaByType => Some(Self { code: None, ..Self::of_fault(Fault::InsufficientQuota, stream)? }),
            Fault::LowCredit => {
                let message = "Your credit balance is too low to access the Anthropic API.";
                Some(Self { code: None, ..Self::new(400, "invalid_request_error", "", message) })
            }
            Fault::Status(status) => Some(Self::of_status(status)),
            Fault::ErrorEvent { .. } if !stream => Some(Self::of_status(500)),
            _ => None,
        }
    }

    /// The client's own mistake.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", "invalid_request", message)
    }

    /// No such route.
    pub(super) fn not_found(path: &str) -> Self {
        Self::new(404, "invalid_request_error", "unknown_url", format!("no such route: {path}"))
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let error = json!({ "message": self.message, "type": self.kind, "param": null, "code": self.code });
        json!({ "error": error }).to_string().into_bytes()
    }

    fn of_status(status: u16) -> Self {
        let (kind, code) = match status {
            401 => ("invalid_request_error", "invalid_api_key"),
            404 => ("invalid_request_error", "model_not_found"),
            503 | 529 => ("overloaded_error", "overloaded"),
            500.. => ("server_error", "server_error"),
            _ => ("invalid_request_error", "invalid_request"),
        };
        Self::new(status, kind, code, format!("asked to answer {status}"))
    }

    fn new(status: u16, kind: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, retry_after: None, kind, code: Some(code), message: message.into() }
    }
}
