//! Content blocks of text, images and documents as parts of OpenAI's form.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::api::node::Node;
use crate::message::{InvalidRequest, Outgoing};

/// What a message says.
#[derive(Debug)]
pub(super) enum Content<'a> {
    /// A text, as JSON.
    Text(&'a RawValue),
    /// Blocks.
    Parts(Vec<Part<'a>>),
}

/// One block.
#[derive(Debug)]
pub(super) struct Part<'a> {
    json: Outgoing,
    /// Its text, where it is nothing more than that.
    plain: Option<&'a RawValue>,
}

impl<'a> Content<'a> {
    /// The member `name` of `node`: a string, or an array of blocks that `part` reads.
    pub fn read(
        node: &Node<'a>,
        name: &str,
        part: fn(&Node<'a>) -> Result<Part<'a>, InvalidRequest>,
    ) -> Result<Option<Self>, InvalidRequest> {
        let Some(raw) = node.get(name) else { return Ok(None) };
        match raw.get().as_bytes()[0] {
            b'"' => Ok(node.checked::<Cow<'_, str>>(name, "a string")?.map(Self::Text)),
            b'[' => Ok(Some(Self::Parts(node.children(name)?.iter().map(part).collect::<Result<_, _>>()?))),
            _ => Err(node.unlike(name, raw, "a string or an array of content blocks")),
        }
    }

    /// As [`Content::read`], for content that must be there.
    pub fn need(
        node: &Node<'a>,
        name: &str,
        part: fn(&Node<'a>) -> Result<Part<'a>, InvalidRequest>,
    ) -> Result<Self, InvalidRequest> {
        Self::read(node, name, part)?.ok_or_else(|| node.missing(name, "a string or an array of content blocks"))
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.get() == "\"\"",
            Self::Parts(parts) => parts.is_empty(),
        }
    }
}

/// A single plain text is written as the string that it is, so that both spellings are one question.
impl Serialize for Content<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(serializer),
            Self::Parts(parts) => match parts.as_slice() {
                [] => serializer.serialize_str(""),
                [Part { plain: Some(text), .. }] => text.serialize(serializer),
                parts => serializer.collect_seq(parts.iter().map(|part| &part.json)),
            },
        }
    }
}

impl<'a> Part<'a> {
    /// A block that must be text.
    pub fn text(block: &Node<'a>) -> Result<Self, InvalidRequest> {
        let kind: Cow<'_, str> = block.need("type", "the kind of the content block")?;
        if kind != "text" {
            return Err(block.lacks("type", &format!("a block of the type `{kind}` has no place here")));
        }
        block.only(&["type", "text", "cache_control", "citations"])?;
        if block.get("citations").is_some_and(|raw| raw.get() != "[]") {
            return Err(block.lacks("citations", "they would be lost on the way"));
        }
        let text: &RawValue = block.need("text", "a string")?;
        block.checked::<Cow<'_, str>>("text", "a string")?;
        let mark = block.get("cache_control");
        let mut json = Outgoing::default();
        json.put("type", "text");
        json.put("text", text);
        json.put_some("cache_control", mark);
        Ok(Self { json, plain: mark.is_none().then_some(text) })
    }

    /// A block of a user's turn or of a tool's result.
    pub fn user(block: &Node<'a>) -> Result<Self, InvalidRequest> {
        let kind: Cow<'_, str> = block.need("type", "the kind of the content block")?;
        let mut json = Outgoing::default();
        match kind.as_ref() {
            "image" => {
                block.only(&["type", "source", "cache_control"])?;
                json.put("type", "image_url");
                json.put("image_url", json!({"url": address(block)?}));
            }
            "document" => {
                block.only(&["type", "source", "cache_control", "title", "citations"])?;
                if let Some(citations) = block.child("citations")?
                    && citations.read::<bool>("enabled", "a boolean")? == Some(true)
                {
                    return Err(block.lacks("citations", "an answer here has no place for them"));
                }
                let mut file = Outgoing::default();
                let title: Option<Cow<'_, str>> = block.read("title", "a string")?;
                file.put_some("filename", title);
                file.put("file_data", document(block)?);
                json.put("type", "file");
                json.put("file", file);
            }
            _ => return Self::text(block),
        }
        json.put_some("cache_control", block.get("cache_control"));
        Ok(Self { json, plain: None })
    }
}

fn source<'a>(block: &Node<'a>) -> Result<(Node<'a>, Cow<'a, str>), InvalidRequest> {
    let source = block.child("source")?.ok_or_else(|| block.missing("source", "where it is"))?;
    let kind = source.need("type", "a string")?;
    Ok((source, kind))
}

/// A picture as an address: its own, or its data in one (RFC 2397).
fn address(block: &Node<'_>) -> Result<String, InvalidRequest> {
    let (source, kind) = source(block)?;
    match kind.as_ref() {
        "base64" => data_url(&source),
        "url" => source.need("url", "an address"),
        _ => Err(source.lacks("type", "pictures come as `base64` or `url`")),
    }
}

fn document(block: &Node<'_>) -> Result<String, InvalidRequest> {
    let (source, kind) = source(block)?;
    match kind.as_ref() {
        "base64" => data_url(&source),
        _ => Err(source.lacks("type", "documents come as `base64`; send plain text as a text block")),
    }
}

fn data_url(source: &Node<'_>) -> Result<String, InvalidRequest> {
    source.only(&["type", "media_type", "data"])?;
    let media_type: Cow<'_, str> = source.need("media_type", "a media type such as `image/png`")?;
    let data: Cow<'_, str> = source.need("data", "base64")?;
    Ok(format!("data:{media_type};base64,{data}"))
}
