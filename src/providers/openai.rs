//! OpenAI and anything compatible. The request's bytes are passed on with nothing changed but the model's name and,
//! for answers that are to be stored, the wish for a count; the reply's bytes are passed back and read on the side.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::sse::SseReader;
use super::{Call, DeltaStream, Provider, Reply, ReplyMode};
use crate::config::ProviderConfig;
use crate::message::{Delta, FinishReason, JsonObject, Usage};
use crate::upstream::{Failure, FailureKind, Upstream};

/// One OpenAI-compatible provider.
pub struct OpenAi {
    name: String,
    chat_url: Url,
    models_url: Url,
    api_key: Option<SecretString>,
    listed: Vec<String>,
    upstream: Upstream,
}

impl OpenAi {
    /// Over the one client.
    pub fn new(config: &ProviderConfig, upstream: Upstream) -> Self {
        let address = |path: &str| {
            let mut url = config.base_url.clone();
            url.set_path(&format!("{}/{path}", config.base_url.path().trim_end_matches('/')));
            url
        };
        Self {
            name: config.name.clone(),
            chat_url: address("chat/completions"),
            models_url: address("models"),
            api_key: config.api_key.clone(),
            listed: config.models.clone(),
            upstream,
        }
    }
}

impl Provider for OpenAi {
    fn name(&self) -> &str {
        &self.name
    }

    fn chat(&self, call: Call) -> BoxFuture<'_, Result<Reply, Failure>> {
        async move {
            let body = outgoing(&call);
            if call.mode == ReplyMode::Whole {
                return self.upstream.post(self.chat_url.clone(), self.api_key.as_ref(), body).await.map(Reply::Whole);
            }
            let bytes = self.upstream.post_stream(self.chat_url.clone(), self.api_key.as_ref(), body).await?;
            Ok(Reply::Stream(deltas(bytes)))
        }
        .boxed()
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        async move {
            if !self.listed.is_empty() {
                return Ok(self.listed.clone());
            }
            let body =
                self.upstream.get(self.models_url.clone(), self.api_key.as_ref(), Duration::from_secs(5)).await?;
            let list: List = serde_json::from_slice(&body)
                .map_err(|_| Failure::new(FailureKind::Garbage, "the provider's list of models cannot be read"))?;
            Ok(list.data.into_iter().map(|model| model.id).collect())
        }
        .boxed()
    }
}

/// The reply of `/models`, as far as it is read.
#[derive(Deserialize)]
struct List {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

/// The request's bytes, patched only where they must change.
fn outgoing(call: &Call) -> Bytes {
    let request = &call.request;
    let wants_stream = call.mode != ReplyMode::Whole;
    let wants_count = call.mode == ReplyMode::CountedStream && !request.include_usage;
    let same = call.model == request.model && wants_stream == request.stream && !wants_count;
    let Ok(object) = JsonObject::parse(&request.body) else { return request.body.clone() };
    // The control of our own cache is no business of the provider, nor would it know the field.
    if same && object.get("cache").is_none() && object.get("model").is_some() {
        return request.body.clone();
    }
    let mut out = Vec::with_capacity(request.body.len() + 96);
    out.push(b'{');
    for (name, value) in object.members() {
        let replaced = matches!(name, "model" | "stream" | "cache") || (name == "stream_options" && wants_count);
        if !replaced {
            member(&mut out, name, value.get());
        }
    }
    member(&mut out, "model", &serde_json::Value::from(call.model.as_str()).to_string());
    if wants_stream {
        member(&mut out, "stream", "true");
    }
    if wants_count {
        member(&mut out, "stream_options", r#"{"include_usage":true}"#);
    }
    out.push(b'}');
    Bytes::from(out)
}

fn member(out: &mut Vec<u8>, name: &str, value: &str) {
    if out.len() > 1 {
        out.push(b',');
    }
    out.extend_from_slice(serde_json::Value::from(name).to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(value.as_bytes());
}

/// Turns the bytes of an OpenAI stream into deltas; a stream that ends without its end is a failure.
fn deltas(bytes: impl futures_util::Stream<Item = Result<Bytes, Failure>> + Send + 'static) -> DeltaStream {
    struct State<S> {
        bytes: std::pin::Pin<Box<S>>,
        reader: SseReader,
        finished: bool,
        done: bool,
    }
    let state = State { bytes: Box::pin(bytes), reader: SseReader::default(), finished: false, done: false };
    let groups = futures_util::stream::unfold(state, |mut state| async move {
        if state.done {
            return None;
        }
        let mut group = Vec::new();
        let outcome = match state.bytes.next().await {
            Some(Ok(piece)) => {
                let (finished, done) = (&mut state.finished, &mut state.done);
                state.reader.feed(piece, |data| {
                    if *done {
                        return Ok(());
                    }
                    if data.as_ref() == b"[DONE]" {
                        *done = true;
                        return Ok(());
                    }
                    let delta = delta(data)?;
                    *finished |= delta.finish_reason.is_some();
                    group.push(Ok(delta));
                    Ok(())
                })
            }
            Some(Err(failure)) => Err(failure),
            None => {
                state.done = true;
                Ok(())
            }
        };
        if let Err(failure) = outcome {
            state.done = true;
            group.push(Err(failure));
        } else if state.done && !state.finished {
            group.push(Err(Failure::new(FailureKind::Cut, "the provider's stream ended before its answer did")));
        }
        Some((futures_util::stream::iter(group), state))
    });
    groups.flatten().boxed()
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Vec<ChunkChoice<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ChunkChoice<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow, default)]
    delta: Option<ChunkDelta<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize, Default)]
struct ChunkDelta<'a> {
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, alias = "reasoning")]
    reasoning_content: Option<Cow<'a, str>>,
}

/// Reads one event of the stream on the side of its bytes.
fn delta(data: Bytes) -> Result<Delta, Failure> {
    let text = std::str::from_utf8(&data)
        .map_err(|_| Failure::new(FailureKind::Garbage, "the provider's stream is not valid UTF-8"))?;
    let chunk: Chunk<'_> = serde_json::from_str(text).map_err(|_| {
        Failure::new(FailureKind::Garbage, "an event of the provider's stream is not the JSON that it should be")
    })?;
    if let Some(error) = chunk.error.filter(|error| error.get() != "null") {
        return Err(reported(error));
    }
    let usage = chunk.usage.and_then(|raw| serde_json::from_str(raw.get()).ok()).as_ref().and_then(Usage::from_openai);
    let mut delta = Delta { usage, usage_only: chunk.choices.is_empty() && usage.is_some(), ..Delta::default() };
    for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
        let piece = choice.delta.unwrap_or_default();
        delta.text = piece.content.map_or_else(String::new, Cow::into_owned);
        delta.reasoning = piece.reasoning_content.map_or_else(String::new, Cow::into_owned);
        delta.finish_reason = choice.finish_reason.map(|word| FinishReason::parse(&word));
    }
    delta.raw = Some(data);
    Ok(delta)
}

/// An error event inside a stream.
fn reported(error: &RawValue) -> Failure {
    let value: serde_json::Value = serde_json::from_str(error.get()).unwrap_or_default();
    let said = value.get("message").and_then(serde_json::Value::as_str).or(value.as_str());
    let message = said.unwrap_or("the provider reported an error in the middle of its answer").to_owned();
    Failure { error: Some(value), ..Failure::new(FailureKind::Reported, message) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message::ChatRequest;

    fn call(body: &'static str, model: &str, mode: ReplyMode) -> Call {
        Call { request: Arc::new(ChatRequest::parse(Bytes::from(body)).unwrap()), model: model.to_owned(), mode }
    }

    #[test]
    fn bytes_are_passed_on_untouched_when_nothing_must_change() {
        let body = r#"{ "model":"m", "messages":[{"role":"user","content":"x"}], "weird": 1.50 }"#;
        let call = call(body, "m", ReplyMode::Whole);
        assert_eq!(outgoing(&call).as_ptr(), call.request.body.as_ptr());
    }

    #[test]
    fn only_model_count_and_cache_control_are_patched() {
        let body = r#"{"model":"openai/m","messages":[{"role":"user","content":"x"}],"weird":1.50,"stream":true,"cache":{"mode":"on"}}"#;
        let out = outgoing(&call(body, "m", ReplyMode::CountedStream));
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            r#"{"messages":[{"role":"user","content":"x"}],"weird":1.50,"model":"m","stream":true,"stream_options":{"include_usage":true}}"#
        );
    }

    #[test]
    fn an_error_event_is_a_failure_with_the_providers_words() {
        let failure = delta(Bytes::from_static(br#"{"error":{"message":"boom","code":"x"}}"#)).unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Reported, "boom"));
    }
}
