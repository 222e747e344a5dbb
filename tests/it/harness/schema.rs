//! JSON schemas, read and enforced: that of the socket's frames, `docs/websocket.schema.json`, and those of the replies
//! in `src/api/openapi.json`. A validator for exactly the keywords that the two files use, which stops at any other one.
//! Closer than a schema itself: a member that is not described is a fault too, unless the schema says that there may be
//! others, so that no document can fall behind the server.

use serde_json::Value;

const FILE: &str = include_str!("../../../docs/websocket.schema.json");

/// A document with schemas in it.
pub struct Schema {
    root: Value,
}

impl Schema {
    /// That of the socket's frames.
    pub fn read() -> Self {
        Self::of(FILE)
    }

    pub fn of(text: &str) -> Self {
        Self { root: serde_json::from_str(text).unwrap() }
    }

    pub fn root(&self) -> &Value {
        &self.root
    }

    /// Why `frame` is none that the server may send.
    pub fn check_server_frame(&self, frame: &Value) -> Result<(), String> {
        self.check_frame("server_frame", frame)
    }

    /// Why `frame` is none that a client may send.
    pub fn check_client_frame(&self, frame: &Value) -> Result<(), String> {
        self.check_frame("client_frame", frame)
    }

    fn check_frame(&self, group: &str, frame: &Value) -> Result<(), String> {
        let name = frame["type"].as_str().ok_or("a frame without a type")?;
        let wanted = format!("#/$defs/{name}");
        let listed = self.root["$defs"][group]["oneOf"].as_array().unwrap();
        if !listed.iter().any(|one| one["$ref"] == wanted) {
            return Err(format!("{name} is no {group}"));
        }
        self.check(self.resolve(&wanted), frame, name)
    }

    pub fn resolve(&self, reference: &str) -> &Value {
        let path = reference.strip_prefix('#').expect("references are local");
        self.root.pointer(path).unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    /// Why `value`, found at `place`, breaks `schema`.
    pub fn check(&self, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
        let rules = schema.as_object().expect("a schema is an object");
        for (rule, wanted) in rules {
            let kept = match rule.as_str() {
                "description" | "format" | "then" | "required" | "additionalProperties" => true,
                "$ref" => return self.check(self.resolve(wanted.as_str().unwrap()), value, place),
                "type" => types(wanted).iter().any(|wanted| is_type(wanted, value)),
                "const" => value == wanted,
                "enum" => wanted.as_array().unwrap().contains(value),
                "minimum" => value.as_f64().is_none_or(|value| value >= wanted.as_f64().unwrap()),
                "exclusiveMinimum" => value.as_f64().is_none_or(|value| value > wanted.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|value| value <= wanted.as_f64().unwrap()),
                "minLength" => {
                    value.as_str().is_none_or(|text| text.chars().count() as u64 >= wanted.as_u64().unwrap())
                }
                "maxLength" => {
                    value.as_str().is_none_or(|text| text.chars().count() as u64 <= wanted.as_u64().unwrap())
                }
                "pattern" => value.as_str().is_none_or(|text| matches(wanted.as_str().unwrap(), text)),
                "properties" => return self.check_rest(schema, value, place),
                "items" => self.check_items(wanted, value, place)?,
                "anyOf" => wanted.as_array().unwrap().iter().any(|one| self.check(one, value, place).is_ok()),
                "dependentRequired" => depends(wanted, value),
                "if" => self.check(wanted, value, place).is_err() || self.check(&schema["then"], value, place).is_ok(),
                other => panic!("the schema uses {other:?}, which this validator does not know"),
            };
            if !kept {
                return Err(format!("{place}: {value} breaks {rule} {wanted}"));
            }
        }
        Ok(())
    }

    /// An object with named members: those, the required ones, no other, and then the schema's remaining rules.
    fn check_rest(&self, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
        let Some(members) = value.as_object() else { return Err(format!("{place}: {value} is no object")) };
        let known = schema["properties"].as_object().unwrap();
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                return Err(format!("{place}.{name} is missing"));
            }
        }
        // The branch of an `if` names only what it is about.
        let closed = schema.get("type").is_some() && schema.get("additionalProperties") != Some(&Value::Bool(true));
        for (name, member) in members {
            match known.get(name) {
                Some(schema) => self.check(schema, member, &format!("{place}.{name}"))?,
                None if closed => return Err(format!("{place}.{name} is not described")),
                None => {}
            }
        }
        let mut rest = schema.clone();
        rest.as_object_mut().unwrap().remove("properties");
        self.check(&rest, value, place)
    }

    fn check_items(&self, schema: &Value, value: &Value, place: &str) -> Result<bool, String> {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            self.check(schema, item, &format!("{place}[{index}]"))?;
        }
        Ok(true)
    }
}

fn types(wanted: &Value) -> Vec<&str> {
    match wanted {
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    }
}

fn is_type(wanted: &str, value: &Value) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the schema uses the type {other:?}"),
    }
}

/// The patterns of the file; a regular expression engine would be a dependency for these alone.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern {
        "^[0-9a-f]{64}$" => text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
        "^[a-z][a-z0-9_]*$" => {
            text.starts_with(|first: char| first.is_ascii_lowercase())
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        }
        "^[A-Za-z0-9._-]{1,64}/[!-~]{1,255}$" => text.parse::<ish::users::UserName>().is_ok(),
        "^[A-Za-z0-9_.:-]{1,100}$" => {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
            (1..=100).contains(&text.len()) && text.bytes().all(is_plain)
        }
        other => panic!("the schema uses the pattern {other:?}"),
    }
}

fn depends(wanted: &Value, value: &Value) -> bool {
    wanted.as_object().unwrap().iter().all(|(name, others)| {
        value.get(name).is_none()
            || others.as_array().unwrap().iter().all(|other| value.get(other.as_str().unwrap()).is_some())
    })
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let schema = Schema::read();
    let good = serde_json::json!({"type": "delta", "stream": "s", "epoch": 1, "from": 1, "seq": 2, "text": ""});
    schema.check_server_frame(&good).unwrap();
    for (member, wrong) in [("epoch", 0.into()), ("from", Value::Null), ("stream", "".into()), ("more", true.into())] {
        let mut bad = good.clone();
        bad[member] = wrong;
        assert!(schema.check_server_frame(&bad).is_err(), "{bad}");
    }
    let error = serde_json::json!({"type": "error", "code": "x", "message": "", "retryable": true, "partial": true, "epoch": 1});
    assert!(schema.check_server_frame(&error).unwrap_err().contains("dependentRequired"));
    assert!(schema.check_server_frame(&serde_json::json!({"type": "hello", "protocol": 1})).is_err());
    schema.check_client_frame(&serde_json::json!({"type": "hello", "protocol": 1})).unwrap();
}
