//! One level of a JSON object, borrowed: names and raw values in their order, duplicates refused.
//!
//! serde's derived structs keep the first or last of two equal names silently; a gateway must not, because its
//! reading and the provider's might differ (RFC 8259 section 4 leaves it open).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Why a JSON text is not an object that can be read.
#[derive(Debug, thiserror::Error)]
pub enum JsonFault {
    /// The text is not a JSON object.
    #[error("not a valid JSON object: {0}")]
    Invalid(#[from] serde_json::Error),
}

/// The members of one JSON object, values unparsed.
#[derive(Debug)]
pub struct JsonObject<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> JsonObject<'a> {
    /// Reads one object from `bytes`.
    ///
    /// # Errors
    /// [`JsonFault::Invalid`] when the bytes are not exactly one JSON object, or a name occurs twice in it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, JsonFault> {
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Reads one object from a value of another one.
    ///
    /// # Errors
    /// As [`JsonObject::parse`].
    pub fn of(value: &'a RawValue) -> Result<Self, JsonFault> {
        Ok(serde_json::from_str(value.get())?)
    }

    /// The raw value under `name`; a JSON `null` counts as absent.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        let (_, value) = self.members.iter().find(|(key, _)| key == name)?;
        (value.get() != "null").then_some(value)
    }

    /// The members in their order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.members.iter().map(|(name, value)| (name.as_ref(), *value))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for JsonObject<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = JsonObject<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(8);
        let mut sorted_names: Option<std::collections::HashSet<String>> = None;
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            // Small objects are searched; a hostile one with thousands of names gets a set.
            let duplicate = match &mut sorted_names {
                Some(names) => !names.insert(name.to_string()),
                None => members.iter().any(|(known, _)| *known == name),
            };
            if duplicate {
                return Err(serde::de::Error::custom(format_args!("duplicate name `{name}` in one object")));
            }
            if sorted_names.is_none() && members.len() == 32 {
                sorted_names =
                    Some(members.iter().map(|(known, _)| known.to_string()).chain([name.to_string()]).collect());
            }
            members.push((name, map.next_value()?));
        }
        Ok(JsonObject { members })
    }
}

/// An object's name, borrowed where it holds no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_refused_also_when_escaped() {
        let error = JsonObject::parse(br#"{"model":"a","\u006dodel":"b"}"#).unwrap_err();
        assert!(error.to_string().contains("duplicate name `model`"), "{error}");
    }

    #[test]
    fn duplicates_are_found_in_large_objects() {
        let members: Vec<String> = (0..100).map(|index| format!("\"k{index}\":1")).collect();
        let text = format!("{{{},\"k70\":2}}", members.join(","));
        assert!(JsonObject::parse(text.as_bytes()).is_err());
    }

    #[test]
    fn null_counts_as_absent() {
        let object = JsonObject::parse(br#"{"seed":null,"n":1}"#).unwrap();
        assert!(object.get("seed").is_none());
        assert_eq!(object.get("n").unwrap().get(), "1");
    }
}
