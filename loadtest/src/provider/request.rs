//! The parts of a chat request that decide what the answer looks like.

use serde_json::{Map, Value};

/// A chat completion request, read leniently: what is absent or odd gets its default.
#[derive(Debug)]
pub(super) struct ChatRequest {
    pub(super) model: String,
    pub(super) turns: Vec<Turn>,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) choices: usize,
    pub(super) max_tokens: Option<usize>,
    pub(super) logprobs: bool,
    /// Names of the functions offered as tools.
    pub(super) tools: Vec<String>,
    /// Every field but `model`, `messages`, `stream` and `stream_options`, as it arrived.
    pub(super) parameters: Map<String, Value>,
}

/// One message; parts of a content list are joined, anything but text as its JSON.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) role: String,
    pub(super) text: String,
}

impl ChatRequest {
    /// Reads a body; `None` if it is no JSON object with a `model` and `messages`.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut parameters: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let model = parameters.remove("model")?.as_str()?.to_owned();
        let messages = parameters.remove("messages")?;
        let turns = messages.as_array()?.iter().map(Turn::read).collect();
        let stream = parameters.remove("stream").is_some_and(|value| value == true);
        let options = parameters.remove("stream_options").unwrap_or_default();
        let count = |name: &str| parameters.get(name)?.as_u64().map(|count| count as usize);
        Some(Self {
            model,
            turns,
            stream,
            include_usage: options["include_usage"] == true,
            choices: count("n").unwrap_or(1),
            max_tokens: count("max_completion_tokens").or_else(|| count("max_tokens")),
            logprobs: parameters.get("logprobs").is_some_and(|value| value == true),
            tools: tool_names(parameters.get("tools")),
            parameters,
        })
    }

    /// A request of one user message and nothing else.
    pub(super) fn of_prompt(prompt: &str) -> Self {
        Self {
            model: "mock".to_owned(),
            turns: vec![Turn { role: "user".to_owned(), text: prompt.to_owned() }],
            stream: false,
            include_usage: false,
            choices: 1,
            max_tokens: None,
            logprobs: false,
            tools: Vec::new(),
            parameters: Map::new(),
        }
    }

    /// The text in which directives are looked for.
    pub(super) fn last_user_text(&self) -> &str {
        self.turns.iter().rfind(|turn| turn.role == "user").map_or("", |turn| &turn.text)
    }

    /// Whether it is the user who spoke last, rather than a tool whose result has come.
    pub(super) fn ends_with_user(&self) -> bool {
        self.turns.last().is_some_and(|turn| turn.role == "user")
    }
}

impl Turn {
    fn read(message: &Value) -> Self {
        let role = message["role"].as_str().unwrap_or_default().to_owned();
        Self { role, text: text_of(&message["content"]) }
    }
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(part_text).collect(),
        _ => String::new(),
    }
}

fn part_text(part: &Value) -> String {
    part["text"].as_str().map_or_else(|| part.to_string(), str::to_owned)
}

fn tool_names(tools: Option<&Value>) -> Vec<String> {
    let tools = tools.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    tools.iter().filter_map(|tool| tool["function"]["name"].as_str().map(str::to_owned)).collect()
}
