//! A JSON object on its way out, written in the order of its making: what is passed on stays the text that came.

use std::collections::HashSet;

use bytes::Bytes;
use serde_json::value::RawValue;

/// The object. A name that is there already stays as it is.
#[derive(Debug, Default, Clone)]
pub struct Outgoing {
    members: Vec<(String, Box<RawValue>)>,
    /// The names, once they are too many to look through.
    names: HashSet<String>,
}

/// More members than this have their names in a set: a client may send hundreds of thousands.
const FEW: usize = 32;

impl Outgoing {
    /// Adds a member.
    ///
    /// # Panics
    /// When `value` is none that JSON has, such as a map whose keys are no strings.
    pub fn put(&mut self, name: &str, value: impl serde::Serialize) {
        let raw = serde_json::value::to_raw_value(&value).expect("invariant: what we build is always JSON");
        if !self.has(name) {
            self.members.push((name.to_owned(), raw));
            self.note(name);
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
        if self.names.is_empty() {
            return self.members.iter().any(|(known, _)| known == name);
        }
        self.names.contains(name)
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn note(&mut self, name: &str) {
        match self.members.len() {
            ..FEW => {}
            FEW => self.names = self.members.iter().map(|(name, _)| name.clone()).collect(),
            _ => drop(self.names.insert(name.to_owned())),
        }
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
        serializer.collect_map(self.members.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_member_of_a_name_stays_however_many_there_are() {
        let mut out = Outgoing::default();
        for round in 0..2 {
            for number in 0..3 * FEW {
                out.put(&format!("m{number}"), round);
            }
        }
        assert_eq!(out.members.len(), 3 * FEW);
        assert!(out.has("m0") && out.has("m95") && !out.has("m96"));
        assert!(out.members.iter().all(|(_, value)| value.get() == "0"));
    }
}
