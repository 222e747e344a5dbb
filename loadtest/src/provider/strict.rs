//! What a provider that refuses unknown members knows: those that its dialect defines, in the request itself, in its
//! messages and tools, and in what these hold.

use serde_json::{Map, Value};

use super::dialect::Dialect;

/// The names of one dialect.
struct Known {
    request: &'static [&'static str],
    /// The member that holds the messages.
    messages: &'static str,
    message: &'static [&'static str],
    /// What a message's lists hold: parts, blocks, calls.
    part: &'static [&'static str],
    tool: &'static [&'static str],
}

const OPENAI: Known = Known {
    request: &[
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "modalities",
        "model",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    ],
    messages: "messages",
    message: &["audio", "content", "function_call", "name", "refusal", "role", "tool_call_id", "tool_calls"],
    part: &["file", "function", "id", "image_url", "input_audio", "refusal", "text", "type"],
    tool: &["function", "type"],
};

const ANTHROPIC: Known = Known {
    request: &[
        "cache_control",
        "context_management",
        "inference_geo",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    ],
    messages: "messages",
    message: &["content", "role"],
    part: &[
        "cache_control",
        "content",
        "data",
        "id",
        "input",
        "is_error",
        "name",
        "signature",
        "source",
        "text",
        "thinking",
        "title",
        "tool_use_id",
        "type",
    ],
    tool: &["cache_control", "description", "input_schema", "name", "strict", "type"],
};

const OLLAMA: Known = Known {
    request: &["format", "keep_alive", "messages", "model", "options", "shift", "stream", "think", "tools", "truncate"],
    messages: "messages",
    message: &["content", "images", "role", "thinking", "tool_call_id", "tool_calls", "tool_name"],
    part: &["function", "id"],
    tool: &["function", "type"],
};

const GEMINI: Known = Known {
    request: &["contents", "generationConfig", "safetySettings", "systemInstruction", "toolConfig", "tools"],
    messages: "contents",
    message: &["parts", "role"],
    part: &["fileData", "functionCall", "functionResponse", "inlineData", "text", "thoughtSignature"],
    tool: &["functionDeclarations"],
};

/// The first member that the dialect does not define, by its place.
pub(super) fn unknown(dialect: Dialect, body: &[u8]) -> Option<String> {
    let known = match dialect {
        Dialect::OpenAi => &OPENAI,
        Dialect::Anthropic => &ANTHROPIC,
        Dialect::Ollama => &OLLAMA,
        Dialect::Gemini => &GEMINI,
    };
    let request: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let list = |name: &str| request.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    first("", &request, known.request)
        .or_else(|| list("tools").iter().find_map(|tool| first("tools[].", tool.as_object()?, known.tool)))
        .or_else(|| list(known.messages).iter().find_map(|message| in_message(message.as_object()?, known)))
}

fn in_message(message: &Map<String, Value>, known: &Known) -> Option<String> {
    let lists = message.values().filter_map(Value::as_array);
    let mut parts = lists.flatten().filter_map(Value::as_object);
    first("messages[].", message, known.message).or_else(|| parts.find_map(|part| first("part.", part, known.part)))
}

fn first(place: &str, object: &Map<String, Value>, known: &[&str]) -> Option<String> {
    object.keys().find(|name| !known.contains(&name.as_str())).map(|name| format!("{place}{name}"))
}
