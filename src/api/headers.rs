//! Headers that say one thing: a request that says two is refused. Whoever stands between might go by the other one
//! (RFC 9110 section 5.3).

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};

use crate::message::InvalidRequest;

pub(super) const CACHE_MODE: HeaderName = HeaderName::from_static("x-ish-cache");
pub(super) const CACHE_TTL: HeaderName = HeaderName::from_static("x-ish-cache-ttl");
pub(super) const CACHE_NAMESPACE: HeaderName = HeaderName::from_static("x-ish-cache-namespace");
/// The user whom a request is for.
pub(super) const USER: HeaderName = HeaderName::from_static("x-ish-user");
pub(super) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Never sent twice; their values are no secrets.
const ONCE: [HeaderName; 5] = [HOST, CACHE_MODE, CACHE_TTL, CACHE_NAMESPACE, USER];

/// Sent twice only with the same value, as some proxies do; their values are not shown.
const SAME: [HeaderName; 3] = [AUTHORIZATION, API_KEY, ORIGIN];

/// Refuses a request with a header that says two things.
pub(super) fn check(headers: &HeaderMap) -> Result<(), InvalidRequest> {
    if headers.len() == headers.keys_len() {
        return Ok(());
    }
    for name in &ONCE {
        let values: Vec<String> =
            headers.get_all(name).iter().map(|value| excerpt(&String::from_utf8_lossy(value.as_bytes()))).collect();
        if values.len() > 1 {
            let message = format!("the header {name} takes one value, and came with {}", values.join(" and "));
            return Err(InvalidRequest::of(name.as_str(), message));
        }
    }
    for name in &SAME {
        let mut values = headers.get_all(name).iter();
        let first = values.next();
        if values.any(|value| Some(value) != first) {
            let message = format!("the header {name} takes one value, and came with several that differ");
            return Err(InvalidRequest::of(name.as_str(), message));
        }
    }
    Ok(())
}

/// The first characters of a value, in quotation marks.
fn excerpt(value: &str) -> String {
    match value.char_indices().nth(40) {
        Some((end, _)) => format!("{:?}...", &value[..end]),
        None => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn fault(lines: &[(&'static str, &'static str)]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        check(&headers).err().map(|fault| fault.message)
    }

    #[test]
    fn a_wish_is_said_once() {
        assert_eq!(fault(&[("x-ish-cache", "on"), ("x-ish-cache-ttl", "5"), ("accept", "a"), ("accept", "b")]), None);
        let twice = fault(&[("x-ish-cache-ttl", "5"), ("x-ish-cache-ttl", "6")]).unwrap();
        assert_eq!(twice, r#"the header x-ish-cache-ttl takes one value, and came with "5" and "6""#);
        assert!(fault(&[("x-ish-cache", "off"), ("x-ish-cache", "off")]).is_some());
        assert!(fault(&[("host", "a"), ("host", "a")]).is_some());
    }

    #[test]
    fn a_key_is_said_again_but_not_otherwise_and_never_shown() {
        assert_eq!(fault(&[("authorization", "Bearer a"), ("authorization", "Bearer a")]), None);
        for name in ["authorization", "x-api-key"] {
            let message = fault(&[(name, "Bearer secret"), (name, "Bearer other")]).unwrap();
            assert!(message.contains(name) && !message.contains("secret"), "{message}");
        }
    }
}
