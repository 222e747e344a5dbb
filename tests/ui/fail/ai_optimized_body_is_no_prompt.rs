//~ by the compiler
//~ error: `usize` is no prompt
//~ at: { let _ = ai; text.len() }
//~ note: end with what is asked: a `String`, a `&str`, or an `ish::ai::Prompt` with instructions
use ish::ai_optimized;
use ish::ai::{Ai, AiError};

#[ai_optimized(provider = "openai", model = "gpt-4", cache_ttl = 3600)]
async fn title(ai: &Ai, text: &str) -> Result<String, AiError> {
    let _ = ai;
    text.len()
}

fn main() {}
