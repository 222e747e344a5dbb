//! A whole reply in OpenAI's dialect, glanced at before it is passed on: that it is an answer, and what it counted.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::message::Usage;
use crate::upstream::{Failure, FailureKind};

#[derive(Deserialize)]
struct Glance {
    choices: Option<Vec<IgnoredAny>>,
    error: Option<Value>,
    usage: Option<Value>,
}

/// The count of a reply that is an answer.
///
/// # Errors
/// [`FailureKind::Garbage`] for what is no answer, [`FailureKind::Reported`] for an error in an answer's place.
pub(super) fn check(reply: &[u8]) -> Result<Option<Usage>, Failure> {
    let garbage = || Failure::new(FailureKind::Garbage, "the provider's answer is not the JSON that it should be");
    // What is not looked at is not read, and so the whole is checked first.
    let text = std::str::from_utf8(reply).map_err(|_| garbage())?;
    let glance: Glance = serde_json::from_str(text).map_err(|_| garbage())?;
    match (glance.choices, glance.error) {
        (Some(choices), _) if !choices.is_empty() => Ok(glance.usage.as_ref().and_then(Usage::from_openai)),
        (_, Some(error)) => {
            let said = error.get("message").and_then(Value::as_str).or(error.as_str());
            let message = said.unwrap_or("the provider reported an error in place of an answer").to_owned();
            Err(Failure { error: Some(error), ..Failure::new(FailureKind::Reported, message) })
        }
        (_, None) => Err(garbage()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_an_error_and_anything_else_are_told_apart() {
        let counted = check(br#"{"choices":[{}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#).unwrap().unwrap();
        assert_eq!((counted.input_tokens, counted.output_tokens), (3, 4));
        assert_eq!(check(br#"{"choices":[{}],"usage":null}"#).unwrap(), None);
        let kind = |reply: &[u8]| check(reply).unwrap_err().kind;
        assert_eq!(kind(br#"{"error":{"message":"no"}}"#), FailureKind::Reported);
        assert_eq!(kind(br#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#), FailureKind::Garbage);
        assert_eq!(kind(b"{}"), FailureKind::Garbage);
        assert_eq!(kind(b"<html>"), FailureKind::Garbage);
        assert_eq!(kind(b"{\"choices\":[\"\xff\"]}"), FailureKind::Garbage);
    }
}
