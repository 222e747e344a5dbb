//! `demo`: a built-in model that needs no key and no network. It is deterministic, says what it is, and streams at the
//! pace of a real one, so that everything around it can be seen working.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::{Call, Provider, Reply, ReplyMode};
use crate::message::{Completion, Delta, FinishReason, Usage};
use crate::upstream::Failure;

/// Between two words: about forty a second.
const PACE: Duration = Duration::from_millis(25);

/// Before the first word: about what a hosted model takes.
const THINKING: Duration = Duration::from_millis(350);

/// The demo provider.
#[derive(Debug, Clone, Copy)]
pub struct Demo {
    thinking: Duration,
    pace: Duration,
}

impl Default for Demo {
    fn default() -> Self {
        Self { thinking: THINKING, pace: PACE }
    }
}

impl Provider for Demo {
    fn name(&self) -> &'static str {
        "demo"
    }

    fn chat(&self, call: Call) -> BoxFuture<'_, Result<Reply, Failure>> {
        async move {
            let prompt = call.request.turns.last().map_or("", |turn| turn.text.as_str());
            let text = answer(prompt);
            let words: Vec<String> = text.split_inclusive(' ').map(str::to_owned).collect();
            let input_tokens = call.request.turns.iter().map(|turn| turn.text.split_whitespace().count() as u64).sum();
            let usage = Usage { input_tokens, output_tokens: words.len() as u64, ..Usage::default() };
            tokio::time::sleep(self.thinking).await;
            if call.mode == ReplyMode::Whole {
                tokio::time::sleep(self.pace * u32::try_from(words.len()).unwrap_or(u32::MAX)).await;
                return Ok(Reply::Completed(Box::new(Completion::of_text("demo", &text, Some(usage)))));
            }
            Ok(Reply::Stream(streamed(words, usage, self.pace).boxed()))
        }
        .boxed()
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        async { Ok(vec!["demo".to_owned()]) }.boxed()
    }
}

fn streamed(
    words: Vec<String>,
    usage: Usage,
    pace: Duration,
) -> impl futures_util::Stream<Item = Result<Delta, Failure>> {
    let last = words.len().saturating_sub(1);
    let begun = Instant::now();
    futures_util::stream::iter((0..).zip(words)).then(move |(index, text)| async move {
        // By a schedule: each timer is late by about a millisecond, which would add up over a hundred words.
        sleep_until(begun + pace * index).await;
        let ends = index as usize == last;
        Ok(Delta {
            text,
            finish_reason: ends.then_some(FinishReason::Stop),
            usage: ends.then_some(usage),
            ..Delta::default()
        })
    })
}

/// What the demo says to a prompt: always the same to the same words.
fn answer(prompt: &str) -> String {
    let asked: String = prompt.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = match asked.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &asked[..end]),
        None => asked.clone(),
    };
    let words = asked.split_whitespace().count();
    // A fingerprint makes answers to different prompts tell apart at a glance.
    let fingerprint = &blake3::hash(asked.as_bytes()).to_hex()[..8];
    format!(
        "I am **demo**, the model that is built into ish: no key, no network, no intelligence. \
         You asked, in {words} {unit}:\n\n> {shown}\n\n\
         A real model would answer here. What is real is everything around it: this text was streamed over a WebSocket, \
         numbered and stored, and it is now in the semantic cache. **Ask the same thing in other words** and it comes back \
         in milliseconds; the badge below says how it matched, and *Why* shows each check.\n\n\
         To talk to a real model, start ish with a key:\n\n```sh\nOPENAI_API_KEY=sk-... make run\n```\n\n\
         Fingerprint of your prompt: `{fingerprint}`.",
        unit = if words == 1 { "word" } else { "words" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_deterministic_and_says_what_it_is() {
        assert_eq!(answer("What is  TCP?"), answer("What is TCP?"));
        assert_ne!(answer("a"), answer("b"));
        assert!(answer("x").contains("built into ish"));
    }
}
