//! The scope of an entry: everything that must be equal before texts are even compared. It is inside every key and
//! every partition, never inside the embedded text.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::canonical::{canonical, in_order};
use super::language::Language;
use crate::embedding::EmbedderId;
use crate::message::{ChatRequest, JsonObject, Role};

/// 32 bytes of BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Hashes `parts` under `domain`, each with its length, so that no two lists of parts give the same bytes.
    pub fn of(domain: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in std::iter::once(&domain.as_bytes()).chain(parts) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(hex: &str) -> Option<Self> {
        blake3::Hash::from_hex(hex).ok().map(|hash| Self(*hash.as_bytes()))
    }

    /// The first 16 digits, for people.
    pub fn short(self) -> String {
        self.to_string()[..16].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.short())
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&hex).ok_or_else(|| serde::de::Error::custom("a digest is 64 hexadecimal digits"))
    }
}

/// Who may be answered with an entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Everyone of the tenant.
    Tenant,
    /// One user of the tenant, as the caller's request calls him.
    User(String),
    /// One user whom the server knows. No request can call itself so.
    Known(Uuid),
}

impl Visibility {
    fn parts(&self) -> (&'static str, Cow<'_, str>) {
        match self {
            Self::Tenant => ("tenant", "".into()),
            Self::User(user) => ("user", user.into()),
            Self::Known(user) => ("known", user.to_string().into()),
        }
    }
}

/// Everything that must be equal. Canonical JSON texts stand for what a caller sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// Whose entry.
    pub tenant: String,
    /// For whom.
    pub visibility: Visibility,
    /// The caller's own room.
    pub namespace: String,
    /// The public model name.
    pub model: String,
    /// All instructions, in order.
    pub system: String,
    /// Tools and how they may be chosen.
    pub tools: String,
    /// The form of the answer.
    pub response_format: String,
    /// Temperature, seed and the like, as sent: each setting is a class of its own.
    pub sampling: String,
    /// Every further field but the neutral ones.
    pub other: String,
    /// The prompt's language, as far as a cheap look can tell.
    pub language: Language,
    /// The embedder; vectors of another one mean something else.
    pub embedder: String,
}

/// Fields that do not change an answer.
const NEUTRAL: &[&str] = &[
    "stream",
    "stream_options",
    "user",
    "metadata",
    "cache",
    "store",
    "safety_identifier",
    "prompt_cache_key",
    "messages",
    "model",
];

const SAMPLING: &[&str] = &[
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "n",
];

const TOOLS: &[&str] = &["tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"];

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The user, where the server knows him; goes before what the request says.
    pub user: Option<Uuid>,
}

/// Whose request it is, and in which room it looks.
#[derive(Debug, Clone)]
pub struct Audience<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// Who may see the entry.
    pub visibility: Visibility,
    /// The caller's namespace.
    pub namespace: &'a str,
}

impl Scope {
    /// The scope of a request.
    ///
    /// # Errors
    /// When a field cannot be brought into canonical form (duplicate names, nesting).
    pub fn of(
        request: &ChatRequest,
        audience: &Audience<'_>,
        language: Language,
        embedder: &EmbedderId,
    ) -> Result<Self, serde_json::Error> {
        let object = JsonObject::parse(&request.body).map_err(serde::de::Error::custom)?;
        let (mut tools, mut sampling, mut other, mut response_format) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (name, value) in object.members().filter(|(name, value)| !NEUTRAL.contains(name) && value.get() != "null") {
            let group = match name {
                "response_format" => &mut response_format,
                _ if TOOLS.contains(&name) => &mut tools,
                _ if SAMPLING.contains(&name) => &mut sampling,
                _ => &mut other,
            };
            let is_read_in_order = name == "response_format" || TOOLS.contains(&name);
            let text = if is_read_in_order { in_order(value.get()) } else { canonical(value.get()) };
            group.push((name, text?));
        }
        Ok(Self {
            tenant: audience.tenant.to_owned(),
            visibility: audience.visibility.clone(),
            namespace: audience.namespace.to_owned(),
            model: request.model.clone(),
            system: system_text(request),
            tools: joined(tools),
            response_format: joined(response_format),
            sampling: joined(sampling),
            other: [joined(other), beside(request)].concat(),
            language,
            embedder: embedder.as_str().to_owned(),
        })
    }

    /// The digest that keys and partitions are made of.
    pub fn digest(&self) -> Digest {
        let (kind, user) = self.visibility.parts();
        let parts = [
            self.tenant.as_str(),
            kind,
            &user,
            &self.namespace,
            &self.model,
            &self.system,
            &self.tools,
            &self.response_format,
            &self.sampling,
            &self.other,
            self.language.as_str(),
            &self.embedder,
        ];
        Digest::of("ish scope v1", &parts.map(str::as_bytes))
    }
}

/// What the operator says, and where, unless it stands in front of everything. What stands for earlier turns is no part of it: it
/// is context.
fn system_text(request: &ChatRequest) -> String {
    let turns = request.turns.iter().enumerate().filter(|(at, _)| request.summary != Some(*at)).map(|(_, turn)| turn);
    let leading = turns.clone().take_while(|turn| turn.role == Role::System).count();
    let said = turns.enumerate().filter(|(_, turn)| turn.role == Role::System);
    let said = said.map(|(at, turn)| if at < leading { json!(turn.text) } else { json!([at, turn.text]) });
    let said: Vec<Value> = said.collect();
    if said.is_empty() { String::new() } else { Value::Array(said).to_string() }
}

/// What was said in headers, but for the version of a provider's API: it shapes how an answer is written down there, not
/// what it says. A member's line begins with a quotation mark, so that none reads like these.
fn beside(request: &ChatRequest) -> String {
    let said = request.beside.iter().filter(|(name, _)| *name != "anthropic-version");
    said.flat_map(|(name, value)| ["\n", name, ": ", value]).collect()
}

/// Members by name, whatever order they came in. Names are written as JSON: one may hold any character.
fn joined(mut members: Vec<(&str, String)>) -> String {
    members.sort_unstable();
    let lines: Vec<String> =
        members.iter().map(|(name, value)| format!("{}={value}", serde_json::json!(name))).collect();
    lines.join("\n")
}
