//! Whole numbers of requests. JSON has one kind of number, so that 17.0 is 17, whatever a client's language writes.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};

/// Below this every whole number is a value of `f64`.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A whole number, read and written without a point; of 0 or more unless said otherwise.
#[derive(serde::Serialize)]
#[serde(transparent)]
pub(super) struct Whole<T = u64>(pub T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(given: D) -> Result<Self, D::Error> {
        needed(given).map(Self)
    }
}

/// A member that is a whole number, or absent.
pub(super) fn whole<'de, D: Deserializer<'de>, T: DeserializeOwned>(given: D) -> Result<Option<T>, D::Error> {
    let Some(number) = Option::<Number>::deserialize(given)? else { return Ok(None) };
    T::deserialize(plain(&number)).map(Some).map_err(D::Error::custom)
}

/// A value that is a whole number.
pub(super) fn needed<'de, D: Deserializer<'de>, T: DeserializeOwned>(given: D) -> Result<T, D::Error> {
    T::deserialize(plain(&Number::deserialize(given)?)).map_err(D::Error::custom)
}

/// The value, without the point where it is a whole number with one.
pub(super) fn plain_value(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(plain(&number)),
        other => other,
    }
}

fn plain(number: &Number) -> Number {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT => Number::from(float as i64),
        _ => number.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn read<T: DeserializeOwned>(text: &str) -> Result<Option<T>, String> {
        whole(&mut serde_json::Deserializer::from_str(text)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_point_changes_nothing() {
        assert_eq!(read::<NonZeroU32>("17.0"), Ok(NonZeroU32::new(17)));
        assert_eq!(read::<i64>("-2e3"), Ok(Some(-2_000)));
        assert_eq!(read::<u64>("18446744073709551615"), Ok(Some(u64::MAX)));
        assert_eq!(read::<u64>("null"), Ok(None));
        assert_eq!(plain_value(serde_json::json!(4.0)), serde_json::json!(4));
        assert_eq!(plain_value(serde_json::json!("4.0")), serde_json::json!("4.0"));
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["17.5", "-1.0", "0.0", "4294967296.0", "1e300", "\"17\"", "true", "[]"] {
            assert!(read::<NonZeroU32>(text).is_err(), "{text}");
        }
    }
}
