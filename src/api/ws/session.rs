//! One greeted socket: reads its frames, acts on them, and forwards the answers that it listens to.

use std::collections::HashMap;

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use tokio::time::{Duration, Instant, sleep_until, timeout_at};
use tracing::Instrument;
use uuid::Uuid;

use super::close::Close;
use super::forward::{Forward, Way};
use super::frames::{BadFrame, ClientFrame, Frame, RegenerateFrame, ResumeFrame, SendFrame};
use super::pace::Pace;
use super::seats::Seat;
use super::writer::Frames;
use super::{MAX_STREAMS, refusal};
use crate::api::Api;
use crate::api::acting::renewed;
use crate::api::auth;
use crate::api::error::ApiError;
use crate::api::wire::Inbound;
use crate::clock::rfc3339;
use crate::conversations::BegunTurn;
use crate::db::DbError;
use crate::keys::{Principal, Standing};
use crate::limits::Pass;
use crate::logins::LoginDigest;
use crate::streams::{Found, SendError};
use crate::traces::{self, Incoming};

/// How long before a key's end its sockets are told.
const NOTICE: Duration = Duration::from_mins(1);

/// Who speaks on a socket, and from where.
pub(super) struct Asker {
    pub principal: Principal,
    pub seat: Seat,
    /// The login that it came by; `None`: by a key.
    pub login: Option<LoginDigest>,
}

impl Asker {
    /// The key is another one, or may do something else; it is used from where it was, for whom it was.
    fn is_now(&mut self, principal: Principal) {
        let Principal { user, address, .. } = self.principal;
        self.principal = Principal { user, ..principal.from_address(address) };
    }

    /// The key's end, or that of the login in its place.
    fn end(&self, of_key: &'static str) -> Close {
        if self.login.is_some() { Close::LOGIN_ENDED } else { Close::KeyEnded(of_key) }
    }
}

pub(super) struct Session {
    api: Api,
    asker: Asker,
    /// Whether the key's end was announced.
    is_warned: bool,
    /// Deltas that may be sent unasked on each stream; `None`: no limit.
    credit: Option<u64>,
    request_id: String,
    /// The trace that the socket was opened in.
    trace: Incoming,
    frames: Frames,
    /// The answers listened to, with the deltas granted so far.
    forwards: HashMap<Uuid, Forward>,
}

/// Whether the socket goes on.
type Flow = Result<(), Close>;

impl Session {
    pub(super) fn new(
        api: Api,
        asker: Asker,
        credit: Option<u64>,
        (request_id, trace): (String, Incoming),
        frames: Frames,
    ) -> Self {
        Self { api, asker, is_warned: false, credit, request_id, trace, frames, forwards: HashMap::new() }
    }

    /// Reads until the socket ends, and says how it is to be closed; its seat is kept until it is. In a drain it goes on until the answers that it
    /// listens to have ended; new questions are refused meanwhile.
    pub(super) async fn read(mut self, mut stream: SplitStream<WebSocket>, inbound: &Inbound) -> (Close, Seat) {
        let close = self.read_on(&mut stream, inbound).await;
        (close, self.asker.seat)
    }

    async fn read_on(&mut self, stream: &mut SplitStream<WebSocket>, inbound: &Inbound) -> Close {
        let streams = self.api.0.streams.clone();
        let heartbeat = self.api.0.facts.heartbeat;
        let mut pace = Pace::new(self.api.0.facts.max_frames_per_second, Instant::now());
        let (mut heard_at, mut look_at) = (Instant::now(), Instant::now());
        // Where nobody reads, the writer ends and has closed the socket; what the peer still says is of no use then.
        let frames = self.frames.clone();
        let received = self.api.0.metrics.ws_frames.with_label_values(&["in"]);
        let mut told = false;
        loop {
            let message = tokio::select! {
                message = timeout_at(heard_at + heartbeat.silence(), stream.next()) => message,
                () = frames.ended() => return Close::Lost,
                () = sleep_until(look_at), if !self.asker.principal.key.is_nil() => {
                    if let Err(close) = self.look_at_key().await {
                        return close;
                    }
                    look_at = self.next_look();
                    continue;
                }
                () = streams.draining(), if !told => {
                    told = true;
                    let deadline_ms = millis(self.api.0.facts.drain_timeout);
                    if let Err(close) = self.say(Frame::Draining { reconnect_after_ms: 1_000, deadline_ms }).await {
                        return close;
                    }
                    continue;
                }
                () = finished(&mut self.forwards), if told => return Close::GoingAway,
            };
            heard_at = Instant::now();
            if message.is_ok() && !pace.take(heard_at) {
                return Close::TooMany("more frames than limits.frames_per_second");
            }
            let flow = match message {
                Err(_) => return Close::SILENT,
                Ok(None) => return Close::Lost,
                Ok(Some(Ok(Message::Close(_)))) => return Close::Bye,
                Ok(Some(Err(error))) => return Close::of_read(&error),
                Ok(Some(Ok(Message::Binary(_)))) => return Close::Binary,
                Ok(Some(Ok(Message::Ping(payload) | Message::Pong(payload)))) => {
                    inbound.passed(payload.len());
                    Ok(())
                }
                Ok(Some(Ok(Message::Text(text)))) => {
                    inbound.finished();
                    received.inc();
                    self.take(text.as_str()).await
                }
            };
            if let Err(close) = flow {
                return close;
            }
            if !self.is_warned {
                look_at = look_at.min(self.next_look());
            }
        }
    }

    async fn take(&mut self, text: &str) -> Flow {
        let frame = match ClientFrame::read(text) {
            Ok(frame) => frame,
            Err(BadFrame::NoObject) => return Err(Close::Protocol("a frame is one JSON object")),
            Err(BadFrame::Fault { id, fault }) => return self.refuse(id, fault.into()).await,
        };
        match frame {
            ClientFrame::Hello(_) => Err(Close::Protocol("hello comes once")),
            ClientFrame::Send(frame) => {
                let span = traces::message("send", &frame.trace, &self.trace);
                self.send(*frame).instrument(span).await
            }
            ClientFrame::Regenerate(frame) => {
                let span = traces::message("regenerate", &frame.trace, &self.trace);
                self.regenerate(frame).instrument(span).await
            }
            ClientFrame::Cancel { stream } => {
                match self.api.0.streams.cancel_anywhere(&self.asker.principal.space(), stream).await {
                    Ok(()) => Ok(()),
                    Err(error) => self.refuse(None, error.into()).await,
                }
            }
            ClientFrame::Resume(frame) => self.resume(frame).await,
            ClientFrame::Credit { stream, deltas } => {
                if let Some(forward) = self.forwards.get(&stream) {
                    forward.grant(deltas);
                }
                Ok(())
            }
            ClientFrame::Refresh { token } => self.refresh(&token).await,
            ClientFrame::Ping { nonce } => self.say(Frame::Pong { nonce }).await,
        }
    }

    async fn send(&mut self, frame: SendFrame) -> Flow {
        let id = frame.id.clone();
        match self.may_ask().await {
            Ok(pass) => {
                let question = frame.into_question();
                let begun = self.api.0.streams.send(&self.asker.principal, question, pass).await;
                self.begun(id, begun.map_err(ApiError::from)).await
            }
            Err(error) => self.refuse(Some(id), error).await,
        }
    }

    async fn regenerate(&mut self, frame: RegenerateFrame) -> Flow {
        let id = frame.id.clone();
        match self.may_ask().await {
            Ok(pass) => {
                let again = frame.into_again();
                let begun = self.api.0.streams.regenerate(&self.asker.principal, again, pass).await;
                self.begun(id, begun.map_err(ApiError::from)).await
            }
            Err(error) => self.refuse(Some(id), error).await,
        }
    }

    /// Acknowledges what is durable, and listens to its answer.
    async fn begun(&mut self, id: String, begun: Result<BegunTurn, ApiError>) -> Flow {
        match begun {
            Ok(begun) => {
                let BegunTurn { conversation, message, reply, stream, duplicate } = begun;
                self.say(Frame::Ack { id, conversation, message, reply, stream, epoch: 1, duplicate }).await?;
                self.listen(stream, 1, 0).await
            }
            Err(error) => self.refuse(Some(id), error).await,
        }
    }

    async fn resume(&mut self, frame: ResumeFrame) -> Flow {
        match self.room() {
            Ok(()) => self.listen(frame.stream, frame.epoch, frame.after).await,
            Err(error) => self.refuse(None, error).await,
        }
    }

    /// Listens to an answer from behind `after` of `epoch`, from memory or from the store.
    async fn listen(&mut self, stream: Uuid, epoch: u32, after: u64) -> Flow {
        self.forwards.retain(|_, forward| !forward.is_finished());
        let mut subscription = match self.api.0.streams.seek(&self.asker.principal.space(), stream, after).await {
            Ok(Found::Live(subscription)) => subscription,
            found => {
                for frame in self.way().ended(stream, epoch, after, found) {
                    self.say(frame).await?;
                }
                return Ok(());
            }
        };
        if epoch != subscription.epoch() || !subscription.stream.knows(after) {
            // What the client holds is of another epoch, from before a restart, or from within what came here as one: it
            // is replaced.
            let (text, reasoning);
            (text, reasoning, subscription) = subscription.stream.snapshot();
            let (epoch, seq) = (subscription.epoch(), subscription.seen());
            self.say(Frame::Snapshot { stream, epoch, seq, text, reasoning }).await?;
        }
        // Two of them would number one stream twice.
        drop(self.forwards.remove(&stream));
        let forward = Forward::start(self.way(), subscription, self.credit.unwrap_or(u64::MAX));
        self.forwards.insert(stream, forward);
        Ok(())
    }

    fn way(&self) -> Way {
        Way {
            api: self.api.clone(),
            space: self.asker.principal.space(),
            request_id: self.request_id.clone(),
            frames: self.frames.clone(),
        }
    }

    /// A frame that asks counts as a request does. It does not wait for a place in work: frames behind it would wait too.
    async fn may_ask(&self) -> Result<Option<Pass>, ApiError> {
        if self.api.0.streams.is_draining() {
            return Err(SendError::Draining.into());
        }
        self.room()?;
        if let Some(address) = self.asker.principal.address {
            self.api.0.limits.take_address(address)?;
        }
        if let Some(login) = self.asker.login
            && self.api.0.logins.recognise(login).await?.is_none()
        {
            return Err(auth::login_ended());
        }
        self.api.0.limits.take_request(&self.asker.principal).await?;
        Ok(self.api.0.limits.enter_now()?)
    }

    fn room(&self) -> Result<(), ApiError> {
        let running = self.forwards.values().filter(|forward| !forward.is_finished()).count();
        if running < MAX_STREAMS {
            return Ok(());
        }
        let message = format!("this socket listens to {MAX_STREAMS} answers already");
        Err(ApiError::new(axum::http::StatusCode::TOO_MANY_REQUESTS, "too_many_streams", message))
    }

    /// Another key of the same tenant and user takes the old one's place.
    async fn refresh(&mut self, token: &str) -> Flow {
        match self.renewed(token).await {
            Ok(principal) => {
                let expires_at = principal.expires_at_ms.map(rfc3339);
                self.asker.is_now(principal);
                self.asker.login = None;
                self.is_warned = false;
                self.say(Frame::Refreshed { expires_at }).await
            }
            Err(error) => self.refuse(None, error).await,
        }
    }

    async fn renewed(&mut self, token: &str) -> Result<Principal, ApiError> {
        let principal = self.api.0.access.principal(&self.api.0.keys, Some(token)).await?;
        let principal = renewed(&self.asker.principal, principal)?;
        self.asker.seat.change_key(principal.key)?;
        Ok(principal)
    }

    /// Looks what has become of the key: what it may do now, that it was revoked, that its end is near or there.
    async fn look_at_key(&mut self) -> Flow {
        match self.standing().await {
            Ok(Standing::Good(principal)) => self.asker.is_now(principal),
            Ok(Standing::Expired) => return Err(self.asker.end("the key has expired")),
            Ok(Standing::Revoked) => return Err(self.asker.end("the key was revoked")),
            Err(_) if self.time_left().is_some_and(|left| left.is_zero()) => {
                return Err(self.asker.end("the key has expired"));
            }
            Err(error) => tracing::warn!(%error, "a socket's key could not be looked up; the next heartbeat does"),
        }
        match (self.time_left(), self.asker.principal.expires_at_ms) {
            (Some(left), Some(end_ms)) if left <= NOTICE && !self.is_warned => {
                self.is_warned = true;
                let (expires_at, in_ms) = (rfc3339(end_ms), millis(left));
                self.say(Frame::Notice { kind: "key_expires", expires_at, in_ms }).await
            }
            _ => Ok(()),
        }
    }

    /// Of a login's key it is the login that tells; being looked at is no use of it.
    async fn standing(&self) -> Result<Standing, DbError> {
        let Some(login) = self.asker.login else { return self.api.0.keys.standing(self.asker.principal.key).await };
        let principal = self.api.0.logins.standing(login).await?;
        Ok(principal.map_or(Standing::Revoked, Standing::Good))
    }

    /// The next heartbeat, or what comes before: the time to announce the key's end, or that end.
    fn next_look(&self) -> Instant {
        let (now, beat) = (Instant::now(), self.api.0.facts.heartbeat.between_pings());
        let left = self.time_left().map(|left| if self.is_warned { left } else { left.saturating_sub(NOTICE) });
        now + left.map_or(beat, |left| left.min(beat))
    }

    /// Until the key's end, if it has one.
    fn time_left(&self) -> Option<Duration> {
        let end_ms = self.asker.principal.expires_at_ms?;
        Some(Duration::from_millis(end_ms.saturating_sub(self.api.0.facts.clock.now_ms())))
    }

    async fn refuse(&mut self, id: Option<String>, error: ApiError) -> Flow {
        self.say(refusal(id, &self.request_id, &error)).await
    }

    async fn say(&self, frame: Frame) -> Flow {
        // A writer that has ended has closed the socket itself.
        self.frames.send(&frame).await.map_err(|_| Close::Lost)
    }
}

/// Resolves when every answer that was listened to has been forwarded to its end. Cancel-safe.
async fn finished(forwards: &mut HashMap<Uuid, Forward>) {
    for forward in forwards.values_mut() {
        forward.finished().await;
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
