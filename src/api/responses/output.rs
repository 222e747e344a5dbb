//! An answer as a Response: its items grow piece by piece, each step an event, and a whole answer is the last of them.

use bytes::BytesMut;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::api::error::ApiError;
use crate::api::openai::now_s;
use crate::api::pieces::{Piece, Pieces};
use crate::api::streamed::{Rendering, write_named};
use crate::chat::Event;
use crate::clock::new_id;
use crate::message::{Completion, FinishReason, Outgoing, Usage};

/// One answer.
pub(super) struct Output {
    id: String,
    created: i64,
    model: String,
    /// What the request said.
    echo: Outgoing,
    /// The extension object of a cached answer.
    ish: Option<Box<RawValue>>,
    pieces: Pieces,
    items: Vec<Item>,
    reason: Option<FinishReason>,
    /// Events so far.
    sequence: u64,
    begun: bool,
    over: bool,
}

/// One item of the output, in its place.
struct Item {
    id: String,
    kind: Kind,
    /// The text, or the arguments.
    text: String,
    /// Of a finished item.
    status: Option<&'static str>,
}

#[derive(PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
    Call { index: u64, call_id: String, name: String },
}

impl Item {
    fn json(&self) -> Value {
        let status = self.status.unwrap_or("in_progress");
        let is_begun = self.status.is_some();
        match &self.kind {
            Kind::Reasoning => {
                let content = is_begun.then(|| json!({"type": "reasoning_text", "text": self.text}));
                let content: Vec<Value> = content.into_iter().collect();
                json!({"id": self.id, "type": "reasoning", "summary": [], "content": content, "status": status})
            }
            Kind::Message => {
                let content: Vec<Value> = is_begun.then(|| self.part()).into_iter().collect();
                json!({"id": self.id, "type": "message", "role": "assistant", "content": content, "status": status})
            }
            Kind::Call { call_id, name, .. } => json!({
                "id": self.id, "type": "function_call", "call_id": call_id, "name": name, "arguments": self.text, "status": status,
            }),
        }
    }

    /// Its one part.
    fn part(&self) -> Value {
        match self.kind {
            Kind::Reasoning => json!({"type": "reasoning_text", "text": self.text}),
            _ => json!({"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}),
        }
    }
}

impl Output {
    /// Of an answer of `model`.
    pub fn new(model: &str, echo: Outgoing, ish: Option<String>) -> Self {
        Self {
            id: format!("resp_{}", new_id().simple()),
            created: now_s(),
            model: model.to_owned(),
            echo,
            ish: ish.and_then(|ish| RawValue::from_string(ish).ok()),
            pieces: Pieces::default(),
            items: Vec::new(),
            reason: None,
            sequence: 0,
            begun: false,
            over: false,
        }
    }

    /// The whole answer.
    pub fn whole(mut self, completion: &Completion, usage: Usage) -> Outgoing {
        let mut unheard = BytesMut::new();
        for piece in Pieces::of(completion) {
            self.piece(piece, &mut unheard);
        }
        self.close(&mut unheard);
        self.response(self.status(), Some(usage), None)
    }

    fn status(&self) -> &'static str {
        match self.reason {
            Some(FinishReason::Length | FinishReason::ContentFilter) => "incomplete",
            _ => "completed",
        }
    }

    fn response(&self, status: &str, usage: Option<Usage>, error: Option<&Value>) -> Outgoing {
        let incomplete = match self.reason {
            Some(FinishReason::Length) if status == "incomplete" => Some("max_output_tokens"),
            Some(FinishReason::ContentFilter) if status == "incomplete" => Some("content_filter"),
            _ => None,
        };
        let mut out = self.echo.clone();
        out.put("id", &self.id);
        out.put("object", "response");
        out.put("created_at", self.created);
        out.put("status", status);
        out.put("background", false);
        out.put("error", error);
        out.put("incomplete_details", incomplete.map(|reason| json!({"reason": reason})));
        out.put("model", &self.model);
        out.put("output", self.items.iter().map(Item::json).collect::<Vec<_>>());
        out.put("previous_response_id", ());
        // Whatever was asked for: nothing is kept that could be asked for by its id.
        out.put("store", false);
        out.put("usage", usage.map(usage_object));
        out.put_some("ish", self.ish.as_ref());
        out
    }

    fn emit(&mut self, name: &str, fill: impl FnOnce(&Self, &mut Outgoing), out: &mut BytesMut) {
        let mut event = Outgoing::default();
        event.put("type", name);
        event.put("sequence_number", self.sequence);
        fill(self, &mut event);
        self.sequence += 1;
        write_named(out, name, &event);
    }

    /// An event about the response itself.
    fn state(&mut self, name: &str, status: &str, usage: Option<Usage>, error: Option<&Value>, out: &mut BytesMut) {
        self.emit(name, |output, event| event.put("response", output.response(status, usage, error)), out);
    }

    /// An event about the item at `place`, with its part where it has any.
    fn tell(&mut self, place: usize, name: &str, member: (&str, Value), out: &mut BytesMut) {
        let told = |output: &Self, event: &mut Outgoing| {
            event.put("item_id", &output.items[place].id);
            event.put("output_index", place);
            if !matches!(output.items[place].kind, Kind::Call { .. }) {
                event.put("content_index", 0);
            }
            event.put(member.0, member.1);
            if name.starts_with("response.output_text.") {
                event.put("logprobs", Vec::<()>::new());
            }
        };
        self.emit(name, told, out);
    }

    fn piece(&mut self, piece: Piece, out: &mut BytesMut) {
        match piece {
            Piece::Text(text) => {
                let place = self.place_of(Kind::Message, "msg", out);
                self.grow(place, &text, out);
            }
            Piece::Reasoning(text) => {
                let place = self.place_of(Kind::Reasoning, "rs", out);
                self.grow(place, &text, out);
            }
            Piece::Call { index, id, name } => {
                self.begin(Kind::Call { index, call_id: id, name }, "fc", out);
            }
            Piece::Arguments { index: wanted, text } => {
                let is_wanted = |item: &Item| matches!(item.kind, Kind::Call { index, .. } if index == wanted);
                if let Some(place) = self.items.iter().position(is_wanted) {
                    self.grow(place, &text, out);
                }
            }
            Piece::Finish(reason) => self.reason = Some(reason),
            // Signatures are Anthropic's, and which stop sequence it was has no place here.
            Piece::Signed(_) | Piece::StopSequence(_) => {}
        }
    }

    /// The item that text of this kind belongs to: the last, or a new one.
    fn place_of(&mut self, kind: Kind, prefix: &str, out: &mut BytesMut) -> usize {
        match self.items.last() {
            Some(last) if last.kind == kind => self.items.len() - 1,
            _ => self.begin(kind, prefix, out),
        }
    }

    fn begin(&mut self, kind: Kind, prefix: &str, out: &mut BytesMut) -> usize {
        // Text ends where something else begins; calls may grow side by side.
        if let Some(place) = self.items.len().checked_sub(1)
            && !matches!(self.items[place].kind, Kind::Call { .. })
        {
            self.finish(place, "completed", out);
        }
        let place = self.items.len();
        let id = format!("{prefix}_{}", new_id().simple());
        self.items.push(Item { id, kind, text: String::new(), status: None });
        let added = |output: &Self, event: &mut Outgoing| {
            event.put("output_index", place);
            event.put("item", output.items[place].json());
        };
        self.emit("response.output_item.added", added, out);
        if !matches!(self.items[place].kind, Kind::Call { .. }) {
            let part = self.items[place].part();
            self.tell(place, "response.content_part.added", ("part", part), out);
        }
        place
    }

    fn grow(&mut self, place: usize, text: &str, out: &mut BytesMut) {
        self.items[place].text.push_str(text);
        let name = match self.items[place].kind {
            Kind::Reasoning => "response.reasoning_text.delta",
            Kind::Message => "response.output_text.delta",
            Kind::Call { .. } => "response.function_call_arguments.delta",
        };
        self.tell(place, name, ("delta", text.into()), out);
    }

    /// Ends the item, unless it has ended.
    fn finish(&mut self, place: usize, status: &'static str, out: &mut BytesMut) {
        if self.items[place].status.is_some() {
            return;
        }
        let text: Value = self.items[place].text.as_str().into();
        match self.items[place].kind {
            Kind::Reasoning => self.tell(place, "response.reasoning_text.done", ("text", text), out),
            Kind::Message => self.tell(place, "response.output_text.done", ("text", text), out),
            Kind::Call { .. } => {
                self.tell(place, "response.function_call_arguments.done", ("arguments", text), out);
            }
        }
        if !matches!(self.items[place].kind, Kind::Call { .. }) {
            let part = self.items[place].part();
            self.tell(place, "response.content_part.done", ("part", part), out);
        }
        self.items[place].status = Some(status);
        let done = |output: &Self, event: &mut Outgoing| {
            event.put("output_index", place);
            event.put("item", output.items[place].json());
        };
        self.emit("response.output_item.done", done, out);
    }

    /// Ends what has not ended.
    fn close(&mut self, out: &mut BytesMut) {
        let status = self.status();
        for place in 0..self.items.len() {
            self.finish(place, status, out);
        }
    }
}

impl Rendering for Output {
    const SILENCE: &'static [u8] = b": keep-alive\n\n";

    fn render(&mut self, event: Event, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.begun, true) {
            self.state("response.created", "in_progress", None, None, out);
            self.state("response.in_progress", "in_progress", None, None, out);
        }
        match event {
            Event::Delta(delta) => {
                for piece in self.pieces.read(&delta) {
                    self.piece(piece, out);
                }
            }
            Event::End { finish_reason, usage, .. } => {
                self.reason = self.reason.take().or(finish_reason);
                self.close(out);
                let status = self.status();
                self.state(&format!("response.{status}"), status, Some(usage.unwrap_or_default()), None, out);
                self.over = true;
            }
            Event::Failed(failure) => {
                let error = ApiError::from(failure);
                let code = if error.code() == "rate_limit_exceeded" { "rate_limit_exceeded" } else { "server_error" };
                let error = json!({"code": code, "message": error.message()});
                self.state("response.failed", "failed", None, Some(&error), out);
                self.over = true;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.over
    }
}

fn usage_object(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    })
}
