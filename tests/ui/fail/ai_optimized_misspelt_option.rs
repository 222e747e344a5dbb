//~ error: `treshold` is no option of `ai_optimized`: did you mean `threshold`? it takes `provider`, `model`, `cache_ttl`, `semantic`, `threshold`, `timeout`, `temperature` and `max_tokens`
//~ at: treshold
use ish::ai_optimized;
use ish::ai::{Ai, AiError};

#[ai_optimized(provider = "openai", model = "gpt-4", treshold = 0.9)]
async fn title(ai: &Ai, text: &str) -> Result<String, AiError> {
    let _ = ai;
    Ok(format!("A title for: {text}"))
}

fn main() {}
