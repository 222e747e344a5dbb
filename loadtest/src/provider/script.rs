//! A reply as a list of steps: what to send, when to wait, where to break.
//!
//! Everything that goes wrong on purpose is a step here, so [`super::body`] only has to play them.

use std::time::Duration;

use bytes::Bytes;

use super::answer::Answer;
use super::behaviour::{Behaviour, Fault, Quirk};
use super::dialect::{Dialect, Event, Events};

/// One thing to do while writing a reply.
#[derive(Debug)]
pub(super) enum Step {
    /// Hand these bytes to the HTTP layer; they hold this many content tokens.
    Send { bytes: Bytes, tokens: usize },
    /// Let the HTTP layer write what it has before going on.
    Flush,
    /// Wait this long.
    Sleep(Duration),
    /// Wait for a release.
    Gate,
    /// Wait for ever.
    Hang,
    /// Break the connection off.
    Break,
}

/// The steps of a body.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) steps: Vec<Step>,
    /// The `content-length` to announce; `None` is a chunked body.
    pub(super) length: Option<usize>,
}

impl Script {
    /// A plain body, sent in one piece.
    pub(super) fn whole(body: Vec<u8>, tokens: usize) -> Self {
        Self { length: Some(body.len()), steps: vec![send(body, tokens)] }
    }

    /// Bytes that are neither JSON nor SSE.
    pub(super) fn garbage() -> Self {
        Self::whole(b"\x00\x01<html>\xff\xfe }{ not what you asked for\r\n".to_vec(), 0)
    }
}

/// What to wait for before the headers of a JSON reply: all delays of a stream together.
pub(super) fn before_json(behaviour: &Behaviour) -> Vec<Step> {
    let tokens = u32::try_from(behaviour.tokens.saturating_sub(1)).unwrap_or(u32::MAX);
    let mut steps = Vec::new();
    pause(&mut steps, behaviour.first_token + behaviour.per_token.saturating_mul(tokens));
    if behaviour.hold_after.is_some() {
        steps.push(Step::Gate);
    }
    steps
}

/// The answer as one JSON body.
pub(super) fn json(dialect: Dialect, answer: &Answer, behaviour: &Behaviour) -> Script {
    let mut body = dialect.whole(answer, behaviour.fault == Some(Fault::EmptyChoices));
    let tokens = answer.choices.iter().map(|choice| choice.content.len()).sum();
    let length = Some(body.len());
    let half = body.len() / 2;
    match behaviour.fault {
        Some(Fault::Hang { .. }) => {
            body.truncate(half);
            Script { steps: vec![send(body, 0), Step::Hang], length }
        }
        Some(Fault::Cut { .. }) => {
            body.truncate(half);
            Script { steps: vec![send(body, 0), Step::Flush, Step::Break], length }
        }
        Some(Fault::EarlyEnd { .. }) => {
            body.truncate(half);
            Script { steps: vec![send(body, 0)], length: None }
        }
        Some(Fault::InvalidUtf8 { .. }) => {
            break_utf8(&mut body, dialect.text_marker());
            Script::whole(body, tokens)
        }
        Some(Fault::SlowLoris { every }) => {
            Script { steps: bytewise(vec![send(body, tokens)], &Step::Sleep(every)), length }
        }
        _ => Script::whole(body, tokens),
    }
}

/// The answer as a stream of events.
pub(super) fn stream(dialect: Dialect, answer: &Answer, behaviour: &Behaviour, include_usage: bool) -> Script {
    let empty = behaviour.fault == Some(Fault::EmptyChoices);
    let weaver = Weaver { dialect, behaviour, steps: Vec::new() };
    let mut steps = weaver.weave(dialect.events(answer, include_usage, empty));
    if behaviour.has(Quirk::Batched) {
        steps = batched(steps);
    }
    if behaviour.has(Quirk::Bytewise) {
        steps = bytewise(steps, &Step::Flush);
    }
    if let Some(Fault::SlowLoris { every }) = behaviour.fault {
        steps = bytewise(steps, &Step::Sleep(every));
    }
    Script { steps, length: None }
}

/// Puts the events of a stream and what happens between them in order.
struct Weaver<'a> {
    dialect: Dialect,
    behaviour: &'a Behaviour,
    steps: Vec<Step>,
}

impl Weaver<'_> {
    fn weave(mut self, events: Events) -> Vec<Step> {
        pause(&mut self.steps, self.behaviour.first_token);
        self.events(&events.opening);
        let longest = events.content.len();
        let mut content = events.content.into_iter();
        for position in 0..=longest {
            if self.behaviour.hold_after.is_some_and(|hold| hold.min(longest) == position) {
                self.steps.push(Step::Gate);
            }
            if self.strike(position, longest, &events.error) {
                return self.steps;
            }
            if position > 0 && position < longest {
                pause(&mut self.steps, self.behaviour.per_token);
            }
            for token in content.next().unwrap_or_default() {
                self.token(token, position);
            }
        }
        self.events(&events.closing);
        if let Some(done) = events.done.filter(|_| self.behaviour.fault != Some(Fault::MissingDone)) {
            self.event(&done, 0);
        }
        self.steps
    }

    fn token(&mut self, mut event: Event, position: usize) {
        if self.behaviour.fault == Some(Fault::InvalidUtf8 { after: position }) {
            break_utf8(&mut event.data, self.dialect.text_marker());
        }
        self.event(&event, 1);
    }

    /// Lets the fault happen if this is its place; true if the stream ends by it.
    fn strike(&mut self, position: usize, longest: usize, error: &Event) -> bool {
        let due = |after: usize| after.min(longest) == position;
        match self.behaviour.fault {
            Some(Fault::Hang { after }) if due(after) => self.steps.push(Step::Hang),
            Some(Fault::EarlyEnd { after }) if due(after) => {}
            Some(Fault::Cut { after }) if due(after) => {
                let half = Event { name: None, data: br#"{"id":"chatcmpl-"#.to_vec() };
                let half_event = self.framed(&half).trim_ascii_end().to_vec();
                self.steps.extend([send(half_event, 0), Step::Flush, Step::Break]);
            }
            Some(Fault::ErrorEvent { after }) if due(after) => self.event(error, 0),
            _ => return false,
        }
        true
    }

    fn events(&mut self, events: &[Event]) {
        for event in events {
            self.event(event, 0);
        }
    }

    fn event(&mut self, event: &Event, tokens: usize) {
        let framed = self.framed(event);
        self.steps.push(send(framed, tokens));
    }

    /// The event's bytes: an SSE event, or a line. Its data holds no line end.
    fn framed(&self, event: &Event) -> Vec<u8> {
        let line_end: &[u8] = if self.behaviour.has(Quirk::Crlf) { b"\r\n" } else { b"\n" };
        let data = event.data.as_slice();
        if self.dialect == Dialect::Ollama {
            return [data, line_end].concat();
        }
        let field: &[u8] = if self.behaviour.has(Quirk::NoSpace) { b"data:" } else { b"data: " };
        let mut framed = Vec::with_capacity(data.len() + 64);
        if self.behaviour.has(Quirk::Comments) {
            framed.extend([b": keep-alive", line_end, line_end].concat());
        }
        if let Some(name) = event.name {
            framed.extend([b"event: ", name.as_bytes(), line_end].concat());
        }
        framed.extend([field, data, line_end, line_end].concat());
        framed
    }
}

fn send(bytes: Vec<u8>, tokens: usize) -> Step {
    Step::Send { bytes: bytes.into(), tokens }
}

fn pause(steps: &mut Vec<Step>, duration: Duration) {
    if !duration.is_zero() {
        steps.push(Step::Sleep(duration));
    }
}

/// Overwrites the first byte after `marker` with one that UTF-8 never contains.
fn break_utf8(body: &mut [u8], marker: &[u8]) {
    let found = body.windows(marker.len()).position(|window| window == marker);
    if let Some(byte) = found.and_then(|at| body.get_mut(at + marker.len())) {
        *byte = 0xff;
    }
}

/// Joins neighbouring sends into one.
fn batched(steps: Vec<Step>) -> Vec<Step> {
    let mut joined: Vec<Step> = Vec::new();
    for step in steps {
        match (joined.last_mut(), step) {
            (Some(Step::Send { bytes: before, tokens: counted }), Step::Send { bytes, tokens }) => {
                *before = [before.as_ref(), bytes.as_ref()].concat().into();
                *counted += tokens;
            }
            (_, step) => joined.push(step),
        }
    }
    joined
}

/// Splits every send into single bytes with `between` after each; the tokens count with the last.
fn bytewise(steps: Vec<Step>, between: &Step) -> Vec<Step> {
    let mut single = Vec::new();
    for step in steps {
        let Step::Send { bytes, tokens } = step else {
            single.push(step);
            continue;
        };
        for at in 0..bytes.len() {
            let counted = if at + 1 == bytes.len() { tokens } else { 0 };
            single.push(Step::Send { bytes: bytes.slice(at..=at), tokens: counted });
            single.push(match between {
                Step::Sleep(every) => Step::Sleep(*every),
                _ => Step::Flush,
            });
        }
    }
    single
}
