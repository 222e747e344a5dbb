//! What a caller may say about caching: the body's `cache` object (LiteLLM's spellings included), `x-ish-cache*` headers
//! and HTTP's own `Cache-Control` (RFC 9111). A caller can make matching stricter, never wider.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::message::{InvalidRequest, JsonObject};

/// Whether the cache is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Read and written.
    #[default]
    On,
    /// Neither.
    Off,
    /// Read, never written.
    ReadOnly,
    /// Written, never read.
    WriteOnly,
    /// As [`Mode::WriteOnly`], on purpose: the answer is made again.
    Refresh,
    /// Read; a miss is an error rather than a call.
    Only,
}

impl Mode {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "on" => Self::On,
            "off" => Self::Off,
            "read_only" => Self::ReadOnly,
            "write_only" => Self::WriteOnly,
            "refresh" => Self::Refresh,
            "only" => Self::Only,
            _ => return None,
        })
    }

    /// Whether an earlier answer may be used.
    pub fn reads(self) -> bool {
        matches!(self, Self::On | Self::ReadOnly | Self::Only)
    }

    /// Whether this answer may be kept.
    pub fn writes(self) -> bool {
        matches!(self, Self::On | Self::WriteOnly | Self::Refresh)
    }
}

/// How a cached answer is given to a caller that asked for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Replay {
    /// In one piece.
    #[default]
    Whole,
    /// Word by word, at the pace of a model.
    Paced,
}

/// A caller's wishes, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CacheControl {
    /// Read, write, both, neither.
    pub mode: Mode,
    /// How long this answer may be reused; the configured time is the most.
    pub ttl: Option<Duration>,
    /// The oldest answer that is welcome.
    pub max_age: Option<Duration>,
    /// A separate room for entries.
    pub namespace: String,
    /// A higher similarity than the preset's, in 0..=1.
    pub threshold: Option<f32>,
    /// False: only exact and normalized hits.
    pub semantic: Option<bool>,
    /// Words by which entries can be found and evicted later.
    pub tags: Vec<String>,
    /// How a hit is replayed to a stream.
    pub replay: Replay,
}

/// What the headers of a request say about caching, as they stand there.
#[derive(Debug, Clone, Default)]
pub struct ControlHeaders<'h> {
    /// `cache-control`, all its lines in one.
    pub http: Option<Cow<'h, str>>,
    /// `x-ish-cache`.
    pub mode: Option<&'h str>,
    /// `x-ish-cache-ttl`.
    pub ttl: Option<&'h str>,
    /// `x-ish-cache-namespace`.
    pub namespace: Option<&'h str>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Wish {
    mode: Option<String>,
    ttl: Option<f64>,
    #[serde(alias = "s-maxage", alias = "s-max-age")]
    max_age: Option<f64>,
    namespace: Option<String>,
    threshold: Option<f32>,
    semantic: Option<bool>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    replay: Replay,
    #[serde(rename = "no-cache", default)]
    no_cache: bool,
    #[serde(rename = "no-store", default)]
    no_store: bool,
}

impl CacheControl {
    /// Reads the wishes of a request: its body's `cache` member, and its headers, which win.
    ///
    /// # Errors
    /// [`InvalidRequest`] naming the field or header, its value and what it takes.
    pub fn of_request(cache: Option<&RawValue>, headers: &ControlHeaders<'_>) -> Result<Self, InvalidRequest> {
        let mut control = cache.map_or_else(|| Ok(Self::default()), |raw| Self::of_json(raw.get()))?;
        control.apply_http(headers.http.as_deref().unwrap_or(""));
        if let Some(word) = headers.mode {
            control.mode = mode("x-ish-cache", word)?;
        }
        if let Some(seconds) = headers.ttl {
            // As in a body: a number of JSON's.
            let seconds = serde_json::from_str(seconds).map_err(|_| {
                InvalidRequest::of(
                    "x-ish-cache-ttl",
                    format!("the header x-ish-cache-ttl takes seconds, not {seconds:?}"),
                )
            })?;
            control.ttl = Some(duration("x-ish-cache-ttl", seconds)?);
        }
        if let Some(name) = headers.namespace {
            name.clone_into(&mut control.namespace);
        }
        control.check_sizes()?;
        Ok(control)
    }

    /// Reads the `cache` object.
    ///
    /// # Errors
    /// [`InvalidRequest`] naming the member.
    pub fn of_json(json: &str) -> Result<Self, InvalidRequest> {
        let wish: Wish = serde_json::from_str(json)
            .map_err(|error| faulty_member(json).unwrap_or_else(|| not_valid("cache", &error)))?;
        let mut control = Self {
            namespace: wish.namespace.unwrap_or_default(),
            semantic: wish.semantic,
            tags: wish.tags,
            replay: wish.replay,
            ..Self::default()
        };
        control.mode = match (wish.mode, wish.no_cache, wish.no_store) {
            (Some(word), _, _) => mode("cache.mode", &word)?,
            (None, true, true) => Mode::Off,
            (None, true, false) => Mode::Refresh,
            (None, false, true) => Mode::ReadOnly,
            (None, false, false) => Mode::On,
        };
        control.ttl = wish.ttl.map(|seconds| duration("cache.ttl", seconds)).transpose()?;
        control.max_age = wish.max_age.map(|seconds| duration("cache.max_age", seconds)).transpose()?;
        if wish.threshold.is_some_and(|threshold| !(0.0..=1.0).contains(&threshold)) {
            return Err(InvalidRequest::of(
                "cache.threshold",
                "`cache.threshold` is a cosine: it must be between 0 and 1, larger is stricter",
            ));
        }
        control.threshold = wish.threshold;
        control.check_sizes()?;
        Ok(control)
    }

    fn check_sizes(&self) -> Result<(), InvalidRequest> {
        if self.namespace.len() <= 128 && self.tags.len() <= 16 && self.tags.iter().all(|tag| tag.len() <= 64) {
            return Ok(());
        }
        let limits = "`cache.namespace` takes at most 128 bytes, `cache.tags` at most 16 tags of 64 bytes";
        Err(InvalidRequest::of("cache", limits))
    }

    /// HTTP's directives; those that are not about this cache are ignored, as RFC 9111 section 5.2 wants.
    fn apply_http(&mut self, directives: &str) {
        for directive in directives.split(',').map(|directive| directive.trim().to_ascii_lowercase()) {
            match directive.as_str() {
                "no-store" => self.mode = if self.mode == Mode::Refresh { Mode::Off } else { Mode::ReadOnly },
                "no-cache" => self.mode = if self.mode == Mode::ReadOnly { Mode::Off } else { Mode::Refresh },
                "only-if-cached" => self.mode = Mode::Only,
                other => {
                    let seconds = other.strip_prefix("max-age=").and_then(|seconds| seconds.parse().ok());
                    self.max_age = seconds.map(Duration::from_secs).or(self.max_age);
                }
            }
        }
    }
}

/// The fault of the first member that has one by itself.
fn faulty_member(json: &str) -> Option<InvalidRequest> {
    let object = JsonObject::parse(json.as_bytes()).ok()?;
    object.members().find_map(|(name, raw)| {
        // The member's own text: it may hold what no value can, such as half a surrogate pair.
        let alone = format!("{{{}:{}}}", serde_json::Value::from(name), raw.get());
        let error = serde_json::from_str::<Wish>(&alone).err()?;
        let name: String = name.chars().take(50).collect();
        Some(not_valid(&format!("cache.{name}"), &error))
    })
}

fn not_valid(param: &str, error: &serde_json::Error) -> InvalidRequest {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    InvalidRequest::of(param, format!("`{param}` is not valid: {what}"))
}

fn mode(param: &str, word: &str) -> Result<Mode, InvalidRequest> {
    let fault = || {
        InvalidRequest::of(
            param,
            format!("`{param}` takes on, off, read_only, write_only, refresh or only, not {word:?}"),
        )
    };
    Mode::parse(word).ok_or_else(fault)
}

fn duration(param: &str, seconds: f64) -> Result<Duration, InvalidRequest> {
    let fault =
        || InvalidRequest::of(param, format!("`{param}` takes a number of seconds of 0 or more, not {seconds}"));
    if (0.0..=315_360_000.0).contains(&seconds) { Ok(Duration::from_secs_f64(seconds)) } else { Err(fault()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_body_and_lets_headers_win() {
        let body = r#"{"mode":"off","ttl":60,"threshold":0.97,"tags":["a"],"semantic":false}"#;
        let headers = ControlHeaders { mode: Some("refresh"), ..ControlHeaders::default() };
        let control = CacheControl::of_request(serde_json::from_str(body).unwrap(), &headers).unwrap();
        assert_eq!(
            (control.mode, control.ttl, control.semantic),
            (Mode::Refresh, Some(Duration::from_mins(1)), Some(false))
        );
    }

    #[test]
    fn a_fault_names_its_member() {
        for (json, param, said) in [
            (
                r#"{"mode":"on","ttl":"5"}"#,
                "cache.ttl",
                "`cache.ttl` is not valid: invalid type: string \"5\", expected f64",
            ),
            (
                r#"{"tags":"a"}"#,
                "cache.tags",
                "`cache.tags` is not valid: invalid type: string \"a\", expected a sequence",
            ),
            (r#"{"mode":"on","mode":"off"}"#, "cache", "`cache` is not valid: duplicate field `mode`"),
            (r#""on""#, "cache", "`cache` is not valid: invalid type: string \"on\", expected an object"),
            ("[]", "cache", "`cache` is not valid: invalid length 0, expected an object"),
        ] {
            let fault = CacheControl::of_json(json).unwrap_err();
            assert_eq!((fault.param.as_deref(), fault.message.as_str()), (Some(param), said), "{json}");
        }
        let unknown = CacheControl::of_json(r#"{"foo":1}"#).unwrap_err();
        assert!(unknown.message.starts_with("`cache.foo` is not valid: unknown field `foo`, expected one of `mode`"));
    }

    #[test]
    fn understands_litellm_and_http() {
        assert_eq!(CacheControl::of_json(r#"{"no-cache":true}"#).unwrap().mode, Mode::Refresh);
        assert_eq!(
            CacheControl::of_json(r#"{"no-store":true,"s-maxage":5}"#).unwrap().max_age,
            Some(Duration::from_secs(5))
        );
        let http = |value: &'static str| {
            CacheControl::of_request(None, &ControlHeaders { http: Some(value.into()), ..ControlHeaders::default() })
                .unwrap()
        };
        assert_eq!(http("no-cache, no-store").mode, Mode::Off);
        assert_eq!(http("max-age=3, private").max_age, Some(Duration::from_secs(3)));
        assert_eq!(http("only-if-cached").mode, Mode::Only);
    }

    #[test]
    fn faults_name_the_field() {
        for (json, param) in [
            (r#"{"mode":"maybe"}"#, "cache.mode"),
            (r#"{"ttl":-1}"#, "cache.ttl"),
            (r#"{"threshold":2}"#, "cache.threshold"),
            (r#"{"x":1}"#, "cache.x"),
        ] {
            assert_eq!(CacheControl::of_json(json).unwrap_err().param.as_deref(), Some(param));
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,60}") {
            let _ = CacheControl::of_json(&text);
            let mut control = CacheControl::default();
            control.apply_http(&text);
        }
    }
}
