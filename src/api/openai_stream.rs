//! A streamed reply in OpenAI's dialect: only `data:` frames and comments, since openai-python fails on a lone `id:` or
//! `retry:`. What is ready together goes out in one write.

use std::convert::Infallible;
use std::fmt::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use serde_json::{Map, Value, json};

use super::error::{ApiError, OpenAiProblem};
use super::openai::{now_s, usage_object};
use super::openai_replay::{choices, chunks};
use super::streamed::{Heartbeat, Rendering, body, cost_comment, event_stream};
use crate::chat::{ChatError, Event, Events, VerbatimStream};
use crate::clock::new_id;
use crate::message::{Delta, Served, Usage, write_event};
use crate::upstream::Failure;

const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Begins the reply once its first event is there, so that a failure before it has its own status.
pub(super) async fn respond(
    mut events: Events,
    ish: Option<String>,
    model: String,
    include_usage: bool,
    served: &Served,
) -> Result<Response, OpenAiProblem> {
    let first = match events.next().await {
        Some(Event::Failed(failure)) => return Err(ChatError::from(failure).into()),
        first => first,
    };
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
    Ok(event_stream(body(events, renderer, first, served)))
}

/// Passes a provider's own events on; one that fails before its first event has its own status. What `served` knows of
/// their cost stands before their end.
pub(super) async fn pass(mut events: VerbatimStream, served: Served) -> Result<Response, OpenAiProblem> {
    let first = match events.next().await {
        Some(Err(failure)) => return Err(ChatError::from(failure).into()),
        Some(Ok(first)) => Some(first),
        None => None,
    };
    let passing = Passing { first, events, heartbeat: Heartbeat::new(), last: None, over: false, served };
    Ok(event_stream(Body::from_stream(passing)))
}

/// A provider's events on their way, with comments where it is silent.
struct Passing {
    first: Option<Bytes>,
    events: VerbatimStream,
    heartbeat: Heartbeat,
    /// The piece that ends with the end: what all of it cost is known right after it.
    last: Option<Bytes>,
    over: bool,
    served: Served,
}

/// The last bytes of every such stream.
const DONE: &[u8] = b"data: [DONE]\n\n";

impl Stream for Passing {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        loop {
            let next = match this.first.take() {
                Some(first) => Poll::Ready(Some(Ok(first))),
                None => this.events.as_mut().poll_next(context),
            };
            return match next {
                Poll::Ready(Some(Ok(bytes))) if bytes.ends_with(DONE) => {
                    this.last = Some(bytes);
                    continue;
                }
                Poll::Ready(Some(Ok(bytes))) => {
                    this.heartbeat.restart();
                    Poll::Ready(Some(Ok(bytes)))
                }
                Poll::Ready(Some(Err(failure))) => {
                    let mut out = BytesMut::new();
                    failed(failure, true, &mut out);
                    Poll::Ready(Some(Ok(out.freeze())))
                }
                Poll::Ready(None) => {
                    this.over = true;
                    Poll::Ready(this.last.take().map(|last| Ok(with_cost(last, this.served.cost_usd()))))
                }
                Poll::Pending => this.heartbeat.poll_beat(context).map(|()| Some(Ok(Bytes::from_static(KEEP_ALIVE)))),
            };
        }
    }
}

/// A stream's last piece, with its cost before the end where that is known.
fn with_cost(last: Bytes, cost_usd: Option<f64>) -> Bytes {
    let Some(cost_usd) = cost_usd else { return last };
    [&last[..last.len() - DONE.len()], cost_comment(cost_usd).as_bytes(), DONE].concat().into()
}

/// An error in the middle of a stream.
fn failed(failure: Failure, is_partial: bool, out: &mut BytesMut) {
    let mut error = ApiError::from(failure).openai();
    if let Value::Object(members) = &mut error {
        members.insert("partial".to_owned(), is_partial.into());
    }
    write_event(out, json!({"error": error}).to_string().as_bytes());
}

struct Renderer {
    id: String,
    created: i64,
    model: String,
    include_usage: bool,
    /// Of a cached answer: the extension object of the first chunk.
    ish: Option<String>,
    /// Whether a chunk has gone out.
    begun: bool,
    /// Whether the provider's own chunks are passed on, its usage chunk with them.
    raw: bool,
    over: bool,
}

impl Rendering for Renderer {
    const SILENCE: &'static [u8] = KEEP_ALIVE;

    fn is_over(&self) -> bool {
        self.over
    }

    fn render(&mut self, event: Event, out: &mut BytesMut) {
        match event {
            Event::Delta(delta) => self.delta(&delta, out),
            Event::End { usage, .. } => {
                if self.include_usage && !self.raw {
                    self.usage(usage.unwrap_or_default(), out);
                }
                out.put_slice(DONE);
                self.over = true;
            }
            Event::Failed(failure) => {
                failed(failure, self.begun, out);
                self.over = true;
            }
        }
        self.begun = true;
    }
}

impl Renderer {
    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        if let Some(raw) = &delta.raw {
            self.raw = true;
            if !delta.usage_only || self.include_usage {
                write_event(out, raw);
            }
            return;
        }
        if let Some(whole) = &delta.whole {
            for choices in whole.choices.iter().flat_map(chunks) {
                self.object(&choices, None, out);
                self.begun = true;
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
        if let Some(more) = &delta.more {
            piece.extend(*more.clone());
        }
        if !piece.is_empty() {
            self.object(&choices(0, &piece, None, None), None, out);
        }
        if let Some(reason) = &delta.finish_reason {
            self.begun = true;
            self.object(&choices(0, &Map::new(), Some(reason), None), None, out);
        }
    }

    fn usage(&self, usage: Usage, out: &mut BytesMut) {
        self.object("\"choices\":[]", Some(usage_object(usage)), out);
    }

    fn object(&self, choices: &str, usage: Option<Value>, out: &mut BytesMut) {
        let mut text = String::with_capacity(256);
        let model = Value::from(self.model.as_str());
        let _ = write!(
            text,
            "{{\"id\":\"{}\",\"object\":\"chat.completion.chunk\",\"created\":{},\"model\":{model},{choices}",
            self.id, self.created
        );
        if let Some(usage) = usage {
            let _ = write!(text, ",\"usage\":{usage}");
        }
        if let Some(ish) = self.ish.as_ref().filter(|_| !self.begun) {
            let _ = write!(text, ",\"ish\":{ish}");
        }
        text.push('}');
        write_event(out, text.as_bytes());
    }
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
        let written: Vec<Bytes> = crate::api::streamed::pieces(events, renderer, None, Served::default())
            .map(|piece| piece.unwrap())
            .collect()
            .await;
        assert_eq!(written, ["data: {\"text\":1}\n\n", "data: [DONE]\n\n"]);
    }
    /// The end comes in a piece of its own, with others, or in one with the whole stream.
    #[tokio::test]
    async fn the_cost_of_what_passes_stands_before_its_end_and_changes_nothing_else() {
        let whole = "data: {\"a\":1}\n\ndata: {\"b\":2}\n\ndata: [DONE]\n\n";
        for cut in [0, 15, 30] {
            for (cost_usd, comment) in [(None, ""), (Some(0.000_000_12), ": x-ish-cost-usd 0.00000012\n\n")] {
                let served = Served::default();
                served.settle(None, cost_usd);
                let pieces = [&whole[..cut], &whole[cut..]].into_iter().filter(|piece| !piece.is_empty());
                let pieces: Vec<_> = pieces.map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
                let events: VerbatimStream = Box::pin(futures_util::stream::iter(pieces));
                let response = pass(events, served).await.unwrap_or_else(|_| panic!("it does not fail"));
                let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
                let wanted = whole.replace("data: [DONE]", &format!("{comment}data: [DONE]"));
                assert_eq!(body, wanted, "{cut} {cost_usd:?}");
            }
        }
    }
}
