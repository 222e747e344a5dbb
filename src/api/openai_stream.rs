//! A streamed reply in OpenAI's dialect: only `data:` frames and comments, since openai-python fails on a lone `id:` or
//! `retry:`. What is ready together goes out in one write.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use serde_json::{Map, Value, json};

use super::error::{ApiError, OpenAiProblem};
use super::openai::{ish_object, now_s, usage_object};
use crate::chat::{CacheReport, CacheStatus, ChatError, Event, Events};
use crate::clock::new_id;
use crate::message::{Choice, Delta, FinishReason, Usage};

/// Silence after which a comment keeps proxies from closing the connection.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Begins the reply once its first event is there, so that a failure before it has its own status.
pub(super) async fn respond(
    mut events: Events,
    report: &CacheReport,
    model: String,
    include_usage: bool,
) -> Result<Response, OpenAiProblem> {
    let first = match events.next().await {
        Some(Event::Failed(failure)) => return Err(ChatError::from(failure).into()),
        first => first,
    };
    let ish = (report.status == CacheStatus::Hit).then(|| ish_object(report));
    let renderer = Renderer {
        id: format!("chatcmpl-{}", new_id().simple()),
        created: now_s(),
        model,
        include_usage,
        ish,
        begun: false,
        raw: false,
        over: false,
    };
    let mut response = Response::new(Body::from_stream(pieces(events, renderer, first)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// The body's bytes, as much at a time as is ready.
fn pieces(events: Events, renderer: Renderer, first: Option<Event>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let state = (events, renderer, first.into_iter().collect::<VecDeque<_>>());
    futures_util::stream::unfold(state, |(mut events, mut renderer, mut ready)| async move {
        let mut out = BytesMut::with_capacity(1024);
        // Some events show nothing, such as a count that was not asked for: the one after them is waited for.
        while out.is_empty() && !renderer.over {
            if ready.is_empty() {
                match tokio::time::timeout(HEARTBEAT, events.next()).await {
                    Ok(Some(event)) => ready.push_back(event),
                    Ok(None) => return None,
                    Err(_) => out.put_slice(b": keep-alive\n\n"),
                }
            }
            while let Some(event) = ready.pop_front().or_else(|| events.take_ready()) {
                renderer.render(event, &mut out);
            }
        }
        (!out.is_empty()).then(|| (Ok(out.freeze()), (events, renderer, ready)))
    })
}

struct Renderer {
    id: String,
    created: i64,
    model: String,
    include_usage: bool,
    ish: Option<Value>,
    /// Whether a chunk has gone out.
    begun: bool,
    /// Whether the provider's own chunks are passed on, its usage chunk with them.
    raw: bool,
    over: bool,
}

impl Renderer {
    fn render(&mut self, event: Event, out: &mut BytesMut) {
        match event {
            Event::Delta(delta) => self.delta(&delta, out),
            Event::End { usage, .. } => {
                if self.include_usage && !self.raw {
                    self.usage(usage.unwrap_or_default(), out);
                }
                out.put_slice(b"data: [DONE]\n\n");
                self.over = true;
            }
            Event::Failed(failure) => {
                let mut error = ApiError::from(failure).openai();
                if let Value::Object(members) = &mut error {
                    members.insert("partial".to_owned(), self.begun.into());
                }
                frame(out, json!({"error": error}).to_string().as_bytes());
                self.over = true;
            }
        }
        self.begun = true;
    }

    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        if let Some(raw) = &delta.raw {
            self.raw = true;
            if !delta.usage_only || self.include_usage {
                frame(out, raw);
            }
            return;
        }
        if let Some(whole) = &delta.whole {
            for choice in &whole.choices {
                self.whole_choice(choice, out);
            }
            return;
        }
        let mut piece = Map::new();
        if !self.begun {
            piece.insert("role".to_owned(), "assistant".into());
        }
        if !delta.reasoning.is_empty() {
            piece.insert("reasoning_content".to_owned(), delta.reasoning.as_str().into());
        }
        if !delta.text.is_empty() || !self.begun {
            piece.insert("content".to_owned(), delta.text.as_str().into());
        }
        if !piece.is_empty() {
            self.chunk(0, &piece, None, None, out);
        }
        if let Some(reason) = &delta.finish_reason {
            self.begun = true;
            self.chunk(0, &Map::new(), Some(reason), None, out);
        }
    }

    /// A whole message as one piece, and its end.
    fn whole_choice(&mut self, choice: &Choice, out: &mut BytesMut) {
        let mut message = choice.message.clone();
        if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
            for (index, call) in calls.iter_mut().enumerate() {
                if let Value::Object(members) = call {
                    members.insert("index".to_owned(), index.into());
                }
            }
        }
        self.chunk(choice.index, &message, None, choice.logprobs.as_ref(), out);
        self.begun = true;
        self.chunk(
            choice.index,
            &Map::new(),
            Some(choice.finish_reason.as_ref().unwrap_or(&FinishReason::Stop)),
            None,
            out,
        );
    }

    fn chunk(
        &self,
        index: u32,
        delta: &Map<String, Value>,
        finish_reason: Option<&FinishReason>,
        logprobs: Option<&Value>,
        out: &mut BytesMut,
    ) {
        let choice = json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason.map(FinishReason::as_str)});
        let ish = if self.begun { None } else { self.ish.as_ref() };
        self.object(&format!("[{choice}]"), None, ish, out);
    }

    fn usage(&self, usage: Usage, out: &mut BytesMut) {
        self.object("[]", Some(usage_object(usage)), None, out);
    }

    fn object(&self, choices: &str, usage: Option<Value>, ish: Option<&Value>, out: &mut BytesMut) {
        let mut text = String::with_capacity(256);
        let model = Value::from(self.model.as_str());
        let _ = write!(
            text,
            "{{\"id\":\"{}\",\"object\":\"chat.completion.chunk\",\"created\":{},\"model\":{model},\"choices\":{choices}",
            self.id, self.created
        );
        if let Some(usage) = usage {
            let _ = write!(text, ",\"usage\":{usage}");
        }
        if let Some(ish) = ish {
            let _ = write!(text, ",\"ish\":{ish}");
        }
        text.push('}');
        frame(out, text.as_bytes());
    }
}

fn frame(out: &mut BytesMut, data: &[u8]) {
    out.put_slice(b"data: ");
    // A provider's event of several lines stays one event.
    if data.contains(&b'\n') {
        let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
        out.put_slice(&lines.join(&b"\ndata: "[..]));
    } else {
        out.put_slice(data);
    }
    out.put_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;
    use crate::cache::Replay;
    use crate::chat::Source;
    use crate::providers::Reply;

    #[tokio::test]
    async fn a_count_that_was_not_asked_for_does_not_end_the_stream() {
        let chunk = |json: &'static str| Delta { raw: Some(Bytes::from_static(json.as_bytes())), ..Delta::default() };
        let deltas = [
            chunk(r#"{"text":1}"#),
            Delta { usage_only: true, ..chunk(r#"{"usage":1}"#) },
            Delta { usage_only: true, ..chunk(r#"{"usage":2}"#) },
        ];
        // Each comes alone, as from a provider that writes one event at a time.
        let one_by_one = futures_util::stream::iter(deltas).then(|delta| async {
            tokio::task::yield_now().await;
            Ok(delta)
        });
        let events = Source::Direct(Reply::Stream(one_by_one.boxed())).into_events(Replay::Whole);
        let renderer = Renderer {
            id: String::new(),
            created: 0,
            model: String::new(),
            include_usage: false,
            ish: None,
            begun: false,
            raw: false,
            over: false,
        };
        let written: Vec<Bytes> = pieces(events, renderer, None).map(|piece| piece.unwrap()).collect().await;
        assert_eq!(written, ["data: {\"text\":1}\n\n", "data: [DONE]\n\n"]);
    }

    #[test]
    fn an_event_of_several_lines_stays_one_event() {
        let mut out = BytesMut::new();
        frame(&mut out, b"{\n}");
        assert_eq!(out, &b"data: {\ndata: }\n\n"[..]);
    }
}
