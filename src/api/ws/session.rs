//! One greeted socket: reads its frames, acts on them, and forwards the answers that it listens to.

use std::collections::HashMap;

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use super::frames::{ClientFrame, Frame, RegenerateFrame, ResumeFrame, SendFrame, frame_of, terminal_frame};
use super::writer::Frames;
use super::{Close, MAX_STREAMS, close_of, refusal};
use crate::api::Api;
use crate::api::error::ApiError;
use crate::api::peer::ClientAddress;
use crate::conversations::BegunTurn;
use crate::keys::Principal;
use crate::limits::Pass;
use crate::message::InvalidRequest;
use crate::streams::{Piece, Subscription, stored_terminal};

/// Who speaks on a socket, and from where.
pub(super) struct Asker {
    pub principal: Principal,
    pub client: Option<ClientAddress>,
}

pub(super) struct Session {
    api: Api,
    principal: Principal,
    client: Option<ClientAddress>,
    /// Deltas that may be sent unasked on each stream; `None`: no limit.
    credit: Option<u64>,
    request_id: String,
    frames: Frames,
    /// The answers listened to, with the deltas granted so far.
    forwards: HashMap<Uuid, Forward>,
}

struct Forward {
    task: JoinHandle<()>,
    granted: watch::Sender<u64>,
}

/// Whether the socket goes on.
type Flow = Result<(), Close>;

impl Session {
    pub(super) fn new(api: Api, asker: Asker, credit: Option<u64>, request_id: String, frames: Frames) -> Self {
        let Asker { principal, client } = asker;
        Self { api, principal, client, credit, request_id, frames, forwards: HashMap::new() }
    }

    /// Reads until the socket ends, and says how it is to be closed. In a drain it goes on until the answers that it
    /// listens to have ended; new questions are refused meanwhile.
    pub(super) async fn read(mut self, mut stream: SplitStream<WebSocket>) -> Close {
        let streams = self.api.0.streams.clone();
        let silence = self.api.0.facts.heartbeat.silence();
        // Where nobody reads, the writer ends and has closed the socket; what the peer still says is of no use then.
        let frames = self.frames.clone();
        let received = self.api.0.metrics.ws_frames.with_label_values(&["in"]);
        let mut told = false;
        loop {
            let message = tokio::select! {
                message = timeout(silence, stream.next()) => message,
                () = frames.closed() => return Close::Bye,
                () = streams.draining(), if !told => {
                    told = true;
                    if self.say(Frame::Draining { reconnect_after_ms: 1_000 }).await.is_err() {
                        return Close::Bye;
                    }
                    continue;
                }
                () = finished(&mut self.forwards), if told => return Close::GoingAway,
            };
            let flow = match message {
                Err(_) => return Close::Slow,
                Ok(None | Some(Ok(Message::Close(_)))) => return Close::Bye,
                Ok(Some(Err(error))) => return close_of(&error),
                Ok(Some(Ok(Message::Binary(_)))) => return Close::Binary,
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => Ok(()),
                Ok(Some(Ok(Message::Text(text)))) => {
                    received.inc();
                    self.take(text.as_str()).await
                }
            };
            if let Err(close) = flow {
                return close;
            }
        }
    }

    async fn take(&mut self, text: &str) -> Flow {
        let frame: ClientFrame = match serde_json::from_str(text) {
            Ok(frame) => frame,
            Err(error) => return self.malformed(text, &error).await,
        };
        match frame {
            ClientFrame::Hello(_) => Err(Close::Protocol("hello comes once")),
            ClientFrame::Send(frame) => self.send(frame).await,
            ClientFrame::Regenerate(frame) => self.regenerate(frame).await,
            ClientFrame::Cancel(frame) => {
                self.api.0.streams.cancel(&self.principal.tenant, frame.stream);
                Ok(())
            }
            ClientFrame::Resume(frame) => self.resume(frame).await,
            ClientFrame::Credit(frame) => {
                if let Some(forward) = self.forwards.get(&frame.stream) {
                    forward.granted.send_modify(|granted| *granted = granted.saturating_add(frame.deltas));
                }
                Ok(())
            }
            ClientFrame::Ping(frame) => self.say(Frame::Pong { nonce: frame.nonce }).await,
        }
    }

    /// A frame that is JSON of a known type with a wrong field gets an error and may be mended; anything else closes.
    async fn malformed(&mut self, text: &str, error: &serde_json::Error) -> Flow {
        #[derive(serde::Deserialize)]
        struct Named {
            r#type: String,
            id: Option<String>,
        }
        let known = ["hello", "send", "regenerate", "cancel", "resume", "credit", "ping"];
        match serde_json::from_str::<Named>(text) {
            Ok(named) if known.contains(&named.r#type.as_str()) => {
                let fault = InvalidRequest {
                    message: format!("the {} frame is not valid: {error}", named.r#type),
                    param: None,
                };
                self.refuse(named.id, fault.into()).await
            }
            _ => Err(Close::Protocol("not a frame of this protocol")),
        }
    }

    async fn send(&mut self, frame: SendFrame) -> Flow {
        let id = frame.id.clone();
        let asked = self.may_ask().and_then(|pass| Ok((pass, frame.into_question(&self.api.0.facts.default_model)?)));
        match asked {
            Ok((pass, question)) => {
                let begun = self.api.0.streams.send(&self.principal, question).await.map_err(ApiError::from);
                self.begun(id, begun, pass).await
            }
            Err(error) => self.refuse(Some(id), error).await,
        }
    }

    async fn regenerate(&mut self, frame: RegenerateFrame) -> Flow {
        let id = frame.id.clone();
        let asked = self.may_ask().and_then(|pass| Ok((pass, frame.into_again(&self.api.0.facts.default_model)?)));
        match asked {
            Ok((pass, again)) => {
                let begun = self.api.0.streams.regenerate(&self.principal, again).await.map_err(ApiError::from);
                self.begun(id, begun, pass).await
            }
            Err(error) => self.refuse(Some(id), error).await,
        }
    }

    /// Acknowledges what is durable, and listens to its answer, which keeps its place in work as long.
    async fn begun(&mut self, id: String, begun: Result<BegunTurn, ApiError>, pass: Option<Pass>) -> Flow {
        match begun {
            Ok(begun) => {
                let BegunTurn { conversation, message, reply, stream, duplicate } = begun;
                self.say(Frame::Ack { id, conversation, message, reply, stream, epoch: 1, duplicate }).await?;
                self.listen(stream, 1, 0, pass).await
            }
            Err(error) => self.refuse(Some(id), error).await,
        }
    }

    async fn resume(&mut self, frame: ResumeFrame) -> Flow {
        match self.room() {
            Ok(()) => self.listen(frame.stream, frame.epoch, frame.after, None).await,
            Err(error) => self.refuse(None, error).await,
        }
    }

    /// Listens to an answer from behind `after` of `epoch`, from memory or from the store.
    async fn listen(&mut self, stream: Uuid, epoch: u32, after: u64, pass: Option<Pass>) -> Flow {
        self.forwards.retain(|_, forward| !forward.task.is_finished());
        let Some(mut subscription) = self.api.0.streams.subscribe(&self.principal.tenant, stream, after) else {
            return self.replay_stored(stream, epoch, after).await;
        };
        if epoch != subscription.epoch() || after > subscription.stream.seq() {
            // What the client holds is of another epoch, or from before a restart: it is replaced.
            let text;
            (text, subscription) = subscription.stream.snapshot();
            let (epoch, seq) = (subscription.epoch(), subscription.seen());
            self.say(Frame::Snapshot { stream, epoch, seq, text }).await?;
        }
        if let Some(earlier) = self.forwards.remove(&stream) {
            earlier.task.abort();
        }
        let (granted, grants) = watch::channel(self.credit.unwrap_or(u64::MAX));
        let frames = self.frames.clone();
        let task = self.api.0.tasks.spawn(async move {
            let _held = pass;
            forward(subscription, grants, frames).await;
        });
        self.forwards.insert(stream, Forward { task, granted });
        Ok(())
    }

    /// An answer that has left memory: its text, unless the client has it all, and its end.
    async fn replay_stored(&mut self, stream: Uuid, epoch: u32, after: u64) -> Flow {
        let Ok(message) = self.api.0.conversations.message_of_stream(&self.principal.tenant, stream).await else {
            return self.say(Frame::Gone { stream }).await;
        };
        let Some(terminal) = stored_terminal(&message) else { return self.say(Frame::Gone { stream }).await };
        if (epoch, after) != (message.epoch, message.seq) {
            self.say(Frame::Snapshot { stream, epoch: message.epoch, seq: message.seq, text: message.content }).await?;
        }
        self.say(terminal_frame(stream, message.epoch, message.seq, message.id, terminal)).await
    }

    /// A frame that asks counts as a request does. It does not wait for a place in work: frames behind it would wait too.
    fn may_ask(&self) -> Result<Option<Pass>, ApiError> {
        self.room()?;
        if let Some(client) = self.client {
            self.api.0.limits.take_address(client.0)?;
        }
        self.api.0.limits.take_request(&self.principal)?;
        Ok(self.api.0.limits.enter_now()?)
    }

    fn room(&self) -> Result<(), ApiError> {
        let running = self.forwards.values().filter(|forward| !forward.task.is_finished()).count();
        if running < MAX_STREAMS {
            return Ok(());
        }
        let message = format!("this socket listens to {MAX_STREAMS} answers already");
        Err(ApiError::new(axum::http::StatusCode::TOO_MANY_REQUESTS, "too_many_streams", message))
    }

    async fn refuse(&mut self, id: Option<String>, error: ApiError) -> Flow {
        self.say(refusal(id, &self.request_id, &error)).await
    }

    async fn say(&self, frame: Frame) -> Flow {
        // A writer that has ended has closed the socket itself.
        self.frames.send(frame.into()).await.map_err(|_| Close::Bye)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for forward in self.forwards.values() {
            forward.task.abort();
        }
    }
}

/// Resolves when every answer that was listened to has been forwarded to its end. Cancel-safe.
async fn finished(forwards: &mut HashMap<Uuid, Forward>) {
    for forward in forwards.values_mut() {
        if !forward.task.is_finished() {
            let _ = (&mut forward.task).await;
        }
    }
}

/// Forwards one answer until its end, as fast as the socket takes it and as far as the client gave credit.
async fn forward(mut subscription: Subscription, mut grants: watch::Receiver<u64>, frames: Frames) {
    loop {
        let left = grants.borrow_and_update().saturating_sub(subscription.taken());
        let piece = tokio::select! {
            piece = subscription.next(left) => piece,
            // The sender lives in the session, which aborts this task when it ends.
            Ok(()) = grants.changed() => continue,
        };
        let Some(piece) = piece else { return };
        let last = matches!(piece, Piece::End { .. });
        let sent = frames.send(frame_of(&subscription, piece).into()).await;
        if sent.is_err() || last {
            return;
        }
    }
}
