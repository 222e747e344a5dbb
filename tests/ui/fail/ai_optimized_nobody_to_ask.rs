//~ error: nobody to ask: take `ai: &Ai` as an argument
//~ at: title
use ish::ai::AiError;
use ish::ai_optimized;

#[ai_optimized(provider = "openai", model = "gpt-4", cache_ttl = 3600)]
async fn title(text: &str) -> Result<String, AiError> {
    Ok(format!("A title for: {text}"))
}

fn main() {}
