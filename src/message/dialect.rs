//! Whose words a request was first said in, before it became the canonical one.

/// A dialect of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// OpenAI's, which the canonical request is written in.
    #[default]
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Gemini's contents.
    Gemini,
    /// Ollama's chat.
    Ollama,
}
