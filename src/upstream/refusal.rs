//! A provider's reply with an error status, read: by kind, and how long it asks to wait.

use std::time::Duration;

use http::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use serde_json::{Map, Value};

use super::{Failure, FailureKind};

/// Words for "no money left", as `code` or as `type`, of OpenAI, of what is compatible with it, and of Anthropic.
const SPENT: [&str; 4] = ["insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error"];

/// How Anthropic says so, with no word of its own for it: `invalid_request_error`, status 400.
const SPENT_CREDIT: &str = "Your credit balance is too low";

/// The failure that a reply with an error status is; `now_ms` is for a date in its `Retry-After`.
pub(super) fn refusal(status: u16, headers: &HeaderMap, body: &[u8], now_ms: u64) -> Failure {
    let json = serde_json::from_slice::<Value>(body).ok();
    let mut error = json.and_then(|mut json| json.get_mut("error").map(Value::take));
    // Ollama's error is the sentence alone.
    let said = error.as_ref().and_then(|error| error.get("message").unwrap_or(error).as_str()).map(str::to_owned);
    let message = said.unwrap_or_else(|| format!("the provider answered with status {status}"));
    let kind = kind(status, error.as_ref(), &message);
    if let Some(Value::Object(error)) = &mut error {
        reword(error, kind);
    }
    Failure { kind, message, status: Some(status), retry_after: retry_after(headers, now_ms), error, param: None }
}

fn kind(status: u16, error: Option<&Value>, message: &str) -> FailureKind {
    let says = |name: &str| error.and_then(|error| error.get(name)).and_then(Value::as_str);
    let is_spent = ["code", "type"].into_iter().filter_map(says).any(|word| SPENT.contains(&word));
    match status {
        402 => FailureKind::SpendLimit,
        400..500 if is_spent || message.starts_with(SPENT_CREDIT) => FailureKind::SpendLimit,
        408 | 409 | 425 => FailureKind::NotNow,
        429 => FailureKind::RateLimited,
        503 | 529 => FailureKind::Overloaded,
        500.. => FailureKind::Server,
        400..500 => FailureKind::Rejected,
        _ => FailureKind::Garbage,
    }
}

/// What clients act on by its word has one word, whatever the provider's is. OpenAI's `type` of a rate limit says what is
/// limited, and stays.
fn reword(error: &mut Map<String, Value>, kind: FailureKind) {
    let kept = error.get("type").and_then(Value::as_str).filter(|word| matches!(*word, "requests" | "tokens"));
    let word = match kind {
        FailureKind::SpendLimit => kind.code().to_owned(),
        FailureKind::RateLimited => kept.unwrap_or("rate_limit_error").to_owned(),
        _ => return,
    };
    error.insert("type".to_owned(), word.into());
    error.insert("code".to_owned(), kind.code().into());
}

/// How long a reply asks to wait: `retry-after-ms`, else `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3).
/// A date counts from the reply's own `Date`, so that clocks need not agree, else from `now_ms`.
fn retry_after(headers: &HeaderMap, now_ms: u64) -> Option<Duration> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |text: &str| text.parse::<f64>().ok();
    if let Some(ms) = text(&HeaderName::from_static("retry-after-ms")).and_then(number) {
        return Duration::try_from_secs_f64(ms / 1000.0).ok();
    }
    let said = text(&RETRY_AFTER)?;
    if let Some(seconds) = number(said) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let millisecond = |date: &str| Some(jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_millisecond());
    let now_ms = text(&DATE).and_then(millisecond).or(i64::try_from(now_ms).ok())?;
    Some(Duration::from_millis(u64::try_from(millisecond(said)?.saturating_sub(now_ms)).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wait(pairs: &[(&'static str, &str)]) -> Option<u64> {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        // Wed, 21 Oct 2015 07:28:00 GMT
        let wait = retry_after(&pairs.collect(), 1_445_412_480_000);
        wait.and_then(|wait| u64::try_from(wait.as_millis()).ok())
    }

    #[test]
    fn a_wait_is_read_in_every_form() {
        assert_eq!(wait(&[("retry-after", "7")]), Some(7_000));
        assert_eq!(wait(&[("retry-after", "1.5")]), Some(1_500));
        assert_eq!(wait(&[("retry-after-ms", "250"), ("retry-after", "7")]), Some(250));
        assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT")]), Some(30_000));
        assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2015 07:00:00 GMT")]), Some(0), "the past is now");
        let skewed = [("retry-after", "Thu, 01 Jan 2026 00:01:00 GMT"), ("date", "Thu, 01 Jan 2026 00:00:00 GMT")];
        assert_eq!(wait(&skewed), Some(60_000), "by the provider's own clock");
        for nonsense in ["soon", "-1", "nan", "1e99", ""] {
            assert_eq!(wait(&[("retry-after", nonsense)]), None, "{nonsense}");
        }
        assert_eq!(wait(&[]), None);
    }

    fn read(status: u16, error: &Value) -> Failure {
        refusal(status, &HeaderMap::new(), json!({"error": error}).to_string().as_bytes(), 0)
    }

    /// Each as a provider is known to say it.
    #[test]
    fn no_money_left_is_one_kind_with_one_word() {
        let credit = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.";
        for (status, error) in [
            (429, json!({"type": "insufficient_quota", "code": "insufficient_quota", "message": "m"})),
            (429, json!({"type": "insufficient_quota", "code": null, "message": "m"})),
            (429, json!({"type": "insufficient_quota", "code": 1_113, "message": "m"})),
            (429, json!({"type": "requests", "code": "billing_hard_limit_reached"})),
            (400, json!({"type": "invalid_request_error", "message": credit})),
            (402, json!({"type": "invalid_request_error", "code": "invalid_request", "message": "m"})),
            (403, json!({"type": "billing_error", "message": "m"})),
        ] {
            let failure = read(status, &error);
            let told = failure.error.unwrap();
            assert_eq!(failure.kind, FailureKind::SpendLimit, "{status} {error}");
            assert_eq!((&told["code"], &told["type"]), (&"insufficient_quota".into(), &"insufficient_quota".into()));
        }
        assert_eq!(read(402, &json!("no credit")).kind, FailureKind::SpendLimit);
    }

    #[test]
    fn other_refusals_keep_their_kinds() {
        let kind = |status| read(status, &json!({"message": "m", "type": "t", "code": null})).kind;
        assert_eq!([408, 409, 425].map(kind), [FailureKind::NotNow; 3]);
        assert_eq!([400, 401, 404, 422].map(kind), [FailureKind::Rejected; 4]);
        assert_eq!([503, 529].map(kind), [FailureKind::Overloaded; 2]);
        assert_eq!([500, 504].map(kind), [FailureKind::Server; 2]);
        assert_eq!((kind(429), kind(302)), (FailureKind::RateLimited, FailureKind::Garbage));
    }

    #[test]
    fn a_rate_limit_says_what_is_limited_where_it_is_known() {
        let told = |kind: &str| read(429, &json!({"message": "m", "type": kind, "code": 1_302})).error.unwrap();
        assert_eq!(told("tokens"), json!({"message": "m", "type": "tokens", "code": "rate_limit_exceeded"}));
        assert_eq!(told("other"), json!({"message": "m", "type": "rate_limit_error", "code": "rate_limit_exceeded"}));
    }
}
