//! A streamed answer in Ollama's lines of JSON. A call comes whole, in a line of its own; nothing may be said in a silence,
//! since its clients read every line.

use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use serde_json::json;

use super::answer::{Call, Finish, line, message};
use crate::api::error::ApiError;
use crate::api::pieces::{Piece, Pieces};
use crate::api::streamed::Rendering;
use crate::chat::{ChatError, Event};
use crate::message::{Delta, FinishReason, Outgoing, Usage};

/// Writes one answer.
pub(super) struct Renderer {
    model: String,
    /// The extension object of a cached answer.
    ish: Option<String>,
    started: Instant,
    /// When the first piece came.
    first: Option<Duration>,
    pieces: Pieces,
    /// Calls that are not said yet, by the calls' own count.
    calls: Vec<(u64, Call)>,
    reason: Option<FinishReason>,
    over: bool,
}

impl Renderer {
    /// Of an answer of `model` that was asked for at `started`.
    pub fn new(model: &str, ish: Option<String>, started: Instant) -> Self {
        let (model, pieces) = (model.to_owned(), Pieces::default());
        Self { model, ish, started, first: None, pieces, calls: Vec::new(), reason: None, over: false }
    }

    fn say(&self, message: Outgoing, out: &mut BytesMut) {
        let mut line = line(&self.model, message);
        line.put("done", false);
        write_line(&line, out);
    }

    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) -> Result<(), ChatError> {
        for piece in self.pieces.read(delta) {
            match piece {
                Piece::Text(text) => self.say(message(&text, "", Vec::new()), out),
                Piece::Reasoning(text) => self.say(message("", &text, Vec::new()), out),
                Piece::Call { index, id, name } => {
                    self.calls.push((index, Call { id, name, arguments: String::new() }));
                }
                Piece::Arguments { index, text } => {
                    if let Some((_, call)) = self.calls.iter_mut().find(|(known, _)| *known == index) {
                        call.arguments.push_str(&text);
                    }
                }
                Piece::Finish(reason) => {
                    self.reason = Some(reason);
                    self.call(out)?;
                }
                Piece::Signed(_) | Piece::StopSequence(_) => {}
            }
        }
        Ok(())
    }

    /// Says the calls, whose arguments have all come.
    fn call(&mut self, out: &mut BytesMut) -> Result<(), ChatError> {
        for (_, call) in std::mem::take(&mut self.calls) {
            self.say(message("", "", vec![call.written()?]), out);
        }
        Ok(())
    }

    fn end(&mut self, usage: Usage, out: &mut BytesMut) -> Result<(), ChatError> {
        self.call(out)?;
        let total = self.started.elapsed();
        let finish = Finish { reason: self.reason.take(), usage, first: self.first.unwrap_or(total), total };
        let mut line = line(&self.model, message("", "", Vec::new()));
        finish.end(&mut line, self.ish.take());
        write_line(&line, out);
        self.over = true;
        Ok(())
    }

    fn fail(&mut self, error: impl Into<ApiError>, out: &mut BytesMut) {
        write_line(&json!({"error": error.into().message()}), out);
        self.over = true;
    }
}

fn write_line(line: &impl serde::Serialize, out: &mut BytesMut) {
    out.put_slice(&serde_json::to_vec(line).expect("invariant: what we build is always JSON"));
    out.put_u8(b'\n');
}

impl Rendering for Renderer {
    const SILENCE: &'static [u8] = b"";

    /// Lines of JSON have no comments: it stands in the last one.
    fn cost(&mut self, cost_usd: f64, _out: &mut BytesMut) {
        self.ish = Some(json!({"cost_usd": cost_usd}).to_string());
    }

    fn render(&mut self, event: Event, out: &mut BytesMut) {
        self.first.get_or_insert_with(|| self.started.elapsed());
        let said = match event {
            Event::Delta(delta) => self.delta(&delta, out),
            Event::End { finish_reason, usage, .. } => {
                self.reason = self.reason.take().or(finish_reason);
                self.end(usage.unwrap_or_default(), out)
            }
            Event::Failed(failure) => Err(failure.into()),
        };
        if let Err(error) = said {
            self.fail(error, out);
        }
    }

    fn is_over(&self) -> bool {
        self.over
    }
}
