//! The canonical request, taken apart for a provider of another dialect: messages, tools and wishes as typed values, and
//! the parameters one by one. What a provider does not take and OpenAI defines is refused by name, unless it stands at
//! the value that changes nothing; what OpenAI does not define was meant for the provider and is passed on.

mod message;
mod tool;

use serde::Deserialize;
use serde_json::value::RawValue;

pub(super) use self::message::{BlockKind, CalledNames, Message, Part, PartContent, Picture, ToolCall};
pub(super) use self::tool::{ResponseFormat, Tool, ToolChoice};
use crate::message::JsonObject;
pub(super) use crate::message::Outgoing;
use crate::upstream::{Failure, FailureKind};

/// Members that do not change the answer, or that are read here.
const NEUTRAL: &[&str] = &[
    "cache",
    "messages",
    "metadata",
    "model",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "store",
    "stream",
    "stream_options",
    "user",
];

/// What OpenAI defines beyond that, each with the values that ask for nothing.
const DEFINED: &[(&str, &[&str])] = &[
    ("audio", &[]),
    ("frequency_penalty", &["0", "0.0"]),
    ("function_call", &["\"auto\"", "\"none\""]),
    ("functions", &["[]"]),
    ("logit_bias", &["{}"]),
    ("logprobs", &["false"]),
    ("max_completion_tokens", &[]),
    ("max_tokens", &[]),
    ("modalities", &["[\"text\"]"]),
    ("n", &["1"]),
    ("parallel_tool_calls", &["true"]),
    ("prediction", &[]),
    ("presence_penalty", &["0", "0.0"]),
    ("reasoning_effort", &[]),
    ("response_format", &[]),
    ("seed", &[]),
    ("service_tier", &["\"auto\"", "\"default\""]),
    ("stop", &["[]"]),
    ("temperature", &[]),
    ("tool_choice", &["\"auto\""]),
    ("tools", &["[]"]),
    ("top_logprobs", &["0"]),
    ("top_p", &[]),
    ("verbosity", &["\"medium\""]),
    ("web_search_options", &[]),
];

/// Whom a request is for, as its refusals say it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addressee<'a> {
    /// The provider's name in the configuration.
    pub provider: &'a str,
    /// What it speaks: `Anthropic`.
    pub dialect: &'static str,
}

impl Addressee<'_> {
    /// The provider has no such concept.
    pub fn lacks(self, param: &str, concept: &str) -> Failure {
        let Self { provider, dialect } = self;
        let message = format!("`{param}` cannot be sent to the provider `{provider}`: {dialect} has {concept}");
        Failure { param: Some(param.to_owned()), ..Failure::new(FailureKind::Unsupported, message) }
    }

    /// The field is not what it should be, so that it cannot be translated.
    pub fn cannot_read(self, param: &str, expected: &str) -> Failure {
        let message = format!("`{param}` must be {expected} to be sent to the provider `{}`", self.provider);
        Failure { param: Some(param.to_owned()), ..Failure::new(FailureKind::Malformed, message) }
    }

    /// `raw` as a `T`.
    fn parse<'a, T: Deserialize<'a>>(self, param: &str, raw: &'a RawValue, expected: &str) -> Result<T, Failure> {
        serde_json::from_str(raw.get()).map_err(|_| self.cannot_read(param, expected))
    }
}

/// The request, taken apart.
#[derive(Debug)]
pub(super) struct Canonical<'a> {
    pub to: Addressee<'a>,
    pub messages: Vec<Message<'a>>,
    members: Vec<(String, &'a RawValue)>,
}

impl<'a> Canonical<'a> {
    /// Reads a request's body.
    pub fn of(body: &'a [u8], to: Addressee<'a>) -> Result<Self, Failure> {
        let object =
            JsonObject::parse(body).map_err(|fault| Failure::new(FailureKind::Malformed, fault.to_string()))?;
        let messages: Vec<&RawValue> = match object.get("messages") {
            Some(raw) => to.parse("messages", raw, "an array of messages")?,
            None => Vec::new(),
        };
        let messages = messages.into_iter().enumerate().map(|(index, raw)| Message::read(to, index, raw));
        let messages = messages.collect::<Result<_, _>>()?;
        let members = object.members().map(|(name, raw)| (name.to_owned(), raw)).collect();
        Ok(Self { to, messages, members })
    }

    /// Takes a parameter out; `null` is absent.
    pub fn take<T: Deserialize<'a>>(&mut self, name: &str, expected: &str) -> Result<Option<T>, Failure> {
        let Some(raw) = self.take_raw(name) else { return Ok(None) };
        self.to.parse(name, raw, expected).map(Some)
    }

    /// As [`Canonical::take`], for what is passed on as it is.
    pub fn take_raw(&mut self, name: &str) -> Option<&'a RawValue> {
        let place = self.members.iter().position(|(known, _)| known == name)?;
        let (_, raw) = self.members.remove(place);
        (raw.get() != "null").then_some(raw)
    }

    /// The most tokens that the answer may have.
    pub fn take_max_tokens(&mut self) -> Result<Option<u64>, Failure> {
        let newer = self.take("max_completion_tokens", "a whole number")?;
        let older = self.take("max_tokens", "a whole number")?;
        Ok(newer.or(older))
    }

    /// The texts that end the answer.
    pub fn take_stop(&mut self) -> Result<Vec<String>, Failure> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Stop {
            One(String),
            Several(Vec<String>),
        }
        Ok(match self.take("stop", "a string or an array of strings")? {
            Some(Stop::One(text)) => vec![text],
            Some(Stop::Several(texts)) => texts,
            None => Vec::new(),
        })
    }

    /// The functions that the model may call.
    pub fn take_tools(&mut self) -> Result<Vec<Tool<'a>>, Failure> {
        let tools: Vec<&RawValue> = self.take("tools", "an array of tools")?.unwrap_or_default();
        tools.into_iter().enumerate().map(|(index, raw)| Tool::read(self.to, index, raw)).collect()
    }

    /// Whether it must call one.
    pub fn take_tool_choice(&mut self) -> Result<ToolChoice, Failure> {
        let raw = self.take_raw("tool_choice");
        raw.map_or(Ok(ToolChoice::Auto), |raw| ToolChoice::read(self.to, raw))
    }

    /// The form that the answer must have.
    pub fn take_response_format(&mut self) -> Result<ResponseFormat<'a>, Failure> {
        let raw = self.take_raw("response_format");
        raw.map_or(Ok(ResponseFormat::Text), |raw| ResponseFormat::read(self.to, raw))
    }

    /// What was not taken and is the provider's own.
    ///
    /// # Errors
    /// [`FailureKind::Unsupported`] for the first parameter of OpenAI's that the provider lacks.
    pub fn rest(self) -> Result<Vec<(String, &'a RawValue)>, Failure> {
        let mut rest = Vec::new();
        for (name, raw) in self.members {
            let text = raw.get();
            if text == "null" || NEUTRAL.contains(&name.as_str()) {
                continue;
            }
            match DEFINED.iter().find(|(defined, _)| *defined == name) {
                Some((_, idle)) if idle.contains(&text) => {}
                Some(_) => {
                    return Err(self
                        .to
                        .lacks(&name, &format!("no such parameter, and {} would be lost", excerpt(text))));
                }
                None => rest.push((name, raw)),
            }
        }
        Ok(rest)
    }
}

/// The first characters of a value, for an error message.
fn excerpt(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl Outgoing {
    /// Adds an object of the caller's own, where what is there already wins.
    pub(super) fn put_all(&mut self, to: Addressee<'_>, param: &str, raw: Option<&RawValue>) -> Result<(), Failure> {
        let Some(raw) = raw else { return Ok(()) };
        let object = JsonObject::of(raw).map_err(|_| to.cannot_read(param, "an object"))?;
        for (name, value) in object.members() {
            self.put(name, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
