//! OpenAI and anything compatible. The request's bytes are passed on with nothing changed but the model's name and,
//! for answers that are to be stored, the wish for a count; the reply's bytes are passed back and read on the side.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use url::Url;

use super::canonical::Addressee;
use super::{Call, Provider, Reply, ReplyMode, chunks, hints};
use crate::config::ProviderConfig;
use crate::message::{Dialect, JsonObject};
use crate::upstream::{Credentials, Failure, FailureKind, Streaming, Upstream};

/// One OpenAI-compatible provider.
pub struct OpenAi {
    name: String,
    chat_url: Url,
    models_url: Url,
    credentials: Credentials,
    listed: Vec<String>,
    /// Whether it is OpenAI itself, whose reasoning models refuse `max_tokens` under that name.
    is_openai: bool,
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
            credentials: Credentials::bearer(config.api_key.as_ref()),
            listed: config.models.clone(),
            is_openai: config.base_url.host_str() == Some("api.openai.com"),
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
            let to = Addressee { provider: &self.name, dialect: "OpenAI" };
            let body = outgoing(&call, hints::fitted(&call.request, Dialect::OpenAi, to)?, self.is_openai);
            if call.mode == ReplyMode::Whole {
                return self.upstream.post(self.chat_url.clone(), &self.credentials, body).await.map(Reply::Whole);
            }
            let url = self.chat_url.clone();
            let bytes = self.upstream.post_stream(url, &self.credentials, body, Streaming::Events).await?;
            Ok(match call.mode {
                ReplyMode::Stream => Reply::Verbatim(chunks::verbatim(bytes, call.served)),
                _ => Reply::Stream(chunks::deltas(bytes)),
            })
        }
        .boxed()
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
        async move {
            if !self.listed.is_empty() {
                return Ok(self.listed.clone());
            }
            let body = self.upstream.get(self.models_url.clone(), &self.credentials, Duration::from_secs(5)).await?;
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

/// The request's bytes, `body`, patched only where they must change. To OpenAI itself, a bound that another dialect's client
/// or a stored question named goes under its newer name, which all its models take.
fn outgoing(call: &Call, body: Bytes, is_openai: bool) -> Bytes {
    let request = &call.request;
    let wants_stream = call.mode != ReplyMode::Whole;
    let wants_count = call.mode == ReplyMode::CountedStream && !request.include_usage;
    let same = call.model == request.model && wants_stream == request.stream && !wants_count;
    if same && request.is_untouched && !(is_openai && request.dialect != Dialect::OpenAi) {
        return body;
    }
    let Ok(object) = JsonObject::parse(&body) else { return body };
    let bounds_anew = object.get("max_completion_tokens").is_some();
    let mut out = Vec::with_capacity(body.len() + 96);
    out.push(b'{');
    for (name, value) in object.members() {
        let name = if is_openai && name == "max_tokens" && !bounds_anew { "max_completion_tokens" } else { name };
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message::ChatRequest;

    fn call(body: &'static str, model: &str, mode: ReplyMode) -> Call {
        Call {
            request: Arc::new(ChatRequest::parse(Bytes::from(body)).unwrap()),
            model: model.to_owned(),
            mode,
            served: crate::message::Served::default(),
        }
    }

    #[test]
    fn bytes_are_passed_on_untouched_when_nothing_must_change() {
        let body = r#"{ "model":"m", "messages":[{"role":"user","content":"x"}], "weird": 1.50 }"#;
        let call = call(body, "m", ReplyMode::Whole);
        assert_eq!(outgoing(&call, call.request.body.clone(), true).as_ptr(), call.request.body.as_ptr());
    }

    #[test]
    fn only_model_count_and_cache_control_are_patched() {
        let body = r#"{"model":"openai/m","messages":[{"role":"user","content":"x"}],"weird":1.50,"stream":true,"cache":{"mode":"on"}}"#;
        let call = call(body, "m", ReplyMode::CountedStream);
        let out = outgoing(&call, call.request.body.clone(), false);
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            r#"{"messages":[{"role":"user","content":"x"}],"weird":1.50,"model":"m","stream":true,"stream_options":{"include_usage":true}}"#
        );
    }

    #[test]
    fn openai_itself_gets_a_bound_under_its_newer_name() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":9}"#;
        let stored = call(body, "m", ReplyMode::CountedStream);
        let to = |call: &Call, is_openai| {
            let out = outgoing(call, call.request.body.clone(), is_openai);
            JsonObject::parse(&out).unwrap().members().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        assert!(to(&stored, true).contains(&"max_completion_tokens".to_owned()));
        assert!(to(&stored, false).contains(&"max_tokens".to_owned()));
        let mut request = ChatRequest::parse(Bytes::from(body)).unwrap();
        request.dialect = Dialect::Anthropic;
        let translated = Call { request: Arc::new(request), ..call(body, "m", ReplyMode::Whole) };
        assert_eq!(to(&translated, true), ["messages", "max_completion_tokens", "model"]);
    }
}
