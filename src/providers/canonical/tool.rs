//! The functions that a model may call, whether it must, and the form that its answer must have.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Addressee;
use crate::upstream::Failure;

/// A function that the model may call.
#[derive(Debug, Deserialize)]
pub(in crate::providers) struct Tool<'a> {
    pub name: String,
    pub description: Option<String>,
    /// A JSON schema; its order is kept.
    #[serde(borrow)]
    pub parameters: Option<&'a RawValue>,
    pub strict: Option<bool>,
    /// Anthropic's mark, passed on.
    #[serde(skip)]
    pub cache_control: Option<&'a RawValue>,
}

impl<'a> Tool<'a> {
    pub(super) fn read(to: Addressee<'_>, index: usize, raw: &'a RawValue) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct RawTool<'a> {
            r#type: String,
            #[serde(borrow)]
            function: Option<&'a RawValue>,
            #[serde(borrow)]
            cache_control: Option<&'a RawValue>,
        }
        let place = format!("tools[{index}]");
        let tool: RawTool<'a> = to.parse(&place, raw, "a tool of OpenAI's form")?;
        if tool.r#type != "function" {
            return Err(to.lacks(&format!("{place}.type"), "no tools here but functions"));
        }
        let field = format!("{place}.function");
        let function = tool.function.ok_or_else(|| to.cannot_read(&field, "a function with a name"))?;
        let function: Self = to.parse(&field, function, "a function with a name")?;
        Ok(Self { cache_control: tool.cache_control, ..function })
    }
}

/// Whether the model must call a function.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::providers) enum ToolChoice {
    /// As it likes.
    Auto,
    /// It must not.
    None,
    /// It must call one.
    Required,
    /// It must call this one.
    Function(String),
}

impl ToolChoice {
    pub(super) fn read(to: Addressee<'_>, raw: &RawValue) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Chosen {
            r#type: String,
            function: Option<Function>,
        }
        #[derive(Deserialize)]
        struct Function {
            name: String,
        }
        let expected = "`none`, `auto`, `required` or a function";
        if raw.get().starts_with('"') {
            return match to.parse::<String>("tool_choice", raw, expected)?.as_str() {
                "none" => Ok(Self::None),
                "auto" => Ok(Self::Auto),
                "required" => Ok(Self::Required),
                _ => Err(to.cannot_read("tool_choice", expected)),
            };
        }
        let chosen: Chosen = to.parse("tool_choice", raw, expected)?;
        match chosen.function {
            Some(function) if chosen.r#type == "function" => Ok(Self::Function(function.name)),
            _ => Err(to.lacks("tool_choice", &format!("no choice of the type `{}`", chosen.r#type))),
        }
    }
}

/// The form that an answer must have.
#[derive(Debug)]
pub(in crate::providers) enum ResponseFormat<'a> {
    Text,
    /// Any JSON object.
    Json,
    /// JSON of this schema.
    Schema(&'a RawValue),
}

impl<'a> ResponseFormat<'a> {
    pub(super) fn read(to: Addressee<'_>, raw: &'a RawValue) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Format<'a> {
            r#type: String,
            #[serde(borrow)]
            json_schema: Option<Schema<'a>>,
        }
        #[derive(Deserialize)]
        struct Schema<'a> {
            #[serde(borrow)]
            schema: Option<&'a RawValue>,
        }
        let format: Format<'a> = to.parse("response_format", raw, "an object with a `type`")?;
        match format.r#type.as_str() {
            "text" => Ok(Self::Text),
            "json_object" => Ok(Self::Json),
            "json_schema" => {
                let schema = format.json_schema.and_then(|schema| schema.schema);
                let field = "response_format.json_schema.schema";
                schema.map(Self::Schema).ok_or_else(|| to.cannot_read(field, "a JSON schema"))
            }
            other => Err(to.lacks("response_format.type", &format!("no answers in the form `{other}`"))),
        }
    }
}
