//~ by the compiler
use ish::ai::Ai;
use ish::ai_optimized;

#[ai_optimized(provider = "openai", model = "gpt-4", cache_ttl = 3600)]
async fn title(ai: &Ai, text: &str) -> Result<String, Refused> {
    let _ = ai;
    format!("A title for: {text}")
}

pub struct Refused;

fn main() {}
