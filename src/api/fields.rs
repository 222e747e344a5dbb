//! `?fields=`: which members of each item an answer holds.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::conversations::Page;
use crate::message::InvalidRequest;

/// The members wanted; all, where none were named.
pub(super) struct Fields(Option<Vec<String>>);

impl Fields {
    /// Every member.
    pub(super) fn all() -> Self {
        Self(None)
    }

    /// Reads `a,b,c`, of which each must be known.
    pub(super) fn parse(wish: Option<&str>, known: &[&str]) -> Result<Self, InvalidRequest> {
        let Some(wish) = wish else { return Ok(Self::all()) };
        let names: Vec<&str> = wish.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let listed = known.join(", ");
        if names.is_empty() {
            return Err(InvalidRequest::of("fields", format!("`fields` names none; there are {listed}")));
        }
        if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
            let shown: String = unknown.chars().take(50).collect();
            return Err(InvalidRequest::of("fields", format!("`fields` names {shown:?}; there are {listed}")));
        }
        Ok(Self(Some(names.into_iter().map(str::to_owned).collect())))
    }

    /// An item with the members wanted.
    pub(super) fn of(&self, item: &impl Serialize) -> Value {
        let mut value = json!(item);
        if let (Some(names), Value::Object(members)) = (&self.0, &mut value) {
            let kept: Map<_, _> = names.iter().filter_map(|name| members.remove_entry(name)).collect();
            *members = kept;
        }
        value
    }

    /// A page of such items.
    pub(super) fn of_page<T: Serialize>(&self, page: &Page<T>) -> Value {
        let data: Vec<Value> = page.data.iter().map(|item| self.of(item)).collect();
        json!({"data": data, "next_cursor": page.next_cursor, "next_offset": page.next_offset})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_chosen() {
        let fields = Fields::parse(Some("b, a"), &["a", "b", "c"]).unwrap();
        assert_eq!(fields.of(&json!({"a": 1, "b": null, "c": 3})), json!({"a": 1, "b": null}));
        assert_eq!(Fields::parse(None, &["a"]).unwrap().of(&json!({"x": 1})), json!({"x": 1}));
    }

    #[test]
    fn an_unknown_one_is_named_with_those_that_are_known() {
        let fault = |wish| Fields::parse(Some(wish), &["a", "b"]).err().unwrap().message;
        assert_eq!(fault("a,x"), "`fields` names \"x\"; there are a, b");
        assert_eq!(fault(","), "`fields` names none; there are a, b");
    }
}
