//~ error: a provider is named as in the configuration, without a slash: `provider = "openai", model = "gpt-4"`
//~ at: "openai/gpt-4"
use ish::ai_optimized;
use ish::ai::{Ai, AiError};

#[ai_optimized(provider = "openai/gpt-4", model = "gpt-4")]
async fn title(ai: &Ai, text: &str) -> Result<String, AiError> {
    let _ = ai;
    Ok(format!("A title for: {text}"))
}

fn main() {}
