//~ error: a model may fail: answer with `Result<String, AiError>`, or `Result<T, AiError>` for a `T` that is read from JSON
//~ at: String
use ish::ai::Ai;
use ish::ai_optimized;

#[ai_optimized(provider = "openai", model = "gpt-4", cache_ttl = 3600)]
async fn title(ai: &Ai, text: &str) -> String {
    let _ = ai;
    format!("A title for: {text}")
}

fn main() {}
