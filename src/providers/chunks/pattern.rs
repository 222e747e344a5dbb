//! What the events of one stream have in common. A provider sends the same JSON again and again with other text in it: an
//! event that differs from one that was read only inside its texts is as valid, and says as little about an end, as that
//! one. Seeing this costs a twentieth of reading it.

use std::ops::Range;

use bytes::Bytes;

/// An event that was read, and where its texts are.
#[derive(Debug)]
pub(super) struct Pattern {
    event: Bytes,
    /// Between the quotes of each text, in order.
    texts: Vec<Range<usize>>,
}

impl Pattern {
    /// Of an event whose JSON strings `texts` (with their quotes) may be others in the next; `None` if one of them is no
    /// string of it.
    pub(super) fn of(event: Bytes, texts: impl IntoIterator<Item = impl AsRef<str>>) -> Option<Self> {
        let start = event.as_ptr().addr();
        let mut ranges = Vec::new();
        for text in texts {
            let text = text.as_ref();
            let inside = text.strip_prefix('"')?.strip_suffix('"')?;
            let at = inside.as_ptr().addr().checked_sub(start).filter(|at| at + inside.len() <= event.len())?;
            ranges.push(at..at + inside.len());
        }
        ranges.sort_by_key(|range| range.start);
        (!ranges.is_empty()).then_some(Self { event, texts: ranges })
    }

    /// Whether `other` is this event with other texts in it, each a whole JSON string.
    pub(super) fn fits(&self, other: &[u8]) -> bool {
        let (mut known_to, mut rest) = (0, other);
        for text in &self.texts {
            let Some(after) = rest.strip_prefix(&self.event[known_to..text.start]) else { return false };
            let Some(length) = text_length(after) else { return false };
            (known_to, rest) = (text.end, &after[length..]);
        }
        rest == &self.event[known_to..]
    }
}

/// The bytes up to the quote that ends a JSON string; `None` if it is none, or has an escape that takes reading.
fn text_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut is_ascii = true;
    loop {
        match bytes.get(at)? {
            b'"' => break,
            b'\\' => match bytes.get(at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                _ => return None,
            },
            0..=0x1f => return None,
            byte => {
                is_ascii &= byte.is_ascii();
                at += 1;
            }
        }
    }
    (is_ascii || std::str::from_utf8(&bytes[..at]).is_ok()).then_some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;

    const EVENT: &str =
        r#"{"id":"x","choices":[{"index":0,"delta":{"content":"He"},"finish_reason":null}],"obfuscation":"abc"}"#;

    fn pattern() -> Pattern {
        let event = Bytes::from_static(EVENT.as_bytes());
        let strings = [r#""He""#, r#""abc""#].map(|text| {
            let at = EVENT.find(text).unwrap();
            &EVENT[at..at + text.len()]
        });
        Pattern::of(event, strings).unwrap()
    }

    #[test]
    fn other_texts_fit_and_everything_else_does_not() {
        let fits = |content: &str, pad: &str| {
            let event = EVENT.replace("\"He\"", content).replace("\"abc\"", pad);
            pattern().fits(event.as_bytes())
        };
        assert!(fits(r#""""#, r#""""#) && fits(r#""a\n\"b\\""#, r#""é日""#));
        for content in [r#""a"#, r#""a"b""#, "null", "\"a\nb\"", r#""\ud800""#, r#""\x""#, r#""a","role":"b""#] {
            assert!(!fits(content, "\"abc\""), "{content}");
        }
        assert!(!pattern().fits(EVENT.replace("null", "\"stop\"").as_bytes()));
        assert!(
            !pattern().fits(&EVENT.as_bytes()[..EVENT.len() - 1]) && !pattern().fits(format!("{EVENT} ").as_bytes())
        );
        assert!(
            !pattern().fits(
                &EVENT.as_bytes().iter().map(|byte| if *byte == b'H' { 0xff } else { *byte }).collect::<Vec<_>>()
            )
        );
    }

    #[test]
    fn what_is_no_string_of_the_event_makes_no_pattern() {
        let event = Bytes::from_static(EVENT.as_bytes());
        assert!(Pattern::of(event.clone(), ["\"elsewhere\""]).is_none());
        assert!(Pattern::of(event.clone(), [&EVENT[1..5]]).is_some());
        assert!(Pattern::of(event.clone(), ["null"]).is_none() && Pattern::of(event, [""; 0]).is_none());
    }

    proptest! {
        #[test]
        fn what_fits_is_valid_json_with_the_same_end(at in 0usize..EVENT.len(), length in 0usize..4, put in proptest::collection::vec(any::<u8>(), 0..6)) {
            let mut damaged = EVENT.as_bytes().to_vec();
            let end = (at + length).min(damaged.len());
            damaged.splice(at..end, put);
            if pattern().fits(&damaged) {
                let read: Value = serde_json::from_slice(&damaged).unwrap();
                prop_assert!(read["choices"][0]["finish_reason"].is_null() && read["error"].is_null());
                prop_assert!(std::str::from_utf8(&damaged).is_ok());
            }
        }

        #[test]
        fn every_text_without_unicode_escapes_fits(text in ".{0,20}") {
            let json = Value::from(text).to_string();
            prop_assume!(!json.contains("\\u"));
            prop_assert!(pattern().fits(EVENT.replace("\"He\"", &json).as_bytes()));
            prop_assert!(serde_json::from_str::<&RawValue>(&json).is_ok());
        }
    }
}
