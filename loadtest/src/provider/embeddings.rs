//! Embeddings that depend on the words alone.
//!
//! Every word contributes a pseudo-random direction and the sum is scaled to unit length, so equal
//! texts have equal vectors and texts that share words are near one another. That is enough to
//! test the plumbing; it says nothing about meaning.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::fnv1a;

/// Length of a vector unless `dimensions` asks for another.
pub const DEFAULT_DIMENSIONS: usize = 384;

#[derive(Deserialize)]
struct EmbeddingRequest {
    model: String,
    input: Value,
    #[serde(default)]
    encoding_format: Encoding,
    dimensions: Option<usize>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    Base64,
}

/// The reply to an embeddings request; `None` if the body is none.
pub(super) fn reply(body: &[u8]) -> Option<Vec<u8>> {
    let request: EmbeddingRequest = serde_json::from_slice(body).ok()?;
    let texts = texts(&request.input)?;
    let dimensions = request.dimensions.unwrap_or(DEFAULT_DIMENSIONS).clamp(1, 4096);
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let embedding = encode(&embedding(text, dimensions), request.encoding_format);
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let tokens: usize = texts.iter().map(|text| text.split_whitespace().count()).sum();
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    Some(json!({ "object": "list", "data": data, "model": request.model, "usage": usage }).to_string().into_bytes())
}

/// The vector of a text, unit length unless the text has no words (then all zero).
pub fn embedding(text: &str, dimensions: usize) -> Vec<f32> {
    let mut sum = vec![0.0_f32; dimensions];
    for word in text.split_whitespace() {
        let mut state = word.to_lowercase().bytes().fold(0xcbf2_9ce4_8422_2325, fnv1a) | 1;
        for component in &mut sum {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *component += (state >> 40) as f32 / 8_388_608.0 - 1.0;
        }
    }
    let length = sum.iter().map(|component| component * component).sum::<f32>().sqrt();
    if length > 0.0 {
        for component in &mut sum {
            *component /= length;
        }
    }
    sum
}

/// The inputs as texts; a list of token numbers counts as the text of its numbers.
fn texts(input: &Value) -> Option<Vec<String>> {
    match input {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) if items.iter().all(Value::is_number) => Some(vec![numbers(items)]),
        Value::Array(items) => items.iter().map(text).collect(),
        _ => None,
    }
}

fn text(item: &Value) -> Option<String> {
    match item {
        Value::String(text) => Some(text.clone()),
        Value::Array(tokens) => Some(numbers(tokens)),
        _ => None,
    }
}

fn numbers(tokens: &[Value]) -> String {
    tokens.iter().map(Value::to_string).collect::<Vec<_>>().join(" ")
}

/// Plain numbers, or the little-endian `f32`s in base64 that the official Python client asks for.
fn encode(embedding: &[f32], encoding: Encoding) -> Value {
    match encoding {
        Encoding::Float => embedding.into(),
        Encoding::Base64 => {
            let bytes: Vec<u8> = embedding.iter().flat_map(|component| component.to_le_bytes()).collect();
            STANDARD.encode(bytes).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        embedding(a, 384).iter().zip(embedding(b, 384)).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn shared_words_are_near_and_others_far() {
        assert!((cosine("the quick fox", "The quick fox") - 1.0).abs() < 1e-5);
        assert!(cosine("the quick fox", "the quick dog") > 0.5);
        assert!(cosine("the quick fox", "some other thing") < 0.3);
    }

    #[test]
    fn base64_holds_the_same_numbers() {
        let floats = reply(br#"{"model":"m","input":["a b",[1,2]],"dimensions":8}"#).expect("valid");
        let packed = reply(br#"{"model":"m","input":["a b",[1,2]],"dimensions":8,"encoding_format":"base64"}"#);
        let floats: Value = serde_json::from_slice(&floats).expect("json");
        let packed: Value = serde_json::from_slice(&packed.expect("valid")).expect("json");
        for index in 0..2 {
            let text = packed["data"][index]["embedding"].as_str().expect("text");
            let bytes = STANDARD.decode(text).expect("base64");
            let unpacked: Vec<f32> =
                bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four"))).collect();
            let plain: Vec<f32> = serde_json::from_value(floats["data"][index]["embedding"].clone()).expect("floats");
            assert_eq!(unpacked, plain);
        }
    }
}
