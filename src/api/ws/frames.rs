//! The socket's frames, as docs/websocket.md and its schema describe them: here what the server says, in `client` what it
//! is told.

mod client;

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::message::Usage;
use crate::streams::{Piece, Subscription, Terminal};
pub(in crate::api) use client::{
    BadFrame, ClientFrame, HelloFrame, Nonce, RegenerateFrame, ResumeFrame, SendFrame, is_request_id,
};

/// What the server says.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(in crate::api) enum Frame {
    Welcome {
        protocol: u64,
        connection: Uuid,
        tenant: String,
        heartbeat_ms: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<String>,
        limits: Limits,
        models: Vec<String>,
        default_model: String,
    },
    Ack {
        id: String,
        conversation: Uuid,
        message: Uuid,
        reply: Uuid,
        stream: Uuid,
        epoch: u32,
        duplicate: bool,
    },
    Status {
        stream: Uuid,
        epoch: u32,
        kind: &'static str,
        cache: Value,
    },
    Delta {
        stream: Uuid,
        epoch: u32,
        from: u64,
        seq: u64,
        text: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        reasoning: String,
    },
    Snapshot {
        stream: Uuid,
        epoch: u32,
        seq: u64,
        text: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        reasoning: String,
    },
    Done {
        stream: Uuid,
        epoch: u32,
        seq: u64,
        message: Uuid,
        finish_reason: Option<String>,
        usage: Option<Usage>,
        cache: Value,
        model: String,
        elapsed_ms: u64,
        text_blake3: String,
    },
    Cancelled {
        stream: Uuid,
        epoch: u32,
        seq: u64,
        message: Uuid,
        text_blake3: String,
    },
    Error {
        code: String,
        message: String,
        retryable: bool,
        partial: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        param: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        stream: Option<Uuid>,
        #[serde(skip_serializing_if = "Option::is_none")]
        epoch: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reply: Option<Uuid>,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<String>,
    },
    Gone {
        stream: Uuid,
    },
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        nonce: Option<Nonce>,
    },
    Refreshed {
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<String>,
    },
    Notice {
        kind: &'static str,
        expires_at: String,
        in_ms: u64,
    },
    Draining {
        reconnect_after_ms: u64,
        deadline_ms: u64,
    },
}

#[derive(Debug, Serialize)]
pub(in crate::api) struct Limits {
    pub frame_bytes: usize,
    pub streams: usize,
    pub frames_per_second: u32,
}

impl Frame {
    pub(in crate::api) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("invariant: frames hold nothing that JSON cannot")
    }
}

/// A piece of an answer as a frame.
pub(in crate::api) fn frame_of(subscription: &Subscription, piece: Piece) -> Frame {
    let (begun, epoch) = (subscription.stream.begun, subscription.epoch());
    let stream = begun.stream;
    match piece {
        Piece::Origin(cache) => {
            let upstream = cache.get("status").and_then(Value::as_str) != Some("hit");
            Frame::Status { stream, epoch, kind: if upstream { "upstream" } else { "cache" }, cache }
        }
        Piece::Restart(cache) => Frame::Status { stream, epoch, kind: "fallback", cache },
        Piece::Snapshot { seq, text, reasoning } => Frame::Snapshot { stream, epoch, seq, text, reasoning },
        Piece::Delta { from, seq, text, reasoning } => Frame::Delta { stream, epoch, from, seq, text, reasoning },
        Piece::End { seq, terminal } => terminal_frame(stream, epoch, seq, begun.reply, terminal),
    }
}

/// The one frame that ends an answer.
pub(in crate::api) fn terminal_frame(stream: Uuid, epoch: u32, seq: u64, message: Uuid, terminal: Terminal) -> Frame {
    match terminal {
        Terminal::Done { finish_reason, usage, cache, model, elapsed_ms, text_blake3 } => {
            Frame::Done { stream, epoch, seq, message, finish_reason, usage, cache, model, elapsed_ms, text_blake3 }
        }
        Terminal::Cancelled { text_blake3 } => Frame::Cancelled { stream, epoch, seq, message, text_blake3 },
        Terminal::Error(facts) => Frame::Error {
            code: facts.code,
            message: facts.message,
            retryable: facts.retryable,
            partial: facts.partial,
            param: None,
            id: None,
            stream: Some(stream),
            epoch: Some(epoch),
            seq: Some(seq),
            reply: Some(message),
            retry_after_ms: facts.retry_after_ms,
            request_id: None,
        },
    }
}
