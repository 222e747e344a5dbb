//! Answers as they come, in whichever dialect: what is ready together goes out in one write, and silence is broken before
//! a proxy closes the connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use tokio::time::{Instant, Sleep};

use crate::chat::{Event, Events};
use crate::message::Served;

/// Silence after which something is said.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Tells nginx not to hold the events back.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Writes events in a dialect.
pub(super) trait Rendering: Send + 'static {
    /// What is said in a long silence; nothing where the dialect has no word for it.
    const SILENCE: &'static [u8];

    /// Appends what the answer cost, before its end: a comment, which readers of server-sent events pass over.
    fn cost(&mut self, cost_usd: f64, out: &mut BytesMut) {
        out.put_slice(cost_comment(cost_usd).as_bytes());
    }

    /// Appends what an event is in the dialect: for some it is nothing.
    fn render(&mut self, event: Event, out: &mut BytesMut);

    /// Whether the last event has been written.
    fn is_over(&self) -> bool;
}

/// The events as a body; `first` was taken from them before, and `served` knows at their end what they cost.
pub(super) fn body(events: Events, renderer: impl Rendering, first: Option<Event>, served: &Served) -> Body {
    Body::from_stream(pieces(events, renderer, first, served.clone()))
}

/// What an answer cost, as a comment among server-sent events.
pub(super) fn cost_comment(cost_usd: f64) -> String {
    format!(": x-ish-cost-usd {cost_usd}\n\n")
}

/// A reply of server-sent events.
pub(super) fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// Says when a stream has been silent for long. One timer serves the whole stream: what is sent moves the deadline and not
/// the timer, which looks again when it fires.
pub(super) struct Heartbeat {
    timer: Pin<Box<Sleep>>,
    due: Instant,
}

impl Heartbeat {
    pub fn new() -> Self {
        let due = Instant::now() + HEARTBEAT;
        Self { timer: Box::pin(tokio::time::sleep_until(due)), due }
    }

    pub fn restart(&mut self) {
        self.due = Instant::now() + HEARTBEAT;
    }

    pub fn poll_beat(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(context).is_ready() {
            let is_due = self.timer.deadline() >= self.due;
            if is_due {
                self.restart();
            }
            self.timer.as_mut().reset(self.due);
            if is_due {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

/// The body's bytes, as much at a time as is ready.
pub(super) fn pieces<R: Rendering>(
    events: Events,
    renderer: R,
    first: Option<Event>,
    served: Served,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let state = (events, renderer, first.into_iter().collect::<VecDeque<_>>(), Heartbeat::new(), served);
    futures_util::stream::unfold(state, |(mut events, mut renderer, mut ready, mut heartbeat, served)| async move {
        let mut out = BytesMut::with_capacity(1024);
        // Some events show nothing, such as a count that was not asked for: the one after them is waited for.
        while out.is_empty() && !renderer.is_over() {
            if ready.is_empty() {
                tokio::select! {
                    biased;
                    event = events.next() => match event {
                        Some(event) => ready.push_back(event),
                        None => return None,
                    },
                    () = std::future::poll_fn(|context| heartbeat.poll_beat(context)) => out.put_slice(R::SILENCE),
                }
            }
            while let Some(event) = ready.pop_front().or_else(|| events.take_ready()) {
                if let (Event::End { .. }, Some(cost_usd)) = (&event, served.cost_usd()) {
                    renderer.cost(cost_usd, &mut out);
                }
                renderer.render(event, &mut out);
            }
        }
        heartbeat.restart();
        (!out.is_empty()).then(|| (Ok(out.freeze()), (events, renderer, ready, heartbeat, served)))
    })
}

/// Appends a server-sent event with a name. JSON holds no line break, so its data is one line.
pub(super) fn write_named(out: &mut BytesMut, name: &str, data: &impl serde::Serialize) {
    let data = serde_json::to_vec(data).expect("invariant: what we build is always JSON");
    for part in [b"event: ", name.as_bytes(), b"\ndata: ", &data, b"\n\n"] {
        out.put_slice(part);
    }
}
