//! What clients of Anthropic's say in headers: the version of its API and the betas that they want. A provider of that
//! dialect is told; others have neither.

use axum::http::{HeaderMap, HeaderName};

use crate::message::InvalidRequest;

const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// The version whose form answers here have, and that is meant where none is named. The ones before it had other events.
const SPOKEN: &str = "2023-06-01";

/// Betas of one request, all together; real ones are some hundred bytes.
const MAX_BETA_BYTES: usize = 2_048;

/// What goes on to the provider: nothing where nothing differs from what it is told anyway.
pub(in crate::api) fn read(headers: &HeaderMap) -> Result<Vec<(&'static str, String)>, InvalidRequest> {
    let mut said = Vec::new();
    said.extend(version(headers)?.map(|version| ("anthropic-version", version)));
    said.extend(betas(headers)?.map(|betas| ("anthropic-beta", betas)));
    Ok(said)
}

fn version(headers: &HeaderMap) -> Result<Option<String>, InvalidRequest> {
    let Some(value) = headers.get(&VERSION) else { return Ok(None) };
    let version = value.to_str().unwrap_or_default();
    let is_date = version.len() == SPOKEN.len()
        && version.bytes().zip(SPOKEN.bytes()).all(|(given, like)| match like {
            b'-' => given == b'-',
            _ => given.is_ascii_digit(),
        });
    // Dates of this form are in order as texts.
    if !is_date || version < SPOKEN {
        let message = format!("the header {VERSION} takes a date from {SPOKEN} on; answers here have that one's form");
        return Err(InvalidRequest::of(VERSION.as_str(), message));
    }
    Ok((version != SPOKEN).then(|| version.to_owned()))
}

/// The betas of all lines, each once and in order: the order in which they are named changes nothing.
fn betas(headers: &HeaderMap) -> Result<Option<String>, InvalidRequest> {
    let fault = || {
        let message = format!("the header {BETA} takes names with commas between them, {MAX_BETA_BYTES} bytes at most");
        InvalidRequest::of(BETA.as_str(), message)
    };
    let mut names = Vec::new();
    for line in headers.get_all(&BETA) {
        let line = line.to_str().map_err(|_| fault())?;
        names.extend(line.split(',').map(str::trim).filter(|name| !name.is_empty()));
    }
    names.sort_unstable();
    names.dedup();
    let betas = names.join(",");
    if betas.len() > MAX_BETA_BYTES {
        return Err(fault());
    }
    Ok((!betas.is_empty()).then_some(betas))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn said(lines: &[(&'static str, &'static str)]) -> Result<Vec<(&'static str, String)>, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        read(&headers).map_err(|fault| fault.param.unwrap())
    }

    #[test]
    fn what_says_nothing_new_is_not_said() {
        assert_eq!(said(&[]), Ok(Vec::new()));
        assert_eq!(said(&[("anthropic-version", "2023-06-01"), ("anthropic-beta", " , ")]), Ok(Vec::new()));
    }

    #[test]
    fn betas_of_all_lines_are_one_list() {
        let lines = [("anthropic-version", "2026-10-21"), ("anthropic-beta", "b-2, a-1"), ("anthropic-beta", "b-2")];
        let wanted = vec![("anthropic-version", "2026-10-21".to_owned()), ("anthropic-beta", "a-1,b-2".to_owned())];
        assert_eq!(said(&lines), Ok(wanted));
    }

    #[test]
    fn a_version_of_another_form_is_refused() {
        for version in ["2023-01-01", "latest", "", "2023/06/01", "2023-06-010"] {
            assert_eq!(said(&[("anthropic-version", version)]), Err("anthropic-version".to_owned()), "{version}");
        }
    }
}
