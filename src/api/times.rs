//! Times as the API has them: what is kept in milliseconds since the Unix epoch, under a name that says so, is shown by RFC 3339.

use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::rfc3339;

/// A thing with each member `NAME_ms` shown as `NAME`; one that there is not is null.
pub(super) fn with_times(of: &impl Serialize, names: &[&str]) -> Value {
    let mut shown = json!(of);
    if let Value::Object(members) = &mut shown {
        for name in names {
            let ms = members.remove(&format!("{name}_ms")).and_then(|ms| ms.as_u64());
            members.insert((*name).to_owned(), ms.map_or(Value::Null, |ms| json!(rfc3339(ms))));
        }
    }
    shown
}
