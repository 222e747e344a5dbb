//~ by the compiler
//~ error: the trait bound `Title: serde::de::DeserializeOwned` is not satisfied
//~ at: Title
//~ note: the trait `for<'de> serde_core::de::Deserialize<'de>` is not implemented for `Title`
use ish::ai_optimized;
use ish::ai::{Ai, AiError};

#[ai_optimized(provider = "openai", model = "gpt-4", cache_ttl = 3600)]
async fn title(ai: &Ai, text: &str) -> Result<Title, AiError> {
    let _ = ai;
    format!("A title for: {text}")
}

pub struct Title(String);

fn main() {}
