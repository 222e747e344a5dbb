//~ by the compiler
//~ error: `?` couldn't convert the error to `ai_optimized_error_is_no_ai_error::Refused`
//~ at: Refused
//~ note: `ai_optimized_error_is_no_ai_error::Refused` needs to implement `From<AiError>`
use ish::ai::Ai;
use ish::ai_optimized;

#[ai_optimized(provider = "openai", model = "gpt-4", cache_ttl = 3600)]
async fn title(ai: &Ai, text: &str) -> Result<String, Refused> {
    let _ = ai;
    format!("A title for: {text}")
}

pub struct Refused;

fn main() {}
