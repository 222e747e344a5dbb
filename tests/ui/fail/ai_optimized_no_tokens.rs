//~ error: `max_tokens` takes a whole number from 1 to 4294967295
//~ at: 0
use ish::ai_optimized;
use ish::ai::{Ai, AiError};

#[ai_optimized(provider = "openai", model = "gpt-4", max_tokens = 0)]
async fn title(ai: &Ai, text: &str) -> Result<String, AiError> {
    let _ = ai;
    Ok(format!("A title for: {text}"))
}

fn main() {}
