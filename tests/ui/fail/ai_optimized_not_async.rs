//~ error: `ai_optimized` goes on an `async fn`: write `async fn title`
//~ at: fn
use ish::ai_optimized;
use ish::ai::{Ai, AiError};

#[ai_optimized(provider = "openai", model = "gpt-4", cache_ttl = 3600)]
fn title(ai: &Ai, text: &str) -> Result<String, AiError> {
    let _ = ai;
    Ok(format!("A title for: {text}"))
}

fn main() {}
