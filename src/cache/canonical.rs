//! The canonical form of JSON that keys are made of: members sorted, white space gone, duplicate names refused at every
//! level (ours and the provider's reading of them might differ).

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// JSON whose objects hold each name once.
struct Strict(Value);

/// The canonical text of one JSON value.
///
/// # Errors
/// The JSON error, also for a duplicate name and for nesting deeper than 128 levels.
pub fn canonical(json: &str) -> Result<String, serde_json::Error> {
    // serde_json's map is sorted, so that writing the value sorts its members.
    serde_json::from_str::<Strict>(json).map(|Strict(value)| value.to_string())
}

/// The text of one JSON value without white space, its members in the order in which they came: a model reads the order of
/// a schema's members, and answers in it.
///
/// # Errors
/// As [`canonical`].
pub fn in_order(json: &str) -> Result<String, serde_json::Error> {
    canonical(json)?;
    let (mut in_string, mut escaped) = (false, false);
    let is_said = |character: &char| {
        let ends = *character == '"' && !escaped;
        escaped = in_string && *character == '\\' && !escaped;
        in_string ^= ends;
        in_string || !character.is_ascii_whitespace()
    };
    Ok(json.chars().filter(is_said).collect())
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Strict)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Strict(value))) = map.next_entry::<String, Strict>()? {
            if members.contains_key(&name) {
                return Err(serde::de::Error::custom(format_args!("duplicate name `{name}` in one object")));
            }
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn order_and_white_space_do_not_matter() {
        assert_eq!(
            canonical(r#"{"b": [1, {"d":0,"c":"\u0061"}], "a":null}"#).unwrap(),
            r#"{"a":null,"b":[1,{"c":"a","d":0}]}"#
        );
    }

    #[test]
    fn of_a_schema_only_white_space_does_not_matter() {
        let spaced = "{\"b \" : [1,\n {\"d\":\"x \\\\\", \"c\": \"a \\\" b\"} ] ,\"a\":null }";
        assert_eq!(in_order(spaced).unwrap(), r#"{"b ":[1,{"d":"x \\","c":"a \" b"}],"a":null}"#);
        assert!(in_order(r#"{"a":{"b":1,"b":2}}"#).is_err());
    }

    #[test]
    fn numbers_that_a_provider_may_read_apart_stay_apart() {
        assert_ne!(canonical("1").unwrap(), canonical("1.0").unwrap());
    }

    #[test]
    fn duplicates_and_deep_nesting_are_refused() {
        assert!(canonical(r#"{"a":{"b":1,"b":2}}"#).is_err());
        assert!(canonical(&"[".repeat(100_000)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_left_out_is_white_space_only(text in ".{0,80}", name in "[a\\\\\" ]{0,9}") {
            let json = serde_json::json!({name: [text, {"z": 1, "a": 2}]});
            let pretty = serde_json::to_string_pretty(&json).unwrap();
            prop_assert_eq!(in_order(&pretty).unwrap(), json.to_string());
        }

        #[test]
        fn is_idempotent_and_never_panics(text in ".{0,80}") {
            if let Ok(once) = canonical(&text) {
                prop_assert_eq!(canonical(&once).unwrap(), once);
            }
        }
    }
}
