//! A JSON object on its way out, written in the order of its making: what is passed on stays the text that came.

use bytes::Bytes;
use serde_json::value::RawValue;

/// The object. A name that is there already stays as it is.
#[derive(Debug, Default, Clone)]
pub struct Outgoing(Vec<(String, Box<RawValue>)>);

impl Outgoing {
    /// Adds a member.
    ///
    /// # Panics
    /// When `value` is none that JSON has, such as a map whose keys are no strings.
    pub fn put(&mut self, name: &str, value: impl serde::Serialize) {
        let raw = serde_json::value::to_raw_value(&value).expect("invariant: what we build is always JSON");
        if !self.has(name) {
            self.0.push((name.to_owned(), raw));
        }
    }

    /// Adds a member that may be absent.
    pub fn put_some(&mut self, name: &str, value: Option<impl serde::Serialize>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// Whether there is a member of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its JSON.
    ///
    /// # Panics
    /// Never: every member is JSON already.
    pub fn bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("invariant: what we build is always JSON").into()
    }
}

impl serde::Serialize for Outgoing {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
