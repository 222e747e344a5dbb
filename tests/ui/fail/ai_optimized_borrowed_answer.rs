//~ error: the model's answer is owned by the caller: answer with `String`
//~ at: &'static str
use ish::ai_optimized;
use ish::ai::{Ai, AiError};

#[ai_optimized(provider = "openai", model = "gpt-4", cache_ttl = 3600)]
async fn title(ai: &Ai, text: &str) -> Result<&'static str, AiError> {
    let _ = (ai, text);
    Ok("x")
}

fn main() {}
