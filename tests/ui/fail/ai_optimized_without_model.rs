//~ error: whom is it to ask? write `model = "gpt-4"`
//~ at: title
use ish::ai_optimized;
use ish::ai::{Ai, AiError};

#[ai_optimized(provider = "openai")]
async fn title(ai: &Ai, text: &str) -> Result<String, AiError> {
    let _ = ai;
    Ok(format!("A title for: {text}"))
}

fn main() {}
