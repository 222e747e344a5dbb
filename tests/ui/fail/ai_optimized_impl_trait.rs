//~ error: the model's answer is read as a type: name it, or answer with `String`
//~ at: impl ToString
use ish::ai_optimized;
use ish::ai::{Ai, AiError};

#[ai_optimized(provider = "openai", model = "gpt-4", cache_ttl = 3600)]
async fn title(ai: &Ai, text: &str) -> Result<impl ToString, AiError> {
    let _ = ai;
    Ok(format!("A title for: {text}"))
}

fn main() {}
