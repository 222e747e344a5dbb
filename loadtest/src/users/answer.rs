//! One answer as a user hears it, frame by frame: whether it is whole, and when its parts came.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;

/// An answer under way.
pub(super) struct Answer {
    id: String,
    conversation: Option<String>,
    ack: Option<Duration>,
    first: Option<Duration>,
    seq: u64,
    heard: blake3::Hasher,
}

/// An answer that has ended as it should. Times count from the moment the question was due.
#[derive(Debug, PartialEq)]
pub(super) struct Heard {
    pub conversation: String,
    pub ack: Duration,
    pub first: Duration,
    pub whole: Duration,
    pub output_tokens: u64,
    /// What the cache said: `hit`, `miss`, ...
    pub cache: String,
}

/// Any frame, as far as it matters here.
#[derive(Deserialize)]
struct Said<'f> {
    r#type: &'f str,
    #[serde(borrow)]
    id: Option<Cow<'f, str>>,
    conversation: Option<&'f str>,
    from: Option<u64>,
    seq: Option<u64>,
    #[serde(borrow)]
    text: Option<Cow<'f, str>>,
    #[serde(borrow)]
    code: Option<Cow<'f, str>>,
    cache: Option<CacheReport>,
    usage: Option<Usage>,
    text_blake3: Option<&'f str>,
}

#[derive(Deserialize)]
struct CacheReport {
    status: String,
}

#[derive(Deserialize)]
struct Usage {
    output_tokens: Option<u64>,
}

impl Answer {
    /// To the question that the client named so.
    pub(super) fn to(id: String) -> Self {
        Self { id, conversation: None, ack: None, first: None, seq: 0, heard: blake3::Hasher::new() }
    }

    /// Takes a frame that came so long after the question was due; the answer, once that was its end.
    ///
    /// # Errors
    /// What is wrong with it, in words that do not differ from one answer to the next.
    pub(super) fn take(&mut self, frame: &str, after: Duration) -> Result<Option<Heard>, String> {
        let said: Said = serde_json::from_str(frame).map_err(|_| "a frame that cannot be read".to_owned())?;
        match said.r#type {
            "ack" if said.id.as_deref() == Some(&self.id) => {
                self.ack = Some(after);
                self.conversation = said.conversation.map(str::to_owned);
            }
            "delta" => self.delta(&said, after)?,
            "done" => return self.done(said, after).map(Some),
            "error" => return Err(format!("error {}", said.code.as_deref().unwrap_or("without a code"))),
            "cancelled" | "gone" | "snapshot" | "draining" => return Err(format!("a frame {}", said.r#type)),
            _ => {}
        }
        Ok(None)
    }

    fn delta(&mut self, said: &Said, after: Duration) -> Result<(), String> {
        if said.from != Some(self.seq + 1) {
            return Err("a hole or a double among the deltas".to_owned());
        }
        let text = said.text.as_deref().unwrap_or_default();
        self.heard.update(text.as_bytes());
        if !text.is_empty() {
            self.first.get_or_insert(after);
        }
        self.seq = said.seq.unwrap_or(0);
        Ok(())
    }

    fn done(&mut self, said: Said, whole: Duration) -> Result<Heard, String> {
        let (Some(ack), Some(conversation)) = (self.ack, self.conversation.take()) else {
            return Err("an end without an ack".to_owned());
        };
        if said.seq != Some(self.seq) || said.text_blake3 != Some(self.heard.finalize().to_hex().as_str()) {
            return Err("another text than the stored one".to_owned());
        }
        let first = self.first.ok_or("an answer without a word")?;
        let counted = said.usage.and_then(|usage| usage.output_tokens);
        let output_tokens = counted.ok_or("an answer that nobody counted")?;
        let cache = said.cache.map_or_else(String::new, |cache| cache.status);
        Ok(Heard { conversation, ack, first, whole, output_tokens, cache })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK: &str = r#"{"type":"ack","id":"q","conversation":"c","stream":"s","epoch":1,"duplicate":false}"#;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn done(text: &str, seq: u64) -> String {
        let hash = blake3::hash(text.as_bytes()).to_hex();
        format!(
            r#"{{"type":"done","seq":{seq},"usage":{{"input_tokens":3,"output_tokens":4}},"cache":{{"status":"miss","how":null}},"text_blake3":"{hash}"}}"#
        )
    }

    fn heard(frames: &[&str]) -> Result<Option<Heard>, String> {
        let mut answer = Answer::to("q".to_owned());
        let mut last = Ok(None);
        for (number, frame) in frames.iter().enumerate() {
            last = Ok(answer.take(frame, ms(10 * (number as u64 + 1)))?);
        }
        last
    }

    #[test]
    fn an_answer_is_timed_at_its_ack_its_first_word_and_its_end() {
        let end = done("ab \"c\"", 3);
        let frames = [
            ACK,
            r#"{"type":"status","kind":"upstream","cache":{"status":"miss"}}"#,
            r#"{"type":"delta","from":1,"seq":1,"text":""}"#,
            r#"{"type":"delta","from":2,"seq":2,"text":"ab"}"#,
            r#"{"type":"delta","from":3,"seq":3,"text":" \"c\""}"#,
            &end,
        ];
        let whole = Heard {
            conversation: "c".to_owned(),
            ack: ms(10),
            first: ms(40),
            whole: ms(60),
            output_tokens: 4,
            cache: "miss".to_owned(),
        };
        assert_eq!(heard(&frames), Ok(Some(whole)));
        assert_eq!(heard(&frames[..5]), Ok(None));
    }

    #[test]
    fn what_is_not_whole_is_told_apart() {
        let (one, end) = (r#"{"type":"delta","from":1,"seq":1,"text":"a"}"#, done("a", 1));
        let third = r#"{"type":"delta","from":3,"seq":3,"text":"a"}"#;
        let other = done("b", 1);
        for (frames, fault) in [
            (vec![ACK, one, third], "a hole or a double among the deltas"),
            (vec![ACK, one, one], "a hole or a double among the deltas"),
            (vec![ACK, one, &other], "another text than the stored one"),
            (vec![one, &end], "an end without an ack"),
            (vec![ACK, r#"{"type":"error","code":"overloaded","message":"so"}"#], "error overloaded"),
            (vec![ACK, "no frame"], "a frame that cannot be read"),
        ] {
            assert_eq!(heard(&frames), Err(fault.to_owned()));
        }
    }
}
