//! Section `telemetry`: where traces are sent, and which.

use http::{HeaderName, HeaderValue};
use secrecy::SecretString;
use url::Url;

use super::reader::Reader;

/// Section `telemetry`, where a collector is named.
#[derive(Debug, Clone)]
pub struct TracesConfig {
    /// Where spans are posted to.
    pub url: Url,
    /// What the collector wants to read in every request's head.
    pub headers: Vec<(HeaderName, SecretString)>,
    /// What this service is called there.
    pub service_name: String,
    /// What this instance is called there.
    pub instance: String,
    /// Which traces are sent.
    pub sampling: Sampling,
}

/// Which traces are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Whether a trace that comes in is sent if and only if its caller's part is.
    pub follows_parent: bool,
    /// Of those that begin here, and of all where that is not so: the share that is sent.
    pub ratio: f64,
}

/// The samplers of OpenTelemetry's environment names that need nothing else to decide.
const SAMPLERS: &[&str] = &[
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

const TAKES_HEADERS: &str = "takes NAME=VALUE,NAME=VALUE";

impl TracesConfig {
    /// `None` where no collector is named, or a fault was recorded.
    pub(super) fn read(reader: &mut Reader, instance: String) -> Option<Self> {
        let url = collector(reader);
        let headers = headers(reader);
        let service_name = reader.value("telemetry.service_name");
        let sampling = Sampling::read(reader);
        Some(Self { url: url?, headers: headers?, service_name: service_name?, instance, sampling: sampling? })
    }
}

impl Sampling {
    fn read(reader: &mut Reader) -> Option<Self> {
        let (sampler, share) = (reader.one_of("telemetry.sampler", SAMPLERS), reader.share("telemetry.sampler_arg"));
        let sampler = sampler?;
        let own = sampler.strip_prefix("parentbased_");
        let ratio = match own.unwrap_or(&sampler) {
            "always_on" => 1.0,
            "always_off" => 0.0,
            _ => share?,
        };
        Some(Self { follows_parent: own.is_some(), ratio })
    }
}

/// The collector's address, to which OTLP's own path is added.
fn collector(reader: &mut Reader) -> Option<Url> {
    let key = "telemetry.otlp_endpoint";
    let mut url: Url = reader.optional(key)?;
    if !matches!(url.scheme(), "http" | "https") {
        reader.fault_of(key, "takes the address of an OTLP/HTTP collector, such as http://127.0.0.1:4318");
        return None;
    }
    let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Some(url)
}

/// Percent-encoded values, as in W3C Baggage, are what the environment name is defined with.
fn headers(reader: &mut Reader) -> Option<Vec<(HeaderName, SecretString)>> {
    let key = "telemetry.otlp_headers";
    let read: Option<Vec<_>> = reader.list(key).iter().map(|pair| header(pair)).collect();
    if read.is_none() {
        reader.fault_of(key, TAKES_HEADERS);
    }
    read
}

fn header(pair: &str) -> Option<(HeaderName, SecretString)> {
    let (name, value) = pair.split_once('=')?;
    let name = name.trim().parse().ok()?;
    let value = decoded(value.trim())?;
    HeaderValue::try_from(&value).ok()?;
    Some((name, SecretString::from(value)))
}

/// Each `%XX` as the byte that it stands for.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value_that_may_be_encoded() {
        let read = |pair: &str| header(pair).map(|(name, value)| (name.to_string(), value.expose_secret().to_owned()));
        let said = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        assert_eq!(read("api-key=a%20b+c"), said("api-key", "a b+c"));
        assert_eq!(read("Authorization=Basic%20eHk%3D"), said("authorization", "Basic eHk="));
        assert_eq!(read("authorization=Basic eHk="), said("authorization", "Basic eHk="));
        assert_eq!(read("a=%C3%A9"), said("a", "é"));
        assert_eq!(read("a=%4"), None);
        assert_eq!(read("no value"), None);
        assert_eq!(read("bad name=x"), None);
    }
}
