//! `params`: what a stored question may ask of its model besides the text, on the socket and over REST. Each is checked
//! before the question is stored: a provider's refusal would come when the question has been acknowledged.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::node::Node;
use super::whole::Whole;
use crate::message::InvalidRequest;

const KNOWN: &[&str] = &["temperature", "top_p", "max_tokens", "seed", "stop"];

/// The texts that end an answer.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

/// As members of a chat request.
pub(super) fn read(node: &Node<'_>) -> Result<Map<String, Value>, InvalidRequest> {
    node.takes_only("`params`", KNOWN)?;
    let mut params = Map::new();
    for (name, most) in [("temperature", 2.0), ("top_p", 1.0)] {
        let expected = format!("a number from 0 to {most}");
        if let Some(number) = node.read::<f64>(name, &expected)? {
            if !(0.0..=most).contains(&number) {
                return Err(node.not(name, &expected));
            }
            params.insert(name.to_owned(), number.into());
        }
    }
    if let Some(Whole(most)) = node.read::<Whole<NonZeroU64>>("max_tokens", "a whole number of at least 1")? {
        params.insert("max_tokens".to_owned(), most.get().into());
    }
    if let Some(Whole(seed)) = node.read::<Whole<i64>>("seed", "a whole number of at most 64 bits")? {
        params.insert("seed".to_owned(), seed.into());
    }
    match node.read("stop", "a string or an array of strings")? {
        Some(Stop::One(text)) => params.insert("stop".to_owned(), text.into()),
        Some(Stop::Several(texts)) => params.insert("stop".to_owned(), texts.into()),
        None => None,
    };
    Ok(params)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::message::JsonObject;

    fn read_of(text: &str) -> Result<Value, InvalidRequest> {
        read(&Node::root(JsonObject::parse(text.as_bytes()).unwrap())).map(Value::Object)
    }

    #[test]
    fn what_is_in_range_is_taken() {
        let text = r#"{"temperature":2,"top_p":0,"max_tokens":1.0,"seed":-7,"stop":["a","b"]}"#;
        let expected = json!({"temperature": 2.0, "top_p": 0.0, "max_tokens": 1, "seed": -7, "stop": ["a", "b"]});
        assert_eq!(read_of(text).unwrap(), expected);
        assert_eq!(read_of(r#"{"stop":"a","seed":null}"#).unwrap(), json!({"stop": "a"}));
    }

    #[test]
    fn what_is_not_is_refused_by_its_name() {
        for (text, param, said) in [
            (r#"{"temperature":-3}"#, "temperature", "`temperature` must be a number from 0 to 2, not -3"),
            (r#"{"temperature":2.01}"#, "temperature", "`temperature` must be a number from 0 to 2, not 2.01"),
            (r#"{"temperature":1e400}"#, "temperature", "`temperature` must be a number from 0 to 2, not 1e400"),
            (r#"{"temperature":"hot"}"#, "temperature", "`temperature` must be a number from 0 to 2, not \"hot\""),
            (r#"{"top_p":1.5}"#, "top_p", "`top_p` must be a number from 0 to 1, not 1.5"),
            (r#"{"max_tokens":0}"#, "max_tokens", "`max_tokens` must be a whole number of at least 1, not 0"),
            (r#"{"max_tokens":-1}"#, "max_tokens", "`max_tokens` must be a whole number of at least 1, not -1"),
            (r#"{"max_tokens":1.5}"#, "max_tokens", "`max_tokens` must be a whole number of at least 1, not 1.5"),
            (r#"{"seed":1e30}"#, "seed", "`seed` must be a whole number of at most 64 bits, not 1e30"),
            (r#"{"stop":[1]}"#, "stop", "`stop` must be a string or an array of strings, not [1]"),
            (
                r#"{"best_of":2}"#,
                "best_of",
                "`best_of` is unknown: `params` takes temperature, top_p, max_tokens, seed, stop",
            ),
        ] {
            let fault = read_of(text).unwrap_err();
            assert_eq!((fault.param.as_deref(), fault.message.as_str()), (Some(param), said), "{text}");
        }
    }
}
