//! The cookie of a login: its name and flags, how it is read, and when it counts (RFC 6265bis; OWASP's cheat sheet on CSRF).
//!
//! Over https it is `__Host-ish`: browsers take that name only from this very host, over https, so that no neighbour can put one
//! of his own in its place. Over plain http it is `ish` with the port, since hosts share their cookies among ports; there it is as
//! open to who listens as the key is.
//!
//! That a browser sends it says nothing of who made the browser send it. So it counts for this server's own pages alone, and what
//! changes something has to say that it comes from one: by its Origin, or by a word that other pages cannot know.

use axum::http::header::{COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use subtle::ConstantTimeEq;

use super::auth::is_own_origin;
use super::error::ApiError;
use crate::logins::LoginDigest;

/// Says that a request comes from who holds the login, where it has no Origin.
pub(super) const CSRF: HeaderName = HeaderName::from_static("x-ish-csrf");

const SECURE_NAME: &str = "__Host-ish";
const PLAIN_NAME: &str = "ish";

/// The header that sets the cookie, for as long as that.
pub(super) fn set(headers: &HeaderMap, value: &str, seconds: u64) -> HeaderValue {
    let (name, flags) =
        if is_https(headers) { (SECURE_NAME.to_owned(), "; Secure") } else { (plain_name(headers), "") };
    let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{flags}");
    HeaderValue::try_from(cookie).expect("invariant: a name, hexadecimal digits and flags are a header value")
}

/// The header that takes it away.
pub(super) fn clear(headers: &HeaderMap) -> HeaderValue {
    set(headers, "", 0)
}

/// The login that a request comes by, where it may come by it; `None` where there is no cookie.
pub(super) fn login(method: &Method, headers: &HeaderMap) -> Result<Option<LoginDigest>, ApiError> {
    let Some(value) = value(headers) else { return Ok(None) };
    check_page(headers)?;
    let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && !headers.contains_key(ORIGIN) && !has_csrf(headers, value) {
        let message =
            "a change by cookie needs this page's Origin, or the header x-ish-csrf with what GET /api/session says";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "foreign_page", message));
    }
    Ok(Some(LoginDigest::of(value)))
}

/// Refuses what another page sends. Whatever has neither header is no page of a browser, or a request that changes nothing.
pub(super) fn check_page(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_foreign = |origin| !is_own_origin(origin, headers) || is_https(headers) && !begins_https(origin);
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let elsewhere = site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"));
    if !elsewhere && !headers.get(ORIGIN).is_some_and(is_foreign) {
        return Ok(());
    }
    let message = "a login counts on this server's own pages; a page of another origin brings a key";
    Err(ApiError::new(StatusCode::FORBIDDEN, "foreign_page", message))
}

/// What `x-ish-csrf` has to hold beside this cookie. It follows from the cookie, and does not tell it.
pub(super) fn csrf(value: &str) -> String {
    blake3::Hash::from_bytes(blake3::derive_key("ish 2026-11-22 csrf of a login", value.as_bytes()))
        .to_hex()
        .to_string()
}

/// The cookie's value; `None` also where there are several that differ, since only one of them can be ours.
pub(super) fn value(headers: &HeaderMap) -> Option<&str> {
    let named = |name: &str| {
        let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut values = pairs.filter(|(other, _)| *other == name).map(|(_, value)| value);
        let first = values.next()?;
        values.all(|value| value == first).then_some(first)
    };
    match named(SECURE_NAME) {
        // Over https nobody but us can have set that one, and anybody the other.
        None if !is_https(headers) => named(&plain_name(headers)),
        secure => secure,
    }
}

fn has_csrf(headers: &HeaderMap, value: &str) -> bool {
    headers.get(CSRF).is_some_and(|said| said.as_bytes().ct_eq(csrf(value).as_bytes()).into())
}

/// Whether the page is at an https address, by what a proxy says or by the page's own Origin. Whoever says so is believed: it only
/// makes the rules stricter.
fn is_https(headers: &HeaderMap) -> bool {
    let forwarded = headers.get_all("x-forwarded-proto").iter().filter_map(|line| line.to_str().ok());
    let says_https = |proto: &str| proto.trim().eq_ignore_ascii_case("https");
    let is_our_page = |origin| is_own_origin(origin, headers) && begins_https(origin);
    forwarded.flat_map(|line| line.split(',')).any(says_https) || headers.get(ORIGIN).is_some_and(is_our_page)
}

fn begins_https(origin: &HeaderValue) -> bool {
    origin.as_bytes().get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https://"))
}

fn plain_name(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    match host.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{PLAIN_NAME}-{port}")
        }
        _ => PLAIN_NAME.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE_VALUE: &str = "c0ffee";

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    /// A request with the cookie that fits, and further lines.
    fn with_cookie(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        headers(&[&[("host", "127.0.0.1:8080"), ("cookie", "ish-8080=c0ffee")], lines].concat())
    }

    #[test]
    fn over_https_the_name_and_the_flags_keep_others_out() {
        let plain = set(&headers(&[("host", "127.0.0.1:8080")]), "c0ffee", 60);
        assert_eq!(plain, "ish-8080=c0ffee; Path=/; Max-Age=60; HttpOnly; SameSite=Strict");
        let secure = "__Host-ish=c0ffee; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure";
        for line in
            [("x-forwarded-proto", "https"), ("x-forwarded-proto", "http, HTTPS"), ("origin", "https://chat.example")]
        {
            assert_eq!(set(&headers(&[("host", "chat.example"), line]), "c0ffee", 60), secure, "{line:?}");
        }
        assert_eq!(clear(&headers(&[("host", "[::1]")])), "ish=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
    }

    #[test]
    fn a_cookie_that_a_neighbour_may_have_set_is_none() {
        let found = |lines: &[(&'static str, &'static str)]| value(&headers(lines)).map(str::to_owned);
        let host = ("host", "127.0.0.1:8080");
        assert_eq!(found(&[host, ("cookie", "a=b; ish-8080=1; c=d")]).as_deref(), Some("1"));
        assert_eq!(found(&[host, ("cookie", "a=b"), ("cookie", "ish-8080=1")]).as_deref(), Some("1"));
        assert_eq!(found(&[host, ("cookie", "ish-8081=1; ish=2; xish-8080=3")]), None);
        assert_eq!(found(&[host, ("cookie", "ish-8080=1; ish-8080=2")]), None, "one of them is another's");
        assert_eq!(found(&[host, ("cookie", "ish-8080=1; __Host-ish=2")]).as_deref(), Some("2"));
        let https = ("x-forwarded-proto", "https");
        assert_eq!(found(&[("host", "chat.example"), https, ("cookie", "ish=1")]), None);
        assert_eq!(found(&[("host", "chat.example"), https, ("cookie", "__Host-ish=1")]).as_deref(), Some("1"));
    }

    #[test]
    fn it_counts_for_our_own_pages_and_a_change_says_that_it_comes_from_one() {
        let counts = |method: Method, lines: &[(&'static str, &'static str)]| {
            login(&method, &with_cookie(lines)).is_ok_and(|login| login == Some(LoginDigest::of(COOKIE_VALUE)))
        };
        let own = ("origin", "http://127.0.0.1:8080");
        assert!(counts(Method::GET, &[]));
        assert!(counts(Method::GET, &[("sec-fetch-site", "same-origin")]));
        assert!(counts(Method::GET, &[("sec-fetch-site", "none")]), "an address that was typed");
        for site in ["same-site", "cross-site"] {
            assert!(!counts(Method::GET, &[("sec-fetch-site", site)]), "{site}");
            assert!(!counts(Method::POST, &[own, ("sec-fetch-site", site)]), "{site}");
        }
        for method in [Method::POST, Method::PATCH, Method::DELETE, Method::PUT] {
            assert!(counts(method.clone(), &[own]));
            assert!(!counts(method.clone(), &[]), "nobody says where it comes from");
            assert!(!counts(method.clone(), &[("x-ish-csrf", "1")]));
            for foreign in ["http://evil.example", "http://127.0.0.1:8081", "null"] {
                assert!(!counts(method.clone(), &[("origin", foreign)]), "{foreign}");
            }
        }
        assert!(!counts(Method::GET, &[("origin", "http://evil.example")]));
        let mut by_word = with_cookie(&[]);
        by_word.insert(CSRF, HeaderValue::try_from(csrf(COOKIE_VALUE)).unwrap());
        assert!(login(&Method::POST, &by_word).is_ok());
        assert!(!csrf(COOKIE_VALUE).contains(COOKIE_VALUE));
    }

    #[test]
    fn a_page_at_the_http_address_is_not_the_one_at_https() {
        let host = ("host", "chat.example");
        let lines =
            [host, ("x-forwarded-proto", "https"), ("cookie", "__Host-ish=c0ffee"), ("origin", "http://chat.example")];
        assert!(login(&Method::POST, &headers(&lines)).is_err());
    }
}
