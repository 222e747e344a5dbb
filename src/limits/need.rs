//! What a request will use, before anybody has counted: an estimate of its input, and what bounds its output.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::message::ChatRequest;

/// Bytes of text that make a token of input: English has about four, other languages and code fewer.
const BYTES_PER_TOKEN: u64 = 3;

/// What a message costs besides its text.
const TOKENS_PER_TURN: u64 = 4;

/// What an image costs, whatever its size: providers scale it down.
const TOKENS_PER_IMAGE: u64 = 1_500;

/// Bytes of base64 that make a token of a document or of sound.
const MEDIA_BYTES_PER_TOKEN: u64 = 16;

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Tokens of input, estimated.
    pub input_tokens: u64,
    /// Tokens of output that each answer may have, where the request says so.
    pub max_tokens: Option<u64>,
    /// How many answers it asks for.
    pub choices: u64,
}

#[derive(Deserialize)]
struct Bounds {
    max_tokens: Option<Value>,
    max_completion_tokens: Option<Value>,
    n: Option<Value>,
}

impl Need {
    /// Reads it from a request. What is no message's text (tools, schemas) counts by its bytes too.
    pub fn of(request: &ChatRequest) -> Self {
        let text: u64 = request.turns.iter().map(|turn| turn.text.len() as u64).sum();
        let other = (request.body.len() as u64).saturating_sub(text);
        let is_plain = request.turns.iter().all(|turn| turn.text_only);
        // Of a plain conversation the rest of the body is JSON around it; tools come as more than that.
        let frame = 128 + 64 * request.turns.len() as u64;
        let media = if is_plain { Media::default() } else { Media::of(&request.body) };
        let other = if is_plain { other.saturating_sub(frame) } else { other.saturating_sub(media.bytes) };
        let written = (text + other).div_ceil(BYTES_PER_TOKEN) + TOKENS_PER_TURN * request.turns.len() as u64;
        let input_tokens = written.saturating_add(media.tokens);
        let bounds = serde_json::from_slice::<Bounds>(&request.body).ok();
        let number = |value: Option<&Value>| value.and_then(Value::as_u64);
        let of = |member: fn(&Bounds) -> Option<&Value>| number(bounds.as_ref().and_then(member));
        let max_tokens = of(|bounds| bounds.max_tokens.as_ref());
        let max_completion_tokens = of(|bounds| bounds.max_completion_tokens.as_ref());
        let choices = of(|bounds| bounds.n.as_ref()).unwrap_or(1).max(1);
        // Which of the two a provider reads is its own affair: the larger one holds either way.
        Self { input_tokens, max_tokens: max_tokens.max(max_completion_tokens), choices }
    }
}

/// The parts of messages that are not text: images, documents, sound.
#[derive(Debug, Default)]
struct Media {
    /// As they stand in the body.
    bytes: u64,
    tokens: u64,
}

#[derive(Deserialize)]
struct Messages<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

impl Media {
    fn of(body: &[u8]) -> Self {
        let mut media = Self::default();
        let Ok(read) = serde_json::from_slice::<Messages<'_>>(body) else { return media };
        for content in read.messages.iter().filter_map(|message| message.content) {
            let Ok(parts) = serde_json::from_str::<Vec<&RawValue>>(content.get()) else { continue };
            for part in parts {
                media.add(part.get());
            }
        }
        media
    }

    fn add(&mut self, part: &str) {
        let Ok(Part { kind }) = serde_json::from_str(part) else { return };
        let bytes = part.len() as u64;
        let tokens = match &*kind {
            "image_url" | "input_image" | "image" => TOKENS_PER_IMAGE,
            "file" | "input_file" | "document" | "input_audio" => (bytes / MEDIA_BYTES_PER_TOKEN).max(TOKENS_PER_IMAGE),
            _ => return,
        };
        self.bytes += bytes;
        self.tokens = self.tokens.saturating_add(tokens);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn need(body: &str) -> Need {
        Need::of(&ChatRequest::parse(Bytes::copy_from_slice(body.as_bytes())).unwrap())
    }

    #[test]
    fn text_and_tools_count_and_an_images_data_do_not() {
        let plain = need(r#"{"model":"m","messages":[{"role":"user","content":"What is the capital of France?"}]}"#);
        assert_eq!(plain, Need { input_tokens: 14, max_tokens: None, choices: 1 });
        let tool =
            format!(r#"{{"type":"function","function":{{"name":"f","description":"{}"}}}}"#, "word ".repeat(300));
        let tools = format!(r#"{{"model":"m","tools":[{tool}],"messages":[{{"role":"user","content":"Hi"}}]}}"#);
        assert!((300..700).contains(&need(&tools).input_tokens), "{}", need(&tools).input_tokens);
        let image = "A".repeat(1_000_000);
        let picture = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}]}}"#
        );
        assert!((1_500..2_000).contains(&need(&picture).input_tokens), "{}", need(&picture).input_tokens);
        // A picture makes nothing else cheaper.
        let both = picture.replacen("\"messages\"", &format!("\"tools\":[{tool}],\"messages\""), 1);
        assert!(need(&both).input_tokens > need(&picture).input_tokens + 300, "{}", need(&both).input_tokens);
        let several = picture.replacen(
            "[{\"type\"",
            "[{\"type\":\"image_url\",\"image_url\":{\"url\":\"https://a.example/b\"}},{\"type\"",
            1,
        );
        assert!(need(&several).input_tokens > 3_000);
        let document = picture.replace("image_url", "file");
        assert!(need(&document).input_tokens > 60_000, "{}", need(&document).input_tokens);
    }

    #[test]
    fn the_larger_bound_holds_and_nonsense_is_none() {
        let with =
            |members: &str| need(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{members}}}"#));
        assert_eq!(with(r#""max_tokens":5,"max_completion_tokens":9,"n":3"#).max_tokens, Some(9));
        assert_eq!(with(r#""n":3"#).choices, 3);
        assert_eq!(with(r#""max_tokens":null,"n":0"#), Need { max_tokens: None, choices: 1, ..with(r#""n":1"#) });
        assert_eq!(with(r#""max_tokens":-4,"n":"many""#).max_tokens, None);
    }

    proptest! {
        #[test]
        fn more_text_never_needs_less(short in ".{0,200}", more in ".{0,200}") {
            let of = |text: &str| {
                let body = serde_json::json!({"model": "m", "messages": [{"role": "user", "content": text}]});
                need(&body.to_string()).input_tokens
            };
            let longer = [short.as_str(), &more].concat();
            prop_assert!(of(&longer) >= of(&short));
        }
    }
}
