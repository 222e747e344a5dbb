//! The stream of a provider of another dialect, read: bytes to events, events to deltas, an end that is a failure unless
//! the answer had said why it ended.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use memchr::memchr;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::DeltaStream;
use super::sse::SseReader;
use crate::message::Delta;
use crate::upstream::{Failure, FailureKind};

/// The largest line that is accepted; beyond it the provider is at fault.
const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;

/// Whether anything follows an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    GoesOn,
    Ends,
}

/// Reads the events of one answer.
pub(super) trait EventReader: Send + 'static {
    /// Reads one event; what it says is appended to `deltas`.
    fn read(&mut self, event: &[u8], deltas: &mut Vec<Delta>) -> Result<Flow, Failure>;
}

/// How events are told apart.
#[derive(Debug)]
pub(super) enum Framing {
    Events(SseReader),
    Lines(LineReader),
}

impl Framing {
    pub fn events() -> Self {
        Self::Events(SseReader::default())
    }

    pub fn lines() -> Self {
        Self::Lines(LineReader::default())
    }

    fn feed(&mut self, piece: Bytes, event: impl FnMut(Bytes) -> Result<(), Failure>) -> Result<(), Failure> {
        match self {
            Self::Events(reader) => reader.feed(piece, event),
            Self::Lines(reader) => reader.feed(piece, event),
        }
    }

    /// What stands after the last line end: a last line needs none.
    fn last(&mut self) -> Option<Bytes> {
        match self {
            Self::Events(_) => None,
            Self::Lines(reader) => Some(reader.partial.split().freeze()).filter(|line| !is_blank(line)),
        }
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.trim_ascii().is_empty()
}

/// Lines of JSON, read from whatever pieces the network brings.
#[derive(Debug, Default)]
pub(super) struct LineReader {
    partial: BytesMut,
}

impl LineReader {
    fn feed(&mut self, mut piece: Bytes, mut event: impl FnMut(Bytes) -> Result<(), Failure>) -> Result<(), Failure> {
        while let Some(end) = memchr(b'\n', &piece) {
            let mut line = piece.split_to(end);
            drop(piece.split_to(1));
            if !self.partial.is_empty() {
                self.partial.extend_from_slice(&line);
                line = self.partial.split().freeze();
            }
            if line.len() > MAX_LINE_BYTES {
                return Err(too_long());
            }
            if !is_blank(&line) {
                event(line)?;
            }
        }
        self.partial.extend_from_slice(&piece);
        if self.partial.len() > MAX_LINE_BYTES { Err(too_long()) } else { Ok(()) }
    }
}

fn too_long() -> Failure {
    let message = format!("a line of the provider's stream is larger than {MAX_LINE_BYTES} bytes");
    Failure::new(FailureKind::Garbage, message)
}

struct State<S, R> {
    bytes: Pin<Box<S>>,
    framing: Framing,
    reader: R,
    /// The answer has said why it ended.
    finished: bool,
    over: bool,
}

impl<S: Stream<Item = Result<Bytes, Failure>>, R: EventReader> State<S, R> {
    /// The deltas of the next piece, and the failure after them.
    async fn next(&mut self) -> Vec<Result<Delta, Failure>> {
        let mut deltas = Vec::new();
        let outcome = match self.bytes.next().await {
            Some(Ok(piece)) => self.read(piece, &mut deltas),
            Some(Err(failure)) => Err(failure),
            None => {
                let last = self.framing.last();
                let outcome = last.map_or(Ok(()), |line| self.reader.read(&line, &mut deltas).map(|_| ()));
                self.over = true;
                outcome
            }
        };
        self.finished |= deltas.iter().any(|delta| delta.finish_reason.is_some());
        let mut group: Vec<_> = deltas.into_iter().map(Ok).collect();
        if let Err(failure) = outcome {
            self.over = true;
            group.push(Err(failure));
        } else if self.over && !self.finished {
            group.push(Err(Failure::new(FailureKind::Cut, "the provider's stream ended before its answer did")));
        }
        group
    }

    fn read(&mut self, piece: Bytes, deltas: &mut Vec<Delta>) -> Result<(), Failure> {
        let (reader, over) = (&mut self.reader, &mut self.over);
        self.framing.feed(piece, |event| {
            if !*over {
                *over = reader.read(&event, deltas)? == Flow::Ends;
            }
            Ok(())
        })
    }
}

/// The deltas of a stream. It ends after its first failure.
pub(super) fn deltas(
    bytes: impl Stream<Item = Result<Bytes, Failure>> + Send + 'static,
    framing: Framing,
    reader: impl EventReader,
) -> DeltaStream {
    let state = State { bytes: Box::pin(bytes), framing, reader, finished: false, over: false };
    let groups = futures_util::stream::unfold(state, |mut state| async move {
        if state.over {
            return None;
        }
        let group = state.next().await;
        Some((futures_util::stream::iter(group), state))
    });
    groups.flatten().boxed()
}

/// A reply or an event as what it should be.
pub(super) fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|_| Failure::new(FailureKind::Garbage, "the provider's answer is not the JSON that it should be"))
}

/// An error event inside a stream that had begun well; `error` in a form that OpenAI's clients can read.
pub(super) fn reported(message: &str, error: Option<Value>) -> Failure {
    Failure { error, ..Failure::new(FailureKind::Reported, message) }
}

/// A tool call whole, or its head in a stream, in OpenAI's form.
pub(super) fn tool_call(id: &str, name: &str, arguments: &str) -> Map<String, Value> {
    let call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    match call {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// A delta with one fragment of the tool call at `index`.
pub(super) fn call_delta(index: usize, mut fragment: Map<String, Value>) -> Delta {
    fragment.insert("index".to_owned(), index.into());
    more("tool_calls", json!([fragment]))
}

/// A delta with one further member.
pub(super) fn more(name: &str, value: Value) -> Delta {
    let members = std::iter::once((name.to_owned(), value)).collect();
    Delta { more: Some(Box::new(members)), ..Delta::default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut framing, mut found) = (Framing::lines(), Vec::new());
        for piece in pieces {
            framing
                .feed(Bytes::copy_from_slice(piece), |line| {
                    found.push(String::from_utf8_lossy(&line).into_owned());
                    Ok(())
                })
                .unwrap();
        }
        found.extend(framing.last().map(|line| String::from_utf8_lossy(&line).into_owned()));
        found
    }

    #[test]
    fn lines_come_whole_and_the_last_needs_no_end() {
        assert_eq!(lines(&[b"{\"a\"", b":1}\r\n\n{}", b"\n{\"b\":2}"]), ["{\"a\":1}\r", "{}", "{\"b\":2}"]);
    }

    #[test]
    fn an_enormous_line_is_refused() {
        let piece = Bytes::from(vec![b'x'; MAX_LINE_BYTES + 1]);
        let failure = Framing::lines().feed(piece, |_| Ok(())).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Garbage);
    }

    proptest! {
        #[test]
        fn the_cut_does_not_matter(texts in proptest::collection::vec("[^\n\r\t ]{1,9}", 0..6), cut in 0usize..60) {
            let whole = texts.iter().map(|text| format!("{text}\n")).collect::<Vec<_>>().concat();
            let cut = cut.min(whole.len());
            let (a, b) = whole.as_bytes().split_at(cut);
            prop_assert_eq!(lines(&[a, b]), lines(&[whole.as_bytes()]));
        }
    }
}
