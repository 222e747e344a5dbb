//! Reads one reply to its end and judges it.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use memchr::memmem;

use super::Plan;

/// How one request went.
#[derive(Debug)]
pub(super) enum Outcome {
    /// As expected.
    Good(Times),
    /// No status of success.
    WrongStatus(WrongStatus),
    /// A status of success, but not the reply that was expected, for this reason.
    WrongReply(String),
    /// No complete reply.
    Broken,
}

/// A reply of another status than success.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrongStatus {
    pub(super) status: u16,
    /// When it came, from the moment the request was due.
    pub(super) after: Duration,
    /// Whether it said when to come back.
    pub(super) has_retry_after: bool,
}

impl WrongStatus {
    /// Whether it says: not now.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.status, 429 | 503)
    }
}

/// What a reply is to.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) number: u64,
    pub(super) due: Instant,
}

/// Durations from the moment the request was due.
#[derive(Clone, Debug)]
pub(super) struct Times {
    pub(super) total: Duration,
    /// To the first content that is not empty; streams only.
    pub(super) first_content: Option<Duration>,
    /// What tells it apart, where that was asked for.
    pub(super) kind: Option<String>,
}

pub(super) async fn read(plan: &Plan, response: Response<Incoming>, asked: Asked) -> Outcome {
    let (status, due) = (response.status(), asked.due);
    let has_retry_after = response.headers().contains_key(header::RETRY_AFTER);
    let kind = plan.expected.kinds.map(|name| value(response.headers(), name));
    let wrong_header = wrong_header(plan, response.headers());
    let mut received = Received::default();
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Outcome::Broken };
        if let Ok(bytes) = frame.into_data() {
            received.take(&bytes, plan.stream, due);
        }
    }
    if !status.is_success() {
        return Outcome::WrongStatus(WrongStatus { status: status.as_u16(), after: due.elapsed(), has_retry_after });
    }
    if let Some(reason) = wrong_header.or_else(|| received.fault(plan)) {
        return Outcome::WrongReply(reason);
    }
    if !plan.prompts.accept(asked.number, &received.bytes) {
        return Outcome::WrongReply(format!("{}: the answer to another question", kind.unwrap_or_default()));
    }
    Outcome::Good(Times { total: due.elapsed(), first_content: received.first_content, kind })
}

/// The expected header as it came, if that is not as expected.
fn wrong_header(plan: &Plan, headers: &HeaderMap) -> Option<String> {
    let (name, expected) = plan.expected.header?;
    let value = value(headers, name);
    (value != expected).then(|| format!("{name}: {value}"))
}

fn value(headers: &HeaderMap, name: &str) -> String {
    let bytes = headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    first_content: Option<Duration>,
}

impl Received {
    fn take(&mut self, bytes: &[u8], stream: bool, due: Instant) {
        self.bytes.extend_from_slice(bytes);
        if stream && self.first_content.is_none() && has_content(&self.bytes) {
            self.first_content = Some(due.elapsed());
        }
    }

    /// What is wrong with the body, if anything.
    fn fault(&self, plan: &Plan) -> Option<String> {
        let member = plan.expected.member?.as_bytes();
        if !plan.stream {
            // A cheap sign of a whole completion; its content is the tests' business.
            let whole = self.bytes.ends_with(b"}") && memmem::find(&self.bytes, member).is_some();
            return (!whole).then(|| "no completion".to_owned());
        }
        if !self.bytes.trim_ascii_end().ends_with(b"data: [DONE]") {
            return Some("no [DONE]".to_owned());
        }
        let expected = plan.expected.events?;
        let events = memmem::find_iter(&self.bytes, b"data: ").count();
        (events != expected).then(|| format!("{events} events"))
    }
}

/// Whether a `content` field that is not empty has begun.
fn has_content(bytes: &[u8]) -> bool {
    const FIELD: &[u8] = b"\"content\":\"";
    memmem::find_iter(bytes, FIELD).any(|at| bytes.get(at + FIELD.len()).is_some_and(|next| *next != b'"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_content_is_no_content() {
        assert!(!has_content(br#"data: {"delta":{"role":"assistant","content":""}}"#));
        assert!(!has_content(br#"data: {"delta":{"content":""#));
        assert!(has_content(br#"{"content":""} {"content":"A"#));
    }
}
