//~ error: `model` takes a text in quotation marks, such as "gpt-4"
//~ at: ""
use ish::ai_optimized;
use ish::ai::{Ai, AiError};

#[ai_optimized(provider = "openai", model = "")]
async fn title(ai: &Ai, text: &str) -> Result<String, AiError> {
    let _ = ai;
    Ok(format!("A title for: {text}"))
}

fn main() {}
