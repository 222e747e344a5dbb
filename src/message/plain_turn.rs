//! Messages of plain text, read in one pass. Nearly all are `{"role": ..., "content": "..."}`; the general way looks at
//! each byte of them four times, to name what is wrong or unusual. Here anything but the plain form is left to it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::request::{Role, Turn};

/// The turns of a `messages` array, if each is a role and a text and nothing else.
pub(super) fn plain_turns(messages: &RawValue) -> Option<Vec<Turn>> {
    let plain: Vec<PlainTurn> = serde_json::from_str(messages.get()).ok()?;
    (!plain.is_empty()).then(|| plain.into_iter().map(|turn| turn.0).collect())
}

struct PlainTurn(Turn);

impl<'de> Deserialize<'de> for PlainTurn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members).map(PlainTurn)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Turn;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a plain message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Turn, A::Error> {
        let (mut role, mut text) = (None, None);
        while let Some(member) = map.next_key::<Member>()? {
            match member {
                Member::Role if role.is_none() => role = Some(map.next_value::<PlainRole>()?.0),
                Member::Content if text.is_none() => text = Some(map.next_value::<String>()?),
                _ => return Err(A::Error::custom("not plain")),
            }
        }
        match (role, text) {
            (Some(role), Some(text)) if role != Role::Tool => Ok(Turn { role, text, text_only: true }),
            _ => Err(A::Error::custom("not plain")),
        }
    }
}

enum Member {
    Role,
    Content,
    Other,
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(Word(|word: &str| {
            Some(match word {
                "role" => Self::Role,
                "content" => Self::Content,
                _ => Self::Other,
            })
        }))
    }
}

struct PlainRole(Role);

impl<'de> Deserialize<'de> for PlainRole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Word(|word: &str| Role::parse(word).map(PlainRole)))
    }
}

/// A string that is only looked at.
struct Word<F>(F);

impl<T, F: FnOnce(&str) -> Option<T>> Visitor<'_> for Word<F> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a word that is known")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<T, E> {
        (self.0)(word).ok_or_else(|| E::custom("not plain"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::ChatRequest;

    fn plain(messages: &str) -> Option<Vec<Turn>> {
        plain_turns(&serde_json::from_str::<Box<RawValue>>(messages).unwrap())
    }

    #[test]
    fn the_plain_form_is_read_and_every_other_is_left() {
        let turns = plain(r#"[{"role":"system","content":"s"},{"content":"a\nb \u00e9","role":"user"}]"#).unwrap();
        assert_eq!((turns[1].role, turns[1].text.as_str(), turns[1].text_only), (Role::User, "a\nb é", true));
        for other in [
            "[]",
            r#"[{"role":"user"}]"#,
            r#"[{"role":"user","content":null}]"#,
            r#"[{"role":"user","content":[]}]"#,
            r#"[{"role":"tool","content":"x"}]"#,
            r#"[{"role":"robot","content":"x"}]"#,
            r#"[{"role":"user","role":"system","content":"x"}]"#,
            r#"[{"role":"user","content":"x","name":"n"}]"#,
        ] {
            assert!(plain(other).is_none(), "{other}");
        }
    }

    proptest! {
        /// What is read here is what the general way reads: an unknown third member makes that one do the work.
        #[test]
        fn agrees_with_the_general_way(turns in proptest::collection::vec((0usize..4, ".{0,40}"), 1..5)) {
            let message = |(role, text): &(usize, String), more: &str| {
                let role = ["system", "developer", "user", "assistant"][*role];
                format!(r#"{{"role":"{role}","content":{}{more}}}"#, serde_json::Value::from(text.as_str()))
            };
            let all = |more: &str| turns.iter().map(|turn| message(turn, more)).collect::<Vec<_>>().join(",");
            let request = |messages: String| {
                ChatRequest::parse(format!(r#"{{"model":"m","messages":[{messages}]}}"#).into()).unwrap().turns
            };
            let (plain, general) = (request(all("")), request(all(r#","name":null"#)));
            prop_assert_eq!(plain, general);
        }
    }
}
