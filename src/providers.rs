//! Providers: who answers a prompt that the cache cannot. The seam is one small trait; each provider is a small file
//! over [`crate::upstream`]; the router maps a public model name to one of them.

mod chunks;
mod demo;
mod openai;
mod router;
mod sse;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;

pub use chunks::deltas;
pub use demo::Demo;
pub use openai::OpenAi;
pub use router::{ListedModel, Router, Target, UnknownModel};

use crate::message::{ChatRequest, Completion, Delta};
use crate::upstream::Failure;

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
}

/// Something that answers prompts.
pub trait Provider: Send + Sync {
    /// Its name in configuration, metrics and `provider/model`.
    fn name(&self) -> &str;

    /// Answers a prompt. Dropping the future, or the stream that it gives, ends the work upstream.
    fn chat(&self, call: Call) -> BoxFuture<'_, Result<Reply, Failure>>;

    /// The models that it offers now.
    fn models(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>>;
}
