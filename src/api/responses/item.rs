//! The items of `input` as messages. Reasoning, text and calls of the assistant that follow one another are one message.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::json;
use serde_json::value::RawValue;

use crate::api::node::Node;
use crate::message::{InvalidRequest, Outgoing};

/// The messages of a request.
pub(super) fn messages(root: &Node<'_>) -> Result<Vec<Outgoing>, InvalidRequest> {
    let mut said = Said::default();
    if let Some(instructions) = root.checked::<Cow<'_, str>>("instructions", "a string")? {
        said.messages.push(message("system", instructions));
    }
    let needed = "a string or an array of items";
    let input = root.get("input").ok_or_else(|| root.missing("input", needed))?;
    match input.get().as_bytes()[0] {
        b'"' => said.messages.push(message("user", input)),
        b'[' => {
            let items = root.children("input")?;
            if items.is_empty() {
                return Err(root.missing("input", "at least one item"));
            }
            for item in &items {
                said.item(item)?;
            }
        }
        _ => return Err(root.unlike("input", input, needed)),
    }
    said.end();
    Ok(said.messages)
}

fn message(role: &str, content: impl serde::Serialize) -> Outgoing {
    let mut out = Outgoing::default();
    out.put("role", role);
    out.put("content", content);
    out
}

#[derive(Default)]
struct Said {
    messages: Vec<Outgoing>,
    /// The assistant's message that is being added up.
    assistant: Option<Assistant>,
    /// The calls that results after one another answer.
    answered: HashSet<String>,
}

#[derive(Default)]
struct Assistant {
    reasoning: String,
    texts: Vec<String>,
    calls: Vec<Outgoing>,
    called: HashSet<String>,
}

impl Said {
    fn item(&mut self, item: &Node<'_>) -> Result<(), InvalidRequest> {
        let kind: Option<Cow<'_, str>> = item.read("type", "a string")?;
        match kind.as_deref().unwrap_or("message") {
            "message" => self.message(item),
            "function_call" => {
                let assistant = self.assistant.get_or_insert_default();
                assistant.calls.push(call(item, &mut assistant.called)?);
                Ok(())
            }
            "function_call_output" => {
                item.only(&["type", "id", "call_id", "output", "status"])?;
                self.end();
                let id = item.unique("call_id", "the id of the call that it answers", &mut self.answered)?;
                let content = content(item, "output")?;
                let mut out = message("tool", content);
                out.put("tool_call_id", id);
                self.messages.push(out);
                Ok(())
            }
            "reasoning" => self.reasoning(item),
            kind => Err(item.lacks("type", &format!("an item of the type `{kind}` has no place here"))),
        }
    }

    fn message(&mut self, item: &Node<'_>) -> Result<(), InvalidRequest> {
        item.only(&["type", "id", "role", "content", "status", "phase"])?;
        let role: Cow<'_, str> = item.need("role", "`user`, `assistant`, `system` or `developer`")?;
        let content = content(item, "content")?;
        match role.as_ref() {
            "assistant" => {
                let text = content.into_text().map_err(|()| item.lacks("content", "the assistant's words are text"))?;
                let assistant = self.assistant.get_or_insert_default();
                if !assistant.calls.is_empty() {
                    self.end();
                }
                self.assistant.get_or_insert_default().texts.push(text);
                return Ok(());
            }
            "user" | "system" | "developer" => {}
            _ => {
                let raw = item.get("role").expect("invariant: it was read");
                return Err(item.unlike("role", raw, "`user`, `assistant`, `system` or `developer`"));
            }
        }
        self.end();
        self.messages.push(message(&role, content));
        Ok(())
    }

    fn reasoning(&mut self, item: &Node<'_>) -> Result<(), InvalidRequest> {
        item.only(&["type", "id", "summary", "content", "encrypted_content", "status"])?;
        if item.get("encrypted_content").is_some() {
            return Err(item.lacks("encrypted_content", "nobody here can read it"));
        }
        let mut text = String::new();
        for name in ["summary", "content"] {
            for part in item.children(name)? {
                text.push_str(&part.need::<Cow<'_, str>>("text", "a string")?);
            }
        }
        if self.assistant.as_ref().is_some_and(|assistant| !assistant.texts.is_empty() || !assistant.calls.is_empty()) {
            self.end();
        }
        self.assistant.get_or_insert_default().reasoning.push_str(&text);
        Ok(())
    }

    /// Says what the assistant has said.
    fn end(&mut self) {
        let Some(Assistant { reasoning, texts, calls, .. }) = self.assistant.take() else { return };
        self.answered.clear();
        let mut out = Outgoing::default();
        out.put("role", "assistant");
        if texts.is_empty() && !calls.is_empty() {
            out.put("content", ());
        } else {
            out.put("content", texts.concat());
        }
        out.put_some("reasoning_content", (!reasoning.is_empty()).then_some(reasoning));
        out.put_some("tool_calls", (!calls.is_empty()).then_some(calls));
        self.messages.push(out);
    }
}

fn call(item: &Node<'_>, called: &mut HashSet<String>) -> Result<Outgoing, InvalidRequest> {
    item.only(&["type", "id", "call_id", "name", "arguments", "status"])?;
    let mut function = Outgoing::default();
    function.put("name", item.need::<Cow<'_, str>>("name", "a string")?);
    function.put("arguments", item.need::<Cow<'_, str>>("arguments", "the text of a JSON object")?);
    let mut out = Outgoing::default();
    out.put("id", item.unique("call_id", "a string", called)?);
    out.put("type", "function");
    out.put("function", function);
    Ok(out)
}

/// What an item says.
enum Content<'a> {
    Text(&'a RawValue),
    Parts(Vec<Part>),
}

enum Part {
    Text(String),
    Other(Outgoing),
}

impl Content<'_> {
    fn into_text(self) -> Result<String, ()> {
        match self {
            Self::Text(text) => serde_json::from_str(text.get()).map_err(|_| ()),
            Self::Parts(parts) => parts
                .into_iter()
                .map(|part| match part {
                    Part::Text(text) => Ok(text),
                    Part::Other(_) => Err(()),
                })
                .collect(),
        }
    }
}

/// A single text is written as the string that it is, so that both spellings are one question.
impl serde::Serialize for Content<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(serializer),
            Self::Parts(parts) => match parts.as_slice() {
                [] => serializer.serialize_str(""),
                [Part::Text(text)] => serializer.serialize_str(text),
                parts => serializer.collect_seq(parts),
            },
        }
    }
}

impl serde::Serialize for Part {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => json!({"type": "text", "text": text}).serialize(serializer),
            Self::Other(part) => part.serialize(serializer),
        }
    }
}

fn content<'a>(item: &Node<'a>, name: &str) -> Result<Content<'a>, InvalidRequest> {
    let expected = "a string or an array of content parts";
    let raw = item.get(name).ok_or_else(|| item.missing(name, expected))?;
    match raw.get().as_bytes()[0] {
        b'"' => {
            item.read::<Cow<'_, str>>(name, "a string")?;
            Ok(Content::Text(raw))
        }
        b'[' => Ok(Content::Parts(item.children(name)?.iter().map(part).collect::<Result<_, _>>()?)),
        _ => Err(item.unlike(name, raw, expected)),
    }
}

fn part(part: &Node<'_>) -> Result<Part, InvalidRequest> {
    let kind: Cow<'_, str> = part.need("type", "the kind of the content part")?;
    let mut out = Outgoing::default();
    match kind.as_ref() {
        "input_text" | "output_text" => {
            part.only(&["type", "text", "annotations", "logprobs"])?;
            return part.need("text", "a string").map(Part::Text);
        }
        "refusal" => return part.need("refusal", "a string").map(Part::Text),
        "input_image" => {
            part.only(&["type", "image_url", "detail"])?;
            let mut image = Outgoing::default();
            image.put("url", part.need::<Cow<'_, str>>("image_url", "an address")?);
            image.put_some("detail", part.checked::<Cow<'_, str>>("detail", "a string")?);
            out.put("type", "image_url");
            out.put("image_url", image);
        }
        "input_file" => {
            part.only(&["type", "filename", "file_data"])?;
            let mut file = Outgoing::default();
            file.put_some("filename", part.checked::<Cow<'_, str>>("filename", "a string")?);
            file.put("file_data", part.need::<Cow<'_, str>>("file_data", "`data:application/pdf;base64,...`")?);
            out.put("type", "file");
            out.put("file", file);
        }
        kind => return Err(part.lacks("type", &format!("a part of the type `{kind}` has no place here"))),
    }
    Ok(Part::Other(out))
}
