//~ by the compiler
//~ error: the trait bound `ai_optimized_error_is_no_ai_error::Refused: From<AiError>` is not satisfied
//~ at: Refused
//~ note: the trait `From<AiError>` is not implemented for `ai_optimized_error_is_no_ai_error::Refused`
use ish::ai::Ai;
use ish::ai_optimized;

#[ai_optimized(provider = "openai", model = "gpt-4", cache_ttl = 3600)]
async fn title(ai: &Ai, text: &str) -> Result<String, Refused> {
    let _ = ai;
    format!("A title for: {text}")
}

pub struct Refused;

fn main() {}
