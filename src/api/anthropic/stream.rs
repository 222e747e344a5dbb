//! A streamed answer in Anthropic's events. Each carries its name twice, since its clients skip those without `event:`.

use std::collections::HashMap;

use bytes::BytesMut;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::answer::{Stop, head, usage_object};
use crate::api::error::ApiError;
use crate::api::pieces::{Piece, Pieces};
use crate::api::streamed::{Rendering, write_named};
use crate::chat::Event;
use crate::message::{Delta, Outgoing, Usage};

/// Writes one answer.
pub(super) struct Renderer {
    /// The message as it begins; taken when it has.
    opening: Option<Outgoing>,
    pieces: Pieces,
    /// The block that is being written.
    open: Option<Open>,
    /// How many blocks there have been.
    blocks: usize,
    /// The blocks of calls, by the calls' own count.
    calls: HashMap<u64, usize>,
    stop: Stop,
    over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    Call,
}

impl Renderer {
    /// Of an answer of `model`; `ish` is the extension object of a cached one.
    pub fn new(model: &str, ish: Option<String>) -> Self {
        let mut opening = head(model);
        opening.put("content", Vec::<()>::new());
        opening.put("stop_reason", ());
        opening.put("stop_sequence", ());
        opening.put("usage", usage_object(Usage::default()));
        opening.put_some("ish", ish.and_then(|ish| RawValue::from_string(ish).ok()));
        Self {
            opening: Some(opening),
            pieces: Pieces::default(),
            open: None,
            blocks: 0,
            calls: HashMap::new(),
            stop: Stop::default(),
            over: false,
        }
    }

    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        for piece in self.pieces.read(delta) {
            self.piece(piece, out);
        }
    }

    fn piece(&mut self, piece: Piece, out: &mut BytesMut) {
        match piece {
            Piece::Text(text) => {
                self.ensure(Open::Text, || json!({"type": "text", "text": ""}), out);
                grow(self.blocks - 1, &json!({"type": "text_delta", "text": text}), out);
            }
            Piece::Reasoning(text) => {
                self.ensure(Open::Thinking, || json!({"type": "thinking", "thinking": "", "signature": ""}), out);
                grow(self.blocks - 1, &json!({"type": "thinking_delta", "thinking": text}), out);
            }
            Piece::Signed(block) => self.signed(block, out),
            Piece::Call { index, id, name } => {
                self.stop.calls = true;
                self.begin(Open::Call, &json!({"type": "tool_use", "id": id, "name": name, "input": {}}), out);
                self.calls.insert(index, self.blocks - 1);
            }
            Piece::Arguments { index, text } => {
                if let Some(block) = self.calls.get(&index).copied() {
                    grow(block, &json!({"type": "input_json_delta", "partial_json": text}), out);
                }
            }
            Piece::StopSequence(text) => self.stop.sequence = Some(text),
            Piece::Finish(reason) => self.stop.reason = Some(reason),
        }
    }

    /// A signature ends the block whose text has come; a block without text of its own comes whole.
    fn signed(&mut self, mut block: Map<String, Value>, out: &mut BytesMut) {
        if block.get("type").is_none_or(|kind| kind != "thinking") {
            self.begin(Open::Thinking, &Value::Object(block), out);
            return self.close(out);
        }
        let signature = block.remove("signature").unwrap_or_default();
        self.ensure(Open::Thinking, || json!({"type": "thinking", "thinking": "", "signature": ""}), out);
        grow(self.blocks - 1, &json!({"type": "signature_delta", "signature": signature}), out);
        self.close(out);
    }

    fn ensure(&mut self, kind: Open, block: impl FnOnce() -> Value, out: &mut BytesMut) {
        if self.open != Some(kind) {
            self.begin(kind, &block(), out);
        }
    }

    fn begin(&mut self, kind: Open, block: &Value, out: &mut BytesMut) {
        self.close(out);
        let event = json!({"type": "content_block_start", "index": self.blocks, "content_block": block});
        write_named(out, "content_block_start", &event);
        self.open = Some(kind);
        self.blocks += 1;
    }

    fn close(&mut self, out: &mut BytesMut) {
        if self.open.take().is_some() {
            write_named(out, "content_block_stop", &json!({"type": "content_block_stop", "index": self.blocks - 1}));
        }
    }

    fn end(&mut self, usage: Usage, out: &mut BytesMut) {
        self.close(out);
        let delta = json!({"stop_reason": self.stop.word(), "stop_sequence": self.stop.sequence});
        let event = json!({"type": "message_delta", "delta": delta, "usage": usage_object(usage)});
        write_named(out, "message_delta", &event);
        write_named(out, "message_stop", &json!({"type": "message_stop"}));
        self.over = true;
    }
}

fn grow(block: usize, delta: &Value, out: &mut BytesMut) {
    let event = json!({"type": "content_block_delta", "index": block, "delta": delta});
    write_named(out, "content_block_delta", &event);
}

impl Rendering for Renderer {
    const SILENCE: &'static [u8] = b"event: ping\ndata: {\"type\":\"ping\"}\n\n";

    fn render(&mut self, event: Event, out: &mut BytesMut) {
        if let Some(message) = self.opening.take() {
            let mut event = Outgoing::default();
            event.put("type", "message_start");
            event.put("message", message);
            write_named(out, "message_start", &event);
        }
        match event {
            Event::Delta(delta) => self.delta(&delta, out),
            Event::End { finish_reason, usage, .. } => {
                self.stop.reason = self.stop.reason.take().or(finish_reason);
                self.end(usage.unwrap_or_default(), out);
            }
            Event::Failed(failure) => {
                write_named(out, "error", &ApiError::from(failure).anthropic());
                self.over = true;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.over
    }
}
