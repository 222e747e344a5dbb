//! A user's name: a provider of identities, and what he is called there, as `PROVIDER/ID`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Characters of a provider's name, and of an identifier there (OpenID Connect allows 255).
const MAX_PROVIDER: usize = 64;
const MAX_ID: usize = 255;

/// A checked name. Two are equal only byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserName {
    provider: String,
    id: String,
}

/// The text is no name.
#[derive(Debug, thiserror::Error)]
#[error(
    "a user is named PROVIDER/ID: 1 to {MAX_PROVIDER} letters, digits, '-', '_' and '.', a slash, then 1 to {MAX_ID} visible ASCII characters"
)]
pub struct NoUserName;

impl UserName {
    /// Who names his identity.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// What he is called there.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// From the store, where only checked ones stand.
    pub(super) fn stored(provider: &str, id: &str) -> Self {
        Self { provider: provider.to_owned(), id: id.to_owned() }
    }
}

impl FromStr for UserName {
    type Err = NoUserName;

    fn from_str(text: &str) -> Result<Self, NoUserName> {
        let (provider, id) = text.split_once('/').ok_or(NoUserName)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let is_good = (1..=MAX_PROVIDER).contains(&provider.len())
            && (1..=MAX_ID).contains(&id.len())
            && provider.bytes().all(is_plain)
            && id.bytes().all(|byte| byte.is_ascii_graphic());
        is_good.then(|| Self::stored(provider, id)).ok_or(NoUserName)
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.provider, self.id)
    }
}

impl Serialize for UserName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_provider_and_an_identifier() {
        let name: UserName = "accounts.example/10769150350006150715113082367".parse().unwrap();
        assert_eq!((name.provider(), name.id()), ("accounts.example", "10769150350006150715113082367"));
        // What stands behind the first slash is the provider's business.
        for text in ["github/octo-cat", "ldap/cn=Ann,ou=people", "saml/https://idp.example/ann", "a/b"] {
            assert_eq!(text.parse::<UserName>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_no_name_can_be_is_refused() {
        let long = format!("p/{}", "x".repeat(MAX_ID + 1));
        for text in
            ["", "ann", "/ann", "google/", "goo gle/ann", "google/an n", "google/ann\n", "google/żółw", "a:b/c", &long]
        {
            assert!(text.parse::<UserName>().is_err(), "{text:?}");
        }
    }
}
