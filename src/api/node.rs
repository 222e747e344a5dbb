//! One object of a request in a dialect of its own, with its place in it: what is wrong with a field is said by the
//! field's name, with what it held and what it takes.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::message::{InvalidRequest, JsonObject};

/// The object.
pub(super) struct Node<'a> {
    /// `messages[2].content[0]`; empty for the outermost.
    place: String,
    object: JsonObject<'a>,
    /// Its text; the outermost object has none of its own.
    raw: Option<&'a RawValue>,
}

impl<'a> Node<'a> {
    /// The outermost object.
    pub fn root(object: JsonObject<'a>) -> Self {
        Self { place: String::new(), object, raw: None }
    }

    /// The object that `raw` is, at `place`.
    pub fn of(place: String, raw: &'a RawValue) -> Result<Self, InvalidRequest> {
        match JsonObject::of(raw) {
            Ok(object) => Ok(Self { place, object, raw: Some(raw) }),
            Err(fault) => Err(InvalidRequest::of(&place, format!("`{place}` is {fault}"))),
        }
    }

    /// The object as it came.
    ///
    /// # Panics
    /// For the outermost object.
    pub fn raw(&self) -> &'a RawValue {
        self.raw.expect("invariant: only inner objects are passed on whole")
    }

    /// Where its member `name` stands.
    pub fn field(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) }
    }

    /// The member's JSON; `null` is absent.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.object.get(name)
    }

    /// Whether the member is there, be it `null`.
    pub fn has(&self, name: &str) -> bool {
        self.object.members().any(|(known, _)| known == name)
    }

    /// The members in their order, without those that are `null`.
    pub fn members(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.object.members().filter(|(_, raw)| raw.get() != "null")
    }

    /// The member as a `T`.
    pub fn read<T: Deserialize<'a>>(&self, name: &str, expected: &str) -> Result<Option<T>, InvalidRequest> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        serde_json::from_str(raw.get()).map(Some).map_err(|_| self.unlike(name, raw, expected))
    }

    /// As [`Node::read`], for a member that must be there.
    pub fn need<T: Deserialize<'a>>(&self, name: &str, expected: &str) -> Result<T, InvalidRequest> {
        self.read(name, expected)?.ok_or_else(|| self.missing(name, expected))
    }

    /// The member as it came, once it is known to be a `T`.
    pub fn checked<T: Deserialize<'a>>(
        &self,
        name: &str,
        expected: &str,
    ) -> Result<Option<&'a RawValue>, InvalidRequest> {
        self.read::<T>(name, expected)?;
        Ok(self.get(name))
    }

    /// The member that is an object.
    pub fn child(&self, name: &str) -> Result<Option<Self>, InvalidRequest> {
        self.get(name).map(|raw| Self::of(self.field(name), raw)).transpose()
    }

    /// The objects of the member that is an array of them; none where it is absent.
    pub fn children(&self, name: &str) -> Result<Vec<Self>, InvalidRequest> {
        let items: Vec<&'a RawValue> = self.read(name, "an array of objects")?.unwrap_or_default();
        let field = self.field(name);
        items.into_iter().enumerate().map(|(index, raw)| Self::of(format!("{field}[{index}]"), raw)).collect()
    }

    /// The member `name`, an identifier that none of `others` may have; it is added to them.
    pub fn unique(&self, name: &str, expected: &str, others: &mut HashSet<String>) -> Result<String, InvalidRequest> {
        let id: String = self.need(name, expected)?;
        if others.insert(id.clone()) {
            return Ok(id);
        }
        let (field, shown) = (self.field(name), excerpt(&id));
        let message = format!("`{field}` is {shown:?}, as one before it: a call has an id of its own, and one result");
        Err(self.fault(name, message))
    }

    /// Refuses every member but those of these names.
    pub fn only(&self, known: &[&str]) -> Result<(), InvalidRequest> {
        match self.members().find(|(name, _)| !known.contains(name)) {
            Some((name, _)) => Err(self.lacks(name, "it would be lost on the way")),
            None => Ok(()),
        }
    }

    /// The same of an object that is all ours and of which nothing is passed on; `what` it is.
    pub fn takes_only(&self, what: &str, known: &[&str]) -> Result<(), InvalidRequest> {
        let Some((name, _)) = self.object.members().find(|(name, _)| !known.contains(name)) else { return Ok(()) };
        let name: String = name.chars().take(50).collect();
        let takes = known.iter().filter(|known| **known != "type").copied().collect::<Vec<_>>().join(", ");
        Err(self.fault(&name, format!("`{}` is unknown: {what} takes {takes}", self.field(&name))))
    }

    /// The member must be there.
    pub fn missing(&self, name: &str, expected: &str) -> InvalidRequest {
        self.fault(name, format!("`{}` is required: {expected}", self.field(name)))
    }

    /// What the member asks for cannot be had here.
    pub fn lacks(&self, name: &str, why: &str) -> InvalidRequest {
        self.fault(name, format!("`{}` cannot be passed on: {why}", self.field(name)))
    }

    /// The member is not what it must be.
    pub fn unlike(&self, name: &str, raw: &RawValue, expected: &str) -> InvalidRequest {
        self.fault(name, format!("`{}` must be {expected}, not {}", self.field(name), excerpt(raw.get())))
    }

    /// The same of a member that was read and is there.
    pub fn not(&self, name: &str, expected: &str) -> InvalidRequest {
        self.get(name).map_or_else(|| self.missing(name, expected), |raw| self.unlike(name, raw, expected))
    }

    fn fault(&self, name: &str, message: String) -> InvalidRequest {
        InvalidRequest { message, param: Some(self.field(name)) }
    }
}

/// The first characters of a value.
fn excerpt(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Any JSON value, with the names that requests have: what the parsers of dialects must stand.
#[cfg(test)]
pub(super) fn any_json() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
    use proptest::prelude::*;
    use serde_json::{Map, Value};
    let name = prop_oneof![
        Just("type"),
        Just("role"),
        Just("content"),
        Just("text"),
        Just("source"),
        Just("data"),
        Just("id"),
        Just("call_id"),
        Just("name"),
        Just("input"),
        Just("output"),
        Just("arguments"),
        Just("function"),
        Just("images"),
        Just("format"),
        Just("schema"),
        Just("effort"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop_oneof![Just("user"), Just("assistant"), Just("function"), Just("message"), Just("iVBORw0KGgo=")]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((name.clone(), inner), 0..5).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
            }),
        ]
    })
}
