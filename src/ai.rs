//! What `#[ai_optimized]` calls: one question to a model through the semantic cache, and its answer as text or as a value.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::cache::{CacheControl, Mode};
use crate::chat::{Ask, ChatError, ChatService, Whole};
use crate::keys::Principal;
use crate::message::{ChatRequest, Completion, InvalidRequest, Role};
use crate::upstream::Failure;

/// How long a model may take unless the question says otherwise.
const TIMEOUT: Duration = Duration::from_mins(2);

/// Said to a model whose answer is read as a value.
const AS_JSON: &str = "Answer with one JSON value, and with nothing around it.";

/// Who asks models, for whom. Cloning is cheap.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use ish::config::{Config, Environment};
/// # let folder = tempfile::tempdir()?;
/// # let environment = Environment::from([("ISH_DATA_DIR", folder.path().to_str().unwrap_or("data"))]);
/// # let app = ish::app::App::build(Config::read(&environment, None)?).await?;
/// use ish::ai::{Ai, Question};
/// use ish::keys::Principal;
///
/// let ai = Ai::new(app.chat.clone(), Principal::keyless("acme"));
/// let reply = ai.ask(Question::new("demo", "echo", "What is the capital of France?")).await?;
/// assert!(!reply.value.is_empty());
/// # app.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Ai {
    chat: ChatService,
    principal: Principal,
}

/// What is asked: what the operator says, if anything, and what the person asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    system: Option<String>,
    text: String,
}

impl Prompt {
    /// The question `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self { system: None, text: text.into() }
    }

    /// The same, under instructions.
    #[must_use]
    pub fn under(self, instructions: impl Into<String>) -> Self {
        Self { system: Some(instructions.into()), ..self }
    }
}

/// What can be asked.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no prompt",
    label = "not a prompt",
    note = "end with what is asked: a `String`, a `&str`, or an `ish::ai::Prompt` with instructions"
)]
pub trait IntoPrompt {
    /// The question.
    fn into_prompt(self) -> Prompt;
}

impl IntoPrompt for Prompt {
    fn into_prompt(self) -> Prompt {
        self
    }
}

impl IntoPrompt for String {
    fn into_prompt(self) -> Prompt {
        Prompt::new(self)
    }
}

impl IntoPrompt for &str {
    fn into_prompt(self) -> Prompt {
        Prompt::new(self)
    }
}

/// A question to one model, and what is wished of its answer.
#[derive(Debug, Clone)]
#[must_use = "nobody is asked until it is given to an `Ai`"]
pub struct Question {
    model: String,
    prompt: Prompt,
    control: CacheControl,
    timeout: Duration,
    params: Map<String, Value>,
}

impl Question {
    /// To the `model` of a provider that the configuration names.
    pub fn new(provider: &str, model: &str, prompt: impl IntoPrompt) -> Self {
        Self::of_model(&format!("{provider}/{model}"), prompt)
    }

    /// To whatever is routed to by the name of `model`.
    pub fn of_model(model: &str, prompt: impl IntoPrompt) -> Self {
        let (model, prompt) = (model.to_owned(), prompt.into_prompt());
        Self { model, prompt, control: CacheControl::default(), timeout: TIMEOUT, params: Map::new() }
    }

    /// No earlier answer is used for it, and its own is not kept.
    pub fn uncached(mut self) -> Self {
        self.control.mode = Mode::Off;
        self
    }

    /// The answer may be reused for so long; the configured time is the most.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.control.ttl = Some(ttl);
        self
    }

    /// Only an answer to the same words may be reused.
    pub fn exact(mut self) -> Self {
        self.control.semantic = Some(false);
        self
    }

    /// Another question's answer may be reused from this similarity on (cosine, in `0.0..=1.0`), where that is stricter than
    /// what is configured.
    pub fn threshold(mut self, threshold: f32) -> Self {
        self.control.threshold = Some(threshold);
        self
    }

    /// After so long there is no answer.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How freely the model chooses its words.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.params.insert("temperature".to_owned(), temperature.into());
        self
    }

    /// How long the answer may be.
    pub fn max_tokens(mut self, tokens: u32) -> Self {
        self.params.insert("max_tokens".to_owned(), tokens.into());
        self
    }

    fn request(&self) -> Result<ChatRequest, InvalidRequest> {
        let system = self.prompt.system.as_deref().map(|text| (Role::System, text));
        let turns: Vec<_> = system.into_iter().chain([(Role::User, self.prompt.text.as_str())]).collect();
        ChatRequest::build(&self.model, &turns, &self.params)
    }
}

/// A model's answer, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct AiReply<T> {
    /// The answer.
    pub value: T,
    /// Whether it is an earlier one.
    pub cached: bool,
    /// Cosine to the question that it was given to, where that was another one.
    pub similarity: Option<f32>,
    /// What it cost in US dollars, as far as that is known.
    pub cost_usd: Option<f64>,
}

impl<T> AiReply<T> {
    fn with<U>(self, value: U) -> AiReply<U> {
        AiReply { value, cached: self.cached, similarity: self.similarity, cost_usd: self.cost_usd }
    }
}

/// Why a model's answer is not there.
#[derive(Debug, thiserror::Error)]
pub enum AiError {
    /// The question cannot be asked.
    #[error("the question cannot be asked")]
    Invalid(#[from] InvalidRequest),
    /// Nobody answers.
    #[error("the question has no answer")]
    Chat(#[from] ChatError),
    /// The answer broke off.
    #[error("the answer broke off")]
    Upstream(#[from] Failure),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The model stopped before the end, at a limit or for its provider's reasons.
    #[error("the answer is not complete: the model stopped with {0:?}")]
    Incomplete(String),
    /// The answer is not the value that it should be. It is not reused: the next question is asked anew.
    #[error("the answer cannot be read: {source}")]
    Unreadable {
        /// The answer.
        text: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl Ai {
    /// Asks over `chat`, for `principal`: its limits and prices hold, and answers are its tenant's.
    pub fn new(chat: ChatService, principal: Principal) -> Self {
        Self { chat, principal }
    }

    /// The same, asking for another.
    #[must_use]
    pub fn acting_for(&self, principal: &Principal) -> Self {
        Self { chat: self.chat.clone(), principal: principal.clone() }
    }

    /// The model's answer, or an earlier one that may be reused.
    ///
    /// # Errors
    /// [`AiError`].
    pub async fn ask(&self, question: Question) -> Result<AiReply<String>, AiError> {
        let (limit, asking) = (question.timeout, self.answer(&question));
        tokio::time::timeout(limit, asking).await.map_err(|_| AiError::Timeout(limit))?
    }

    /// The same, read as a `T` from JSON, for which the model is told to answer so. An earlier answer that cannot be read is
    /// asked for anew, once.
    ///
    /// # Errors
    /// [`AiError`].
    pub async fn ask_json<T: DeserializeOwned>(&self, mut question: Question) -> Result<AiReply<T>, AiError> {
        let told = question.prompt.system.take().map(|system| format!("{system}\n\n"));
        question.prompt.system = Some(told.unwrap_or_default() + AS_JSON);
        let limit = question.timeout;
        let asking = async {
            let earlier = self.answer(&question).await?;
            let was_cached = earlier.cached;
            let read = read(earlier);
            if read.is_ok() || !was_cached {
                return read;
            }
            question.control.mode = Mode::Refresh;
            self::read(self.answer(&question).await?)
        };
        tokio::time::timeout(limit, asking).await.map_err(|_| AiError::Timeout(limit))?
    }

    async fn answer(&self, question: &Question) -> Result<AiReply<String>, AiError> {
        let request = Arc::new(question.request()?);
        let (principal, control) = (self.principal.clone(), question.control.clone());
        let answer = self.chat.respond(Ask { request, principal, control, explain: false }).await?;
        let report = answer.report;
        let (completion, cached) = match answer.source.into_whole().await? {
            Whole::Cached(hit) => (Arc::clone(&hit.entry.completion), true),
            Whole::Completion(completion) => (completion, false),
            Whole::Raw(bytes) => {
                let completion = Completion::from_openai(&bytes);
                let completion = completion.map_err(|source| AiError::Unreadable { text: String::new(), source })?;
                (Arc::new(completion), false)
            }
        };
        if !completion.is_complete() {
            let reason = completion.finish_reason().map_or("nothing", |reason| reason.as_str());
            return Err(AiError::Incomplete(reason.to_owned()));
        }
        let (value, similarity) = (completion.text().to_owned(), report.similarity);
        Ok(AiReply { value, cached, similarity, cost_usd: report.served.cost_usd() })
    }
}

/// The value in an answer's text.
fn read<T: DeserializeOwned>(reply: AiReply<String>) -> Result<AiReply<T>, AiError> {
    match serde_json::from_str(unfenced(&reply.value)) {
        Ok(value) => Ok(reply.with(value)),
        Err(source) => Err(AiError::Unreadable { text: reply.value, source }),
    }
}

/// The text without the code fence that models like to put around JSON.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inner = text.strip_prefix("```").and_then(|text| text.strip_suffix("```"));
    inner.map_or(text, |inner| inner.trim_start_matches(|c: char| c.is_ascii_alphanumeric()).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> AiReply<String> {
        AiReply { value: text.to_owned(), cached: false, similarity: None, cost_usd: None }
    }

    #[test]
    fn a_value_is_read_with_and_without_a_fence() {
        for text in ["[1,2]", " [1,2]\n", "```json\n[1,2]\n```", "```\n[1,2]```"] {
            assert_eq!(read::<Vec<u8>>(reply(text)).unwrap().value, [1, 2], "{text}");
        }
        assert!(
            matches!(read::<Vec<u8>>(reply("one, two")), Err(AiError::Unreadable { text, .. }) if text == "one, two")
        );
    }

    #[test]
    fn a_question_says_what_was_wished() {
        let prompt = Prompt::new("Why?").under("Be brief.");
        let question = Question::new("openai", "gpt-4", prompt).temperature(0.5).max_tokens(7).threshold(0.9).exact();
        let request = question.request().unwrap();
        assert_eq!((request.model.as_str(), request.turns.len()), ("openai/gpt-4", 2));
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!((&body["temperature"], &body["max_tokens"]), (&0.5.into(), &7.into()));
        assert_eq!((question.control.threshold, question.control.semantic), (Some(0.9), Some(false)));
    }
}
