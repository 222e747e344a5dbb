//~ error: `semantic` takes true or false
//~ at: "no"
use ish::ai_optimized;
use ish::ai::{Ai, AiError};

#[ai_optimized(provider = "openai", model = "gpt-4", semantic = "no")]
async fn title(ai: &Ai, text: &str) -> Result<String, AiError> {
    let _ = ai;
    Ok(format!("A title for: {text}"))
}

fn main() {}
