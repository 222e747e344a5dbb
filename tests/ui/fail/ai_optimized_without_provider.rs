//~ error: whom is it to ask? write `provider = "openai"`
//~ at: title
use ish::ai_optimized;
use ish::ai::{Ai, AiError};

#[ai_optimized(model = "gpt-4")]
async fn title(ai: &Ai, text: &str) -> Result<String, AiError> {
    let _ = ai;
    Ok(format!("A title for: {text}"))
}

fn main() {}
