//! The socket's frames, as docs/websocket.md and its schema describe them.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::api::whole::whole;
use crate::cache::CacheControl;
use crate::conversations::{NewTurn, Parent};
use crate::message::{InvalidRequest, Usage};
use crate::streams::{Again, Piece, Question, Subscription, Terminal};

/// What a client says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(in crate::api) enum ClientFrame {
    Hello(HelloFrame),
    Send(SendFrame),
    Regenerate(RegenerateFrame),
    Cancel(CancelFrame),
    Resume(ResumeFrame),
    Credit(CreditFrame),
    Refresh(RefreshFrame),
    Ping(PingFrame),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct HelloFrame {
    pub protocol: u32,
    pub token: Option<String>,
    pub credit: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct SendFrame {
    pub id: String,
    content: String,
    conversation: Option<Uuid>,
    #[serde(default, deserialize_with = "parent")]
    parent_id: Parent,
    model: Option<String>,
    system: Option<String>,
    cache: Option<Value>,
    params: Option<Params>,
}

/// The parameters that a stored question may carry.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct RegenerateFrame {
    pub id: String,
    message: Uuid,
    model: Option<String>,
    cache: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct CancelFrame {
    pub stream: Uuid,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ResumeFrame {
    pub stream: Uuid,
    pub epoch: u32,
    pub after: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct CreditFrame {
    pub stream: Uuid,
    pub deltas: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct RefreshFrame {
    pub token: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct PingFrame {
    pub nonce: Option<Nonce>,
}

/// What a client tells its pings apart by; it comes back as it was.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(in crate::api) enum Nonce {
    Text(String),
    Number(i64),
}

impl SendFrame {
    /// The question, checked.
    pub(in crate::api) fn into_question(self, default_model: &str) -> Result<Question, InvalidRequest> {
        check_id(&self.id)?;
        if self.conversation.is_none() && self.parent_id != Parent::Selected {
            let fault = "`parent_id` needs the `conversation` that it belongs to";
            return Err(InvalidRequest::of("parent_id", fault));
        }
        let params = match self.params.map(serde_json::to_value) {
            Some(Ok(Value::Object(params))) => params,
            _ => Map::new(),
        };
        let turn = NewTurn {
            conversation: self.conversation,
            parent: self.parent_id,
            client_id: Some(self.id),
            content: self.content,
            system: self.system.filter(|system| !system.is_empty()),
            model: self.model.unwrap_or_else(|| default_model.to_owned()),
        };
        Ok(Question { turn, params, control: control(self.cache.as_ref(), "{}")? })
    }
}

impl RegenerateFrame {
    /// The wish, checked; past the cache unless it says otherwise.
    pub(in crate::api) fn into_again(self, default_model: &str) -> Result<Again, InvalidRequest> {
        check_id(&self.id)?;
        let control = control(self.cache.as_ref(), r#"{"mode":"refresh"}"#)?;
        Ok(Again {
            message: self.message,
            client_id: Some(self.id),
            model: self.model.unwrap_or_else(|| default_model.to_owned()),
            control,
        })
    }
}

/// Reads `parent_id` where it is given: `null` is the start of the conversation.
fn parent<'de, D: Deserializer<'de>>(given: D) -> Result<Parent, D::Error> {
    Ok(Option::<Uuid>::deserialize(given)?.map_or(Parent::Start, Parent::Message))
}

/// Whether a client may name a request so.
pub(in crate::api) fn is_request_id(id: &str) -> bool {
    (1..=64).contains(&id.chars().count())
}

fn check_id(id: &str) -> Result<(), InvalidRequest> {
    if is_request_id(id) { Ok(()) } else { Err(InvalidRequest::of("id", "`id` takes 1 to 64 characters")) }
}

fn control(wish: Option<&Value>, default: &str) -> Result<CacheControl, InvalidRequest> {
    match wish {
        Some(wish) if !wish.is_null() => CacheControl::of_json(&wish.to_string()),
        _ => CacheControl::of_json(default),
    }
}

/// What the server says.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(in crate::api) enum Frame {
    Welcome {
        protocol: u32,
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
