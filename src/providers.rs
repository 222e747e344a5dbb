//! Providers: who answers a prompt that the cache cannot. The seam is one small trait; each provider is a small file
//! over [`crate::upstream`]; the router maps a public model name to one of them.

mod anthropic;
mod asking;
mod attended;
mod behind;
mod breaker;
mod breakers;
mod canonical;
mod chunks;
mod demo;
mod gemini;
mod hints;
mod ollama;
mod openai;
mod pace;
mod reading;
mod retry;
mod roster;
mod route;
mod router;
mod seen;
mod sse;
mod target;
mod whole;
mod window;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream};
use url::Url;

pub use anthropic::Anthropic;
pub use asking::{Asked, Broken, Lost, Turn, Way};
pub use breaker::BreakerState;
pub use chunks::deltas;
pub use demo::Demo;
pub use gemini::Gemini;
pub use ollama::Ollama;
pub use openai::OpenAi;
pub use retry::{Remedy, remedy};
pub use route::Route;
pub use router::{ListedModel, Router, RouterParts, UnknownModel};
pub use target::{Health, Target, TargetStatus};

use crate::config::{ProviderConfig, ProviderKind};
use crate::message::{ChatRequest, Completion, Delta, Served};
use crate::upstream::{ClientError, Failure, Upstream};

/// The pieces of a streamed answer. It ends after its first failure; dropping it ends the upstream call.
pub type DeltaStream = Pin<Box<dyn Stream<Item = Result<Delta, Failure>> + Send>>;

/// A streamed answer as an OpenAI-compatible provider sent it: whole events, framed as `data:` lines, up to `[DONE]`. It
/// ends after its first failure; dropping it ends the upstream call.
pub type VerbatimStream = Pin<Box<dyn Stream<Item = Result<Bytes, Failure>> + Send>>;

/// How a provider answers.
pub enum Reply {
    /// At once: an OpenAI-shaped JSON object, as sent.
    Whole(Bytes),
    /// At once, by a provider of another dialect.
    Completed(Box<Completion>),
    /// Piece by piece.
    Stream(DeltaStream),
    /// Piece by piece, as bytes in OpenAI's dialect that can go to its clients untouched.
    Verbatim(VerbatimStream),
}

/// How the answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyMode {
    /// As one JSON object.
    Whole,
    /// As a stream, exactly as the caller asked.
    Stream,
    /// As a stream with the count of tokens, asked for by us.
    CountedStream,
}

/// One upstream call.
#[derive(Debug, Clone)]
pub struct Call {
    /// What is asked.
    pub request: Arc<ChatRequest>,
    /// The model's name at the provider.
    pub model: String,
    /// How the answer is wanted.
    pub mode: ReplyMode,
    /// Where what is counted is written, of a stream whose pieces are not read.
    pub served: Served,
}

/// Something that answers prompts.
pub trait Provider: Send + Sync {
    /// Its name in configuration, metrics and `provider/model`.
    fn name(&self) -> &str;

    /// Answers a prompt. Dropping the future, or the stream that it gives, ends the work upstream.
    fn chat(&self, call: Call) -> BoxFuture<'_, Result<Reply, Failure>>;

    /// How many tokens of input the prompt is, where the provider tells without answering it.
    fn count(&self, _call: Call) -> BoxFuture<'_, Result<Option<u64>, Failure>> {
        futures_util::future::ready(Ok(None)).boxed()
    }

    /// The models that it offers now.
    fn models(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>>;
}

/// The provider that `config` describes.
///
/// # Errors
/// When it needs a client of its own, and that cannot be made.
pub fn configured(config: &ProviderConfig, upstream: &Upstream) -> Result<Arc<dyn Provider>, ClientError> {
    let upstream = upstream.with(&config.timeouts)?;
    Ok(match config.kind {
        ProviderKind::OpenAi => Arc::new(OpenAi::new(config, upstream)),
        ProviderKind::Anthropic => Arc::new(Anthropic::new(config, upstream)),
        ProviderKind::Gemini => Arc::new(Gemini::new(config, upstream)),
        ProviderKind::Ollama => Arc::new(Ollama::new(config, upstream)),
    })
}

/// An address below a provider's base. A first segment with which the base ends already is not said twice, since some
/// write the base with it and some without.
fn endpoint(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    let is_said = base.path().trim_end_matches('/').rsplit('/').next() == path.first().copied();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(&path[usize::from(is_said)..]);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_may_end_with_the_version_or_not() {
        for base in ["http://h", "http://h/", "http://h/v1", "http://h/v1/"] {
            let url = endpoint(&base.parse().unwrap(), &["v1", "messages"]);
            assert_eq!(url.as_str(), "http://h/v1/messages", "{base}");
        }
        let url = endpoint(&"http://h/proxy".parse().unwrap(), &["v1", "models", "a/b:c"]);
        assert_eq!(url.as_str(), "http://h/proxy/v1/models/a%2Fb:c");
    }
}
